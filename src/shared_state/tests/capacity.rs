//! Capacity: an index that hangs or fails does not delay others, and a single one may use all slots.

use super::*;
use proptest::prelude::*;

/// Lets worker 0 claim until there is nothing more, and returns the indices served.
fn fill(shared_state: &mut SharedState, worker_limits: WorkerLimits) -> Vec<i32> {
    let mut served = Vec::new();
    while let Next::Claim { lane, index_id, claimable, .. } = shared_state.next(0, worker_limits, 0) {
        assert!(served.len() < 300, "there is no end to it");
        take(shared_state, 0, lane, claimable);
        served.push(index_id);
    }
    served
}

/// Claims one row of a span and leaves the rest.
fn take(shared_state: &mut SharedState, worker: usize, lane: usize, claimable: Claimable) -> usize {
    let flight = Flight {
        rows: 1,
        bytes: 1,
        lane: lane as u32,
        fresh: claimable.fresh,
        span: claimable.span,
        started_at: 0,
        held_back: 0,
        partial: false,
    };
    let place = shared_state.enter_claim(worker, Some(claimable.span), Some(flight)).unwrap();
    shared_state.end_claim(worker);
    place
}

fn backlogs(indices: i32) -> Box<SharedState> {
    let mut shared_state = shared_state(2);
    for index in 1..=indices {
        shared_state.open_lane(DB, index, false, 0);
    }
    shared_state
}

fn count(served: &[i32], index: i32) -> usize {
    served.iter().filter(|served| **served == index).count()
}

#[test]
fn one_index_alone_uses_every_slot_and_no_more() {
    for (slots, backlog) in [(1, 1), (2, 1), (4, 3), (16, 15), (64, 63)] {
        let worker_limits = WorkerLimits { slots, ..HUNGRY };
        let mut shared_state = backlogs(1);
        assert_eq!(fill(&mut shared_state, worker_limits).len(), backlog, "{slots} slots");
        shared_state.publish(DB, &[queued(1, 4096, 4096)], 0);
        assert_eq!(
            fill(&mut shared_state, worker_limits).len(),
            slots - backlog,
            "the slot kept for fresh rows"
        );
    }
}

#[test]
fn an_index_that_fills_all_slots_leaves_room_for_another() {
    for slots in [1, 2, 4, 16] {
        let worker_limits = WorkerLimits { slots, ..HUNGRY };
        let mut shared_state = backlogs(1);
        fill(&mut shared_state, worker_limits);
        shared_state.publish(DB, &[queued(1, 4096, 4096)], 0);
        fill(&mut shared_state, worker_limits);
        shared_state.publish(DB, &[queued(2, 8192, 8192)], 0);
        let next = next_span(&mut shared_state, worker_limits, 0);
        assert!(matches!(next, Some((2, _, _, true))), "{slots} slots: {next:?}");
    }
}

#[test]
fn a_backlog_found_late_is_not_held_back_either() {
    for slots in [1, 2, 4, 16] {
        let worker_limits = WorkerLimits { slots, ..HUNGRY };
        let mut shared_state = backlogs(1);
        fill(&mut shared_state, worker_limits);
        shared_state.open_lane(DB, 2, false, 0);
        shared_state.open_lane(DB, 3, false, 0);
        let served = fill(&mut shared_state, worker_limits);
        assert!(served.contains(&2), "{slots} slots: {served:?}");
        assert!(slots <= 2 || served.contains(&3), "{slots} slots: {served:?}");
    }
}

#[test]
fn indices_that_share_the_slots_from_the_start_do_not_exceed_them() {
    let served = fill(&mut backlogs(10), HUNGRY);
    assert_eq!(served, vec![1, 2, 3], "the last slot is kept for fresh rows");
}

#[test]
fn indices_in_trouble_take_no_slot_from_the_others() {
    let mut shared_state = backlogs(6);
    for place in 0..5 {
        shared_state.lane_at(place).unwrap().back_off(LaneFailure::Retry, 1, "503", (0, 0), 0);
    }
    let served = fill(&mut shared_state, HUNGRY);
    assert_eq!(count(&served, 6), 3, "all that a backlog may have: {served:?}");
    assert_eq!(served.len() - 3, 4, "as many attempts as there are slots, one for each index: {served:?}");
    shared_state.publish(DB, &[queued(6, 4096, 4096)], 0);
    assert_eq!(fill(&mut shared_state, HUNGRY), vec![6]);
}

#[test]
fn a_commit_wakes_a_worker_whose_slots_another_index_has_filled() {
    let mut shared_state = backlogs(1);
    fill(&mut shared_state, HUNGRY);
    shared_state.publish(DB, &[queued(1, 4096, 4096)], 0);
    fill(&mut shared_state, HUNGRY);
    let latches = shared_state.publish(DB, &[queued(1, 8192, 8192)], 0);
    assert_eq!(latches.iter().count(), 0, "it has no room for more of the same");
    let latches = shared_state.publish(DB, &[queued(1, 9216, 9216), queued(2, 9217, 9217)], 0);
    assert_eq!(latches.iter().collect::<Vec<_>>(), vec![1000]);
    let latches = shared_state.publish(DB, &[queued(3, 10240, 10240)], 0);
    assert_eq!(latches.iter().count(), 0, "it is awake already and looks at everything");
}

#[test]
fn a_worker_with_room_for_newcomers_alone_looks_again_when_one_may_be_tried() {
    let mut shared_state = backlogs(2);
    shared_state.lane_at(1).unwrap().paused = true;
    fill(&mut shared_state, HUNGRY);
    shared_state.publish(DB, &[queued(1, 4096, 4096)], 0);
    fill(&mut shared_state, HUNGRY);
    shared_state.lane_at(1).unwrap().paused = false;
    shared_state.lane_at(1).unwrap().retry_at = 500;
    assert_eq!(wait_until(&mut shared_state, HUNGRY, 0), Some(500));
    assert_eq!(next_span(&mut shared_state, HUNGRY, 500).unwrap().0, 2);
}

#[test]
fn a_worker_without_room_wakes_one_that_has_some() {
    let mut shared_state = backlogs(1);
    load(&mut shared_state, 0, 4);
    load(&mut shared_state, 1, 3);
    assert!(matches!(shared_state.next(1, HUNGRY, 0), Next::Wait { .. }));
    let Next::Wait { wake, .. } = shared_state.next(0, HUNGRY, 0) else { panic!() };
    assert_eq!(wake, None, "its last slot is kept for fresh rows");
    shared_state.workers[1].remove_flight(0);
    shared_state.lane_at(0).unwrap().paused = true;
    assert!(matches!(shared_state.next(1, HUNGRY, 0), Next::Wait { .. }));
    shared_state.lane_at(0).unwrap().paused = false;
    let Next::Wait { until, wake } = shared_state.next(0, HUNGRY, 0) else { panic!() };
    assert_eq!((until, wake), (None, Some(1001)));
}

proptest! {
    /// Whatever is in flight: no index is delayed only by others, no worker has more than twice the slots, and sleeping
    /// workers do not wake each other without need.
    #[test]
    fn no_index_is_held_back_and_no_worker_overloaded(
        slots in 1usize..6,
        steps in prop::collection::vec((0u8..6, 0i32..4, 0usize..2), 1..80),
    ) {
        let worker_limits = WorkerLimits { slots, ..HUNGRY };
        let mut shared_state = backlogs(1);
        let mut rows = 4096;
        for (step, index, worker) in steps {
            rows += 1024;
            match step {
                0 | 1 => { shared_state.publish(DB, &[queued(index + 1, rows, rows)], 0); }
                2 => {
                    let flying = shared_state.workers[worker].flights.iter().position(|flight| flight.rows > 0);
                    if let Some(flight) = flying { shared_state.settled(worker, flight, &[], 0) }
                }
                3 => {
                    let flying = shared_state.workers[worker].flights.iter().position(|flight| flight.rows > 0);
                    if let Some(flight) = flying {
                        let lane = shared_state.workers[worker].flights[flight].lane as usize;
                        shared_state.released(worker, flight, []);
                        shared_state.lane_at(lane).unwrap().back_off(LaneFailure::Retry, 1, "503", (0, 0), 0);
                    }
                }
                _ => {}
            }
            // All workers work until nobody is woken.
            let mut woken = vec![0, 1];
            let mut rounds = 0;
            while let Some(worker) = woken.pop() {
                rounds += 1;
                prop_assert!(rounds < 40, "workers wake each other in circles");
                match shared_state.next(worker, worker_limits, 0) {
                    Next::Claim { lane, claimable, .. } => {
                        // Half of the spans are used up by their claim.
                        let rest = (lane % 2 == 0).then_some(claimable.span);
                        let flight = Flight {
                            rows: 1, bytes: 1, lane: lane as u32, fresh: claimable.fresh, span: claimable.span, started_at: 0, held_back: 0, partial: false,
                        };
                        shared_state.enter_claim(worker, rest, Some(flight));
                        shared_state.end_claim(worker);
                        woken.push(worker);
                    }
                    Next::Wait { wake, .. } => woken.extend(wake.map(|latch| latch as usize - 1000)),
                }
            }
            let under_way = |worker: usize| shared_state.workers[worker].flights.iter().filter(|f| f.rows > 0).count();
            for worker in 0..2 {
                prop_assert!(under_way(worker) <= 2 * slots);
            }
            for (place, _) in shared_state.lanes_of(DB) {
                let lane = shared_state.lane(place).unwrap();
                let others = (0..4).filter(|other| *other != place && shared_state.lane(*other).unwrap().in_flight > 0).count();
                let waits = !lane.fresh.is_empty() && !lane.is_in_trouble() && lane.in_flight == 0;
                let full = (0..2).all(|worker| under_way(worker) == 2 * slots);
                prop_assert!(!waits || others >= slots.max(2) || full, "index {place} is held back: {others} others");
            }
        }
    }
}

/// Claims batches as large as allowed until there is nothing more, and returns the index and the bytes of each.
fn fill_with_large(
    shared_state: &mut SharedState,
    worker_limits: WorkerLimits,
    rows_of: i64,
) -> Vec<(i32, i64)> {
    let mut served = Vec::new();
    while let Next::Claim { lane, index_id, claimable, bytes, .. } = shared_state.next(0, worker_limits, 0) {
        assert!(served.len() < 300, "there is no end to it");
        // The first row is claimed however large it is.
        let bytes = (bytes / rows_of).max(1) * rows_of;
        let (lane, span) = (lane as u32, claimable.span);
        let flight = Flight {
            rows: 1,
            bytes,
            lane,
            fresh: claimable.fresh,
            span,
            started_at: 0,
            held_back: 0,
            partial: false,
        };
        shared_state.enter_claim(0, Some(span), Some(flight)).unwrap();
        shared_state.end_claim(0);
        served.push((index_id, bytes));
    }
    served
}

#[test]
fn bodies_on_their_way_add_up_to_two_batches_and_a_row_whatever_the_rows_are() {
    for slots in [1, 4, 16] {
        for rows_of in [300, 1 << 20, 5 << 20, 8 << 20, 500 << 20] {
            let worker_limits = WorkerLimits { slots, ..HUNGRY };
            let mut shared_state = backlogs(12);
            let served = fill_with_large(&mut shared_state, worker_limits, rows_of);
            let total: i64 = served.iter().map(|(_, bytes)| bytes).sum();
            assert!(total < 2 * HUNGRY.batch_bytes + rows_of, "{slots} slots, {rows_of} bytes: {served:?}");
        }
    }
}

#[test]
fn large_bodies_of_an_index_leave_room_for_another_and_for_fresh_rows() {
    let mut shared_state = backlogs(1);
    let served = fill_with_large(&mut shared_state, HUNGRY, 300);
    let backlog: i64 = served.iter().map(|(_, bytes)| bytes).sum();
    assert!(backlog < HUNGRY.batch_bytes / 4 * 3 + 300, "{served:?}");
    shared_state.publish(DB, &[queued(1, 4096, 4096)], 0);
    let fresh = fill_with_large(&mut shared_state, HUNGRY, 300);
    assert!(fresh.iter().all(|(index, bytes)| *index == 1 && *bytes >= 1 << 20), "{fresh:?}");
    for index in 2..=4 {
        shared_state.open_lane(DB, index, false, 0);
        shared_state.publish(DB, &[queued(index, 8192, 8192)], 0);
        let another = fill_with_large(&mut shared_state, HUNGRY, 300);
        assert!(another.iter().any(|(served, _)| *served == index), "index {index}: {another:?}");
    }
}

#[test]
fn what_is_left_of_a_share_of_bytes_is_not_claimed_row_by_row() {
    for slots in [1, 4, 16] {
        for rows_of in [300, 5_000, 70_000] {
            let mut shared_state = backlogs(1);
            let worker_limits = WorkerLimits { slots, ..HUNGRY };
            // As many rows as a batch may have, and then as many as there is room for.
            let mut served = Vec::new();
            while let Next::Claim { lane, claimable, bytes, .. } = shared_state.next(0, worker_limits, 0) {
                let bytes = (bytes / rows_of).clamp(1, HUNGRY.batch_rows) * rows_of;
                let (lane, span) = (lane as u32, claimable.span);
                let flight = Flight {
                    rows: 1,
                    bytes,
                    lane,
                    fresh: claimable.fresh,
                    span,
                    started_at: 0,
                    held_back: 0,
                    partial: false,
                };
                shared_state.enter_claim(0, Some(span), Some(flight)).unwrap();
                shared_state.end_claim(0);
                served.push(bytes);
            }
            let least = (HUNGRY.batch_bytes / 32 - rows_of).min(HUNGRY.batch_rows * rows_of);
            assert!(served.iter().all(|bytes| *bytes >= least), "{slots} slots, {rows_of} bytes: {served:?}");
        }
    }
}
