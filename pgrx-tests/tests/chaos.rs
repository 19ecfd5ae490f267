//! Short chaos runs: two with fixed seeds, and one with a new seed each time, which it reports.

use audit_algolia_tests::chaos::Chaos;

#[test]
fn the_index_equals_what_committed_through_known_trouble() {
    for seed in [1, 2] {
        let outcome = Chaos::short(seed).pass().unwrap();
        println!("{outcome:?}");
        assert!(outcome.verdict.changes > 300, "updates and deletions have to be told, too");
    }
}

#[test]
fn the_index_equals_what_committed_through_new_trouble() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    println!("{:?}", Chaos::short(seed).pass().unwrap());
}
