//! The grammar of `columns`: `col` or `col AS attribute`.

#![forbid(unsafe_code)]

use crate::rules::list_entry::required_entry;
use crate::rules::RuleError;

const LIST: &str = "columns";

/// Names that Algolia gives a meaning of its own in a record or in an answer.
const RESERVED_ATTRIBUTES: [&str; 7] =
    ["objectID", "_tags", "_geoloc", "_highlightResult", "_snippetResult", "_rankingInfo", "_distinctSeqID"];

/// Characters that have a meaning in Algolia's settings (`,`, `(`, `)`), separate nested attributes (`.`), or end a
/// name in a filter. Only filters allow quoting, and not in all their forms.
const SPEAKING_CHARACTERS: [char; 9] = [',', '.', '(', ')', ':', '<', '>', '=', '!'];

/// A column that may leave the database, and its name there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedColumn {
    /// The column of the table.
    pub name: String,
    /// The attribute of the records.
    pub attribute: String,
}

/// The columns that `entries` allow, in their order.
///
/// An entry is either a column's name, or a column's name, `AS` in any case, and an attribute's name. Names must match
/// exactly and may be in double quotes as in SQL. If the whole entry is the name of a column, it means that column,
/// even if it contains ` as `. If an entry can be read in several ways, the longest column name wins.
pub fn parse_columns(
    entries: &[Option<&str>],
    table_columns: &[&str],
) -> Result<Vec<WatchedColumn>, RuleError> {
    let mut columns: Vec<WatchedColumn> = Vec::with_capacity(entries.len());
    for entry in entries {
        let column = parse_entry(entry, table_columns)?;
        let attribute = &column.attribute;
        if RESERVED_ATTRIBUTES.contains(&attribute.as_str()) {
            return Err(RuleError::ReservedAttribute { attribute: attribute.clone(), column: column.name });
        }
        if columns.iter().any(|earlier| earlier.attribute == *attribute) {
            return Err(RuleError::DuplicateAttribute { attribute: attribute.clone() });
        }
        columns.push(column);
    }
    if columns.is_empty() {
        return Err(RuleError::NoColumns);
    }
    Ok(columns)
}

/// Checks that Algolia accepts each attribute's name as a name in settings, filters and queries.
pub fn check_attributes(columns: &[WatchedColumn]) -> Result<(), RuleError> {
    for WatchedColumn { name, attribute } in columns {
        let reason = if let Some(found) = attribute.chars().find(|c| SPEAKING_CHARACTERS.contains(c)) {
            format!("contains \"{found}\", which Algolia gives a meaning of its own")
        } else if attribute.starts_with('-') {
            "begins with \"-\", by which Algolia leaves an attribute out".to_owned()
        } else if attribute == "*" {
            "stands for all attributes".to_owned()
        } else if attribute.trim() != attribute {
            "begins or ends with a space".to_owned()
        } else {
            continue;
        };
        return Err(RuleError::AttributeName { attribute: attribute.clone(), column: name.clone(), reason });
    }
    Ok(())
}

fn parse_entry(entry: &Option<&str>, table_columns: &[&str]) -> Result<WatchedColumn, RuleError> {
    let trimmed = required_entry(LIST, entry)?;
    let is_column = |name: &str| table_columns.contains(&name);
    for whole in entry.iter().copied().chain([trimmed]) {
        if is_column(whole) {
            return Ok(WatchedColumn { name: whole.to_owned(), attribute: whole.to_owned() });
        }
    }
    if let Some((name, rest)) = quoted(trimmed) {
        return parse_behind_quoted(trimmed, name, rest, table_columns);
    }
    let readings: Vec<(&str, &str)> = as_words(trimmed)
        .into_iter()
        .map(|at| (trimmed[..at].trim_end(), trimmed[at + AS.len()..].trim_start()))
        .collect();
    match readings.iter().rev().find(|(name, _)| is_column(name)) {
        Some((name, attribute)) => {
            Ok(WatchedColumn { name: (*name).to_owned(), attribute: parse_attribute(trimmed, attribute)? })
        }
        None => {
            let name = readings.first().map_or(trimmed, |(name, _)| name);
            Err(RuleError::unknown_column(name, table_columns))
        }
    }
}

fn parse_behind_quoted(
    entry: &str,
    name: String,
    rest: &str,
    table_columns: &[&str],
) -> Result<WatchedColumn, RuleError> {
    let malformed = || RuleError::MalformedEntry { entry: entry.to_owned() };
    let rest = rest.trim_start();
    let attribute = match rest.get(..AS.len()) {
        _ if rest.is_empty() => name.clone(),
        Some(word) if word.eq_ignore_ascii_case(AS) && ends_word(&rest[AS.len()..]) => {
            parse_attribute(entry, rest[AS.len()..].trim_start())?
        }
        _ => return Err(malformed()),
    };
    match table_columns.contains(&name.as_str()) {
        true => Ok(WatchedColumn { name, attribute }),
        false => Err(RuleError::unknown_column(&name, table_columns)),
    }
}

/// The attribute's name, given the text after `AS`.
fn parse_attribute(entry: &str, text: &str) -> Result<String, RuleError> {
    let attribute = match quoted(text) {
        Some((attribute, "")) => attribute,
        _ if text.starts_with('"') => String::new(),
        _ => text.to_owned(),
    };
    match attribute.is_empty() {
        true => Err(RuleError::MalformedEntry { entry: entry.to_owned() }),
        false => Ok(attribute),
    }
}

const AS: &str = "AS";

/// The positions of the word `AS` in `text` that have something before them, in ascending order.
fn as_words(text: &str) -> Vec<usize> {
    let upper = text.to_ascii_uppercase();
    let is_word = |at: &usize| {
        let before = upper[..*at].chars().next_back();
        before.is_some_and(char::is_whitespace) && ends_word(&upper[*at + AS.len()..])
    };
    upper.match_indices(AS).map(|(at, _)| at).filter(is_word).collect()
}

fn ends_word(behind: &str) -> bool {
    behind.chars().next().is_none_or(|character| character.is_whitespace() || character == '"')
}

/// The name in double quotes at the beginning of `text`, and the text after it. A quote within the name is written
/// twice.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut name = String::new();
    loop {
        let (part, behind) = rest.split_once('"')?;
        name.push_str(part);
        let Some(more) = behind.strip_prefix('"') else {
            return Some((name, behind));
        };
        name.push('"');
        rest = more;
    }
}
