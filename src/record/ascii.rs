//! Records in ASCII, for databases whose encoding is not UTF-8.

#![forbid(unsafe_code)]

use std::borrow::Cow;

use crate::record::Overflow;

/// The length of an escape such as `\u00e9`.
const ESCAPE_LEN: usize = 6;

/// Writes every character beyond ASCII as a `\u` escape, which means the same and which every database encoding can
/// store. In a record, such characters occur only within strings.
pub fn escape_non_ascii(record: &str) -> Result<Cow<'_, str>, Overflow> {
    if record.is_ascii() {
        return Ok(Cow::Borrowed(record));
    }
    let len_of = |character: char| if character.is_ascii() { 1 } else { ESCAPE_LEN * character.len_utf16() };
    let bytes = record.chars().map(len_of).sum();
    let mut escaped = String::new();
    escaped.try_reserve_exact(bytes).map_err(|_| Overflow::NoMemory { bytes })?;
    for character in record.chars() {
        if character.is_ascii() {
            escaped.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    Ok(Cow::Owned(escaped))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_escaped_record_means_the_same(text in "\\PC*", name in "\\PC*") {
            let record = serde_json::json!({ name: text });
            let escaped = escape_non_ascii(&record.to_string()).unwrap().into_owned();
            prop_assert!(escaped.is_ascii());
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), record);
        }
    }

    #[test]
    fn characters_beyond_the_first_plane_take_two_escapes() {
        assert_eq!(escape_non_ascii("{\"a\":\"é😀\"}").unwrap(), "{\"a\":\"\\u00e9\\ud83d\\ude00\"}");
    }
}
