//! Makes the objectID: the prefix and the key's parts, joined by `:`.
//!
//! Within a part, `:` and `\` are escaped by `\`, so different keys never share an objectID. The prefix is not escaped,
//! because it is the same in every record of a source. In change records the change's number comes last, after an `@`.

#![forbid(unsafe_code)]

use std::borrow::Cow;

use crate::pseudonym::Pseudonymizer;
use crate::record::{Buffer, RecordError, RecordLayout};

/// Appends `{"objectID":"…"` and leaves the object open.
pub(super) fn append_object_id<'a>(
    layout: &RecordLayout,
    parts: impl ExactSizeIterator<Item = Option<Cow<'a, str>>>,
    number: Option<i64>,
    pseudonymizer: Option<&Pseudonymizer>,
    out: &mut Buffer,
) -> Result<(), RecordError> {
    let expected = layout.key_pseudonymize.len();
    if parts.len() != expected {
        return Err(RecordError::KeyCount { expected, found: parts.len() });
    }
    out.extend_from_slice(&layout.opening);
    let key_at = out.len();
    for (index, (part, pseudonymize)) in parts.zip(&layout.key_pseudonymize).enumerate() {
        if index > 0 {
            out.push(b':');
        }
        let text = part.ok_or(RecordError::NullKey { part: index })?;
        if *pseudonymize {
            pseudonymizer.ok_or(RecordError::PseudonymKeyMissing)?.append(&text, out);
        } else {
            append_part(&text, out)?;
        }
    }
    if let Some(number) = number {
        append_number(number, out);
    }
    if out.len() == key_at && expected > 0 && !layout.has_prefix {
        return Err(RecordError::EmptyKey);
    }
    out.push(b'"');
    Ok(())
}

/// Appends `@` and the change's number, within an objectID.
pub(super) fn append_number(number: i64, out: &mut Buffer) {
    out.push(b'@');
    out.extend_from_slice(number.to_string().as_bytes());
}

/// Appends one part of the key. Most keys are numbers or UUIDs, which need no escaping and are copied.
fn append_part(part: &str, out: &mut Buffer) -> Result<(), RecordError> {
    if part.bytes().all(|byte| byte >= b' ' && !matches!(byte, b'"' | b':' | b'\\')) {
        out.extend_from_slice(part.as_bytes());
        return Ok(());
    }
    for segment in part.split_inclusive([':', '\\']) {
        let plain = segment.trim_end_matches([':', '\\']);
        append_string_contents(plain, out)?;
        // In JSON each `\` of the objectID is written as two.
        match segment.as_bytes().last() {
            Some(b':') => out.extend_from_slice(br"\\:"),
            Some(b'\\') => out.extend_from_slice(br"\\\\"),
            _ => {}
        }
    }
    Ok(())
}

/// Appends `text` as a JSON string without its quotes.
fn append_string_contents(text: &str, out: &mut Buffer) -> Result<(), RecordError> {
    let opening_quote = out.len();
    serde_json::to_writer(&mut *out, text)?;
    out.pop();
    out.remove(opening_quote);
    Ok(())
}

/// Splits an objectID without its prefix into the parts of the key; `None` if it does not have `parts` parts. The
/// inverse of [`append_object_id`], except for pseudonyms.
pub fn split_object_id(id: &str, parts: usize) -> Option<Vec<String>> {
    let mut found = vec![String::new()];
    let mut characters = id.chars();
    while let Some(character) = characters.next() {
        match character {
            ':' => found.push(String::new()),
            '\\' => found.last_mut()?.push(characters.next().filter(|next| matches!(next, ':' | '\\'))?),
            other => found.last_mut()?.push(other),
        }
    }
    (found.len() == parts).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::write_deletion;
    use proptest::prelude::*;
    use std::borrow::Cow;

    #[test]
    fn an_empty_object_id_is_refused_and_one_with_anything_in_it_is_not() {
        let write = |prefix: &str, key: &[&str], number: Option<i64>| {
            let (layout, mut out) =
                (RecordLayout::new(prefix, Vec::new(), vec![false; key.len()]), Buffer::default());
            out.extend_from_slice(b"before");
            let parts = key.iter().map(|part| Some(Cow::Borrowed(*part)));
            append_object_id(&layout, parts, number, None, &mut out)
                .map(|()| String::from_utf8(out.to_vec()).unwrap())
        };
        assert!(matches!(write("", &[""], None), Err(RecordError::EmptyKey)));
        for (prefix, key, number, id) in [
            ("p:", &[""][..], None, "p:"),
            ("", &["", ""], None, ":"),
            ("", &[" "], None, " "),
            ("", &[""], Some(7), "@7"),
        ] {
            assert_eq!(write(prefix, key, number).unwrap(), format!(r#"before{{"objectID":"{id}""#));
        }
    }

    #[test]
    fn what_was_never_made_so_has_no_parts() {
        assert_eq!(split_object_id("a:b", 2), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(split_object_id("", 1), Some(vec![String::new()]));
        for (id, parts) in [("a:b", 1), ("a", 2), ("a\\", 1), ("a\\b", 1), ("a:", 1)] {
            assert_eq!(split_object_id(id, parts), None, "{id}");
        }
    }

    proptest! {
        #[test]
        fn an_object_id_leads_back_to_its_key(key in prop::collection::vec("[a:\\\\\"é\n]{0,6}", 1..4)) {
            let layout = RecordLayout::new("p:", Vec::new(), vec![false; key.len()]);
            let mut record = Buffer::default();
            let parts: Vec<Option<&str>> = key.iter().map(|part| Some(part.as_str())).collect();
            write_deletion(&layout, parts.iter().map(|part| part.map(Cow::Borrowed)), None, &mut record).unwrap();
            let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
            let id = record["objectID"].as_str().unwrap().strip_prefix("p:").unwrap();
            prop_assert_eq!(split_object_id(id, key.len()), Some(key));
        }
    }
}
