//! Blocks of ids: in order, each once, and never of another sequence.

use super::*;

#[test]
fn blocks_are_taken_in_order_each_once() {
    let mut shared_state = shared_state(0);
    assert_eq!(shared_state.take_block(DB, 7), None);
    shared_state.reserve_blocks(DB, 7, 5..8);
    let taken: Vec<_> = (0..4).map(|_| shared_state.take_block(DB, 7)).collect();
    assert_eq!(taken, [Some(5), Some(6), Some(7), None]);
}

#[test]
fn databases_and_sequences_have_nothing_in_common() {
    let mut shared_state = shared_state(0);
    shared_state.reserve_blocks(DB, 7, 5..8);
    shared_state.reserve_blocks(DB + 1, 7, 1..2);
    assert_eq!(shared_state.take_block(DB + 1, 7), Some(1));
    assert_eq!(shared_state.take_block(DB, 8), None, "of an extension made anew");
    shared_state.reserve_blocks(DB, 8, 1..3);
    assert_eq!(shared_state.take_block(DB, 7), None, "the older sequence stands at the end of its reserve");
    assert_eq!(shared_state.take_block(DB, 8), Some(1));
}

#[test]
fn what_may_be_outdated_is_forgotten() {
    let mut shared_state = shared_state(0);
    shared_state.reserve_blocks(DB, 7, 5..8);
    shared_state.drop_reserve(DB);
    assert_eq!(shared_state.take_block(DB, 7), None);
    assert_eq!(shared_state.end_of_reserve(DB, 7), 8, "what was handed out is not forgotten");
    assert_eq!(shared_state.end_of_reserve(DB, 8), 0, "of an extension made anew");
    shared_state.reserve_blocks(DB, 7, 8..11);
    shared_state.forget_database(DB);
    assert_eq!(shared_state.take_block(DB, 7), None);
}

#[test]
fn any_number_of_databases_has_something_in_reserve() {
    let mut shared_state = shared_state(0);
    for database in 1..=2 * DATABASES as u32 {
        shared_state.reserve_blocks(database, 7, 0..2);
        assert_eq!(shared_state.take_block(database, 7), Some(0));
    }
}
