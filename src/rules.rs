//! The checks of `watch` that need no server: the words and names of its arguments.
//!
//! Each check takes the argument as SQL passes it. It returns the argument's meaning, or a [`RuleError`] with a
//! message, a hint and a kind.

#![forbid(unsafe_code)]

mod columns;
mod error;
mod list_entry;

pub use columns::{check_attributes, parse_columns, WatchedColumn};
pub use error::{RuleError, RuleErrorKind};
use list_entry::required_entry;

use crate::record::{Operation, ALERT_ATTRIBUTE, BUCKET_SUFFIXES, CHANGE_ATTRIBUTES};

/// The most bytes of an index's name.
///
/// Algolia publishes neither a set of characters nor a length for index names. This bound catches accidents,
/// and keeps the names within what a path segment carries after percent-encoding.
pub const MAX_INDEX_NAME_BYTES: usize = 256;

const OPERATIONS: [&str; 4] = ["insert", "update", "delete", "truncate"];
const PREVIOUS: &str = "previous";
const MODES: [&str; 2] = ["append", "mirror"];

/// Checks an index name. Algolia itself decides about all else, at the first delivery.
pub fn check_index_name(name: &str) -> Result<(), RuleError> {
    let complaint = |reason| Err(RuleError::IndexName { name: name.to_owned(), reason });
    if name.trim().is_empty() {
        complaint("must not be empty")
    } else if name.len() > MAX_INDEX_NAME_BYTES {
        complaint("is longer than 256 bytes")
    } else if name.chars().any(char::is_control) {
        complaint("must not contain control characters")
    } else if name == "*" {
        // Where a path names an index, Algolia reads it as "all indexes".
        complaint("stands for all indexes")
    } else {
        Ok(())
    }
}

/// The columns of `object_id`, in its order. `entries` must name columns of the table, each once.
pub fn check_object_id(entries: &[Option<&str>], table_columns: &[&str]) -> Result<Vec<String>, RuleError> {
    const LIST: &str = "object_id";
    let mut key: Vec<String> = Vec::with_capacity(entries.len());
    for entry in entries {
        let column = known_column(LIST, entry, table_columns)?;
        if key.iter().any(|earlier| earlier == column) {
            return Err(RuleError::DuplicateEntry { list: LIST, entry: column.to_owned() });
        }
        key.push(column.to_owned());
    }
    if key.is_empty() {
        return Err(RuleError::NoKey);
    }
    Ok(key)
}

/// Checks that an argument names a column of the table exactly, and returns it.
pub fn check_column<'a>(
    argument: &'static str,
    name: Option<&'a str>,
    table_columns: &[String],
) -> Result<&'a str, RuleError> {
    let name = name.ok_or(RuleError::NullArgument { argument })?;
    if table_columns.iter().any(|column| column == name) {
        return Ok(name);
    }
    let known: Vec<&str> = table_columns.iter().map(String::as_str).collect();
    Err(RuleError::unknown_column(name, &known))
}

/// The columns of `pseudonymize`, without repetitions. Each must be allowed: by `columns`, or by being one of
/// the `key` columns.
pub fn check_pseudonymize(
    entries: &[Option<&str>],
    columns: &[WatchedColumn],
    key: &[&str],
    table_columns: &[&str],
) -> Result<Vec<String>, RuleError> {
    let mut pseudonymized: Vec<String> = Vec::with_capacity(entries.len());
    for entry in entries {
        let column = known_column("pseudonymize", entry, table_columns)?;
        if !columns.iter().any(|allowed| allowed.name == column) && !key.contains(&column) {
            return Err(RuleError::NotAllowed { argument: "pseudonymize", column: column.to_owned() });
        }
        if !pseudonymized.iter().any(|earlier| earlier == column) {
            pseudonymized.push(column.to_owned());
        }
    }
    Ok(pseudonymized)
}

/// Returns the attribute of the time column, from which its buckets are named. The column must be allowed by `columns`
/// and must not be pseudonymized, and no other attribute may have the name of a bucket.
///
/// If the column has several attributes, the first one counts.
pub fn check_time_column<'a>(
    time_column: &str,
    columns: &'a [WatchedColumn],
    pseudonymized: &[String],
    table_columns: &[&str],
) -> Result<&'a str, RuleError> {
    const ARGUMENT: &str = "time_column";
    let column = known_column(ARGUMENT, &Some(time_column), table_columns)?;
    let Some(time) = columns.iter().find(|allowed| allowed.name == column) else {
        return Err(RuleError::NotAllowed { argument: ARGUMENT, column: column.to_owned() });
    };
    if pseudonymized.iter().any(|hidden| hidden == column) {
        return Err(RuleError::TimePseudonymized { column: column.to_owned() });
    }
    for bucket in bucket_names(&time.attribute) {
        if columns.iter().any(|other| other.attribute == bucket) {
            return Err(RuleError::BucketCollision { bucket, time: time.attribute.clone() });
        }
    }
    Ok(&time.attribute)
}

/// The facets without repetitions. Each must be an attribute of `columns`, a bucket of `time_attribute`, or, for change
/// records, an attribute of the change itself. `previous` must be given by an attribute within it, as
/// `previous.attribute`. If the source has an alert, `alert` is an attribute, too.
pub fn check_facets(
    entries: &[Option<&str>],
    columns: &[WatchedColumn],
    time_attribute: Option<&str>,
    are_changes: bool,
    has_alert: bool,
) -> Result<Vec<String>, RuleError> {
    const LIST: &str = "facets";
    let mut attributes: Vec<String> = columns.iter().map(|column| column.attribute.clone()).collect();
    attributes.extend(time_attribute.into_iter().flat_map(bucket_names));
    if are_changes {
        let of_changes = CHANGE_ATTRIBUTES.iter().filter(|attribute| **attribute != PREVIOUS);
        attributes.extend(of_changes.map(|attribute| (*attribute).to_owned()));
        attributes.extend(columns.iter().map(|column| format!("{PREVIOUS}.{}", column.attribute)));
    }
    attributes.extend(has_alert.then(|| ALERT_ATTRIBUTE.to_owned()));
    let mut facets: Vec<String> = Vec::with_capacity(entries.len());
    for entry in entries {
        let facet = required_entry(LIST, entry)?;
        if !attributes.iter().any(|attribute| attribute == facet) {
            return Err(RuleError::UnknownFacet { facet: facet.to_owned(), attributes });
        }
        if !facets.iter().any(|earlier| earlier == facet) {
            facets.push(facet.to_owned());
        }
    }
    Ok(facets)
}

/// The names of the time column's four buckets, in the order in which a record has them.
pub fn bucket_names(time_attribute: &str) -> [String; 4] {
    BUCKET_SUFFIXES.map(|suffix| format!("{time_attribute}{suffix}"))
}

/// The operations to capture, each once, in the order of [`Operation::ALL`].
pub fn check_operations(entries: &[Option<&str>]) -> Result<Vec<Operation>, RuleError> {
    let mut operations = Vec::with_capacity(entries.len());
    for entry in entries {
        let word = required_entry("operations", entry)?;
        operations.push(Operation::of(word).ok_or_else(|| unknown_word("operation", word, &OPERATIONS))?);
    }
    operations.sort_unstable();
    operations.dedup();
    match operations.is_empty() {
        true => Err(RuleError::NoOperation),
        false => Ok(operations),
    }
}

/// Whether records are changes and not rows. The key alone does not identify a change.
pub fn are_changes(mode: Mode, operations: &[Operation]) -> bool {
    mode == Mode::Append && operations.iter().any(|operation| *operation != Operation::Insert)
}

/// Checks that no attribute has the name of an attribute that change records add. A change record also names key
/// columns that `columns` does not list, so their names must be free as well.
pub fn check_change_attributes(columns: &[WatchedColumn], key: &[&str]) -> Result<(), RuleError> {
    for WatchedColumn { name, attribute } in columns {
        if CHANGE_ATTRIBUTES.contains(&attribute.as_str()) {
            return Err(RuleError::ChangeAttribute { attribute: attribute.clone(), column: name.clone() });
        }
    }
    for part in unlisted_keys(columns, key) {
        if columns.iter().any(|column| column.attribute == part) {
            return Err(RuleError::KeyAttribute { column: part.to_owned() });
        }
    }
    Ok(())
}

/// Checks that no attribute has the name that is reserved for records that alert.
pub fn check_alert_attribute(columns: &[WatchedColumn]) -> Result<(), RuleError> {
    match columns.iter().find(|column| column.attribute == ALERT_ATTRIBUTE) {
        Some(column) => Err(RuleError::AlertAttribute { column: column.name.clone() }),
        None => Ok(()),
    }
}

/// The key columns that `columns` does not name.
pub fn unlisted_keys<'a>(columns: &[WatchedColumn], key: &[&'a str]) -> Vec<&'a str> {
    let is_listed = |part: &&&str| columns.iter().any(|column| column.name == **part);
    key.iter().filter(|part| !is_listed(part)).copied().collect()
}

/// What an index contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One record for each change.
    Append,
    /// The current rows of the table.
    Mirror,
}

impl Mode {
    /// The mode's name in the rules.
    pub fn word(self) -> &'static str {
        match self {
            Mode::Append => "append",
            Mode::Mirror => "mirror",
        }
    }

    /// The mode with this name, in any case.
    pub fn of(word: &str) -> Option<Mode> {
        [Mode::Append, Mode::Mirror].into_iter().find(|mode| mode.word().eq_ignore_ascii_case(word))
    }

    /// The operations to capture, given those that were asked for. Mirroring needs all of them; the default, inserts
    /// alone, therefore means all.
    pub fn operations(self, wanted: Vec<Operation>) -> Result<Vec<Operation>, RuleError> {
        match self {
            Mode::Append => Ok(wanted),
            Mode::Mirror if wanted == [Operation::Insert] || wanted == Operation::ALL => {
                Ok(Operation::ALL.to_vec())
            }
            Mode::Mirror => Err(RuleError::MirrorOperations),
        }
    }
}

/// Checks `mode`.
pub fn check_mode(mode: Option<&str>) -> Result<Mode, RuleError> {
    let word = mode.ok_or(RuleError::NullArgument { argument: "mode" })?.trim();
    Mode::of(word).ok_or_else(|| unknown_word("mode", word, &MODES))
}

/// Checks that a backfill is possible: it sends rows as inserts.
pub fn check_backfill(operations: &[Operation]) -> Result<(), RuleError> {
    match operations.contains(&Operation::Insert) {
        true => Ok(()),
        false => Err(RuleError::BackfillWithoutInsert),
    }
}

/// Checks `rows_per_second`.
pub fn check_rows_per_second(rows: Option<i32>) -> Result<(), RuleError> {
    match rows {
        Some(..=0) => Err(RuleError::RowsPerSecond),
        _ => Ok(()),
    }
}

/// The column that an entry names, either exactly or without its surrounding spaces.
fn known_column<'a>(
    list: &'static str,
    entry: &Option<&'a str>,
    table_columns: &[&str],
) -> Result<&'a str, RuleError> {
    let candidates = [*entry, Some(required_entry(list, entry)?)];
    let known = candidates.into_iter().flatten().find(|name| table_columns.contains(name));
    known.ok_or_else(|| RuleError::unknown_column(entry.unwrap_or_default().trim(), table_columns))
}

fn unknown_word(what: &'static str, word: &str, words: &'static [&'static str]) -> RuleError {
    RuleError::UnknownWord { what, word: word.to_owned(), words }
}

#[cfg(test)]
mod tests;
