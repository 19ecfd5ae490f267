//! The objectID: the prefix and the key's parts, joined by `:`.
//!
//! `:` and `\` within a part are escaped by `\`, so that different keys never share an objectID. The prefix
//! is taken as it is: it is the same in every record of a source. A change's number comes last, behind an `@`.

#![forbid(unsafe_code)]

use std::borrow::Cow;

use crate::pseudonym::Pseudonymizer;
use crate::record::change::append_number;
use crate::record::{Plan, RecordError};

/// Appends `{"objectID":"…"`, which leaves the object open.
pub(super) fn append_object_id<'a>(
    plan: &Plan,
    parts: impl ExactSizeIterator<Item = Option<Cow<'a, str>>>,
    number: Option<i64>,
    pseudonymizer: Option<&Pseudonymizer>,
    out: &mut Vec<u8>,
) -> Result<(), RecordError> {
    let expected = plan.key_pseudonymize.len();
    if parts.len() != expected {
        return Err(RecordError::KeyCount { expected, found: parts.len() });
    }
    out.extend_from_slice(&plan.opening);
    for (index, (part, pseudonymize)) in parts.zip(&plan.key_pseudonymize).enumerate() {
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
    out.push(b'"');
    Ok(())
}

/// Keys are numbers and UUIDs nearly always: those are copied without a look at escaping.
fn append_part(part: &str, out: &mut Vec<u8>) -> Result<(), RecordError> {
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

/// Appends `text` as it stands between the quotes of a JSON string.
fn append_string_contents(text: &str, out: &mut Vec<u8>) -> Result<(), RecordError> {
    let opening_quote = out.len();
    serde_json::to_writer(&mut *out, text)?;
    out.pop();
    out.remove(opening_quote);
    Ok(())
}
