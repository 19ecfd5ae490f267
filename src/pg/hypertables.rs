//! Hypertables of TimescaleDB, which keep their rows in chunks.
//!
//! A hypertable's transition tables hold rows in the layout of their chunks, or none at all. So its triggers are
//! row-level ones, which TimescaleDB copies to the chunks.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::report::SqlResult;

/// Whether a table is a hypertable. Call it as the extension's owner.
pub(super) fn is_hypertable(table: pg_sys::Oid) -> SqlResult<bool> {
    // SAFETY: a look-up in the catalogs, inside a transaction.
    let timescaledb = unsafe { pg_sys::get_extension_oid(c"timescaledb".as_ptr(), true) };
    if timescaledb == pg_sys::InvalidOid {
        return Ok(false);
    }
    Spi::connect(|client| {
        let rows =
            client.select(include_str!("../../sql/capture/is_hypertable.sql"), Some(1), &[table.into()])?;
        Ok(rows.first().get_one()?.unwrap_or_default())
    })
}

/// The keyword before a watched table's name in a query that reads the rows whose changes are captured. These include
/// the rows of partitions or chunks, but not those of inheriting tables. Call it as the extension's owner.
pub(super) fn only(table: pg_sys::Oid, is_partitioned: bool) -> SqlResult<&'static str> {
    Ok(if is_partitioned || is_hypertable(table)? { "" } else { "only " })
}
