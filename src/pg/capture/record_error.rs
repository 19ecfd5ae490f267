//! The errors of records that cannot be made.

use pgrx::prelude::*;

use super::bound_relation::BoundRelation;
use crate::pg::report::{overflow, sql_error, SqlError};
use crate::pg::rules::no_pseudonym_key;
use crate::record::RecordError;

impl BoundRelation {
    /// The error of a record that could not be made.
    pub(super) fn explain(&self, error: RecordError) -> Box<SqlError> {
        let table = &self.table;
        match error {
            RecordError::NullKey { part } => {
                let name = self.key_names.get(part).map_or("", String::as_str);
                sql_error(
                    PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION,
                    format!(
                        "null value in column \"{name}\" of table \"{table}\" cannot be part of an objectID"
                    ),
                    "Watch the table with object_id columns that are never null.",
                )
            }
            RecordError::EmptyKey => sql_error(
                PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION,
                format!(
                    "empty value in column \"{}\" of table \"{table}\" cannot be an objectID",
                    self.key_names.join("\", \"")
                ),
                "Watch the table with an object_prefix, or with object_id columns that are never empty.",
            ),
            RecordError::Overflow(error) => overflow(error, table),
            RecordError::PseudonymKeyMissing => no_pseudonym_key(),
            other => sql_error(
                PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
                format!("could not make a record: {other}"),
                "Call audit_algolia.unwatch() and then audit_algolia.watch() again.",
            ),
        }
    }
}
