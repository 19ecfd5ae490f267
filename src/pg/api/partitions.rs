//! The functions of the event triggers: they keep the triggers of watched tables right after DDL.
//!
//! A statement-level trigger no longer sees all changes of a table that becomes a partition, joins an inheritance tree,
//! or is filled by a subscription (which fires row-level triggers only). Such a table gets row-level triggers. Besides,
//! new owners get the rights they need, and watched tables that were dropped are forgotten.

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::arrivals::note_arrivals;
use super::departures::{after_detach, warn_of_unannounced};
use super::outdated_triggers::OutdatedTrigger;
use super::triggers::{allow_triggers, create_leaf_trigger, LockWait};
use crate::pg::backfill::qualified_name;
use crate::pg::ddl::{self, DdlEffects};
use crate::pg::hypertables::is_hypertable;
use crate::pg::latest_snapshot::{all_rows, oids, write};
use crate::pg::locks::try_lock;
use crate::pg::owner::{as_user, find_extension_objects};
use crate::pg::partitions::{leaves, sources_of_ancestors, AncestorSource};
use crate::pg::report::{reported, sql_error, SqlResult};
use crate::pg::{shmem, xact};

/// The event trigger's function, called after each statement that can make it necessary. It runs with the rights of whoever
/// has executed that, until something of ours is to be looked at.
#[pg_extern(sql = false)]
fn follow_partitions(call: pg_sys::FunctionCallInfo) -> Result<(), ErrorReport> {
    // SAFETY: the function manager's own argument; the statement is the one that is being executed.
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
        note_arrivals(&effects)?;
        renew_rights(&effects)
    })?;
    after_detach(&effects, objects.owner)
}

/// The event trigger's function, called after each statement that has dropped something.
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
        warn_of_unannounced()
    })
}

/// Gives new owners the rights that the old ones were given by watch().
fn renew_rights(effects: &DdlEffects) -> SqlResult<()> {
    if effects.given.is_empty() {
        return Ok(());
    }
    let query = include_str!("../../../sql/ddl/owners_of.sql");
    let owners = all_rows(query, &[oids(&effects.given)], |row| {
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
    let tables: Vec<pg_sys::Oid> = effects.came.iter().chain(&effects.always).copied().collect();
    if tables.is_empty() {
        return Ok(());
    }
    for outdated in OutdatedTrigger::of(&tables)? {
        // Of one that was watched before it became a hypertable, capture() tells what to do: this may be a writer's session,
        // whose insertion has made a chunk.
        if !is_hypertable(outdated.relation)? && locked(outdated.relation) {
            outdated.replace()?;
        }
    }
    Ok(())
}

/// New partitions of mirrored tables have to tell of their rows before they are emptied.
fn cover_leaves(effects: &DdlEffects) -> SqlResult<()> {
    for member in &effects.came {
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

/// Locks a table that is to be given a trigger; `false`: it cannot be, or is gone. A partition that has come is locked by the
/// statement that has made it one; but others may write to a table that only gets a child. They are not waited for, since
/// they may be waiting for what the statement has locked; then it is said that the table lacks a trigger, `sources` shows it,
/// and it is left to the process that makes repairs.
fn locked(relation: pg_sys::Oid) -> bool {
    let is_locked = try_lock(relation, pg_sys::ShareRowExclusiveLock);
    // SAFETY: a look-up in the catalogs, inside a transaction.
    let is_there = unsafe { pg_sys::get_rel_relkind(relation) } != 0;
    if !is_locked && is_there {
        xact::note_stale();
        let remedy = match shmem::is_preloaded() {
            true => "They are replaced as soon as nobody writes to it",
            false => "Call audit_algolia.unwatch() for it, then audit_algolia.watch() again",
        };
        sql_error(
            PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE,
            format!(
                "table {} is in use and keeps triggers that do not fit its place among other tables",
                qualified_name(relation)
            ),
            format!("{remedy}: until then changes made through its parent or children are captured wrongly."),
        )
        .warn();
    }
    is_locked && is_there
}
