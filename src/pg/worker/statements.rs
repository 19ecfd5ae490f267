//! The worker's prepared statements, and its queries of the extension's tables.

use std::ffi::CStr;

use pgrx::prelude::*;
use pgrx::spi::OwnedPreparedStatement;
use pgrx::PgOid;

use super::planning::plan_as_large;
use crate::pg::owner::table;
use crate::pg::process::{in_transaction, take_snapshot, wait_for_table};

/// The worker's prepared statements.
pub(super) struct Statements {
    pub(super) newest: OwnedPreparedStatement,
    pub(super) oldest: OwnedPreparedStatement,
    pub(super) versions: OwnedPreparedStatement,
    pub(super) settle_versions: OwnedPreparedStatement,
    pub(super) supersede: OwnedPreparedStatement,
    pub(super) settle: OwnedPreparedStatement,
    pub(super) settle_run: OwnedPreparedStatement,
    pub(super) dead_letter: OwnedPreparedStatement,
    /// The tables that they use.
    pub(super) queue: pg_sys::Oid,
    pub(super) dead_letters: pg_sys::Oid,
}

impl Statements {
    /// Prepares the statements; `None` if the extension has been dropped.
    pub(super) fn prepare() -> spi::Result<Option<Statements>> {
        in_transaction(Self::prepare_inside)
    }

    fn prepare_inside() -> spi::Result<Option<Statements>> {
        let queue = table(c"queue");
        if !lock(queue) {
            return Ok(None);
        }
        let dead_letters = table(c"dead_letter");
        plan_as_large([queue, dead_letters]);
        Spi::connect_mut(|client| {
            let prepare =
                |query, types: &[PgOid]| Ok::<_, spi::Error>(client.prepare_mut(query, types)?.keep());
            let claim = pgrx::oids_of![i32, i64, i64, i64];
            let versions = pgrx::oids_of![i32, Vec<String>, Vec<i64>];
            let dead_letter = pgrx::oids_of![i32, Vec<i64>, Vec<String>, Vec<i32>, Vec<i32>, Vec<String>];
            Ok(Some(Statements {
                newest: prepare(include_str!("../../../sql/worker/claim_newest.sql"), &claim)?,
                oldest: prepare(include_str!("../../../sql/worker/claim_oldest.sql"), &claim)?,
                versions: prepare(
                    include_str!("../../../sql/worker/newest_versions.sql"),
                    &pgrx::oids_of![i32, Vec<String>],
                )?,
                settle_versions: prepare(include_str!("../../../sql/worker/settle_versions.sql"), &versions)?,
                supersede: prepare(include_str!("../../../sql/worker/supersede_dead.sql"), &versions)?,
                settle: prepare(
                    include_str!("../../../sql/worker/settle.sql"),
                    &pgrx::oids_of![i32, Vec<i64>],
                )?,
                settle_run: prepare(
                    include_str!("../../../sql/worker/settle_run.sql"),
                    &pgrx::oids_of![i32, i64, i64],
                )?,
                dead_letter: prepare(include_str!("../../../sql/worker/dead_letter.sql"), &dead_letter)?,
                queue,
                dead_letters,
            }))
        })
    }
}

/// Keeps a table from being dropped for the rest of the transaction, and takes the snapshot for its queries. `false`:
/// the table is gone; if it was created anew, its ids belong to other rows. A worker's transaction never waits for a
/// second table, because a DROP EXTENSION locks the tables in another order.
pub(super) fn lock(table: pg_sys::Oid) -> bool {
    let is_there = wait_for_table(table, pg_sys::RowExclusiveLock);
    if is_there {
        take_snapshot();
    }
    is_there
}

/// The indices of the database: id, name and whether delivery is paused. `None`: the extension has been dropped.
pub(super) fn indices() -> spi::Result<Option<Vec<(i32, String, bool)>>> {
    in_transaction(|| {
        if !lock(table(c"index")) {
            return Ok(None);
        }
        Spi::connect(|client| {
            let mut rows = Vec::new();
            for row in client.select(include_str!("../../../sql/worker/indices.sql"), None, &[])? {
                if let (Some(id), Some(name)) = (row.get(1)?, row.get::<Vec<u8>>(4)?) {
                    let name = String::from_utf8_lossy(&name).into_owned();
                    rows.push((id, name, row.get(3)?.unwrap_or_default()));
                }
            }
            Ok(Some(rows))
        })
    })
}

/// Whether the database has backfills to run, repairs to make, or triggers to replace.
pub(super) fn has_backfills() -> spi::Result<bool> {
    Ok(has(c"backfill", include_str!("../../../sql/worker/has_backfills.sql"))?
        || has(c"repair", include_str!("../../../sql/worker/has_repairs.sql"))?
        || has_outdated_triggers()?)
}

fn has_outdated_triggers() -> spi::Result<bool> {
    in_transaction(|| {
        if !lock(table(c"source")) {
            return Ok(false);
        }
        let query = include_str!("../../../sql/ddl/find_outdated_triggers.sql");
        let arguments = [Vec::<pg_sys::Oid>::new().into(), true.into()];
        Spi::connect(|client| Ok(!client.select(query, Some(1), &arguments)?.is_empty()))
    })
}

fn has(name: &CStr, query: &str) -> spi::Result<bool> {
    in_transaction(|| {
        if !lock(table(name)) {
            return Ok(false);
        }
        Spi::connect(|client| Ok(client.select(query, Some(1), &[])?.first().get_one()?.unwrap_or_default()))
    })
}

/// The version of the extension's SQL objects; `None`: it has been dropped.
pub(super) fn extension_version() -> spi::Result<Option<String>> {
    in_transaction(|| {
        take_snapshot();
        Spi::connect(|client| {
            let rows =
                client.select(include_str!("../../../sql/worker/extension_version.sql"), Some(1), &[])?;
            if rows.is_empty() {
                Ok(None)
            } else {
                rows.first().get_one()
            }
        })
    })
}
