//! What can be wrong with the arguments of `watch`: the message, the hint with the fix, and the kind.

#![forbid(unsafe_code)]

use thiserror::Error;

use crate::record::ALERT_ATTRIBUTE;

/// A mistake in the arguments of `watch`. It displays as the message, in PostgreSQL's style.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RuleError {
    #[error("{argument} must not be null")]
    NullArgument { argument: &'static str },
    #[error("{list} must not contain nulls")]
    NullEntry { list: &'static str },
    #[error("{list} must not contain empty entries")]
    EmptyEntry { list: &'static str },
    #[error("{list} names \"{entry}\" more than once")]
    DuplicateEntry { list: &'static str, entry: String },
    #[error("no columns are allowed to leave the database")]
    NoColumns,
    #[error("object_id names no columns")]
    NoKey,
    #[error("column \"{column}\" does not exist")]
    UnknownColumn {
        column: String,
        /// A column whose name differs only in case or quotes.
        similar: Option<String>,
    },
    #[error("entry \"{entry}\" of columns is neither a column nor a column with its attribute")]
    MalformedEntry { entry: String },
    #[error("attribute \"{attribute}\" is given more than once")]
    DuplicateAttribute { attribute: String },
    #[error("attribute name \"{attribute}\" is reserved by Algolia")]
    ReservedAttribute { attribute: String, column: String },
    #[error("attribute name \"{attribute}\" {reason}")]
    AttributeName { attribute: String, column: String, reason: String },
    #[error("attribute \"{attribute}\" is also an attribute that change records have of their own")]
    ChangeAttribute { attribute: String, column: String },
    #[error("attribute \"{ALERT_ATTRIBUTE}\" is reserved for records that alert")]
    AlertAttribute { column: String },
    #[error("attribute \"{column}\" is also the name of a key column")]
    KeyAttribute { column: String },
    #[error("attribute \"{bucket}\" is also the name of a time bucket of \"{time}\"")]
    BucketCollision { bucket: String, time: String },
    #[error("{argument} names column \"{column}\", which is not allowed to leave the database")]
    NotAllowed { argument: &'static str, column: String },
    #[error("time column \"{column}\" must not be pseudonymized")]
    TimePseudonymized { column: String },
    #[error("facet \"{facet}\" is not an attribute of the records")]
    UnknownFacet {
        facet: String,
        /// The attributes that the records have.
        attributes: Vec<String>,
    },
    #[error("index name \"{}\" {reason}", shown(name))]
    IndexName { name: String, reason: &'static str },
    #[error("operations names no operation")]
    NoOperation,
    #[error("unrecognized {what} \"{word}\"")]
    UnknownWord {
        what: &'static str,
        word: String,
        /// The words that are allowed.
        words: &'static [&'static str],
    },
    #[error("mode mirror takes all operations")]
    MirrorOperations,
    #[error("a table whose insertions are not watched cannot be backfilled")]
    BackfillWithoutInsert,
    #[error("rows_per_second must be at least 1")]
    RowsPerSecond,
}

/// The kind of mistake. The shell gives each kind an SQLSTATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleErrorKind {
    UndefinedColumn,
    DuplicateColumn,
    InvalidParameter,
    NullNotAllowed,
    ReservedName,
    InvalidName,
}

impl RuleError {
    /// The error for a column that does not exist, with the one of `table_columns` that was probably meant.
    pub(super) fn unknown_column(column: &str, table_columns: &[&str]) -> RuleError {
        let bare = |name: &str| name.trim_matches('"').to_lowercase();
        let similar = table_columns.iter().find(|known| bare(known) == bare(column));
        RuleError::UnknownColumn {
            column: column.to_owned(),
            similar: similar.map(|known| (*known).to_owned()),
        }
    }

    pub fn kind(&self) -> RuleErrorKind {
        match self {
            RuleError::UnknownColumn { .. } | RuleError::UnknownFacet { .. } => {
                RuleErrorKind::UndefinedColumn
            }
            RuleError::DuplicateEntry { .. }
            | RuleError::DuplicateAttribute { .. }
            | RuleError::ChangeAttribute { .. }
            | RuleError::AlertAttribute { .. }
            | RuleError::KeyAttribute { .. }
            | RuleError::BucketCollision { .. } => RuleErrorKind::DuplicateColumn,
            RuleError::NullArgument { .. } | RuleError::NullEntry { .. } => RuleErrorKind::NullNotAllowed,
            RuleError::ReservedAttribute { .. } => RuleErrorKind::ReservedName,
            RuleError::AttributeName { .. } => RuleErrorKind::InvalidName,
            RuleError::EmptyEntry { .. }
            | RuleError::NoColumns
            | RuleError::NoKey
            | RuleError::MalformedEntry { .. }
            | RuleError::NotAllowed { .. }
            | RuleError::TimePseudonymized { .. }
            | RuleError::IndexName { .. }
            | RuleError::NoOperation
            | RuleError::MirrorOperations
            | RuleError::UnknownWord { .. }
            | RuleError::BackfillWithoutInsert
            | RuleError::RowsPerSecond => RuleErrorKind::InvalidParameter,
        }
    }

    /// A sentence that says how to fix it.
    pub fn hint(&self) -> String {
        match self {
            RuleError::NullArgument { .. } => "Leave the argument out to get its default.".to_owned(),
            RuleError::NullEntry { .. } | RuleError::EmptyEntry { .. } => "Leave the entry out.".to_owned(),
            RuleError::DuplicateEntry { entry, .. } => format!("Name \"{entry}\" once."),
            RuleError::NoColumns => {
                "Name the columns that may leave the database, for example columns => '{id,created_at}'."
                    .to_owned()
            }
            RuleError::NoKey => "Leave object_id out to use the primary key.".to_owned(),
            RuleError::UnknownColumn { similar, .. } => match similar {
                Some(similar) => format!("Perhaps you meant the column \"{similar}\"."),
                None => "Name columns of the table, spelled as the table has them.".to_owned(),
            },
            RuleError::MalformedEntry { .. } => {
                "Write 'column' or 'column AS attribute', with names in double quotes where needed."
                    .to_owned()
            }
            RuleError::DuplicateAttribute { .. } => {
                "Write 'column AS attribute' to give one of the columns another attribute.".to_owned()
            }
            RuleError::ReservedAttribute { column, .. }
            | RuleError::AttributeName { column, .. }
            | RuleError::ChangeAttribute { column, .. }
            | RuleError::AlertAttribute { column } => {
                format!("Write '\"{column}\" AS attribute' to give the column another attribute.")
            }
            RuleError::BucketCollision { .. } => {
                "Write 'column AS attribute' to give the column or the time column another attribute."
                    .to_owned()
            }
            RuleError::NotAllowed { column, .. } => format!("Add \"{column}\" to columns."),
            RuleError::TimePseudonymized { .. } => {
                "Remove the column from pseudonymize, or choose another time_column.".to_owned()
            }
            RuleError::UnknownFacet { attributes, .. } => {
                format!("The attributes are {}.", attributes.join(", "))
            }
            RuleError::IndexName { .. } => "Give another name with index_name.".to_owned(),
            RuleError::KeyAttribute { column } => {
                format!(
                    "Give the other column another attribute, or add '\"{column}\" AS attribute' to columns."
                )
            }
            RuleError::NoOperation => "Leave operations out to capture inserts.".to_owned(),
            RuleError::UnknownWord { words, .. } => format!("Available values: {}.", words.join(", ")),
            RuleError::MirrorOperations => {
                "Leave operations out: the index can hold the table's rows only if every change is told."
                    .to_owned()
            }
            RuleError::BackfillWithoutInsert => {
                "Rows that are there already are sent as insertions: add insert to operations.".to_owned()
            }
            RuleError::RowsPerSecond => "Leave it out for no limit.".to_owned(),
        }
    }
}

/// An index name as messages show it: on one line and of limited length.
fn shown(name: &str) -> String {
    const SHOWN_CHARACTERS: usize = 64;
    let mut shown: String = name.chars().take(SHOWN_CHARACTERS).flat_map(char::escape_debug).collect();
    if name.chars().nth(SHOWN_CHARACTERS).is_some() {
        shown.push('…');
    }
    shown
}
