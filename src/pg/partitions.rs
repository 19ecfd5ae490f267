//! A table with its partitions or chunks, as the catalogs have them at this moment.
//!
//! `pg_partition_tree()` would lock all of them until the transaction ends. Nothing here locks any. A caller that needs
//! a lock takes it one table at a time, and looks the table up again.

use pgrx::pg_sys;

use super::hypertables::is_hypertable;
use super::latest_snapshot::{all_rows, first_row};
use super::report::SqlResult;
use crate::rules::Mode;

/// A table, or one of its partitions or chunks on any level.
#[derive(Clone, Copy)]
pub(super) struct Member {
    pub(super) oid: pg_sys::Oid,
    kind: i8,
}

impl Member {
    /// Whether it has rows of its own in this server.
    pub(super) fn has_rows(&self) -> bool {
        self.kind == pg_sys::RELKIND_RELATION as i8
    }

    /// Whether it has partitions instead of rows.
    pub(super) fn is_partitioned(&self) -> bool {
        self.kind == pg_sys::RELKIND_PARTITIONED_TABLE as i8
    }
}

/// The table and all its partitions or chunks. Call it as the extension's owner.
pub(super) fn members(table: pg_sys::Oid) -> SqlResult<Vec<Member>> {
    let has_chunks = is_hypertable(table)?;
    let arguments = [(pg_sys::OIDOID, table.into()), (pg_sys::BOOLOID, has_chunks.into())];
    let found = all_rows(include_str!("../../sql/ddl/members.sql"), &arguments, |row| {
        Some(Member { oid: row.get(1)?, kind: row.get(2)? })
    })?;
    Ok(found.into_iter().flatten().collect())
}

/// Those members that have rows: the table itself, or its partitions or chunks.
pub(super) fn leaves(table: pg_sys::Oid) -> SqlResult<Vec<pg_sys::Oid>> {
    Ok(members(table)?.into_iter().filter(Member::has_rows).map(|member| member.oid).collect())
}

/// Partitions or chunks on all levels.
pub(super) fn partitions(table: pg_sys::Oid) -> SqlResult<Vec<pg_sys::Oid>> {
    Ok(members(table)?.into_iter().map(|member| member.oid).filter(|oid| *oid != table).collect())
}

/// Whether a table is a partition of another on any level. Call it as the extension's owner.
pub(super) fn is_below(table: pg_sys::Oid, root: pg_sys::Oid) -> SqlResult<bool> {
    let arguments = [(pg_sys::OIDOID, table.into()), (pg_sys::OIDOID, root.into())];
    let found = first_row(include_str!("../../sql/ddl/is_below.sql"), &arguments, |row| Ok(row.get(1)))?;
    Ok(found.flatten().unwrap_or_default())
}

/// A source of a partitioned table.
pub(super) struct AncestorSource {
    pub(super) source: i32,
    pub(super) mode: Mode,
    /// The table and its owner.
    pub(super) watched: pg_sys::Oid,
    pub(super) owner: pg_sys::Oid,
}

impl AncestorSource {
    pub(super) fn is_mirrored(&self) -> bool {
        self.mode == Mode::Mirror
    }
}

/// The sources that have, or had, the rows of a table or its partitions. Call it as the extension's owner.
pub(super) fn sources_of_ancestors(table: pg_sys::Oid) -> SqlResult<Vec<AncestorSource>> {
    let query = include_str!("../../sql/ddl/sources_above.sql");
    let found = all_rows(query, &[(pg_sys::OIDOID, table.into())], |row| {
        let mode = row.get::<String>(2).and_then(|word| Mode::of(&word))?;
        Some(AncestorSource { source: row.get(1)?, mode, watched: row.get(3)?, owner: row.get(4)? })
    })?;
    Ok(found.into_iter().flatten().collect())
}
