//! A hash of a record's content, however it is written, to tell whether two records are the same.
//!
//! Algolia returns attributes in another order and writes numbers anew. So the hash takes attributes in the order of
//! their names, and numbers as the doubles they are read as.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::Deserializer;
use sha2::{Digest, Sha256};

/// 128 bits of SHA-256 over a record's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u64, u64);

impl Fingerprint {
    /// The fingerprint of everything that cannot be read as JSON, because it is nested too deeply or has a number that
    /// no double holds. Two such records count as the same.
    pub const UNREADABLE: Fingerprint = Fingerprint(0, 0);

    /// The fingerprint of a record that cannot be ours and is therefore not read.
    pub const FOREIGN: Fingerprint = Fingerprint(0, 1);

    /// The fingerprint of a JSON text.
    pub fn of(json: &str) -> Fingerprint {
        let mut hash = Sha256::new();
        let mut reader = serde_json::Deserializer::from_str(json);
        let read = Feed(&mut hash).deserialize(&mut reader).and_then(|()| reader.end());
        if read.is_err() {
            return Fingerprint::UNREADABLE;
        }
        let digest = hash.finalize();
        let half = |at: usize| {
            let bytes = digest.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            u64::from_be_bytes(bytes.unwrap_or_default())
        };
        Fingerprint(half(0), half(8))
    }
}

/// Feeds a hash with a value while it is parsed, so that a record is never held in parts. Each value begins with its
/// kind, and a value of variable length marks its end, so that different values never feed the hash the same bytes.
struct Feed<'h>(&'h mut Sha256);

impl Feed<'_> {
    fn number(self, number: f64) {
        self.0.update(b"#");
        // Adding zero turns -0 into 0, which it equals.
        self.0.update((number + 0.0).to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.0.update(b"\"");
        self.0.update((text.len() as u64).to_be_bytes());
        self.0.update(text);
    }
}

impl<'de> DeserializeSeed<'de> for Feed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Feed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.update(b"n");
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.0.update(if value { b"t" } else { b"f" });
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.number(number as f64);
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.number(number as f64);
        Ok(())
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        self.number(number);
        Ok(())
    }

    fn visit_str<E>(mut self, text: &str) -> Result<(), E> {
        self.text(text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.0.update(b"[");
        while items.next_element_seed(Feed(self.0))?.is_some() {}
        self.0.update(b"]");
        Ok(())
    }

    /// Hashes each value by itself, and takes the members in the order of their names. If a name occurs twice, the last
    /// one counts.
    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut members: BTreeMap<String, [u8; 32]> = BTreeMap::new();
        while let Some(name) = map.next_key()? {
            let mut hash = Sha256::new();
            map.next_value_seed(Feed(&mut hash))?;
            members.insert(name, hash.finalize().into());
        }
        self.0.update(b"{");
        for (name, value) in members {
            self.text(&name);
            self.0.update(value);
        }
        self.0.update(b"}");
        Ok(())
    }
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
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            (r#"{"a":18446744073709551615}"#, r#"{"a":1.8446744073709552e19}"#),
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
