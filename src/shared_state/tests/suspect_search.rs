//! Batches that fail on the way: the search for the record at fault, in which nothing is lost.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::suspect_world::{Way, World, FAILURE, SECOND};
use super::*;

fn unless(poison: i64) -> impl Fn(&[i64]) -> Way {
    move |rows| if rows.contains(&poison) { Way::Fails } else { Way::Arrives }
}

#[test]
fn of_a_thousand_the_one_is_found_in_some_seconds_while_others_come() {
    for poison in [1024, 1500, 2023] {
        let mut world = World::new(1);
        world.publish(1024..2024);
        let start = world.now;
        for step in 0..100 {
            world.publish([100_000 + step]);
            world.run(start + step * SECOND / 10, unless(poison));
        }
        world.run(world.now + SECOND, unless(poison));
        assert_eq!(world.queue, BTreeSet::from([poison]));
        assert_eq!(world.shared_state.held_back_rows(DB, 1), 1);
        assert!(world.requests.len() < 160, "{}", world.requests.len());
    }
}

#[test]
fn of_a_batch_that_is_all_there_is_the_one_is_found_within_a_minute() {
    for poison in 1024..1064 {
        let mut world = World::new(1);
        world.publish(1024..1064);
        world.run(60 * SECOND, unless(poison));
        assert_eq!(world.queue, BTreeSet::from([poison]));
        let alone = world.requests.iter().filter(|rows| rows.as_slice() == [poison]).count();
        assert!((1..10).contains(&alone), "{alone}: it waits longer each time");
    }
}

#[test]
fn where_both_ends_of_a_batch_that_is_all_there_is_are_at_fault_the_others_pass() {
    let poison: BTreeSet<i64> = (1024..1030).chain(1058..1064).collect();
    let mut world = World::new(1);
    world.publish(1024..1064);
    world.run(2000 * SECOND, |rows| match rows.iter().any(|row| poison.contains(row)) {
        true => Way::Fails,
        false => Way::Arrives,
    });
    assert_eq!(world.queue, poison);
}

#[test]
fn an_outage_is_asked_no_more_often_than_the_pauses_allow_and_ends_at_once() {
    let mut world = World::new(1);
    world.publish(1024..6024);
    let start = world.now;
    world.run(start + 3600 * SECOND, |_| Way::Fails);
    // What fails joins the suspects, whose pauses grow to 300 s.
    assert!(world.requests.len() <= 5 + 12 + 12, "{} requests", world.requests.len());
    assert!(
        world.shared_state.held_back_entries().iter().all(|entry| !entry.is_isolated),
        "nobody was found"
    );
    assert_eq!(world.queue.len(), 5000);
    let before = world.requests.len();
    world.run(start + 2 * 3600 * SECOND, |_| Way::Arrives);
    assert!(world.queue.is_empty());
    let sizes: Vec<usize> = world.requests[before..].iter().map(Vec::len).collect();
    assert!(sizes.len() <= 6 + 1, "{sizes:?}");
}

/// The results of the attempts at row 1024 that are due, while everything else is delivered.
fn attempts(world: &mut World) -> Vec<RejectAction> {
    let mut sentences = Vec::new();
    while world.claim(0).is_ok() {
        let (flight, rows) = world.flights[0][0].clone();
        if rows != [1024] {
            world.end_flight(0, Way::Arrives);
            continue;
        }
        let action = world.shared_state.judge_isolated(0, flight, true, 3, world.now).unwrap();
        sentences.push(action);
        world.flights[0].clear();
        let flight_result = FlightResult { withheld: 1, ..FlightResult::default() };
        world.shared_state.end_flight(0, flight, [1024], flight_result, world.now);
        if action != RejectAction::DeadLetter(3) {
            world.shared_state.hold_back(DB, 1, 1024, world.now + SECOND);
        }
    }
    sentences
}

#[test]
fn a_record_that_fails_by_itself_is_counted_only_if_others_arrive() {
    let mut world = World::new(1);
    world.publish(1024..1064);
    world.run(60 * SECOND, unless(1024));
    let mut sentences = Vec::new();
    // Those that were delivered after it was found count once.
    for step in 0..12 {
        if step >= 10 {
            world.publish([100_000 + step]);
        }
        world.now += 1000 * SECOND;
        sentences.extend(attempts(&mut world));
    }
    let waits = |action: &RejectAction| matches!(action, RejectAction::Retry(_));
    assert!(sentences.len() >= 11 && sentences[..10].iter().all(waits), "{sentences:?}");
    while sentences.last() != Some(&RejectAction::DeadLetter(3)) {
        world.publish([200_000 + world.now]);
        world.now += 1000 * SECOND;
        assert!(sentences.len() < 16, "{sentences:?}");
        sentences.extend(attempts(&mut world));
    }
    assert_eq!((world.shared_state.held_back_rows(DB, 1), world.shared_state.claims.len()), (0, 0));
}

#[test]
fn a_record_that_is_to_be_given_up_and_cannot_be_is_tried_no_more_often_than_the_pauses_allow() {
    let mut world = World::new(1);
    world.publish(1024..1064);
    world.run(60 * SECOND, unless(1024));
    world.now += 1000 * SECOND;
    let before = world.requests.len();
    let end = world.now + 100 * SECOND;
    while world.now < end {
        match world.claim(0) {
            Ok(()) => {
                let (flight, rows) = world.flights[0].remove(0);
                assert_eq!(rows, [1024]);
                let action = world.shared_state.judge_isolated(0, flight, true, 1, world.now);
                assert!(matches!(action, Some(RejectAction::DeadLetter(_))), "{action:?}");
                // Somebody has locked the dead letters.
                let flight_result =
                    FlightResult { left: &[1024], failure: Some(FAILURE), ..FlightResult::default() };
                world.now += SECOND / 1000;
                world.shared_state.end_flight(0, flight, [1024], flight_result, world.now);
            }
            Err(at) => world.now = at.unwrap(),
        }
    }
    assert!((1..20).contains(&(world.requests.len() - before)), "{}", world.requests.len() - before);
}

#[test]
fn what_the_extension_leaves_behind_is_free() {
    let mut world = World::new(1);
    world.publish(1024..1064);
    world.run(30 * SECOND, unless(1030));
    world.publish(2048..2060);
    world.claim(0).unwrap();
    world.end_flight(0, Way::Fails);
    assert!(world.shared_state.held_back_rows(DB, 1) > 1);
    world.shared_state.close_lanes(DB);
    assert_eq!((world.shared_state.held_back_rows(DB, 1), world.shared_state.claims.len()), (0, 0));
}

fn any_way() -> impl Strategy<Value = Way> {
    prop_oneof![
        4 => Just(Way::Arrives), 5 => Just(Way::Fails), 1 => Just(Way::Waits), 1 => Just(Way::Rejected),
        1 => Just(Way::Dies),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Publish(i64, i64),
    Claim(usize),
    Land(usize, Way),
    Pass(Micros),
    Sweep,
    Resume,
    /// Somebody locks rows, or releases all.
    Lock(i64, i64),
    Unlock,
    /// Rows are removed by hand, or superseded.
    Remove(i64, i64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let span = || (0_i64..40, 1_i64..40).prop_map(|(lo, rows)| (lo * 37, rows));
    prop_oneof![
        3 => span().prop_map(|(lo, rows)| Step::Publish(lo, rows)),
        8 => (0..2_usize).prop_map(Step::Claim),
        8 => (0..2_usize, any_way()).prop_map(|(worker, way)| Step::Land(worker, way)),
        4 => (0..400 * SECOND).prop_map(Step::Pass),
        1 => Just(Step::Sweep),
        1 => Just(Step::Resume),
        1 => span().prop_map(|(lo, rows)| Step::Lock(lo, rows)),
        1 => Just(Step::Unlock),
        1 => span().prop_map(|(lo, rows)| Step::Remove(lo, rows)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn no_row_is_ever_lost_nor_in_two_hands(steps in prop::collection::vec(any_step(), 0..120)) {
        let mut world = World::new(2);
        let mut offset = 1 << 20;
        for step in steps {
            match step {
                Step::Publish(lo, rows) => {
                    world.publish(offset + lo..offset + lo + rows);
                    offset += 4096;
                }
                Step::Claim(worker) => {
                    let _none = world.claim(worker);
                }
                Step::Land(worker, way) => world.end_flight(worker, way),
                Step::Pass(time) => world.now += time,
                Step::Sweep => {
                    world.shared_state.sweep(DB, true);
                }
                Step::Resume => world.shared_state.retry_all(DB, world.now),
                Step::Lock(lo, rows) => world.locked.extend(offset - 4096 + lo..offset - 4096 + lo + rows),
                Step::Unlock => world.locked.clear(),
                Step::Remove(lo, rows) => {
                    let gone = offset - 4096 + lo..offset - 4096 + lo + rows;
                    let in_flight: BTreeSet<i64> =
                        world.flights.iter().flatten().flat_map(|(_, rows)| rows.iter().copied()).collect();
                    world.queue.retain(|id| !gone.contains(id) || in_flight.contains(id));
                }
            }
            let carried: Vec<i64> =
                world.flights.iter().flatten().flat_map(|(_, rows)| rows.iter().copied()).collect();
            let distinct: BTreeSet<i64> = carried.iter().copied().collect();
            prop_assert_eq!(carried.len(), distinct.len(), "nobody has what another has");
        }
        world.locked.clear();
        // In the end everything succeeds, and no sweep searches for anything.
        for worker in 0..2 {
            while !world.flights[worker].is_empty() {
                world.end_flight(worker, Way::Arrives);
            }
        }
        world.run(world.now + 10_000 * SECOND, |_| Way::Arrives);
        prop_assert!(world.queue.is_empty(), "{:?}", world.queue);
        prop_assert_eq!(world.shared_state.claims.len(), 0);
        prop_assert_eq!(world.shared_state.held_back_rows(DB, 1), 0);
        prop_assert_eq!(world.shared_state.lane(0).unwrap().in_flight, 0);
    }
}
