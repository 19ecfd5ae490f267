//! The tables that hold a source's rows: the watched table, or its partitions, which come and go.

use pgrx::pg_sys;

use crate::pg::locks::is_lockable;
use crate::pg::partitions::{self, Member};
use crate::pg::report::SqlResult;

/// The watched table.
#[derive(Clone, Copy)]
pub(super) struct SourceTables {
    pub(super) table: pg_sys::Oid,
    pub(super) is_partitioned: bool,
}

impl SourceTables {
    /// The tables with rows at this moment.
    pub(super) fn leaves(self) -> SqlResult<Vec<pg_sys::Oid>> {
        match self.is_partitioned {
            true => partitions::leaves(self.table),
            false => Ok(vec![self.table]),
        }
    }

    /// Whether nobody is attaching a partition, so that every queued row is in a visible table or will be queued again.
    /// Attaching a partition locks its parent until the transaction ends. That lock is not waited for, because its
    /// holder may be waiting for a table that we read.
    pub(super) fn is_settled(self) -> SqlResult<bool> {
        if !self.is_partitioned {
            return Ok(true);
        }
        let parents = partitions::members(self.table)?.into_iter().filter(Member::is_partitioned);
        Ok(parents
            .map(|parent| parent.oid)
            .all(|parent| is_lockable(parent, pg_sys::ShareUpdateExclusiveLock)))
    }
}
