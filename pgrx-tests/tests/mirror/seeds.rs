//! Random changes with random faults: fixed seeds, and new ones that are reported if they fail.
//!
//! `MIRROR_SEEDS=200 cargo test -p audit_algolia_tests --test mirror new_seeds` makes many more runs.

use audit_algolia_tests::mirror::Mirror;

const MIRROR: Mirror = Mirror { writers: 3, steps: 40, together: 6, crashes: false };

#[test]
fn the_index_equals_the_table_for_known_seeds() {
    MIRROR.pass(1..=6).unwrap();
}

#[test]
fn the_index_equals_the_table_for_new_seeds_and_through_crashes() {
    let count = std::env::var("MIRROR_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(6);
    let mirror = Mirror { crashes: true, ..MIRROR };
    mirror.pass(std::iter::repeat_with(|| fastrand::u64(..)).take(count)).unwrap();
}
