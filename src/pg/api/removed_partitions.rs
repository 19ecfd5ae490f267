//! Partitions that leave mirrored tables, by `DETACH` or `DROP`. Their rows are deleted from the index.

use std::cell::RefCell;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::caller;
use super::triggers::drop_trigger;
use crate::pg::backfill::qualified_name;
use crate::pg::capture::RemovedPartition;
use crate::pg::ddl::{self, DdlEffects, Dropping};
use crate::pg::latest_snapshot::{all_rows, oids, write};
use crate::pg::owner::{as_user, find_extension_objects};
use crate::pg::partitions::{leaves, sources_of_ancestors, AncestorSource};
use crate::pg::report::{reported, sql_error, SqlResult};
use crate::record::Operation;

thread_local! {
    /// The transaction's start, and the partitions whose deletions it has queued before dropping them.
    static PREPARED: RefCell<(pg_sys::TimestampTz, Vec<String>)> = const { RefCell::new((0, Vec::new())) };
}

/// The function of the event trigger that runs before statements that may drop partitions. Afterwards, the rows are
/// gone.
#[pg_extern(sql = false)]
fn prepare_drop(call: pg_sys::FunctionCallInfo) -> Result<(), ErrorReport> {
    // SAFETY: the argument comes from the function manager, and the statement is the one that is about to be executed.
    let dropping = unsafe { ddl::statement(call).and_then(|statement| Dropping::of(statement)) };
    reported(dropping.map_or(Ok(()), |dropping| queue_deletions_of(&dropping)))
}

fn queue_deletions_of(dropping: &Dropping) -> SqlResult<()> {
    let Some(objects) = find_extension_objects() else { return Ok(()) };
    let caller = caller();
    let mut locked: Vec<pg_sys::Oid> = Vec::new();
    // Another transaction, for which a lock was waited for, may have changed which partitions will be dropped.
    loop {
        let dropped = as_user(objects.owner, || partitions_to_drop(dropping, caller))?;
        let unlocked = dropped.iter().filter(|(partition, _)| !locked.contains(&partition.leaf));
        let unlocked: Vec<_> = unlocked.map(|(partition, parent)| (partition.leaf, *parent)).collect();
        if unlocked.is_empty() {
            let prepared = dropped.iter().map(|(partition, _)| qualified_name(partition.leaf)).collect();
            // SAFETY: reads the state of the transaction.
            PREPARED.set((unsafe { pg_sys::GetCurrentTransactionStartTimestamp() }, prepared));
            return dropped.into_iter().try_for_each(|(partition, _)| partition.queue_deletions());
        }
        for (leaf, parent) in unlocked {
            // The statement itself takes the same locks in the same order. SAFETY: any OID can be locked, even one that
            // is gone. The caller may drop the partition.
            unsafe {
                pg_sys::LockRelationOid(parent, pg_sys::AccessExclusiveLock as i32);
                pg_sys::LockRelationOid(leaf, pg_sys::AccessExclusiveLock as i32);
            }
            locked.push(leaf);
        }
    }
}

/// The partitions that `caller` drops from mirrored tables, each with its parent.
fn partitions_to_drop(
    dropping: &Dropping,
    caller: pg_sys::Oid,
) -> SqlResult<Vec<(RemovedPartition, pg_sys::Oid)>> {
    let arguments = [
        oids(&dropping.tables),
        oids(&dropping.schemas),
        oids(&dropping.owners),
        (pg_sys::OIDOID, caller.into()),
    ];
    let found = all_rows(include_str!("../../../sql/ddl/partitions_to_drop.sql"), &arguments, |row| {
        let partition = RemovedPartition {
            source: row.get(1)?,
            watched: row.get(2)?,
            owner: row.get(3)?,
            leaf: row.get(4)?,
        };
        Some((partition, row.get(5)?))
    })?;
    Ok(found.into_iter().flatten().collect())
}

/// Warns of partitions dropped by a statement that does not fire the event trigger, and says how to repair the index.
/// The function of the event trigger for dropped objects calls this with the rights of the extension's owner.
pub(super) fn warn_of_unprepared_drops() -> SqlResult<()> {
    let dropped = all_rows(include_str!("../../../sql/ddl/dropped_leaves.sql"), &[], |row| {
        let (schema, name): (String, String) = (row.get(2)?, row.get(3)?);
        Some((row.get::<String>(1)?, spi::quote_qualified_identifier(schema, name)))
    })?;
    // SAFETY: reads the state of the transaction.
    let now = unsafe { pg_sys::GetCurrentTransactionStartTimestamp() };
    for (table, partition) in dropped.into_iter().flatten() {
        if PREPARED.with_borrow(|(at, prepared)| *at == now && prepared.contains(&partition)) {
            continue;
        }
        sql_error(
            PgSqlErrorCode::ERRCODE_WARNING,
            format!("objects of partition {partition} remain in the index that mirrors table {table}"),
            format!(
                "SELECT * FROM audit_algolia.reconcile({}, repair => true) deletes them.",
                spi::quote_literal(&table)
            ),
        )
        .with_detail(
            "The partition was dropped by a statement other than DROP TABLE, DROP SCHEMA or DROP OWNED.",
        )
        .warn();
    }
    Ok(())
}

/// Queues the deletions of the rows of partitions that a statement has detached. The statement holds their locks. With
/// DETACH CONCURRENTLY, nobody can attach another partition with the same bounds before it commits.
pub(super) fn after_detach(effects: &DdlEffects, owner: pg_sys::Oid) -> SqlResult<()> {
    for (partition, parent) in &effects.detached {
        let removed = as_user(owner, || detached(*partition, *parent))?;
        for partition in removed {
            partition.queue_deletions()?;
            // PostgreSQL has dropped the copies of row triggers from each partition, but not this one. It does no harm
            // if the extension's owner may not drop it. SAFETY: reads whose rights are in force.
            as_user(owner, || match unsafe { pg_sys::superuser() } {
                true => drop_trigger(None, partition.leaf, partition.source, Operation::Truncate),
                false => Ok(()),
            })?;
        }
    }
    Ok(())
}

fn detached(partition: pg_sys::Oid, parent: pg_sys::Oid) -> SqlResult<Vec<RemovedPartition>> {
    let sources = sources_of_ancestors(parent)?;
    if sources.is_empty() {
        return Ok(Vec::new());
    }
    // SAFETY: a lock that the statement holds, or was about to take when it dropped the triggers.
    unsafe { pg_sys::LockRelationOid(partition, pg_sys::AccessExclusiveLock as i32) };
    let mut removed = Vec::new();
    for leaf in leaves(partition)? {
        // The rows are read and their deletions queued, so nobody may change them until the statement commits. A
        // transaction that holds a lock on such a table and then waits for the root causes a deadlock, which PostgreSQL
        // resolves. SAFETY: locks a table by its OID; one that is gone has no rows.
        unsafe { pg_sys::LockRelationOid(leaf, pg_sys::AccessExclusiveLock as i32) };
        for above in &sources {
            let arguments = [(pg_sys::INT4OID, above.source.into()), (pg_sys::OIDOID, leaf.into())];
            write(include_str!("../../../sql/backfill/end_partition.sql"), &arguments)?;
            let AncestorSource { source, watched, owner, .. } = *above;
            removed.extend(above.is_mirrored().then_some(RemovedPartition { source, watched, owner, leaf }));
        }
    }
    Ok(removed)
}
