//! A bounded set of strings, stored as 64-bit hashes, for membership tests.
//!
//! The set has a maximum size. A string that is not in it may be mistaken for a member, with a probability far below
//! one in a billion.

#![forbid(unsafe_code)]

use std::hash::{BuildHasher, RandomState};

/// Collects the strings of a set.
#[derive(Debug)]
pub struct StringSetBuilder {
    most: usize,
    hashes: Vec<u64>,
    hasher: RandomState,
}

/// The finished set.
#[derive(Debug)]
pub struct StringSet {
    sorted: Vec<u64>,
    hasher: RandomState,
}

impl StringSetBuilder {
    /// An empty set of at most `most` strings.
    pub fn new(most: usize) -> StringSetBuilder {
        StringSetBuilder { most, hashes: Vec::new(), hasher: RandomState::new() }
    }

    /// Adds a string; `false` if there is no room for it.
    #[must_use]
    pub fn add(&mut self, text: &str) -> bool {
        let has_room = self.hashes.len() < self.most && self.hashes.try_reserve(1).is_ok();
        if has_room {
            self.hashes.push(self.hasher.hash_one(text));
        }
        has_room
    }

    /// Finishes the set.
    pub fn build(self) -> StringSet {
        let StringSetBuilder { mut hashes, hasher, .. } = self;
        hashes.sort_unstable();
        StringSet { sorted: hashes, hasher }
    }
}

impl StringSet {
    /// Whether a string is in the set.
    pub fn contains(&self, text: &str) -> bool {
        self.sorted.binary_search(&self.hasher.hash_one(text)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_known_again_and_nothing_else_is() {
        let mut collection = StringSetBuilder::new(20_000);
        for number in 0..10_000 {
            assert!(collection.add(&number.to_string()));
            assert!(collection.add("often"));
        }
        let hashes = collection.build();
        assert!((0..10_000).all(|number| hashes.contains(&number.to_string())));
        assert!(hashes.contains("often"));
        assert!(!(10_000..50_000).any(|number| hashes.contains(&number.to_string())));
        assert!(!StringSetBuilder::new(1).build().contains("often"));
    }

    #[test]
    fn one_too_many_is_refused() {
        let mut collection = StringSetBuilder::new(2);
        assert!(collection.add("a") && collection.add("b") && !collection.add("c"));
        let hashes = collection.build();
        assert!(hashes.contains("b") && !hashes.contains("c"));
    }
}
