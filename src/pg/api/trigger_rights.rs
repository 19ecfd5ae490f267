//! The rights that users need to create our triggers.

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::pg::databases::my_database;
use crate::pg::latest_snapshot::first_row;
use crate::pg::own_ddl::run_as_part;
use crate::pg::owner::extension_objects;
use crate::pg::report::{sql_error, SqlResult};

/// What to do if another transaction holds the lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LockWait {
    /// Wait for it.
    Block,
    /// Continue without it.
    Skip,
}

/// The lock for granting rights on the trigger function is taken on this column of the queue. No column has this
/// number.
const GRANTING: u16 = u16::MAX - 1;

/// Grants a user what is needed to create our triggers. When the owner of a partitioned table creates a partition, it
/// gets copies of the triggers, which needs EXECUTE on their function. That right alone is of no use, because capture()
/// checks the trigger that calls it. TimescaleDB names the function in a command to create a chunk, so the owner of a
/// hypertable also needs USAGE on the schema.
///
/// If two sessions granted at once, one of them would fail. So one waits for the other, or warns if it must not wait.
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
            format!("{user} was not granted the right to create partitions of a watched table, because another session is granting it"),
            format!("GRANT EXECUTE ON FUNCTION audit_algolia.capture() TO {user}."),
        )
        .warn();
        return Ok(());
    }
    // Another transaction, for which the lock was waited for, may have granted the same rights.
    let Some((_, lacks_execute, lacks_usage)) = lacking()? else { return Ok(()) };
    if lacks_usage {
        run_as_part(&format!("grant usage on schema audit_algolia to {user}"));
    }
    if lacks_execute {
        run_as_part(&format!("grant execute on function audit_algolia.capture() to {user}"));
    }
    Ok(())
}

/// Locks the rights on the trigger function until the transaction ends. Returns `false` if another transaction holds
/// the lock.
fn lock_rights(policy: LockWait) -> SqlResult<bool> {
    let tag = pg_sys::LOCKTAG {
        locktag_field1: my_database(),
        locktag_field2: pg_sys::RelationRelationId.to_u32(),
        locktag_field3: extension_objects()?.queue.to_u32(),
        locktag_field4: GRANTING,
        locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    };
    // SAFETY: takes a lock on an object as `LockDatabaseObject` does, until the transaction ends. Afterwards, the
    // changes of its last holder are made visible.
    unsafe {
        let lock = pg_sys::ExclusiveLock as i32;
        let acquired = pg_sys::LockAcquire(&raw const tag, lock, false, policy == LockWait::Skip);
        pg_sys::AcceptInvalidationMessages();
        Ok(acquired != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL)
    }
}
