//! The short transactions around the settings of an index: they are read, and when they have arrived forgotten.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::claim::{lock, table};
use super::settle::{storable, Settled};
use crate::pg::process::in_transaction;
use crate::pg::{failpoint, xact};

/// The table of the settings that wait.
const TABLE: &std::ffi::CStr = c"configuration";

/// The indices that are to be given settings, and which version. `None`: the extension has been dropped.
pub(super) fn wanted() -> spi::Result<Option<Vec<(i32, i64)>>> {
    in_transaction(|| {
        if !lock(table(TABLE)) {
            return Ok(None);
        }
        Spi::connect(|client| {
            let mut wanted = Vec::new();
            for row in client.select(include_str!("../../../sql/wanted_settings.sql"), None, &[])? {
                if let (Some(index_id), Some(version)) = (row.get(1)?, row.get(2)?) {
                    wanted.push((index_id, version));
                }
            }
            Ok(Some(wanted))
        })
    })
}

/// The settings an index is to be given, with their version; `None`: there are none any more.
pub(super) fn read(index_id: i32) -> spi::Result<Option<(i64, String)>> {
    in_transaction(|| {
        if !lock(table(TABLE)) {
            return Ok(None);
        }
        Spi::connect(|client| {
            let query = include_str!("../../../sql/read_settings.sql");
            let rows = client.select(query, Some(1), &[index_id.into()])?;
            if rows.is_empty() {
                return Ok(None);
            }
            let (version, settings) = rows.first().get_two::<i64, String>()?;
            Ok(version.zip(settings))
        })
    })
}

/// Forgets settings that have arrived.
pub(super) fn settle(index_id: i32, version: i64) -> spi::Result<Settled> {
    failpoint::reach("before settlement");
    in_transaction(|| {
        if !lock(table(TABLE)) {
            return Ok(Settled::Gone);
        }
        Spi::connect_mut(|client| {
            let query = include_str!("../../../sql/settle_settings.sql");
            client.update(query, None, &[index_id.into(), version.into()])?;
            Ok(Settled::Done)
        })
    })
}

/// Moves refused settings to the dead letters.
pub(super) fn bury(
    index_id: i32,
    version: i64,
    attempts: i32,
    status: u16,
    reason: &str,
) -> spi::Result<Settled> {
    in_transaction(|| {
        if !lock(table(TABLE)) {
            return Ok(Settled::Gone);
        }
        // As with records, the second table is not waited for.
        // SAFETY: the table was just found, and is a member of the extension whose other table is locked.
        let is_free = unsafe {
            pg_sys::ConditionalLockRelationOid(table(c"dead_letter"), pg_sys::RowExclusiveLock as i32)
        };
        if !is_free {
            return Ok(Settled::Busy);
        }
        Spi::connect_mut(|client| {
            let arguments = [
                index_id.into(),
                version.into(),
                attempts.into(),
                i32::from(status).into(),
                storable(reason).into(),
            ];
            let query = include_str!("../../../sql/bury_settings.sql");
            let buried = client.update(query, None, &arguments)?.len() as i64;
            xact::note_dead(index_id, buried);
            Ok(Settled::Done)
        })
    })
}
