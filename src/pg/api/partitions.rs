//! The functions of the event triggers: they keep the triggers of watched tables right after DDL.
//!
//! A statement-level trigger no longer sees all changes of a table that becomes a partition, joins an inheritance tree,
//! or is filled by a subscription (which fires row-level triggers only). Such a table gets row-level triggers. Besides,
//! new owners get the rights they need, and watched tables that were dropped are forgotten.

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::attached_partitions::note_attached;
use super::outdated_triggers::OutdatedTrigger;
use super::removed_partitions::{after_detach, warn_of_unprepared_drops};
use super::trigger_rights::{allow_triggers, LockWait};
use super::triggers::create_leaf_trigger;
use crate::pg::backfill::qualified_name;
use crate::pg::ddl::{self, DdlEffects};
use crate::pg::hypertables::is_hypertable;
use crate::pg::latest_snapshot::{all_rows, oids, write};
use crate::pg::locks::try_lock;
use crate::pg::owner::{as_user, find_extension_objects};
use crate::pg::partitions::{leaves, sources_of_ancestors, AncestorSource};
use crate::pg::report::{reported, sql_error, SqlResult};
use crate::pg::{shmem, xact};

/// The function of the event trigger that runs after statements that may attach or detach partitions. It runs with the
/// rights of the user who executed the statement, and switches to the owner to read the extension's tables.
#[pg_extern(sql = false)]
fn follow_partitions(call: pg_sys::FunctionCallInfo) -> Result<(), ErrorReport> {
    // SAFETY: the argument comes from the function manager, and the statement is the one being executed.
    let concerns = unsafe { ddl::statement(call).is_some_and(|statement| ddl::is_of_interest(statement)) };
    reported(if concerns { follow() } else { Ok(()) })
}

fn follow() -> SqlResult<()> {
    let Some(objects) = find_extension_objects() else { return Ok(()) };
    let effects = ddl::effects()?;
    if effects.is_empty() {
        return Ok(());
    }
    as_user(objects.owner, || {
        replace_triggers(&effects)?;
        cover_leaves(&effects)?;
        note_attached(&effects)?;
        renew_rights(&effects)
    })?;
    after_detach(&effects, objects.owner)
}

/// The function of the event trigger that runs after statements that have dropped something.
#[pg_extern(sql = false)]
fn forget_dropped() -> Result<(), ErrorReport> {
    reported(forget())
}

fn forget() -> SqlResult<()> {
    let dropped = ddl::dropped_tables();
    if dropped.is_empty() {
        return Ok(());
    }
    let Some(objects) = find_extension_objects() else { return Ok(()) };
    as_user(objects.owner, || {
        write(include_str!("../../../sql/ddl/forget_dropped.sql"), &[oids(&dropped)])?;
        warn_of_unprepared_drops()
    })
}

/// Grants new owners the rights that watch() granted to the old ones.
fn renew_rights(effects: &DdlEffects) -> SqlResult<()> {
    if effects.owner_changed.is_empty() {
        return Ok(());
    }
    let query = include_str!("../../../sql/ddl/owners_of.sql");
    let owners = all_rows(query, &[oids(&effects.owner_changed)], |row| {
        Some((row.get::<pg_sys::Oid>(1)?, row.get::<pg_sys::Oid>(2)?, row.get::<bool>(3)?))
    })?;
    for (relation, owner, partitioned) in owners.into_iter().flatten() {
        if partitioned || is_hypertable(relation)? {
            allow_triggers(owner, !partitioned, LockWait::Skip)?;
        }
    }
    Ok(())
}

fn replace_triggers(effects: &DdlEffects) -> SqlResult<()> {
    let tables: Vec<pg_sys::Oid> = effects.attached.iter().chain(&effects.enabled_always).copied().collect();
    if tables.is_empty() {
        return Ok(());
    }
    for outdated in OutdatedTrigger::of(&tables)? {
        // If a table was watched before it became a hypertable, the trigger function raises an error that says what to
        // do. This may be the session of a writer whose insert has created a chunk.
        if !is_hypertable(outdated.relation)? && locked(outdated.relation) {
            outdated.replace()?;
        }
    }
    Ok(())
}

/// Gives new partitions of mirrored tables the trigger that queues deletions before TRUNCATE.
fn cover_leaves(effects: &DdlEffects) -> SqlResult<()> {
    for member in &effects.attached {
        let above = sources_of_ancestors(*member)?.into_iter().filter(|above| above.watched != *member);
        for above in above.filter(AncestorSource::is_mirrored) {
            for leaf in leaves(*member)? {
                if locked(leaf) {
                    create_leaf_trigger(leaf, above.source)?;
                }
            }
        }
    }
    Ok(())
}

/// Locks a table that is to be given a trigger. Returns `false` if that is impossible or the table is gone. A statement
/// that attaches a partition has locked it; but a table that only gets a child may have writers. Waiting for them could
/// cause a deadlock. So a warning says that the table keeps its old triggers, `sources` shows it, and the backfiller
/// replaces them later.
fn locked(relation: pg_sys::Oid) -> bool {
    let is_locked = try_lock(relation, pg_sys::ShareRowExclusiveLock);
    // SAFETY: a catalog lookup inside a transaction.
    let is_there = unsafe { pg_sys::get_rel_relkind(relation) } != 0;
    if !is_locked && is_there {
        xact::note_stale();
        let remedy = match shmem::is_preloaded() {
            true => "They are replaced as soon as nobody writes to the table",
            false => "Call audit_algolia.unwatch() for the table, then audit_algolia.watch() again",
        };
        sql_error(
            PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE,
            format!(
                "could not replace the triggers of table {}, because it is in use",
                qualified_name(relation)
            ),
            format!("{remedy}. Until then, changes made through its parent or children may be captured incorrectly."),
        )
        .warn();
    }
    is_locked && is_there
}
