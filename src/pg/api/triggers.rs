//! The triggers of watched tables: one per operation of a source, at row or statement level.

use std::ffi::{CStr, CString};

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::Table;
use crate::pg::backfill::qualified_name;
use crate::pg::capture::PARTITION_ARGUMENT;
use crate::pg::databases::my_database;
use crate::pg::latest_snapshot::{first_row, oids};
use crate::pg::owner::extension_objects;
use crate::pg::partitions;
use crate::pg::report::{explained, sql_error, SqlResult};
use crate::pg::utility::{run_as_part, Caller};
use crate::record::Operation;
use crate::rules::Mode;

/// The name of a source's trigger; the view `sources` looks for it, too.
fn trigger_name(id: i32, operation: Operation) -> String {
    format!("audit_algolia_{id}_{}", operation.word())
}

/// Runs DDL for a relation, whose name at this moment it is given, and looks whether it has put a trigger there, or taken
/// it away. A lock on a table keeps its name, and not that of its schema. What somebody has asked for by one of our
/// functions is their statement; anything else is a part of what they are doing, and is done with the rights of the
/// extension's owner.
pub(super) fn run_on(
    by: Option<&Caller>,
    relation: pg_sys::Oid,
    trigger: &str,
    is_there: bool,
    ddl: impl FnOnce(&str) -> String,
) -> SqlResult<()> {
    let name = qualified_name(relation);
    match by {
        Some(caller) => caller.run(&ddl(&name))?,
        None => run_as_owner(&name, &ddl(&name))?,
    }
    let trigger = CString::new(trigger).unwrap_or_default();
    // SAFETY: a look into the catalog for a trigger, inside a transaction.
    let found = unsafe { pg_sys::get_trigger_oid(relation, trigger.as_ptr(), true) };
    if (found != pg_sys::InvalidOid) == is_there {
        return Ok(());
    }
    Err(sql_error(
        PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
        format!("the schema of table {name} was renamed meanwhile"),
        "Run the statement again.",
    ))
}

/// Runs a part of a statement. An owner who has lost their rights is told so, for whoever reads the error did not see
/// them act.
fn run_as_owner(table: &str, statement: &str) -> SqlResult<()> {
    // SAFETY: look-ups in the catalogs of who acts, whose name is a C string.
    let (is_able, owner) = unsafe {
        let user = pg_sys::GetUserId();
        let name = CStr::from_ptr(pg_sys::GetUserNameFromId(user, false)).to_string_lossy().into_owned();
        (pg_sys::superuser(), spi::quote_identifier(name))
    };
    if is_able {
        run_as_part(statement);
        return Ok(());
    }
    explained(
        || {
            run_as_part(statement);
            Ok(())
        },
        &format!(
            "role {owner}, which owns extension audit_algolia and is no superuser any more, cannot change the triggers of table {table}"
        ),
        &format!("ALTER ROLE {owner} SUPERUSER; or GRANT TRIGGER ON {table}, and on its partitions, TO {owner}, which is enough to put triggers there."),
    )
}

/// Puts a trigger on a table. At statement level it sees all rows at once, which is quicker for
/// many; the rows come in transition tables, which a trigger can have for one operation only. To mirror a table takes
/// triggers that can look whether what they are told of a row is still so: those for rows; and for TRUNCATE one that
/// comes before it, when the rows are still there.
pub(super) fn create_trigger(
    by: Option<&Caller>,
    table: pg_sys::Oid,
    id: i32,
    mode: Mode,
    operation: Operation,
    for_rows: bool,
) -> SqlResult<()> {
    let time = if mode == Mode::Mirror && operation == Operation::Truncate { "before" } else { "after" };
    let level = match operation {
        Operation::Truncate => "for each statement",
        _ if for_rows || mode == Mode::Mirror => "for each row",
        Operation::Insert => "referencing new table as audit_algolia_new for each statement",
        Operation::Update => {
            "referencing old table as audit_algolia_old new table as audit_algolia_new for each statement"
        }
        Operation::Delete => "referencing old table as audit_algolia_old for each statement",
    };
    let (trigger, word) = (trigger_name(id, operation), operation.word());
    run_on(by, table, &trigger, true, |table| {
        format!(
            "create or replace trigger {trigger} {time} {word} on {table} {level} execute function audit_algolia.capture('{id}')"
        )
    })
}

/// Has a partition of a mirrored table tell of its rows before it is emptied. The second argument says that the trigger
/// may outlive the watch over its table, or its table's being a partition.
pub(super) fn create_leaf_trigger(leaf: pg_sys::Oid, id: i32) -> SqlResult<()> {
    let trigger = trigger_name(id, Operation::Truncate);
    run_on(None, leaf, &trigger, true, |leaf| {
        format!(
            "create or replace trigger {trigger} before truncate on {leaf} for each statement execute function audit_algolia.capture('{id}', '{PARTITION_ARGUMENT}')"
        )
    })
}

/// The partitions of a table that have rows of their own.
fn leaves(table: &Table) -> SqlResult<Vec<pg_sys::Oid>> {
    let leaves = partitions::leaves(table.oid)?;
    Ok(leaves.into_iter().filter(|leaf| *leaf != table.oid).collect())
}

/// Takes the triggers of a source off the partitions of its table.
pub(super) fn drop_leaf_triggers(table: &Table, id: i32) -> SqlResult<()> {
    for leaf in leaves(table)? {
        drop_trigger(None, leaf, id, Operation::Truncate)?;
    }
    Ok(())
}

pub(super) fn drop_trigger(
    by: Option<&Caller>,
    table: pg_sys::Oid,
    id: i32,
    operation: Operation,
) -> SqlResult<()> {
    let trigger = trigger_name(id, operation);
    run_on(by, table, &trigger, false, |table| format!("drop trigger if exists {trigger} on {table}"))
}

/// Gives a trigger the state that `pg_trigger.tgenabled` has for it.
pub(super) fn enable_trigger(
    table: pg_sys::Oid,
    id: i32,
    operation: Operation,
    state: &str,
) -> SqlResult<()> {
    let how = match state {
        "D" => "disable",
        "A" => "enable always",
        "R" => "enable replica",
        _ => return Ok(()),
    };
    let trigger = trigger_name(id, operation);
    run_on(None, table, &trigger, true, |table| format!("alter table {table} {how} trigger {trigger}"))
}

/// What to do about a lock that somebody else has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LockWait {
    /// Wait for it.
    Block,
    /// Go on without it.
    Skip,
}

/// Which part of the queue is locked by whoever grants a right to call the trigger function. No column has this number.
const GRANTING: u16 = u16::MAX - 1;

/// Lets a user put triggers of ours on a table, as the owner of a partitioned table has to for each partition: it gets a copy
/// of the triggers, which takes the right to call their function. By itself that right is good for nothing: capture() looks
/// whose trigger it is called by. To make a chunk, TimescaleDB names the function in a command, and so the owner has to see the
/// schema.
///
/// Two sessions that grant at once would fail, so one waits for the other, or says so where it must not wait.
pub(super) fn allow_triggers(user: pg_sys::Oid, of_hypertable: bool, policy: LockWait) -> SqlResult<()> {
    let arguments = [(pg_sys::OIDOID, user.into()), (pg_sys::BOOLOID, of_hypertable.into())];
    let lacking = || {
        first_row(include_str!("../../../sql/api/lacks_rights.sql"), &arguments, |row| {
            Ok((row.get::<String>(1).unwrap_or_default(), row.get(2) == Some(true), row.get(3) == Some(true)))
        })
    };
    let Some((user, ..)) = lacking()? else { return Ok(()) };
    let user = spi::quote_identifier(user);
    if !lock_rights(policy)? {
        sql_error(
            PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE,
            format!("{user} has not been allowed to make partitions of a watched table: others are being allowed at this moment"),
            format!("GRANT EXECUTE ON FUNCTION audit_algolia.capture() TO {user}"),
        )
        .warn();
        return Ok(());
    }
    // Whoever has been waited for may have granted the same.
    let Some((_, lacks_execute, lacks_usage)) = lacking()? else { return Ok(()) };
    if lacks_usage {
        run_as_part(&format!("grant usage on schema audit_algolia to {user}"));
    }
    if lacks_execute {
        run_as_part(&format!("grant execute on function audit_algolia.capture() to {user}"));
    }
    Ok(())
}

/// Has the rights of the trigger function to itself until the transaction ends; `false`: somebody else has.
fn lock_rights(policy: LockWait) -> SqlResult<bool> {
    let tag = pg_sys::LOCKTAG {
        locktag_field1: my_database(),
        locktag_field2: pg_sys::RelationRelationId.to_u32(),
        locktag_field3: extension_objects()?.queue.to_u32(),
        locktag_field4: GRANTING,
        locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    };
    // SAFETY: a lock on an object, as `LockDatabaseObject` takes it, that ends with the transaction. What its last holder has
    // done is looked at afterwards.
    unsafe {
        let lock = pg_sys::ExclusiveLock as i32;
        let acquired = pg_sys::LockAcquire(&raw const tag, lock, false, policy == LockWait::Skip);
        pg_sys::AcceptInvalidationMessages();
        Ok(acquired != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL)
    }
}

impl Table {
    /// Puts the triggers of a source on the table.
    pub(super) fn create_triggers(
        &self,
        caller: &Caller,
        id: i32,
        mode: Mode,
        operations: &[Operation],
    ) -> SqlResult<()> {
        self.allow_partitions()?;
        allow_triggers(caller.user, false, LockWait::Block)?;
        // The server puts triggers for rows on partitions, too, which somebody else may own.
        let by = self.may_put_triggers(caller.user)?.then_some(caller);
        for operation in operations {
            create_trigger(by, self.oid, id, mode, *operation, self.needs_row_trigger(*operation))?;
        }
        if mode == Mode::Mirror {
            for leaf in leaves(self)? {
                create_leaf_trigger(leaf, id)?;
            }
        }
        self.warn_of_moves(operations);
        self.warn_of_subscription(id, operations)
    }

    /// Whether a user may put triggers on the table and all its partitions.
    fn may_put_triggers(&self, user: pg_sys::Oid) -> SqlResult<bool> {
        let tables: Vec<pg_sys::Oid> =
            partitions::partitions(self.oid)?.into_iter().chain([self.oid]).collect();
        let arguments = [(pg_sys::OIDOID, user.into()), oids(&tables)];
        let query = include_str!("../../../sql/api/may_put_triggers.sql");
        Ok(first_row(query, &arguments, |row| Ok(row.get(1)))?.flatten().unwrap_or_default())
    }

    /// What a subscription applies fires only triggers that are told so. We do not tell them by ourselves: the table may
    /// be watched on the publisher.
    fn warn_of_subscription(&self, id: i32, operations: &[Operation]) -> SqlResult<()> {
        let members: Vec<pg_sys::Oid> =
            partitions::members(self.oid)?.iter().map(|member| member.oid).collect();
        let query = include_str!("../../../sql/api/is_subscribed.sql");
        let is_subscribed = first_row(query, &[oids(&members)], |row| Ok(row.get(1)))?;
        if is_subscribed.flatten().unwrap_or_default() {
            let always: Vec<String> = operations
                .iter()
                .map(|operation| format!("ENABLE ALWAYS TRIGGER {}", trigger_name(id, *operation)))
                .collect();
            sql_error(
                PgSqlErrorCode::ERRCODE_WARNING,
                format!("what a subscription applies to table {} is not captured", self.name),
                format!("To have it captured: ALTER TABLE {} {}", self.name, always.join(", ")),
            )
            .warn();
        }
        Ok(())
    }

    /// An update that moves a row from one partition to another fires their triggers for deletion and insertion.
    fn warn_of_moves(&self, operations: &[Operation]) {
        let has = |operation| operations.contains(&operation);
        if self.kind == "p" && has(Operation::Update) && !(has(Operation::Insert) && has(Operation::Delete)) {
            sql_error(
                PgSqlErrorCode::ERRCODE_WARNING,
                format!(
                    "updates that move rows between partitions of table {} are not captured as such",
                    self.name
                ),
                "They are a deletion and an insertion each: add insert and delete to operations.",
            )
            .warn();
        }
    }

    /// Whether rows can be changed past a statement-level trigger on the table. Such a trigger sees what is done to the
    /// table a statement names; rows come into a partition through its root as well, and out of an inheritance child
    /// through its parent. Besides, a parent's would see its children's rows, too, which are watched on their own.
    fn needs_row_trigger(&self, operation: Operation) -> bool {
        self.kind == "p"
            || self.is_partition
            || self.is_hypertable
            || (operation != Operation::Insert && self.is_related)
    }

    fn allow_partitions(&self) -> SqlResult<()> {
        if self.is_hypertable || self.kind == "p" {
            allow_triggers(self.owner, self.is_hypertable, LockWait::Block)?;
        }
        Ok(())
    }
}
