//! The triggers of watched tables: one per operation of a source, at row or statement level.

use std::ffi::{CStr, CString};

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::trigger_rights::{allow_triggers, LockWait};
use super::Table;
use crate::pg::backfill::qualified_name;
use crate::pg::capture::PARTITION_ARGUMENT;
use crate::pg::latest_snapshot::{first_row, oids};
use crate::pg::own_ddl::{run_as_part, Caller};
use crate::pg::partitions;
use crate::pg::report::{explained, sql_error, SqlResult};
use crate::record::Operation;
use crate::rules::Mode;

/// The name of a source's trigger. The view `sources` looks for it too.
fn trigger_name(id: i32, operation: Operation) -> String {
    format!("audit_algolia_{id}_{}", operation.word())
}

/// Runs DDL for a relation under its current name, and checks that it has created or dropped the trigger there. A lock
/// on a table fixes its name, but not that of its schema. With `by`, the DDL is the caller's own statement, because
/// they have called a function of this extension for it. Without, it is part of another statement and runs with the
/// rights of the extension's owner.
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
    // SAFETY: a catalog lookup inside a transaction.
    let found = unsafe { pg_sys::get_trigger_oid(relation, trigger.as_ptr(), true) };
    if (found != pg_sys::InvalidOid) == is_there {
        return Ok(());
    }
    Err(sql_error(
        PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
        format!("the schema of table {name} was renamed concurrently"),
        "Run the statement again.",
    ))
}

/// Runs part of a statement as the extension's owner. If the owner is no longer a superuser, the error says so, because
/// the user who reads it does not know that the owner has acted.
fn run_as_owner(table: &str, statement: &str) -> SqlResult<()> {
    // SAFETY: catalog lookups for the current user, whose name is a C string.
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
            "role {owner}, which owns extension audit_algolia but is no longer a superuser, cannot change the triggers of table {table}"
        ),
        &format!("ALTER ROLE {owner} SUPERUSER. To create triggers, GRANT TRIGGER ON {table} and on its partitions TO {owner} is enough."),
    )
}

/// Creates a trigger on a table. A statement trigger sees all rows at once, which is faster. The rows come in
/// transition tables, for which PostgreSQL allows one operation per trigger. Mirror mode needs row triggers, which can
/// check whether a row is still as they are told, and for TRUNCATE a trigger that runs before it, while the rows still
/// exist.
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

/// Creates the trigger that queues the deletions of a partition's rows before TRUNCATE. Its second argument says that
/// it may still be there when the table is no longer watched, or no longer a partition.
pub(super) fn create_leaf_trigger(leaf: pg_sys::Oid, id: i32) -> SqlResult<()> {
    let trigger = trigger_name(id, Operation::Truncate);
    run_on(None, leaf, &trigger, true, |leaf| {
        format!(
            "create or replace trigger {trigger} before truncate on {leaf} for each statement execute function audit_algolia.capture('{id}', '{PARTITION_ARGUMENT}')"
        )
    })
}

/// The partitions of a table that store rows.
fn leaves(table: &Table) -> SqlResult<Vec<pg_sys::Oid>> {
    let leaves = partitions::leaves(table.oid)?;
    Ok(leaves.into_iter().filter(|leaf| *leaf != table.oid).collect())
}

/// Drops the triggers of a source from the partitions of its table.
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

/// Gives a trigger a state as in `pg_trigger.tgenabled`.
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

impl Table {
    /// Creates the triggers of a source on the table.
    pub(super) fn create_triggers(
        &self,
        caller: &Caller,
        id: i32,
        mode: Mode,
        operations: &[Operation],
    ) -> SqlResult<()> {
        self.allow_partitions()?;
        allow_triggers(caller.user, false, LockWait::Block)?;
        // PostgreSQL copies row triggers to partitions, which may belong to other owners.
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

    /// Whether a user may create triggers on the table and on all its partitions.
    fn may_put_triggers(&self, user: pg_sys::Oid) -> SqlResult<bool> {
        let tables: Vec<pg_sys::Oid> =
            partitions::partitions(self.oid)?.into_iter().chain([self.oid]).collect();
        let arguments = [(pg_sys::OIDOID, user.into()), oids(&tables)];
        let query = include_str!("../../../sql/api/may_put_triggers.sql");
        Ok(first_row(query, &arguments, |row| Ok(row.get(1)))?.flatten().unwrap_or_default())
    }

    /// Changes applied by a subscription fire only triggers that are enabled for it. This is not done automatically,
    /// because the table may already be watched on the publisher.
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
                format!("changes that a subscription applies to table {} are not captured", self.name),
                format!("To capture them: ALTER TABLE {} {}.", self.name, always.join(", ")),
            )
            .warn();
        }
        Ok(())
    }

    /// An update that moves a row to another partition fires the partitions' delete and insert triggers.
    fn warn_of_moves(&self, operations: &[Operation]) {
        let has = |operation| operations.contains(&operation);
        if self.kind == "p" && has(Operation::Update) && !(has(Operation::Insert) && has(Operation::Delete)) {
            sql_error(
                PgSqlErrorCode::ERRCODE_WARNING,
                format!(
                    "updates that move rows between partitions of table {} are not captured as such",
                    self.name
                ),
                "Each of them is a delete and an insert. Add insert and delete to operations.",
            )
            .warn();
        }
    }

    /// Whether a statement trigger on the table would miss changes to its rows. It sees only statements that name its
    /// table, but rows can also be inserted into a partition through its root, and removed from an inheritance child
    /// through its parent. Besides, a parent's statement trigger would also see the rows of its children, which are
    /// watched separately.
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
