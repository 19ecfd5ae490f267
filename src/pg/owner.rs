//! Work done with the rights of the extension's owner, and where the extension's objects are.

use std::cell::Cell;
use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::databases::cached;
use super::report::{sql_error, SqlResult};

/// The oids of the extension's objects in the current database.
#[derive(Clone, Copy)]
pub(super) struct ExtensionObjects {
    pub(super) queue: pg_sys::Oid,
    pub(super) queue_pkey: pg_sys::Oid,
    pub(super) queue_object: pg_sys::Oid,
    pub(super) block_sequence: pg_sys::Oid,
    pub(super) owner: pg_sys::Oid,
}

thread_local! {
    static OBJECTS: Cell<Option<ExtensionObjects>> = const { Cell::new(None) };
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    /// The user has been warned that the objects do not exist.
    static IS_MISSED: Cell<bool> = const { Cell::new(false) };
}

/// Forgets the objects, because they may have been recreated.
pub(super) fn forget_extension_objects() {
    OBJECTS.set(None);
}

/// Has the objects forgotten when the queue changes.
fn watch_extension_objects() {
    if !WATCHED.replace(true) {
        // SAFETY: the callback is a guarded function that lives as long as the library, which is never unloaded.
        unsafe {
            pg_sys::CacheRegisterRelcacheCallback(Some(on_relation_change), pg_sys::Datum::from(0usize));
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_relation_change(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    if relation == pg_sys::InvalidOid || OBJECTS.get().is_some_and(|objects| objects.queue == relation) {
        forget_extension_objects();
    }
}

/// Finds the extension's objects.
pub(super) fn extension_objects() -> SqlResult<ExtensionObjects> {
    if let Some(objects) = OBJECTS.get() {
        return Ok(objects);
    }
    // Registered before the look-up. Otherwise a change right after it would go unnoticed for the rest of the session.
    watch_extension_objects();
    let queue = table(c"queue");
    let objects = ExtensionObjects {
        queue,
        queue_pkey: table(c"queue_pkey"),
        queue_object: table(c"queue_object"),
        block_sequence: table(c"queue_block"),
        owner: owner_of(queue),
    };
    if [objects.queue, objects.queue_pkey, objects.block_sequence, objects.owner]
        .contains(&pg_sys::InvalidOid)
    {
        return Err(sql_error(
            PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
            "the queue of audit_algolia does not exist",
            "Create the extension in this database with CREATE EXTENSION audit_algolia, or drop the trigger.",
        ));
    }
    OBJECTS.set(Some(objects));
    Ok(objects)
}

/// A table, index or sequence of the extension; invalid if it does not exist.
pub(super) fn table(name: &CStr) -> pg_sys::Oid {
    // SAFETY: look-ups in the catalogs, inside a transaction.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"audit_algolia".as_ptr(), true);
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    }
}

/// The owner of a relation; invalid if it does not exist. Does not wait for a lock.
fn owner_of(relation: pg_sys::Oid) -> pg_sys::Oid {
    let owner = |row: &pg_sys::FormData_pg_class| row.relowner;
    // SAFETY: inside a transaction. The rows of that cache are those of pg_class.
    let owner = unsafe { cached(pg_sys::SysCacheIdentifier::RELOID, relation, owner) };
    owner.unwrap_or(pg_sys::InvalidOid)
}

/// Runs `work` as `user`, with a search_path into which nobody can plant objects. An error unwinds through this without
/// cleanup, because the abort of the (sub)transaction restores user and settings.
pub(super) fn as_user<T>(user: pg_sys::Oid, work: impl FnOnce() -> T) -> T {
    as_role(user, || {
        // SAFETY: the nest level is closed below or by the abort.
        let level = unsafe { pg_sys::NewGUCNestLevel() };
        set_locally(c"search_path", c"pg_catalog, pg_temp");
        let result = work();
        // SAFETY: closes the nest level opened above.
        unsafe { pg_sys::AtEOXact_GUC(false, level) };
        result
    })
}

/// Runs `work` as `user` like [`as_user`], but with the current settings.
pub(super) fn as_role<T>(user: pg_sys::Oid, work: impl FnOnce() -> T) -> T {
    let mut caller = pg_sys::InvalidOid;
    let mut context = 0;
    // SAFETY: user and context are saved and set as in the server's own security-definer code.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut caller, &mut context);
        pg_sys::SetUserIdAndSecContext(
            user,
            context | (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as i32,
        );
    }
    let result = work();
    // SAFETY: restores what was saved above.
    unsafe { pg_sys::SetUserIdAndSecContext(caller, context) };
    result
}

/// Sets a setting until the innermost nest level ends.
pub(super) fn set_locally(name: &CStr, value: &CStr) {
    // SAFETY: the value is a C string.
    unsafe { set_to(name, value.as_ptr()) }
}

/// Resets a setting to its value at the start of the session, until the innermost nest level ends.
fn reset_locally(name: &CStr) {
    // SAFETY: without a value the server resets the setting.
    unsafe { set_to(name, std::ptr::null()) }
}

/// # Safety
/// `value` is a C string or null.
unsafe fn set_to(name: &CStr, value: *const std::ffi::c_char) {
    // SAFETY: the caller guarantees this. GUC_ACTION_SAVE ties the value to the nest level that the caller has opened.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value,
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
    }
}

/// Pins the settings that affect output, as pg_dump does, until the innermost nest level ends: an output text must not
/// depend on the writer. The search_path decides whether names such as a regclass are qualified.
///
/// All but one of these settings concern form only: whatever they are, the text means the same value. The exception is
/// `lc_monetary`: an amount of type money is stored as a number of the smallest currency unit, and only this setting
/// says which currency that is and how many units it has. So it gets the value that database, server or role define,
/// whatever the session has set.
pub(super) fn pin_output_settings() {
    set_locally(c"search_path", c"pg_catalog, pg_temp");
    set_locally(c"quote_all_identifiers", c"off");
    set_locally(c"datestyle", c"ISO, YMD");
    set_locally(c"intervalstyle", c"postgres");
    set_locally(c"timezone", c"UTC");
    set_locally(c"bytea_output", c"hex");
    reset_locally(c"lc_monetary");
    set_locally(c"extra_float_digits", c"1");
}

/// The extension's objects. If they do not exist, nothing can be done, and a warning says so once per session; it must
/// not fail other people's DDL.
pub(super) fn find_extension_objects() -> Option<ExtensionObjects> {
    // Renaming the schema invalidates nothing in sessions that have found objects in it.
    forget_extension_objects();
    let found = extension_objects().ok();
    if found.is_none() && !IS_MISSED.replace(true) {
        sql_error(
            PgSqlErrorCode::ERRCODE_INVALID_SCHEMA_NAME,
            "schema \"audit_algolia\" does not exist, so changes of watched tables' definitions are not followed",
            "If it was renamed, run ALTER SCHEMA … RENAME TO audit_algolia. If the extension is not wanted, run DROP EXTENSION audit_algolia.",
        )
        .warn();
    }
    found
}
