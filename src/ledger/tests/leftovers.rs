//! Room that is given back, and room that is left.

use super::*;

#[test]
fn the_lane_of_an_index_that_is_no_more_serves_another() {
    let mut ledger = ledger(1);
    for index in 1..=LANES as i32 {
        assert!(ledger.open_lane(DB, index, false, 0));
    }
    assert!(!ledger.open_lane(DB, 1000, false, 0), "no lane is left");
    let before = ledger.indices_with_lanes(DB);
    let found: Vec<i32> = (2..=LANES as i32).collect();
    ledger.close_lanes_of_missing(DB, &before, &found);
    assert_eq!(ledger.free_lanes(), 1);
    assert!(ledger.open_lane(DB, 1000, false, 0));
    assert_eq!(ledger.find_lane(DB, 1), None);
}

#[test]
fn a_lane_entered_since_the_look_began_stays_and_so_does_one_in_use() {
    let mut ledger = ledger(2);
    ledger.publish(7, DB, &[queued(1, 1024, 1030)], 0);
    ledger.publish(7, DB + 1, &[queued(1, 1024, 1030)], 0);
    let before = ledger.indices_with_lanes(DB);
    ledger.publish(8, DB, &[queued(2, 2048, 2050)], 0);
    assert!(matches!(ledger.next(1, HUNGRY, 0), Next::Claim { .. }));
    assert_eq!(next_span(&mut ledger, HUNGRY, 0).map(|(index, ..)| index), Some(2));
    ledger.close_lanes_of_missing(DB, &before, &[]);
    assert_eq!(ledger.indices_with_lanes(DB), [1, 2], "one is being read, one is new");
    let lane = ledger.find_lane(DB, 1).unwrap();
    let flight = fly(&mut ledger, 1, lane, &[1024], None);
    ledger.close_lanes_of_missing(DB, &before, &[]);
    assert_eq!(ledger.indices_with_lanes(DB), [1, 2], "one has a batch on its way");
    ledger.settled(1, flight, &[1024], 0);
    ledger.close_lanes_of_missing(DB, &before, &[]);
    assert_eq!(ledger.indices_with_lanes(DB), [2]);
    assert_eq!(ledger.indices_with_lanes(DB + 1), [1], "another database's index of the same number");
}

#[test]
fn the_lane_of_an_unused_index_is_closed_unless_rows_have_come_since() {
    let mut ledger = ledger(1);
    for index in 1..=3 {
        ledger.open_lane(DB, index, false, 0);
    }
    ledger.publish(7, DB, &[queued(3, 1024, 1024)], 0);
    let before = ledger.published(DB);
    ledger.publish(8, DB, &[queued(2, 2048, 2048)], 0);
    let Next::Claim { lane, claimable, .. } = ledger.next(0, HUNGRY, 0) else { panic!() };
    assert_eq!(ledger.find_lane(DB, 2), Some(lane));
    ledger.claimed(0, Some(claimable.span), None);
    ledger.close_lanes_of_unused(DB, &before, &[1, 2]);
    assert_eq!(ledger.indices_with_lanes(DB), [2, 3], "a row of the second was given back to its backlog");
    ledger.close_lanes_of_unused(DB, &ledger.published(DB), &[]);
    assert_eq!(ledger.indices_with_lanes(DB), [2, 3]);
}

#[test]
fn databases_that_are_no_more_are_forgotten_unless_somebody_is_in_them() {
    let mut ledger = ledger(1);
    for oid in 100..100 + DATABASES as u32 - 1 {
        assert!(ledger.database_mut(oid).is_some());
    }
    ledger.database_mut(DB).unwrap().recount = true;
    assert!(ledger.database_mut(1).is_none(), "the book is full");
    let before = ledger.known_databases();
    ledger.publish(7, 100, &[queued(1, 1024, 1030)], 0);
    ledger.forget_missing_databases(&before, &[101]);
    assert_eq!(ledger.known_databases(), [101, DB]);
    assert_eq!(ledger.free_lanes(), LANES);
    assert!(ledger.database_mut(1).is_some());
    ledger.forget_missing_databases(&before, &[101]);
    assert!(ledger.known_databases().contains(&1), "it was not there yet when the look began");
}

#[test]
fn the_room_left_for_claims_is_known_beforehand() {
    let mut ledger = ledger(1);
    assert_eq!(ledger.claims_left(), CLAIMS / 2);
    for id in 0..CLAIMS as i64 / 2 {
        assert_eq!(ledger.claim(0, id), Claim::Taken);
    }
    assert_eq!(ledger.claims_left(), 0);
    ledger.resign(0, 0);
    assert_eq!(ledger.claims_left(), CLAIMS / 2);
}

#[test]
fn one_database_too_many_takes_the_entry_of_one_without_the_extension() {
    let mut ledger = ledger(1);
    ledger.database_mut(DB).unwrap().extension = Extension::Present;
    for oid in 1000..1000 + DATABASES as u32 - 1 {
        ledger.database_mut(oid).unwrap().extension = Extension::Absent;
    }
    assert!(ledger.database_mut(1).is_some() && !ledger.knows(1000));
    for oid in 1001..1000 + DATABASES as u32 - 1 {
        ledger.database_mut(oid).unwrap().extension = Extension::Present;
    }
    assert!(ledger.database_mut(2).is_none() && !ledger.is_full(), "one may turn out to have no extension");
    ledger.database_mut(1).unwrap().extension = Extension::Absent;
    ledger.hold(1, Micros::MAX);
    assert!(ledger.database_mut(2).is_none(), "a statement wants it to itself");
    ledger.unhold(1);
    assert_eq!(ledger.without_extension().collect::<Vec<_>>(), [1]);
    ledger.extension_changed(1);
    ledger.database_mut(1).unwrap().extension = Extension::Present;
    assert!(ledger.is_full());
    ledger.extension_changed(2);
    assert_eq!(ledger.overlooked, 2, "the launcher tells");
}

#[test]
fn what_closed_lanes_and_their_workers_held_is_free_however_many_there_are() {
    let mut ledger = ledger(2);
    let (slot, launch) = ledger.enlist(DB + 1, 0).unwrap();
    ledger.report_for_duty(slot, launch, 1, 1, 0);
    for index in 1..=300 {
        ledger.open_lane(DB, index, false, 0);
    }
    ledger.open_lane(DB + 1, 1, false, 0);
    let other = ledger.find_lane(DB + 1, 1).unwrap();
    for id in 0..3000 {
        assert_eq!(ledger.claim((id % 2) as usize, id), Claim::Taken);
        assert_eq!(ledger.claim_object((id % 2) as usize, (id % 300) as usize, id, id), Claim::Taken);
    }
    assert_eq!(ledger.claim(slot, 1), Claim::Taken);
    assert_eq!(ledger.claim_object(slot, other, 1, 1), Claim::Taken);
    ledger.close_lanes(DB);
    assert_eq!((ledger.claims.len(), ledger.objects.len()), (1, 1), "another database keeps what it holds");
    assert_eq!(ledger.claims.holder(DB + 1, 1), Some(slot as u32 + 1));
    assert_eq!(ledger.objects.holder(other as u32, 1), Some(slot as u32 + 1));
}
