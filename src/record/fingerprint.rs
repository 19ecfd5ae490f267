//! By what two records are told to be the same: a hash of what they hold, however it is written.
//!
//! Algolia returns a record with its attributes in another order and its numbers spelled anew. So attributes are taken
//! in the order of their names, and numbers as the doubles they are read as.

#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// 128 bits of SHA-256 over a record's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint(u64, u64);

impl Fingerprint {
    /// Of everything that cannot be read as JSON: nested too deeply, or with a number that no double holds. Two such
    /// records count as the same.
    pub const UNREADABLE: Fingerprint = Fingerprint(0, 0);

    /// Of what is not looked at, since it cannot be a record of ours.
    pub const FOREIGN: Fingerprint = Fingerprint(0, 1);

    /// The fingerprint of a JSON text.
    pub fn of(json: &str) -> Fingerprint {
        let Ok(value) = serde_json::from_str::<Value>(json) else {
            return Fingerprint::UNREADABLE;
        };
        let mut hash = Sha256::new();
        feed(&value, &mut hash);
        let digest = hash.finalize();
        let half = |at: usize| {
            let bytes = digest.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            u64::from_be_bytes(bytes.unwrap_or_default())
        };
        Fingerprint(half(0), half(8))
    }
}

/// Each value begins with its kind, and what has no fixed length tells it, so that different values never feed the same.
fn feed(value: &Value, hash: &mut Sha256) {
    match value {
        Value::Null => hash.update(b"n"),
        Value::Bool(false) => hash.update(b"f"),
        Value::Bool(true) => hash.update(b"t"),
        Value::Number(number) => {
            hash.update(b"#");
            // Adding zero makes of -0 the 0 it equals.
            hash.update((number.as_f64().unwrap_or(f64::NAN) + 0.0).to_be_bytes());
        }
        Value::String(text) => feed_text(text, hash),
        Value::Array(items) => {
            hash.update(b"[");
            items.iter().for_each(|item| feed(item, hash));
            hash.update(b"]");
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            hash.update(b"{");
            for (name, value) in members {
                feed_text(name, hash);
                feed(value, hash);
            }
            hash.update(b"}");
        }
    }
}

fn feed_text(text: &str, hash: &mut Sha256) {
    hash.update(b"\"");
    hash.update((text.len() as u64).to_be_bytes());
    hash.update(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn same(one: &str, other: &str) -> bool {
        Fingerprint::of(one) == Fingerprint::of(other)
    }

    #[test]
    fn what_means_the_same_has_the_same_fingerprint() {
        for (one, other) in [
            (r#"{"a":1,"b":[1,2]}"#, r#"{ "b": [1, 2], "a": 1 }"#),
            (r#"{"a":1.10}"#, r#"{"a":1.1}"#),
            (r#"{"a":100}"#, r#"{"a":1e2}"#),
            (r#"{"a":-0.0}"#, r#"{"a":0}"#),
            (r#"{"a":0.30000000000000004440892098500626}"#, r#"{"a":0.30000000000000004}"#),
            (r#"{"a":"\u00e9\/"}"#, r#"{"a":"é/"}"#),
            (r#"{"a":{"x":1,"y":2}}"#, r#"{"a":{"y":2,"x":1}}"#),
        ] {
            assert!(same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn what_differs_has_another() {
        for (one, other) in [
            (r#"{"a":1}"#, r#"{"a":"1"}"#),
            (r#"{"a":1}"#, r#"{"a":true}"#),
            (r#"{"a":null}"#, r#"{}"#),
            (r#"{"a":[1,2]}"#, r#"{"a":[2,1]}"#),
            (r#"{"a":[[1],2]}"#, r#"{"a":[[1,2]]}"#),
            (r#"{"a":"b","c":"d"}"#, r#"{"a":"bc","":"d"}"#),
            (r#"{"a":9007199254740991}"#, r#"{"a":9007199254740990}"#),
            (r#"{"a":0.1}"#, r#"{"a":0.10000000000000002}"#),
        ] {
            assert!(!same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn what_cannot_be_read_counts_as_the_same() {
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        assert_eq!(Fingerprint::of(&deep), Fingerprint::UNREADABLE);
        assert_ne!(Fingerprint::of("{}"), Fingerprint::UNREADABLE);
    }

    proptest! {
        #[test]
        fn doubles_keep_theirs_however_they_are_written(number in prop::num::f64::NORMAL) {
            let (plain, scientific) = (format!("{number}"), format!("{number:e}"));
            let shortest = serde_json::to_string(&number).unwrap();
            prop_assert!(same(&plain, &scientific) && same(&plain, &shortest));
        }
    }
}
