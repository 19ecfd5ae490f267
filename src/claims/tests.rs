//! The claim table compared with examples and with a map.

#![forbid(unsafe_code)]

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

fn worker(slot: usize) -> Holder {
    Holder::worker(slot)
}

#[test]
fn owners_of_different_kinds_are_never_equal() {
    let all = [Holder::worker, Holder::held_back, Holder::quarantine, |pid| Holder::session(pid as i32)];
    let mut seen = Vec::new();
    for holder in all.into_iter().flat_map(|of| [0, 1, 63, 255].map(of)) {
        assert!(!holder.is_nobody() && !seen.contains(&holder), "{holder:?}");
        seen.push(holder);
    }
    assert_eq!((worker(7).as_worker(), worker(7).as_held_back()), (Some(7), None));
    let held_back = Holder::held_back(7);
    assert_eq!((held_back.as_worker(), held_back.as_held_back()), (None, Some(7)));
    for other in [Holder::quarantine(7), Holder::session(7), Holder::NOBODY] {
        assert_eq!((other.as_worker(), other.as_held_back()), (None, None));
    }
}

#[test]
fn a_row_has_one_holder() {
    let mut table = ClaimTable::<16>::new();
    assert_eq!(table.claim(worker(1), 5, 42), Claim::Granted);
    assert_eq!(table.claim(worker(2), 5, 42), Claim::HeldBy(worker(1)));
    assert_eq!(table.claim(worker(1), 5, 42), Claim::HeldBy(worker(1)));
    assert_eq!(table.claim(worker(2), 6, 42), Claim::Granted);
    assert_eq!(
        (table.holder(5, 42), table.holder(6, 42), table.holder(7, 42)),
        (Some(worker(1)), Some(worker(2)), None)
    );
    assert!(table.release(5, 42));
    assert!(!table.release(5, 42));
    assert_eq!((table.len(), table.count_of(worker(1)), table.count_of(worker(2))), (1, 0, 1));
}

#[test]
fn a_full_table_still_knows_its_rows() {
    let mut table = ClaimTable::<8>::new();
    assert_eq!(table.capacity(), 4);
    (0..4).for_each(|id| assert_eq!(table.claim(worker(9), 1, id), Claim::Granted));
    assert_eq!(table.claim(worker(9), 1, 4), Claim::Full);
    assert_eq!(table.claim(worker(8), 1, 3), Claim::HeldBy(worker(9)));
    assert_eq!(table.release_all(worker(9)), 4);
    assert!(table.is_empty());
    assert_eq!(table.claim(worker(9), 1, 4), Claim::Granted);
}

#[test]
fn nobody_holds_nothing() {
    let mut table = ClaimTable::<8>::new();
    assert_eq!(table.claim(Holder::NOBODY, 1, 1), Claim::Full);
    assert_eq!((table.len(), table.count_of(Holder::NOBODY), table.release_all(Holder::NOBODY)), (0, 0, 0));
}

#[test]
fn a_table_without_places_is_full() {
    let mut table = ClaimTable::<0>::default();
    assert_eq!(table.claim(worker(1), 1, 1), Claim::Full);
    assert_eq!((table.holder(1, 1), table.release(1, 1), table.release_all(worker(1))), (None, false, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Claim(Holder, u32, i64),
    Release(u32, i64),
    ReleaseAll(Holder),
}

fn any_step() -> impl Strategy<Value = Step> {
    let id = || prop_oneof![0..40_i64, -5..0_i64, Just(i64::MAX), Just(i64::MIN)];
    prop_oneof![
        10 => (0..3_usize, 0..3_u32, id()).prop_map(|(slot, database, id)| Step::Claim(worker(slot), database, id)),
        6 => (0..3_u32, id()).prop_map(|(database, id)| Step::Release(database, id)),
        1 => (0..3_usize).prop_map(|slot| Step::ReleaseAll(worker(slot))),
    ]
}

fn check_step<const N: usize>(
    step: Step,
    table: &mut ClaimTable<N>,
    model: &mut HashMap<(u32, i64), Holder>,
) {
    match step {
        Step::Claim(holder, database, id) => {
            let expected = match model.get(&(database, id)) {
                Some(holder) => Claim::HeldBy(*holder),
                None if model.len() == table.capacity() => Claim::Full,
                None => Claim::Granted,
            };
            assert_eq!(table.claim(holder, database, id), expected);
            if expected == Claim::Granted {
                model.insert((database, id), holder);
            }
        }
        Step::Release(database, id) => {
            assert_eq!(table.release(database, id), model.remove(&(database, id)).is_some());
        }
        Step::ReleaseAll(holder) => {
            let before = model.len();
            model.retain(|_, found| *found != holder);
            assert_eq!(table.release_all(holder), before - model.len());
        }
    }
    assert_eq!(table.len(), model.len());
    assert!(model.iter().all(|((database, id), holder)| table.holder(*database, *id) == Some(*holder)));
    for holder in (0..3).map(worker) {
        assert_eq!(table.count_of(holder), model.values().filter(|found| **found == holder).count());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn it_does_what_a_map_does(steps in prop::collection::vec(any_step(), 0..200)) {
        // In the small table probes wrap around often, and the size of the other is no power of two.
        let (mut small, mut odd) = (ClaimTable::<16>::new(), ClaimTable::<37>::new());
        let (mut small_model, mut odd_model) = (HashMap::new(), HashMap::new());
        for step in steps {
            check_step(step.clone(), &mut small, &mut small_model);
            check_step(step, &mut odd, &mut odd_model);
        }
    }

    #[test]
    fn foreign_bytes_are_survived(
        len in any::<usize>(),
        entries in prop::array::uniform16((0..3_u32, 0..3_u32, 0..9_i64)),
        steps in prop::collection::vec(any_step(), 0..50),
    ) {
        let entries = entries.map(|(holder, database, id)| Entry { holder: Holder(holder), database, id });
        let mut table = ClaimTable { len, entries };
        for step in steps {
            match step {
                Step::Claim(holder, database, id) => drop(table.claim(holder, database, id)),
                Step::Release(database, id) => drop(table.release(database, id)),
                Step::ReleaseAll(holder) => drop(table.release_all(holder)),
            }
        }
    }
}

/// Runs of consecutive ids: probes stay short at the highest load.
#[test]
fn consecutive_ids_spread() {
    const PLACES: usize = 1 << 12;
    let mut table = Box::new(ClaimTable::<PLACES>::new());
    for first in [0_i64, 1 << 40, -5000] {
        for id in first..first + table.capacity() as i64 {
            assert_eq!(table.claim(worker(7), 16_384, id), Claim::Granted);
        }
        let steps: usize = (0..PLACES)
            .filter(|place| table.entry(*place).holder != Holder::NOBODY)
            .map(|place| {
                let entry = table.entry(place);
                distance::<PLACES>(home::<PLACES>(entry.database, entry.id), place)
            })
            .sum();
        // Linear probing at load 1/2 takes half a step more than a direct hit, on average.
        assert!(steps < table.len(), "{steps} steps for {} claims", table.len());
        assert_eq!(table.release_all(worker(7)), table.capacity());
    }
}
