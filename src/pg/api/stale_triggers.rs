//! Stale triggers: triggers of ours without a source, which came with their table, for instance from a dump of the
//! schema alone.
//!
//! They capture nothing (`capture/source.rs`). They are dropped when the table comes under watch, or by `unwatch`.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::triggers::run_on;
use super::Table;
use crate::pg::latest_snapshot::{all_rows, oids};
use crate::pg::own_ddl::Caller;
use crate::pg::partitions;
use crate::pg::report::SqlResult;

/// A trigger, by its table and its name.
type Trigger = (pg_sys::Oid, String);

/// The stale triggers on a table and its partitions.
pub(super) fn stale_triggers(table: &Table) -> SqlResult<Vec<Trigger>> {
    let members: Vec<_> = partitions::members(table.oid)?.iter().map(|member| member.oid).collect();
    let found = all_rows(include_str!("../../../sql/ddl/stale_triggers.sql"), &[oids(&members)], |row| {
        Some((row.get(1)?, row.get(2)?))
    })?;
    Ok(found.into_iter().flatten().collect())
}

/// Drops them, and returns whether there were any.
pub(super) fn drop_stale_triggers(table: &Table, caller: &Caller) -> SqlResult<bool> {
    let stale = stale_triggers(table)?;
    for (relation, trigger) in &stale {
        let quoted = spi::quote_identifier(trigger);
        // Partitions may belong to other owners.
        let by = (*relation == table.oid).then_some(caller);
        run_on(by, *relation, trigger, false, |table| format!("drop trigger if exists {quoted} on {table}"))?;
    }
    Ok(!stale.is_empty())
}
