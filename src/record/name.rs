//! Names and prefixes as JSON strings.

#![forbid(unsafe_code)]

/// `,"attribute":`, ready to be copied into a record.
pub(super) fn field_key(attribute: &str) -> Vec<u8> {
    format!(",{}:", json_string(attribute)).into_bytes()
}

pub(super) fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
