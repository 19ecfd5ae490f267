//! Parses the array forms of filters: `facetFilters`, `numericFilters` and `tagFilters`.

use serde_json::Value;

use super::filter::{refuse, Condition, Kind, Test};
use super::filter_text::parse;
use super::reply::Refusal;

/// Parses an array form: the outer list is a conjunction, inner lists are disjunctions.
pub(super) fn parse_list(
    value: &Value,
    item: fn(&str) -> Result<Test, Refusal>,
) -> Result<Condition, Refusal> {
    let one = |value: &Value| match value.as_str() {
        Some(text) => item(text),
        None => Err(refuse("a list of strings is expected")),
    };
    let clauses = match value {
        Value::Null => Vec::new(),
        Value::Array(clauses) => clauses
            .iter()
            .map(|clause| match clause {
                Value::Array(tests) => tests.iter().map(one).collect(),
                test => one(test).map(|test| vec![test]),
            })
            .collect::<Result<_, _>>()?,
        test => vec![vec![one(test)?]],
    };
    Ok(Condition(clauses))
}

/// `attribute:value`; `attribute:-value` excludes.
pub(super) fn facet_item(text: &str) -> Result<Test, Refusal> {
    let (attribute, value) =
        text.split_once(':').ok_or_else(|| refuse("facetFilters: attribute:value is expected"))?;
    let (negated, value) = match value.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, value.strip_prefix('\\').unwrap_or(value)),
    };
    Ok(Test { negated, attribute: attribute.to_owned(), kind: Kind::Facet(value.to_owned()) })
}

/// `attribute>=1` or `attribute:1 TO 2`.
pub(super) fn numeric_item(text: &str) -> Result<Test, Refusal> {
    let condition = parse(text)?;
    match condition.0.into_iter().flatten().next() {
        Some(test) if !matches!(test.kind, Kind::Facet(_)) => Ok(test),
        _ => Err(refuse("numericFilters: a numeric comparison is expected")),
    }
}
