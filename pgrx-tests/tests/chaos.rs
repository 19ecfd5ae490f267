//! Short chaos runs: two whose seeds are fixed, and one that is new each time and says its seed when it fails.

use audit_algolia_tests::chaos::Chaos;

#[test]
fn the_index_equals_what_committed_through_all_trouble() {
    for seed in [1, 2, fastrand::u64(..)] {
        let chaos = Chaos { seed, writers: 4, steps: 120 };
        println!("{:?}", chaos.pass().unwrap());
    }
}
