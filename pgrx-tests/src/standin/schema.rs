//! The types of values in Algolia's description, and its words for them.

use serde_json::Value;

/// The type of a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Flag,
    Text,
    /// A list of texts.
    Texts,
    /// An integer within inclusive bounds.
    Integer(i64, i64),
    /// One of a few words.
    Word(&'static [&'static str]),
    /// A list of such words.
    Words(&'static [&'static str]),
    /// A text, or a list of texts and of further lists.
    Filters,
    /// A list of lists of numbers.
    Shapes,
    Object,
    Null,
    Either(&'static [Kind]),
    Anything,
}

/// Any integer.
pub(super) const INTEGER: Kind = Kind::Integer(i64::MIN, i64::MAX);

impl Kind {
    /// Whether a value is of this type. In a query, a text stands for a list with this text, as Algolia's own libraries
    /// write it.
    pub(super) fn takes(self, value: &Value, in_query: bool) -> bool {
        let is_among =
            |words: &[&str], value: &Value| value.as_str().is_some_and(|word| words.contains(&word));
        let all = |value: &Value, test: &dyn Fn(&Value) -> bool| match value {
            Value::Array(list) => list.iter().all(test),
            other => in_query && test(other),
        };
        match self {
            Kind::Flag => value.is_boolean(),
            Kind::Text => value.is_string(),
            Kind::Texts => all(value, &Value::is_string),
            Kind::Integer(least, most) => value.as_i64().is_some_and(|n| (least..=most).contains(&n)),
            Kind::Word(words) => is_among(words, value),
            Kind::Words(words) => all(value, &|one| is_among(words, one)),
            Kind::Filters => match value {
                Value::Array(list) => list.iter().all(|one| self.takes(one, in_query)),
                other => other.is_string(),
            },
            Kind::Shapes => value.as_array().is_some_and(|shapes| {
                shapes
                    .iter()
                    .all(|shape| shape.as_array().is_some_and(|numbers| numbers.iter().all(Value::is_number)))
            }),
            Kind::Object => value.is_object(),
            Kind::Null => value.is_null(),
            Kind::Either(kinds) => kinds.iter().any(|kind| kind.takes(value, in_query)),
            Kind::Anything => true,
        }
    }

    /// The expected type, in Algolia's words.
    pub(super) fn expected(self) -> String {
        let quoted =
            |words: &[&str]| words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        match self {
            Kind::Flag => "boolean".to_owned(),
            Kind::Text => "string".to_owned(),
            Kind::Texts => "array of strings".to_owned(),
            Kind::Integer(i64::MIN, i64::MAX) => "integer".to_owned(),
            Kind::Integer(least, i64::MAX) => format!("integer of {least} or more"),
            Kind::Integer(least, most) => format!("integer between {least} and {most}"),
            Kind::Word(words) => format!("one of {}", quoted(words)),
            Kind::Words(words) => format!("array of {}", quoted(words)),
            Kind::Filters => "string or array of strings or arrays".to_owned(),
            Kind::Shapes => "array of arrays of numbers".to_owned(),
            Kind::Object => "object".to_owned(),
            Kind::Null => "null".to_owned(),
            Kind::Either(kinds) => kinds.iter().map(|kind| kind.expected()).collect::<Vec<_>>().join(" or "),
            Kind::Anything => "anything".to_owned(),
        }
    }

    /// A value from a query string, in which texts are unquoted and everything else is JSON.
    pub(super) fn read(self, text: String) -> Value {
        match self {
            Kind::Text | Kind::Word(_) => Value::String(text),
            _ => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_of_their_kind_and_within_their_bounds() {
        const DISTINCT: Kind = Kind::Either(&[Kind::Flag, Kind::Integer(0, 4)]);
        for (kind, good, bad) in [
            (Kind::Flag, json!(true), json!("true")),
            (Kind::Text, json!(""), json!(1)),
            (Kind::Texts, json!(["a"]), json!(["a", 1])),
            (Kind::Texts, json!([]), json!("a")),
            (Kind::Integer(1, 1000), json!(1000), json!(1001)),
            (Kind::Integer(1, 1000), json!(1), json!(1.5)),
            (Kind::Integer(1, 1000), json!(1), json!("many")),
            (Kind::Word(&["count", "alpha"]), json!("alpha"), json!("beta")),
            (Kind::Words(&["de", "en"]), json!(["en"]), json!(["xx"])),
            (Kind::Filters, json!([["a:1", "b:2"], "c:3"]), json!([1])),
            (Kind::Shapes, json!([[1, 2.5]]), json!([1, 2])),
            (DISTINCT, json!(4), json!(5)),
            (Kind::Object, json!({}), json!([])),
        ] {
            assert!(kind.takes(&good, false), "{kind:?} {good}");
            assert!(!kind.takes(&bad, false), "{kind:?} {bad}");
        }
        assert!(Kind::Texts.takes(&json!("a"), true), "a query may name one attribute");
        assert_eq!(DISTINCT.expected(), "boolean or integer between 0 and 4");
    }
}
