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
    /// The tables with rows, as of this moment.
    pub(super) fn leaves(self) -> SqlResult<Vec<pg_sys::Oid>> {
        match self.is_partitioned {
            true => partitions::leaves(self.table),
            false => Ok(vec![self.table]),
        }
    }

    /// Whether nobody is about to attach a partition: all rows that have been told of are in tables that can be seen, or
    /// will be told of again. Who attaches one has a lock on its parent until the transaction ends. It is not waited for,
    /// since they may be waiting for a table that we read.
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
