//! Rejections that name no record: how many records may become dead letters, and when.

use super::*;

const MINUTE: Micros = 60_000_000;

/// How many of `records`, rejected in batches of `batch`, may become dead letters.
fn deaths(lane: &mut Lane, records: usize, batch: i64, now: Micros) -> usize {
    (0..records).filter(|_| lane.unattributed_rejections.may_dead_letter(batch, now)).count()
}

#[test]
fn a_record_alone_dies_and_so_do_a_few() {
    let mut lane = Lane::EMPTY;
    assert_eq!(deaths(&mut lane, 1, 1, 0), 1);
    assert_eq!(deaths(&mut lane, 3, 3, 0), 3);
}

#[test]
fn where_everything_is_rejected_few_die_however_long_it_lasts() {
    let mut lane = Lane::EMPTY;
    assert_eq!(deaths(&mut lane, 1000, 1, 0), 10);
    assert_eq!(deaths(&mut lane, 1000, 500, 0), 0);
    // The cause is fixed, and the rejected records are delivered.
    lane.delivered(500, 1);
    assert_eq!(deaths(&mut lane, 1000, 500, 2), 0);
}

#[test]
fn of_a_large_batch_none_dies_before_others_are_taken_and_all_may_afterwards() {
    let mut lane = Lane::EMPTY;
    assert_eq!(deaths(&mut lane, 10, 120, 0), 0);
    lane.delivered(1, 1);
    assert_eq!(deaths(&mut lane, 10, 120, 1), 10);
    lane.delivered(500, 2);
    assert_eq!(deaths(&mut lane, 200, 110, 2), 110, "and no more");
}

#[test]
fn a_proof_lasts_a_minute_and_a_delivery_of_nothing_is_none() {
    let mut lane = Lane::EMPTY;
    assert_eq!(deaths(&mut lane, 20, 20, 0), 0);
    lane.delivered(0, 1);
    assert_eq!(deaths(&mut lane, 20, 20, 1), 0);
    lane.delivered(1, 5);
    let mut later = lane;
    assert_eq!(deaths(&mut lane, 20, 20, 4), 0, "the clock was set back");
    assert_eq!(deaths(&mut later, 1, 20, 4 + MINUTE), 1);
    assert_eq!(deaths(&mut later, 1, 20, 5 + MINUTE), 0);
}
