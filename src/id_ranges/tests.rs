//! The set compared with examples, and with a model that stores every id.

#![forbid(unsafe_code)]

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn spans(id_ranges: &IdRanges) -> Vec<(i64, i64)> {
    id_ranges.iter().map(|span| (span.lo, span.hi)).collect()
}

fn id_ranges(spans: &[(i64, i64)]) -> IdRanges {
    let mut id_ranges = IdRanges::new();
    spans.iter().for_each(|(lo, hi)| id_ranges.add(*lo, *hi));
    id_ranges
}

/// `MAX_SPANS` intervals of one id each, `step` apart, from 0 on.
fn full(step: i64) -> IdRanges {
    id_ranges(&(0..MAX_SPANS as i64).map(|index| (index * step, index * step)).collect::<Vec<_>>())
}

fn assert_sound(id_ranges: &IdRanges) {
    let spans = spans(id_ranges);
    assert!(spans.iter().all(|(lo, hi)| lo <= hi), "{spans:?}");
    assert!(spans.windows(2).all(|pair| pair[0].1 < pair[1].0 - 1), "{spans:?}");
}

#[test]
fn overlapping_and_adjacent_intervals_are_joined() {
    assert_eq!(spans(&id_ranges(&[(1, 3), (10, 12), (4, 5)])), [(1, 5), (10, 12)]);
    assert_eq!(spans(&id_ranges(&[(10, 12), (1, 3)])), [(1, 3), (10, 12)]);
    assert_eq!(spans(&id_ranges(&[(1, 3), (10, 12), (2, 11)])), [(1, 12)]);
    assert_eq!(spans(&id_ranges(&[(1, 3), (5, 7), (9, 11), (4, 8)])), [(1, 11)]);
    assert_eq!(spans(&id_ranges(&[(1, 9), (3, 4)])), [(1, 9)]);
    assert_eq!(spans(&id_ranges(&[(3, 1)])), []);
}

#[test]
fn the_ends_of_the_range_fit() {
    let all = id_ranges(&[(0, i64::MAX), (i64::MIN, -1)]);
    assert_eq!(spans(&all), [(i64::MIN, i64::MAX)]);
    let mut ends = all;
    ends.remove(Span { lo: i64::MIN + 1, hi: i64::MAX - 1 });
    assert_eq!(spans(&ends), [(i64::MIN, i64::MIN), (i64::MAX, i64::MAX)]);
    ends.remove(Span { lo: i64::MIN, hi: i64::MAX });
    assert!(ends.is_empty());
}

#[test]
fn removing_splits_shortens_and_deletes() {
    let mut set = id_ranges(&[(1, 9), (20, 29), (40, 49)]);
    set.remove(Span { lo: 5, hi: 5 });
    assert_eq!(spans(&set), [(1, 4), (6, 9), (20, 29), (40, 49)]);
    set.remove(Span { lo: 8, hi: 44 });
    assert_eq!(spans(&set), [(1, 4), (6, 7), (45, 49)]);
    set.remove(Span { lo: 9, hi: 8 });
    assert_eq!(set.bounds(), Some(Span { lo: 1, hi: 49 }));
}

#[test]
fn both_ends_can_be_taken() {
    let mut set = id_ranges(&[(1, 2), (4, 5), (7, 8)]);
    assert_eq!(set.take_newest(), Some(Span { lo: 7, hi: 8 }));
    assert_eq!(set.take_oldest_from(i64::MIN), Some(Span { lo: 1, hi: 2 }));
    assert_eq!(set.newest(), set.oldest());
    assert_eq!(set.take_oldest_from(i64::MIN), Some(Span { lo: 4, hi: 5 }));
    assert_eq!((set.take_oldest_from(i64::MIN), set.take_newest(), set.bounds()), (None, None, None));
    set.add(1, 1);
    set.clear();
    assert!(set.is_empty());
}

#[test]
fn a_full_set_joins_across_the_smallest_gap() {
    let mut set = full(10);
    set.add(1000, 1000);
    assert_eq!(spans(&set)[0], (0, 10));
    assert_eq!(set.iter().count(), MAX_SPANS);
    let mut set = full(10);
    set.add(53, 53);
    assert!(spans(&set).contains(&(50, 53)));
    assert_eq!(set.iter().count(), MAX_SPANS);
    let mut set = id_ranges(&[(-1, 2000)]);
    (0..MAX_SPANS as i64).for_each(|index| set.remove(Span { lo: index * 32, hi: index * 32 + index }));
    assert_sound(&set);
    assert_eq!(set.iter().count(), MAX_SPANS);
    assert!(spans(&set).contains(&(-1, 31)), "{:?}", spans(&set));
}

#[test]
fn a_wrong_length_is_survived() {
    let mut set = IdRanges { len: usize::MAX, ..full(10) };
    set.add(5, 5);
    set.remove(Span { lo: 0, hi: 0 });
    assert!(set.iter().count() <= MAX_SPANS);
    assert!(IdRanges { len: 99, ..full(10) }.take_oldest_from(i64::MIN).is_some());
    assert!(IdRanges { len: 99, ..full(10) }.take_newest().is_some());
}

/// The number of ids in the model; it is small, so that changes often overlap.
const UNIVERSE: i64 = 200;

#[derive(Clone, Copy, Debug)]
enum Change {
    Add(i64, i64),
    Remove(i64, i64),
    TakeNewest,
    TakeOldest,
}

fn any_change() -> impl Strategy<Value = Change> {
    let span = || (0..UNIVERSE, 0..6_i64).prop_map(|(lo, len)| (lo, (lo + len).min(UNIVERSE - 1)));
    prop_oneof![
        8 => span().prop_map(|(lo, hi)| Change::Add(lo, hi)),
        4 => span().prop_map(|(lo, hi)| Change::Remove(lo, hi)),
        1 => Just(Change::TakeNewest),
        1 => Just(Change::TakeOldest),
    ]
}

fn ids(id_ranges: &IdRanges) -> BTreeSet<i64> {
    id_ranges.iter().flat_map(|span| span.lo..=span.hi).collect()
}

fn runs(model: &BTreeSet<i64>) -> usize {
    model.iter().filter(|id| !model.contains(&(*id - 1))).count()
}

fn apply(change: Change, id_ranges: &mut IdRanges, model: &mut BTreeSet<i64>) {
    match change {
        Change::Add(lo, hi) => {
            id_ranges.add(lo, hi);
            model.extend(lo..=hi);
        }
        Change::Remove(lo, hi) => {
            id_ranges.remove(Span { lo, hi });
            model.retain(|id| !(lo..=hi).contains(id));
        }
        Change::TakeNewest | Change::TakeOldest => {
            let newest = matches!(change, Change::TakeNewest);
            let expected = if newest { id_ranges.newest() } else { id_ranges.oldest() };
            let taken = if newest { id_ranges.take_newest() } else { id_ranges.take_oldest_from(i64::MIN) };
            assert_eq!(taken, expected);
            if let Some(span) = taken {
                model.retain(|id| !(span.lo..=span.hi).contains(id));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn it_is_a_superset_always_and_exact_until_it_overflows(
        changes in prop::collection::vec(any_change(), 0..150),
    ) {
        let (mut id_ranges, mut model) = (IdRanges::new(), BTreeSet::new());
        let mut exact = true;
        for change in changes {
            apply(change, &mut id_ranges, &mut model);
            exact &= runs(&model) <= MAX_SPANS;
            assert_sound(&id_ranges);
            let ids = ids(&id_ranges);
            prop_assert!(ids.is_superset(&model));
            prop_assert!(!exact || ids == model);
            prop_assert_eq!(id_ranges.bounds().map(|span| span.lo), ids.first().copied());
            prop_assert_eq!(id_ranges.bounds().map(|span| span.hi), ids.last().copied());
        }
    }

    #[test]
    fn far_apart_ids_are_kept(ids in prop::collection::vec(any::<i64>(), 0..100)) {
        let mut id_ranges = IdRanges::new();
        for id in &ids {
            id_ranges.add(*id, *id);
            prop_assert!(id_ranges.iter().count() <= MAX_SPANS);
        }
        for id in &ids {
            prop_assert!(id_ranges.iter().any(|span| (span.lo..=span.hi).contains(id)));
        }
    }
}

/// Tests each set of eight ids with each interval.
#[test]
fn small_sets_are_exact() {
    let set = |bits: u32| (0..8).filter(|id| bits & (1 << id) != 0).collect::<BTreeSet<i64>>();
    for bits in 0..256 {
        for (lo, hi) in (0..8).flat_map(|lo| (lo..8).map(move |hi| (lo, hi))) {
            for change in [Change::Add(lo, hi), Change::Remove(lo, hi)] {
                let mut model = set(bits);
                let mut changed = IdRanges::new();
                model.iter().for_each(|id| changed.add(*id, *id));
                apply(change, &mut changed, &mut model);
                assert_sound(&changed);
                assert_eq!(ids(&changed), model);
            }
        }
    }
}
