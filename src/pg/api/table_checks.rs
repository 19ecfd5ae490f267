//! What kinds of tables, columns and keys can be watched.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::Table;
use crate::pg::hypertables::is_hypertable;
use crate::pg::report::{sql_error, SqlResult};

/// A trigger does not see the values of virtual generated columns, which are computed only when they are read.
pub(super) fn check_virtual<'a>(table: &Table, mut used: impl Iterator<Item = &'a str>) -> SqlResult<()> {
    match used.find(|name| table.virtual_columns.iter().any(|column| column == name)) {
        None => Ok(()),
        Some(name) => Err(sql_error(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!(
                "column \"{name}\" of table {} is a virtual generated column, which triggers do not see",
                table.name
            ),
            "Leave the column out, or make it a STORED generated column.",
        )),
    }
}

/// TRUNCATE of a hypertable drops its chunks without firing triggers for their rows.
pub(super) fn check_mirrored(table: &Table) -> SqlResult<()> {
    if is_hypertable(table.oid)? {
        return Err(sql_error(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("hypertable {} cannot be mirrored", table.name),
            "Watch it in append mode.",
        ));
    }
    Ok(())
}

/// Each object stands for a row, so its key must belong to one row at a time. Under a deferrable constraint, two rows
/// can have the same key until it is checked.
pub(super) fn check_key(table: &Table, key: &[String]) -> SqlResult<()> {
    let is_key = Spi::connect(|client| -> SqlResult<bool> {
        let arguments = [table.oid.into(), key.to_vec().into()];
        let rows = client.select(include_str!("../../../sql/api/find_key.sql"), Some(1), &arguments)?;
        Ok(rows.first().get_one::<bool>()?.unwrap_or_default())
    })?;
    if is_key {
        return Ok(());
    }
    Err(sql_error(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!(
            "columns ({}) of table {} are not a key that mirror mode can use",
            key.join(", "),
            table.name
        ),
        "Use the primary key, or NOT NULL columns with a unique index over exactly these columns. The index must not have a WHERE clause, and the constraint must be neither DEFERRABLE nor WITHOUT OVERLAPS. NOT NULL constraints must be validated.",
    ))
}

/// Whether rows of the relation can be captured at all.
pub(super) fn check_table(table: &Table) -> SqlResult<()> {
    let wrong = |what: &str, hint: &str| {
        Err(sql_error(
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            format!("cannot watch {}, because it is {what}", table.name),
            hint,
        ))
    };
    match table.kind.as_str() {
        _ if table.oid.to_u32() < pg_sys::FirstNormalObjectId => {
            wrong("a system catalog", "Watch a table of your own to which the changes are written.")
        }
        _ if table.schema == "audit_algolia" => {
            wrong("a table of audit_algolia itself", "Name a table of your own.")
        }
        _ if table.is_temporary => {
            wrong("a temporary table", "Only its own session sees its rows. Watch an ordinary table.")
        }
        "r" | "p" => Ok(()),
        "v" => wrong("a view", "Watch the tables the view reads."),
        "m" => wrong("a materialized view", "Watch the tables the materialized view reads."),
        "f" => wrong("a foreign table", "Its rows are written on another server. Watch the table there."),
        _ => wrong("not a table", "Name a table."),
    }
}
