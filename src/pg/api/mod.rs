//! The functions of the SQL interface. Their declarations are in `sql/install/20_functions.sql`.

mod activity;
mod arguments;
mod arrivals;
mod backfill;
mod control;
mod dead_letters;
mod departures;
mod flush;
mod metrics;
mod outdated_triggers;
mod partitions;
mod preview;
mod queue_look;
mod reconcile;
mod secured_key;
mod settings;
mod sources;
mod stale_triggers;
mod stats;
mod triggers;
mod watch;
mod worker_stats;

pub(super) use outdated_triggers::replace_outdated_triggers;

use std::cell::Cell;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::backfill::lock_tree;
use super::databases::my_database;
use super::hypertables::{self, is_hypertable};
use super::latest_snapshot::first_row;
use super::owner::{as_user, extension_objects};
use super::report::{sql_error, SqlError, SqlResult};
use super::shmem;

/// Whose rights decide what may be done to a table. The functions that ask are no security definers: with those, all
/// there is to see is the session's user, who need not be the one who called.
fn caller() -> pg_sys::Oid {
    // SAFETY: reads the session's state.
    unsafe { pg_sys::GetUserId() }
}

/// Works on the extension's own tables on behalf of the caller, who has no right to them.
fn as_owner<T>(work: impl FnOnce() -> SqlResult<T>) -> SqlResult<T> {
    as_user(extension_objects()?.owner, work)
}

/// Refuses, as the server refuses its own commands, what cannot be done in a read-only transaction, such as each on a
/// standby.
fn refuse_read_only(command: &std::ffi::CStr) {
    // SAFETY: looks at the state of the current transaction, and raises an error that pgrx passes on.
    unsafe { pg_sys::PreventCommandIfReadOnly(command.as_ptr()) };
}

thread_local! {
    static WARNED: Cell<bool> = const { Cell::new(false) };
}

/// Says, once per session, that nothing will be delivered because the library was not preloaded.
pub(super) fn warn_unless_preloaded() {
    if !shmem::is_preloaded() && !WARNED.replace(true) {
        sql_error(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "audit_algolia is not preloaded: changes are queued, but nothing is delivered",
            "Add audit_algolia to shared_preload_libraries in postgresql.conf and restart the server.",
        )
        .warn();
    }
}

/// What is known of a table somebody wants watched.
struct Table {
    oid: pg_sys::Oid,
    kind: String,
    is_partition: bool,
    /// It has inheritance parents or children.
    is_related: bool,
    is_hypertable: bool,
    is_temporary: bool,
    schema: String,
    /// Quoted and qualified.
    name: String,
    bare_name: String,
    columns: Vec<String>,
    /// Those of the columns whose values are computed when they are read.
    virtual_columns: Vec<String>,
    primary_key: Vec<String>,
    owner: pg_sys::Oid,
}

fn no_table() -> Box<SqlError> {
    sql_error(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, "the table must not be null", NAME_THE_TABLE)
}

fn no_such_table(oid: pg_sys::Oid) -> Box<SqlError> {
    let message = format!("table with oid {} does not exist", oid.to_u32());
    sql_error(PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE, message, NAME_THE_TABLE)
}

const NAME_THE_TABLE: &str = "Name the table, for instance 'public.access_log'.";

impl Table {
    /// What a query of its rows puts before its name.
    fn only(&self) -> SqlResult<&'static str> {
        as_owner(|| hypertables::only(self.oid, self.kind == "p"))
    }

    /// Looks a table up and checks that `caller` owns it.
    fn of(source: Option<pg_sys::Oid>, caller: pg_sys::Oid) -> SqlResult<Table> {
        let oid = source.ok_or_else(no_table)?;
        let arguments = [(pg_sys::OIDOID, oid.into()), (pg_sys::OIDOID, caller.into())];
        let found = first_row(include_str!("../../../sql/api/describe_table.sql"), &arguments, |row| {
            let text = |ordinal| row.get::<String>(ordinal).unwrap_or_default();
            let texts = |ordinal| -> Vec<String> {
                row.get::<Vec<Option<String>>>(ordinal).unwrap_or_default().into_iter().flatten().collect()
            };
            let (schema, bare_name) = (text(4), text(5));
            let table = Table {
                oid,
                kind: text(1),
                is_partition: row.get(2).unwrap_or_default(),
                is_related: false,
                is_hypertable: false,
                is_temporary: text(3) == "t",
                name: spi::quote_qualified_identifier(&schema, &bare_name),
                schema,
                bare_name,
                columns: texts(7),
                primary_key: texts(8),
                owner: row.get(9).unwrap_or(pg_sys::InvalidOid),
                virtual_columns: texts(10),
            };
            Ok((table, row.get(6).unwrap_or(false)))
        })?;
        let (table, is_owner) = found.ok_or_else(|| no_such_table(oid))?;
        if !is_owner {
            return Err(sql_error(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("must be owner of table {}", table.name),
                "Let the table's owner or a superuser call the function.",
            ));
        }
        Ok(table)
    }

    /// The same of a table that is to be read by its name, which it keeps from here on: others cannot rename it, and put
    /// another in its place, before the transaction ends.
    fn to_read(source: Option<pg_sys::Oid>, caller: pg_sys::Oid) -> SqlResult<Table> {
        let table = Table::of(source, caller)?;
        // SAFETY: the lock on whatever has the oid is kept until the transaction ends.
        unsafe { pg_sys::LockRelationOid(table.oid, pg_sys::AccessShareLock as i32) };
        // Whoever has been waited for may have renamed it, dropped it or given it away.
        Table::of(Some(table.oid), caller)
    }

    /// Locks the table and all that rows of it can be written to, by their oids, and looks at it only then: whoever has
    /// been waited for may have renamed it, dropped it, given it away, or brought it into relation to other tables.
    fn locked(&self, mode: u32, caller: pg_sys::Oid) -> SqlResult<Table> {
        lock_tree(self.oid, mode)?;
        let mut table = Table::of(Some(self.oid), caller)?;
        let oid = [(pg_sys::OIDOID, self.oid.into())];
        let is_related =
            first_row(include_str!("../../../sql/api/is_related.sql"), &oid, |row| Ok(row.get(1)))?;
        table.is_related = is_related.flatten().unwrap_or_default();
        table.is_hypertable = is_hypertable(self.oid)?;
        Ok(table)
    }
}

/// The indices of this database: id, name and whether delivery is paused.
fn indices() -> SqlResult<Vec<(i32, String, bool)>> {
    Spi::connect(|client| {
        let mut indices = Vec::new();
        for row in client.select(include_str!("../../../sql/worker/indices.sql"), None, &[])? {
            if let (Some(id), Some(name)) = (row.get(1)?, row.get(2)?) {
                indices.push((id, name, row.get(3)?.unwrap_or_default()));
            }
        }
        Ok(indices)
    })
}

/// The error of a name that is no index.
fn no_such_index(name: &str) -> Box<super::report::SqlError> {
    sql_error(
        PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
        format!("index \"{name}\" is not known"),
        "SELECT index_name FROM audit_algolia.queue_stats() lists the indices.",
    )
}
