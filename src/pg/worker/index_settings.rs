//! The short transactions around the settings of an index: they are read, and deleted once Algolia has accepted them.
//!
//! Nobody waits for a lock here. A session that changes the settings, or has locked the table, may take long to commit,
//! and the worker has records to deliver.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::settle::storable;
use super::settlement::SettleOutcome;
use crate::pg::locks::{try_lock, try_lock_named};
use crate::pg::owner::table;
use crate::pg::process::{in_transaction, take_snapshot};
use crate::pg::{failpoint, xact};

/// The result of reading the table.
pub(super) enum TableRead<T> {
    Found(T),
    /// Somebody has locked the table.
    Locked,
    /// The extension has been dropped.
    Gone,
}

/// Runs `work` in a transaction that keeps the table of settings from being dropped.
fn with_table<T>(work: impl FnOnce() -> spi::Result<T>) -> spi::Result<TableRead<T>> {
    in_transaction(|| {
        let oid = table(c"configuration");
        if oid == pg_sys::InvalidOid {
            return Ok(TableRead::Gone);
        }
        let is_locked = try_lock(oid, pg_sys::RowExclusiveLock);
        match table(c"configuration") == oid {
            _ if !is_locked => Ok(TableRead::Locked),
            false => Ok(TableRead::Gone),
            true => {
                take_snapshot();
                work().map(TableRead::Found)
            }
        }
    })
}

/// The indices whose settings are to be sent, with their versions.
pub(super) fn wanted() -> spi::Result<TableRead<Vec<(i32, i64)>>> {
    with_table(|| {
        Spi::connect(|client| {
            let mut wanted = Vec::new();
            for row in client.select(include_str!("../../../sql/worker/wanted_settings.sql"), None, &[])? {
                if let (Some(index_id), Some(version)) = (row.get(1)?, row.get(2)?) {
                    wanted.push((index_id, version));
                }
            }
            Ok(wanted)
        })
    })
}

/// The settings of an index that are to be sent, with their version, if there are any.
pub(super) fn read(index_id: i32) -> spi::Result<TableRead<Option<(i64, String)>>> {
    with_table(|| {
        Spi::connect(|client| {
            let query = include_str!("../../../sql/worker/read_settings.sql");
            let rows = client.select(query, Some(1), &[index_id.into()])?;
            if rows.is_empty() {
                return Ok(None);
            }
            let (version, settings) = rows.first().get_two::<i64, String>()?;
            Ok(version.zip(settings))
        })
    })
}

/// Deletes settings that were accepted.
pub(super) fn settle(index_id: i32, version: i64) -> spi::Result<SettleOutcome> {
    failpoint::reach("before settlement");
    let seen = with_table(|| {
        Spi::connect_mut(|client| {
            let query = include_str!("../../../sql/worker/settle_settings.sql");
            client.update(query, None, &[index_id.into(), version.into()])?;
            spi::Result::Ok(())
        })?;
        is_left(index_id, version)
    });
    seen.map(settled)
}

/// Moves rejected settings to the dead letters.
pub(super) fn dead_letter(
    index_id: i32,
    version: i64,
    attempts: i32,
    status: u16,
    reason: &str,
) -> spi::Result<SettleOutcome> {
    let seen = with_table(|| {
        if try_lock_named(c"dead_letter", pg_sys::RowExclusiveLock).is_none() {
            return Ok(true);
        }
        Spi::connect_mut(|client| {
            let arguments = [
                index_id.into(),
                version.into(),
                attempts.into(),
                i32::from(status).into(),
                storable(reason).into(),
            ];
            let query = include_str!("../../../sql/worker/dead_letter_settings.sql");
            let moved = client.update(query, None, &arguments)?.len() as i64;
            xact::note_dead(index_id, moved);
            spi::Result::Ok(())
        })?;
        is_left(index_id, version)
    });
    seen.map(settled)
}

/// Whether this version still exists, because somebody has locked it.
fn is_left(index_id: i32, version: i64) -> spi::Result<bool> {
    Spi::connect(|client| {
        let query = include_str!("../../../sql/worker/is_wanted.sql");
        let rows = client.select(query, Some(1), &[index_id.into(), version.into()])?;
        Ok(rows.first().get_one::<bool>()?.unwrap_or_default())
    })
}

fn settled(seen: TableRead<bool>) -> SettleOutcome {
    match seen {
        TableRead::Found(false) => SettleOutcome::Done,
        TableRead::Found(true) | TableRead::Locked => SettleOutcome::Busy,
        TableRead::Gone => SettleOutcome::Gone,
    }
}
