//! Work done with the rights of the extension's owner, and where the extension's objects are.

use std::cell::Cell;
use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::databases::cached;
use super::report::{sql_error, SqlResult};

/// Where the extension's objects are in the current database.
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
    /// The user has been warned that the objects are not found.
    static IS_MISSED: Cell<bool> = const { Cell::new(false) };
}

/// Forgets where the objects are; they may have been made anew.
pub(super) fn forget_extension_objects() {
    OBJECTS.set(None);
}

/// Has them forgotten when the queue changes.
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
    // Before the look, or a change right after it would go unnoticed for as long as the session lasts.
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
            "the queue of audit_algolia is not there",
            "Create the extension in this database with CREATE EXTENSION audit_algolia, or drop the trigger.",
        ));
    }
    OBJECTS.set(Some(objects));
    Ok(objects)
}

/// A table, index or sequence of the extension; invalid when it is not there.
pub(super) fn table(name: &CStr) -> pg_sys::Oid {
    // SAFETY: look-ups in the catalogs, inside a transaction.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"audit_algolia".as_ptr(), true);
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    }
}

/// The owner of a relation; invalid when there is no such relation. Waits for no lock on it.
fn owner_of(relation: pg_sys::Oid) -> pg_sys::Oid {
    let owner = |row: &pg_sys::FormData_pg_class| row.relowner;
    // SAFETY: inside a transaction; rows of that cache are those of pg_class.
    let owner = unsafe { cached(pg_sys::SysCacheIdentifier::RELOID, relation, owner) };
    owner.unwrap_or(pg_sys::InvalidOid)
}

/// Runs `work` as `user`, with a search_path nobody can plant anything in. An error unwinds through here without
/// undoing anything, for the abort of the (sub)transaction restores user and settings by itself.
pub(super) fn as_user<T>(user: pg_sys::Oid, work: impl FnOnce() -> T) -> T {
    as_role(user, || {
        // SAFETY: the settings' nest level is closed below or by the abort.
        let level = unsafe { pg_sys::NewGUCNestLevel() };
        set_locally(c"search_path", c"pg_catalog, pg_temp");
        let result = work();
        // SAFETY: the counterpart of the above.
        unsafe { pg_sys::AtEOXact_GUC(false, level) };
        result
    })
}

/// Runs `work` with the rights of `user` and no other, as [`as_user`] does, but with the settings as they are.
pub(super) fn as_role<T>(user: pg_sys::Oid, work: impl FnOnce() -> T) -> T {
    let mut caller = pg_sys::InvalidOid;
    let mut context = 0;
    // SAFETY: the pair is saved and set as the server's own security-definer code does.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut caller, &mut context);
        pg_sys::SetUserIdAndSecContext(
            user,
            context | (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as i32,
        );
    }
    let result = work();
    // SAFETY: the counterpart of the above.
    unsafe { pg_sys::SetUserIdAndSecContext(caller, context) };
    result
}

/// Sets a setting until the innermost nest level ends.
pub(super) fn set_locally(name: &CStr, value: &CStr) {
    // SAFETY: the value is a C string.
    unsafe { set_to(name, value.as_ptr()) }
}

/// Gives a setting the value that the session has begun with, until the innermost nest level ends.
fn reset_locally(name: &CStr) {
    // SAFETY: without a value the server takes that of RESET.
    unsafe { set_to(name, std::ptr::null()) }
}

/// # Safety
/// `value` is a C string or null.
unsafe fn set_to(name: &CStr, value: *const std::ffi::c_char) {
    // SAFETY: the caller guarantees this; GUC_ACTION_SAVE ties the value to the nest level the caller has opened.
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

/// Sets the session's preferences for output aside, as a dump does, until the innermost nest level ends: an output
/// text must not depend on who writes. The search_path decides whether names such as a regclass are qualified.
///
/// All of them but one are about form: whatever they are, the text means the same value. `lc_monetary` belongs to the
/// value, for an amount of type money is stored as a number of the currency's least units: which currency, and how many
/// of them make one, only the setting tells. So it is what the database, the server or the role has it set to, whatever
/// the session has set since.
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

/// Where the extension's objects are. Without them nothing can be done, and it is said once per session; but what others
/// do to their tables must not fail for it.
pub(super) fn find_extension_objects() -> Option<ExtensionObjects> {
    // A schema that is renamed does not tell those who have found their objects in it.
    forget_extension_objects();
    let found = extension_objects().ok();
    if found.is_none() && !IS_MISSED.replace(true) {
        sql_error(
            PgSqlErrorCode::ERRCODE_INVALID_SCHEMA_NAME,
            "the schema audit_algolia is not there, and watched tables are not followed",
            "If it was renamed: ALTER SCHEMA … RENAME TO audit_algolia. If the extension is not wanted: DROP EXTENSION audit_algolia.",
        )
        .warn();
    }
    found
}
