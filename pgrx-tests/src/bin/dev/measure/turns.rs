//! Whose turn it is: no round has the order of the one before, so that nobody always comes first or behind the same load.

/// Everybody once, beginning with somebody else each round; over all rounds the beginnings are spread evenly. The first
/// round has them as they are.
pub(super) fn in_turn<T: Copy>(all: &[T], round: usize, rounds: usize) -> Vec<T> {
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
