//! The record that deletes the object of a mirrored row, and the identity by which the queue tells objects apart.

#![forbid(unsafe_code)]

use std::borrow::Cow;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::pseudonym::Pseudonymizer;
use crate::record::object_id::append_object_id;
use crate::record::write::all_or_nothing;
use crate::record::{Buffer, RecordError, RecordLayout};

/// The beginning of every record.
const HEAD: &str = r#"{"objectID":""#;
/// A longer objectID is not used as an identity as it is, because the size of an index entry is limited.
const LONGEST: usize = 1024;

/// Appends the record that deletes a row's object to `out`. It consists of the objectID. On an error `out` is as it was
/// before.
pub fn write_deletion<'a>(
    layout: &RecordLayout,
    key_parts: impl ExactSizeIterator<Item = Option<Cow<'a, str>>>,
    pseudonymizer: Option<&Pseudonymizer>,
    out: &mut Buffer,
) -> Result<(), RecordError> {
    all_or_nothing(out, |out| {
        append_object_id(layout, key_parts, None, pseudonymizer, out)?;
        out.push(b'}');
        Ok(())
    })
}

/// The identity of the object that a record of ours describes: its objectID as the record spells it. A very long
/// objectID is shortened and completed by a hash.
pub fn identity(record: &str) -> Cow<'_, str> {
    let rest = record.strip_prefix(HEAD).unwrap_or(record);
    let mut escaped = false;
    let end = rest.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    });
    bounded(rest.get(..end.unwrap_or(rest.len())).unwrap_or(rest))
}

/// The objectID of a record whose beginning is given, if it is contained in that.
pub fn leading_object_id(head: &str) -> Option<String> {
    let rest = head.get(HEAD.len() - 1..).filter(|_| head.starts_with(HEAD))?;
    serde_json::Deserializer::from_str(rest).into_iter().next()?.ok()
}

fn bounded(id: &str) -> Cow<'_, str> {
    if id.len() <= LONGEST {
        return Cow::Borrowed(id);
    }
    // The result is longer than any objectID that is used as it is, so it cannot equal one.
    let mut cut = LONGEST;
    while !id.is_char_boundary(cut) {
        cut -= 1;
    }
    Cow::Owned(format!("{}~{}", id.get(..cut).unwrap_or_default(), HEXLOWER.encode(&Sha256::digest(id))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Field;

    fn deletion(key: &str) -> String {
        let field = Field { attribute: "note".to_owned(), pseudonymize: false, bucketed: false };
        let layout = RecordLayout::new("p:", vec![field], vec![false]);
        let mut out = Buffer::default();
        write_deletion(&layout, [Some(key.into())].into_iter(), None, &mut out).unwrap();
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn a_deletion_holds_the_object_id_alone() {
        assert_eq!(deletion("4:2"), r#"{"objectID":"p:4\\:2"}"#);
    }

    #[test]
    fn an_object_has_the_same_identity_in_every_record_of_it() {
        for key in ["42", "a\"b", "back\\", "\\\"", "a,\"b\":1", "ü"] {
            let deletion = deletion(key);
            let upsert = deletion.trim_end_matches('}').to_owned() + r#","note":"x \"y"}"#;
            assert_eq!(identity(&deletion), identity(&upsert), "{key}");
            let json: serde_json::Value = serde_json::from_str(&deletion).unwrap();
            let quoted: String = serde_json::from_str(&format!("\"{}\"", identity(&deletion))).unwrap();
            assert_eq!(json["objectID"], quoted);
        }
    }

    #[test]
    fn the_object_id_is_found_in_the_beginning_of_a_record() {
        for key in ["42", "a\"b", "back\\", "ü"] {
            let record = deletion(key).trim_end_matches('}').to_owned() + r#","note":"cut in the mid"#;
            let whole: serde_json::Value = serde_json::from_str(&deletion(key)).unwrap();
            assert_eq!(leading_object_id(&record).as_deref(), whole["objectID"].as_str());
        }
        for head in ["", "{", r#"{"objectID":"#, r#"{"objectID":"4"#, r#"{"note":"x"}"#] {
            assert_eq!(leading_object_id(head), None, "{head}");
        }
    }

    #[test]
    fn very_long_ids_have_bounded_identities_of_their_own() {
        let long = "é".repeat(5000);
        let (one, other) = (deletion(&format!("{long}1")), deletion(&format!("{long}2")));
        assert_ne!(identity(&one), identity(&other));
        assert!(identity(&one).len() < 1200);
    }
}
