//! The functions of the SQL interface. Their declarations are in `sql/install/20_functions.sql`.

mod activity;
mod arguments;
mod attached_partitions;
mod backfill;
mod control;
mod dead_letters;
mod flush;
mod metrics;
mod outdated_triggers;
mod partitions;
mod preview;
mod queue_look;
mod reconcile;
mod removed_partitions;
mod row_writer;
mod secured_key;
mod settings;
mod sources;
mod stale_triggers;
mod stats;
mod table_checks;
mod trigger_rights;
mod triggers;
mod watch;
mod worker_stats;

pub(super) use outdated_triggers::replace_outdated_triggers;

use std::cell::Cell;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::backfill::lock_tree;
use super::databases::my_database;
use super::hypertables::{self, is_hypertable};
use super::latest_snapshot::first_row;
use super::owner::{as_user, extension_objects};
use super::report::{reported, sql_error, SqlError, SqlResult};
use super::shmem;
use super::version::VersionMismatch;

/// The user whose rights decide what may be done to a table. The functions that ask for it are not security definers:
/// inside a security definer, the caller is not known, and the session's user may be another.
fn caller() -> pg_sys::Oid {
    // SAFETY: reads the session's state.
    unsafe { pg_sys::GetUserId() }
}

/// Runs `work` as the extension's owner, for the caller has no rights to the extension's tables.
fn as_owner<T>(work: impl FnOnce() -> SqlResult<T>) -> SqlResult<T> {
    as_user(extension_objects()?.owner, work)
}

/// Raises PostgreSQL's own error in a read-only transaction, for instance on a standby.
fn refuse_read_only(command: &std::ffi::CStr) {
    // SAFETY: reads the state of the transaction. The error it may raise is passed on by pgrx.
    unsafe { pg_sys::PreventCommandIfReadOnly(command.as_ptr()) };
}

/// Refuses to use the tables of another version of the extension than the library's.
fn refuse_other_version() -> Result<(), ErrorReport> {
    reported(VersionMismatch::refuse())
}

thread_local! {
    static WARNED: Cell<bool> = const { Cell::new(false) };
}

/// Warns, once per session, that nothing will be delivered because the library was not preloaded.
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

/// A table that somebody wants to watch.
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
    /// The columns whose values are computed when they are read.
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
    /// `ONLY`, where a query of the table's own rows needs it before the name.
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
                "The function must be called by the table's owner or a superuser.",
            ));
        }
        Ok(table)
    }

    /// As `of`, but also locks the table, so that nobody can rename or replace it before the transaction ends.
    fn to_read(source: Option<pg_sys::Oid>, caller: pg_sys::Oid) -> SqlResult<Table> {
        let table = Table::of(source, caller)?;
        // SAFETY: locks whatever has this OID until the transaction ends.
        unsafe { pg_sys::LockRelationOid(table.oid, pg_sys::AccessShareLock as i32) };
        // Another transaction, for which the lock was waited for, may have renamed or dropped the table or changed its
        // owner.
        Table::of(Some(table.oid), caller)
    }

    /// Locks the table and everything through which rows of it can be written, and describes it again. Another
    /// transaction, for which a lock was waited for, may have renamed or dropped it, changed its owner, or made it a
    /// parent or child of other tables.
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

/// The error for a name that is not that of an index.
fn no_such_index(name: &str) -> Box<super::report::SqlError> {
    sql_error(
        PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
        format!("index \"{name}\" does not exist"),
        "SELECT index_name FROM audit_algolia.queue_stats() lists the indices.",
    )
}
