//! Lanes that are closed, and lanes that are free.

use super::*;

#[test]
fn the_lane_of_an_index_that_is_no_more_serves_another() {
    let mut shared_state = shared_state(1);
    for index in 1..=LANES as i32 {
        assert!(shared_state.open_lane(DB, index, false, 0));
    }
    assert!(!shared_state.open_lane(DB, 1000, false, 0), "no lane is left");
    let before = shared_state.indices_with_lanes(DB);
    let found: Vec<i32> = (2..=LANES as i32).collect();
    shared_state.close_lanes_of_missing(DB, &before, &found);
    assert_eq!(shared_state.free_lanes(), 1);
    assert!(shared_state.open_lane(DB, 1000, false, 0));
    assert_eq!(shared_state.find_lane(DB, 1), None);
}

#[test]
fn a_lane_entered_since_the_look_began_stays_and_so_does_one_in_use() {
    let mut shared_state = shared_state(2);
    shared_state.publish(DB, &[queued(1, 1024, 1030)], 0);
    shared_state.publish(DB + 1, &[queued(1, 1024, 1030)], 0);
    let before = shared_state.indices_with_lanes(DB);
    shared_state.publish(DB, &[queued(2, 2048, 2050)], 0);
    assert!(matches!(shared_state.next(1, HUNGRY, 0), Next::Claim { .. }));
    assert_eq!(next_span(&mut shared_state, HUNGRY, 0).map(|(index, ..)| index), Some(2));
    shared_state.close_lanes_of_missing(DB, &before, &[]);
    assert_eq!(shared_state.indices_with_lanes(DB), [1, 2], "one is being read, one is new");
    let lane = shared_state.find_lane(DB, 1).unwrap();
    let flight = fly(&mut shared_state, 1, lane, &[1024], None);
    shared_state.close_lanes_of_missing(DB, &before, &[]);
    assert_eq!(shared_state.indices_with_lanes(DB), [1, 2], "one has a batch on its way");
    shared_state.settled(1, flight, &[1024], 0);
    shared_state.close_lanes_of_missing(DB, &before, &[]);
    assert_eq!(shared_state.indices_with_lanes(DB), [2]);
    assert_eq!(shared_state.indices_with_lanes(DB + 1), [1], "another database's index of the same number");
}

#[test]
fn the_lane_of_an_unused_index_is_closed_unless_rows_have_come_since() {
    let mut shared_state = shared_state(1);
    for index in 1..=3 {
        shared_state.open_lane(DB, index, false, 0);
    }
    shared_state.publish(DB, &[queued(3, 1024, 1024)], 0);
    let before = shared_state.published(DB);
    shared_state.publish(DB, &[queued(2, 2048, 2048)], 0);
    let Next::Claim { lane, claimable, .. } = shared_state.next(0, HUNGRY, 0) else { panic!() };
    assert_eq!(shared_state.find_lane(DB, 2), Some(lane));
    shared_state.enter_claim(0, Some(claimable.span), None);
    shared_state.close_lanes_of_unused(DB, &before, &[1, 2]);
    assert_eq!(
        shared_state.indices_with_lanes(DB),
        [2, 3],
        "a row of the second was given back to its backlog"
    );
    shared_state.close_lanes_of_unused(DB, &shared_state.published(DB), &[]);
    assert_eq!(shared_state.indices_with_lanes(DB), [2, 3]);
}

#[test]
fn databases_that_are_no_more_are_forgotten_unless_somebody_is_in_them() {
    let mut shared_state = shared_state(1);
    for oid in 100..100 + DATABASES as u32 - 1 {
        assert!(shared_state.database_mut(oid).is_some());
    }
    shared_state.database_mut(DB).unwrap().recount = true;
    assert!(shared_state.database_mut(1).is_none(), "the book is full");
    let before = shared_state.known_databases();
    shared_state.publish(100, &[queued(1, 1024, 1030)], 0);
    shared_state.forget_missing_databases(&before, &[101]);
    assert_eq!(shared_state.known_databases(), [101, DB]);
    assert_eq!(shared_state.free_lanes(), LANES);
    assert!(shared_state.database_mut(1).is_some());
    shared_state.forget_missing_databases(&before, &[101]);
    assert!(shared_state.known_databases().contains(&1), "it was not there yet when the look began");
}

#[test]
fn the_room_left_for_claims_is_known_beforehand() {
    let mut shared_state = shared_state(1);
    assert_eq!(shared_state.claims_left(), CLAIMS / 2);
    for id in 0..CLAIMS as i64 / 2 {
        assert_eq!(shared_state.claim(0, id), Claim::Granted);
    }
    assert_eq!(shared_state.claims_left(), 0);
    shared_state.release_worker(0, 0);
    assert_eq!(shared_state.claims_left(), CLAIMS / 2);
}

#[test]
fn one_database_too_many_takes_the_entry_of_one_without_the_extension() {
    let mut shared_state = shared_state(1);
    shared_state.database_mut(DB).unwrap().extension = Extension::Present;
    for oid in 1000..1000 + DATABASES as u32 - 1 {
        shared_state.database_mut(oid).unwrap().extension = Extension::Absent;
    }
    assert!(shared_state.database_mut(1).is_some() && !shared_state.knows(1000));
    for oid in 1001..1000 + DATABASES as u32 - 1 {
        shared_state.database_mut(oid).unwrap().extension = Extension::Present;
    }
    assert!(
        shared_state.database_mut(2).is_none() && !shared_state.database_list_is_full(),
        "one may turn out to have no extension"
    );
    shared_state.database_mut(1).unwrap().extension = Extension::Absent;
    shared_state.vacate_database(1, Micros::MAX);
    assert!(shared_state.database_mut(2).is_none(), "a statement wants it to itself");
    shared_state.readmit_workers(1);
    assert_eq!(shared_state.without_extension().collect::<Vec<_>>(), [1]);
    shared_state.extension_changed(1);
    shared_state.database_mut(1).unwrap().extension = Extension::Present;
    assert!(shared_state.database_list_is_full());
    shared_state.extension_changed(2);
    assert_eq!(shared_state.unlisted_database, 2, "the launcher tells");
}

#[test]
fn what_closed_lanes_and_their_workers_held_is_free_however_many_there_are() {
    let mut shared_state = shared_state(2);
    let (slot, launch) = shared_state.reserve_slot(DB + 1, 0).unwrap();
    shared_state.attach_worker(slot, launch, 1, 1, 0);
    for index in 1..=300 {
        shared_state.open_lane(DB, index, false, 0);
    }
    shared_state.open_lane(DB + 1, 1, false, 0);
    let other = shared_state.find_lane(DB + 1, 1).unwrap();
    for id in 0..3000 {
        assert_eq!(shared_state.claim((id % 2) as usize, id), Claim::Granted);
        assert_eq!(shared_state.claim_object((id % 2) as usize, (id % 300) as usize, id, id), Claim::Granted);
    }
    assert_eq!(shared_state.claim(slot, 1), Claim::Granted);
    assert_eq!(shared_state.claim_object(slot, other, 1, 1), Claim::Granted);
    shared_state.close_lanes(DB);
    assert_eq!(
        (shared_state.claims.len(), shared_state.objects.len()),
        (1, 1),
        "another database keeps what it holds"
    );
    assert_eq!(shared_state.claims.holder(DB + 1, 1), Some(Holder::worker(slot)));
    assert_eq!(shared_state.objects.holder(other as u32, 1), Some(Holder::worker(slot)));
}
