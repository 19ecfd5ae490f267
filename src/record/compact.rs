//! JSON without insignificant whitespace: how records are stored, and how Algolia measures them.

#![forbid(unsafe_code)]

use crate::record::Buffer;

/// Appends the JSON text `json` without the whitespace between its tokens; everything else stays as it is.
///
/// The output text of `jsonb` has a space after each colon and comma. To omit them, each byte is examined once here;
/// that is cheaper than carrying them through the queue, the WAL and the network.
pub(super) fn append_compact(json: &str, out: &mut Buffer) {
    for piece in pieces(json) {
        match piece {
            Piece::Structure(bytes) => {
                for run in bytes.split(|byte| is_whitespace(*byte)) {
                    out.extend_from_slice(run);
                }
            }
            Piece::String(bytes) => out.extend_from_slice(bytes),
        }
    }
}

/// The size in bytes of `record` (valid JSON) as Algolia measures it: parsed and written again as compact UTF-8, that
/// is, without insignificant whitespace, and with escapes only where JSON requires them.
///
/// It never exceeds the length of `record`, so only longer texts than the limit need to be measured. Numbers count as
/// they are written, and so do unpaired surrogates, which UTF-8 cannot represent.
pub fn compact_len(record: &str) -> usize {
    let skipped = |byte: &u8| is_whitespace(*byte) || *byte == b'\\';
    if !record.as_bytes().iter().any(skipped) {
        return record.len();
    }
    let piece_len = |piece| match piece {
        Piece::Structure(bytes) => bytes.iter().filter(|byte| !is_whitespace(**byte)).count(),
        Piece::String(bytes) => string_len(bytes),
    };
    pieces(record).map(piece_len).sum()
}

/// A part of a JSON text.
enum Piece<'a> {
    /// Brackets, separators, numbers, `true`, `false`, `null` and whitespace.
    Structure(&'a [u8]),
    /// A string with its quotes.
    String(&'a [u8]),
}

fn is_whitespace(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

fn pieces(json: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = json.as_bytes();
    std::iter::from_fn(move || {
        let (len, is_string) = match rest.first()? {
            b'"' => (leading_string_len(rest), true),
            _ => (rest.iter().position(|byte| *byte == b'"').unwrap_or(rest.len()), false),
        };
        let (piece, behind) = rest.split_at(len);
        rest = behind;
        Some(if is_string { Piece::String(piece) } else { Piece::Structure(piece) })
    })
}

/// The length of the string at the beginning of `bytes`, including both quotes. If it never ends, the length of
/// `bytes`.
fn leading_string_len(bytes: &[u8]) -> usize {
    let mut escaped = false;
    let ends = |byte: &u8| match *byte {
        _ if escaped => {
            escaped = false;
            false
        }
        b'\\' => {
            escaped = true;
            false
        }
        byte => byte == b'"',
    };
    bytes.iter().skip(1).position(ends).map_or(bytes.len(), |before_quote| before_quote + 2)
}

/// The length that a string, given with its escapes and quotes, has with as few escapes as JSON allows.
fn string_len(mut string: &[u8]) -> usize {
    let mut len = 0;
    while let Some(backslash) = string.iter().position(|byte| *byte == b'\\') {
        let escape = &string[backslash..];
        let (escape_len, written_len) = escape_lens(escape);
        // A text that is not JSON may end within an escape.
        len += backslash + written_len.min(escape.len());
        string = escape.get(escape_len..).unwrap_or_default();
    }
    len + string.len()
}

/// The length of the escape at the beginning of `bytes`, and the length of what replaces it.
fn escape_lens(bytes: &[u8]) -> (usize, usize) {
    match bytes.get(1) {
        Some(b'/') => (2, 1),
        Some(b'u') => match (code_unit(bytes), bytes.get(6..).and_then(code_unit)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => (12, 4),
            (Some(unit), _) => (6, code_unit_len(unit)),
            (None, _) => (2, 2),
        },
        _ => (2, 2),
    }
}

/// The UTF-16 code unit of the escape `\uXXXX` at the beginning of `bytes`.
fn code_unit(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn code_unit_len(unit: u16) -> usize {
    match unit {
        0x08 | 0x09 | 0x0A | 0x0C | 0x0D | 0x22 | 0x5C => 2,
        0x00..=0x1F => 6,
        0x20..=0x7F => 1,
        0x80..=0x7FF => 2,
        0xD800..=0xDFFF => 6,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn check(json: &str, compact: &str, len: usize) {
        let mut out = Buffer::default();
        append_compact(json, &mut out);
        assert_eq!(String::from_utf8(out.to_vec()).unwrap(), compact);
        assert_eq!(compact_len(json), len, "{json}");
        assert_eq!(compact_len(compact), len, "{compact}");
    }

    #[test]
    fn whitespace_between_tokens_goes() {
        check(r#"{"a": 1, "b": [true, null]}"#, r#"{"a":1,"b":[true,null]}"#, 23);
        check("\t{ \"a\"\r\n:\n1 }\n", r#"{"a":1}"#, 7);
        check(" 1 ", "1", 1);
        check("{}", "{}", 2);
        check("", "", 0);
    }

    #[test]
    fn strings_stay_as_they_are() {
        check(r#"{"a b": "c, d: e"}"#, r#"{"a b":"c, d: e"}"#, 17);
        check(r#"["\" , ", " \\", "x"]"#, r#"["\" , "," \\","x"]"#, 19);
        check(r#"["é 😀"]"#, r#"["é 😀"]"#, 11);
    }

    #[test]
    fn unneeded_escapes_do_not_count() {
        check(r#""\u00e9""#, r#""\u00e9""#, 4);
        check(r#""\u4e2d\/""#, r#""\u4e2d\/""#, 6);
        check(r#""\ud83d\ude00""#, r#""\ud83d\ude00""#, 6);
        check(r#""\ud83d""#, r#""\ud83d""#, 8);
        check(r#""\u0001\u000a\n\u0022\u005c\u007f""#, r#""\u0001\u000a\n\u0022\u005c\u007f""#, 17);
    }

    #[test]
    fn what_is_no_json_is_measured_without_a_panic() {
        for text in ["\"", "\"\\", "\"\\u", "\"\\u12", "\"\\ué\"", "\\", "\"a\\\"", "{\"a\": \"\\ud83d\\u"] {
            assert!(compact_len(text) <= text.len(), "{text}");
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        scalar.prop_recursive(3, 30, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(".{0,5}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// `json` in ASCII only, as writers that escape everything else leave it.
    fn ascii(json: &str) -> String {
        let mut units = [0; 2];
        json.chars().fold(String::new(), |mut text, character| {
            match character.is_ascii() {
                true => text.push(character),
                false => {
                    for unit in character.encode_utf16(&mut units) {
                        text.push_str(&format!("\\u{unit:04x}"));
                    }
                }
            }
            text
        })
    }

    proptest! {
        #[test]
        fn any_form_of_a_value_is_measured_as_its_compact_form(value in json()) {
            let compact = value.to_string();
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            for form in [&compact, &pretty, &ascii(&compact), &ascii(&pretty)] {
                prop_assert_eq!(compact_len(form), compact.len());
            }
            let mut out = Buffer::default();
            append_compact(&pretty, &mut out);
            prop_assert_eq!(String::from_utf8(out.to_vec()).unwrap(), compact);
        }

        #[test]
        fn any_text_is_measured(text in "[ \"\\\\u0-9a-fé{}:,]{0,60}") {
            prop_assert!(compact_len(&text) <= text.len());
        }
    }
}
