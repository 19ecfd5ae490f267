//! Repeats measurements and keeps their results. The cases take turns in coming first, so that none always comes first
//! or after the same load.

use std::collections::HashMap;
use std::hash::Hash;

use anyhow::Result;

use crate::interrupt;

/// The results of the repeats of each case.
pub(super) struct Samples<K, S>(HashMap<K, Vec<S>>);

impl<K: Copy + Eq + Hash, S> Samples<K, S> {
    pub(super) fn new() -> Samples<K, S> {
        Samples(HashMap::new())
    }

    /// Measures each case so many times, in rounds.
    pub(super) fn alternate(
        cases: &[K],
        rounds: usize,
        mut measure: impl FnMut(K) -> Result<Option<S>>,
    ) -> Result<Samples<K, S>> {
        let mut samples = Samples::new();
        (0..rounds).try_for_each(|round| samples.round(cases, (round, rounds), &mut measure))?;
        Ok(samples)
    }

    /// Measures each case once, in the order of this round. A case that cannot be measured has no result.
    pub(super) fn round(
        &mut self,
        cases: &[K],
        (round, rounds): (usize, usize),
        mut measure: impl FnMut(K) -> Result<Option<S>>,
    ) -> Result<()> {
        for case in in_turn(cases, round, rounds) {
            interrupt::check()?;
            let sample = measure(case)?;
            self.0.entry(case).or_default().extend(sample);
        }
        Ok(())
    }

    pub(super) fn push(&mut self, case: K, sample: S) {
        self.0.entry(case).or_default().push(sample);
    }

    /// All results of a case.
    pub(super) fn all(&self, case: K) -> &[S] {
        self.0.get(&case).map_or(&[], Vec::as_slice)
    }

    /// One figure of each result of a case.
    pub(super) fn of(&self, case: K, figure: impl Fn(&S) -> f64) -> Vec<f64> {
        self.all(case).iter().map(figure).collect()
    }
}

/// Each once, starting with another one in each round, so that the starts are spread evenly. The first round has the
/// given order.
fn in_turn<T: Copy>(all: &[T], round: usize, rounds: usize) -> Vec<T> {
    let begin = all.len() * round / rounds.max(1);
    all.iter().copied().cycle().skip(begin).take(all.len()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_round_has_the_order_given() {
        assert_eq!(in_turn(&[1, 2, 3], 0, 5), [1, 2, 3]);
    }

    #[test]
    fn beginnings_are_spread_over_the_rounds() {
        let beginnings =
            |rounds| (0..rounds).map(move |round| in_turn(&[0, 1, 2, 3, 4, 5], round, rounds)[0]);
        assert_eq!(beginnings(2).collect::<Vec<_>>(), [0, 3]);
        assert_eq!(beginnings(5).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(beginnings(8).collect::<Vec<_>>(), [0, 0, 1, 2, 3, 3, 4, 5]);
    }

    #[test]
    fn nobody_is_left_out() {
        for round in 0..7 {
            let mut all = in_turn(&[1, 2, 3, 4], round, 7);
            all.sort_unstable();
            assert_eq!(all, [1, 2, 3, 4]);
        }
        assert!(in_turn::<u8>(&[], 3, 5).is_empty());
    }
}
