//! Short chaos runs: some whose seeds are fixed, and some that are new each time and tell their seed when they fail.

use audit_algolia_tests::chaos::Chaos;

const WRITERS: usize = 4;
const STEPS: usize = 240;

#[test]
fn the_index_equals_what_committed_through_known_trouble() {
    for seed in 1..=4 {
        println!("{:?}", Chaos { seed, writers: WRITERS, steps: STEPS }.pass().unwrap());
    }
}

#[test]
fn the_index_equals_what_committed_through_new_trouble() {
    for _ in 0..4 {
        let seed = fastrand::u64(..);
        println!("{:?}", Chaos { seed, writers: WRITERS, steps: STEPS }.pass().unwrap());
    }
}
