//! Runs of ids without a gap. Such a run can be deleted by its two ends, because no other id lies between them.

#![forbid(unsafe_code)]

use crate::id_ranges::Span;

/// A shorter run is deleted faster id by id.
const RANGE_FROM: usize = 32;

/// Ids in long runs, each of which contains every id between its ends, and the other ids one by one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Runs {
    pub long: Vec<Span>,
    pub others: Vec<i64>,
}

impl Runs {
    /// Splits `ids`, which should be in ascending order. An id that does not follow its predecessor ends a run.
    pub fn of(ids: &[i64]) -> Runs {
        let mut runs = Runs::default();
        for run in ids.chunk_by(|id, next| id.checked_add(1) == Some(*next)) {
            match (run.first(), run.last()) {
                (Some(lo), Some(hi)) if run.len() >= RANGE_FROM => runs.long.push(Span { lo: *lo, hi: *hi }),
                _ => runs.others.extend_from_slice(run),
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_of_one_id_parts_two_runs() {
        let ids: Vec<i64> = (1..=40).chain(42..=90).collect();
        let runs = Runs::of(&ids);
        assert_eq!(runs.long, [Span { lo: 1, hi: 40 }, Span { lo: 42, hi: 90 }]);
        assert!(runs.others.is_empty());
    }

    #[test]
    fn short_runs_are_told_id_by_id() {
        let ids: Vec<i64> = (-31..=-1).chain(1024..1056).chain([9_000, 9_001]).collect();
        let runs = Runs::of(&ids);
        assert_eq!(runs.long, [Span { lo: 1024, hi: 1055 }]);
        assert_eq!(runs.others, (-31..=-1).chain([9_000, 9_001]).collect::<Vec<i64>>());
    }

    #[test]
    fn every_id_is_told_once_and_no_other() {
        proptest::proptest!(|(set in proptest::collection::btree_set(-200_i64..200, 0..300))| {
            let ids: Vec<i64> = set.iter().copied().collect();
            let Runs { long, others } = Runs::of(&ids);
            let mut told: Vec<i64> = long.iter().flat_map(|span| span.lo..=span.hi).chain(others).collect();
            told.sort_unstable();
            assert_eq!(told, ids);
        });
    }

    #[test]
    fn the_ends_of_the_range_of_ids_make_no_run() {
        assert_eq!(Runs::of(&[i64::MAX, i64::MIN]).others, [i64::MAX, i64::MIN]);
    }
}
