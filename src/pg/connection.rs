//! How a background process connects: as the bootstrap superuser, with settings that neither the server's configuration
//! nor a database nor a role can change.
//!
//! All settings are set before the process connects, as autovacuum does. They take precedence over those of a database
//! or role, which are read during the connection. Settings that do not affect what our processes do stay as the
//! administrator has set them: what is logged, how much memory a query may use, what a page costs, the language of
//! messages. Settings that change the text of a value are pinned where rows are read, in
//! [`super::owner::pin_output_settings`].

use std::ffi::CStr;

use pgrx::pg_sys;

use super::process::report_activity;

/// Settings of all our processes.
const SETTINGS: &[(&CStr, &CStr)] = &[
    // These decide who the process is and what its queries mean.
    (c"role", c"none"),
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"row_security", c"off"),
    (c"session_replication_role", c"origin"),
    (c"restrict_nonsystem_relation_kind", c""),
    (c"standard_conforming_strings", c"on"),
    // Timeouts are meant for sessions. Our processes wait as long as necessary.
    (c"statement_timeout", c"0"),
    (c"lock_timeout", c"0"),
    (c"idle_in_transaction_session_timeout", c"0"),
    (c"transaction_timeout", c"0"),
    // Our transactions write, see what has just been committed, and do not wait until there are no writers.
    (c"default_transaction_isolation", c"read committed"),
    (c"default_transaction_read_only", c"off"),
    (c"default_transaction_deferrable", c"off"),
    // A background process must neither skip damaged pages nor exit because of an error that it handles.
    (c"zero_damaged_pages", c"off"),
    (c"ignore_checksum_failure", c"off"),
    (c"exit_on_error", c"off"),
    // Autovacuum must learn which rows were deleted.
    (c"track_counts", c"on"),
    // Printed plans would contain parameter values.
    (c"debug_print_parse", c"off"),
    (c"debug_print_rewritten", c"off"),
    (c"debug_print_plan", c"off"),
    // Index scans must be possible, and no query of ours is large enough for parallel workers or JIT compilation.
    (c"enable_indexscan", c"on"),
    (c"enable_indexonlyscan", c"on"),
    (c"enable_tidscan", c"on"),
    (c"enable_nestloop", c"on"),
    (c"enable_hashjoin", c"on"),
    (c"enable_mergejoin", c"on"),
    (c"enable_hashagg", c"on"),
    (c"enable_seqscan", c"on"),
    (c"enable_bitmapscan", c"on"),
    (c"enable_sort", c"on"),
    (c"plan_cache_mode", c"auto"),
    (c"max_parallel_workers_per_gather", c"0"),
    (c"jit", c"off"),
];

/// Connects this process to a database, or only to the shared catalogs. `own` are settings of this kind of process; all
/// others follow them.
pub(super) fn connect(database: Option<u32>, own: &[(&CStr, &CStr)]) {
    for (name, value) in SETTINGS.iter().chain(own) {
        set(name, value);
    }
    // SAFETY: called once, at the start of a background worker that requested a database connection. Null names mean
    // only the shared catalogs, and an invalid user means the bootstrap superuser. That is also the authenticated user,
    // so the process may become that user again if the database sets session_authorization, which cannot be set before.
    unsafe {
        match database {
            Some(database) => pg_sys::BackgroundWorkerInitializeConnectionByOid(
                pg_sys::Oid::from(database),
                pg_sys::InvalidOid,
                0,
            ),
            None => pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0),
        }
        pg_sys::SetSessionAuthorization(pg_sys::Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID), true);
    }
    report_activity(false, "");
}

/// Sets a setting of this process for good. Skips a setting that this version of the server does not have.
fn set(name: &CStr, value: &CStr) {
    // SAFETY: C strings. Background workers may set what a superuser may.
    unsafe {
        if pg_sys::GetConfigOption(name.as_ptr(), true, false).is_null() {
            return;
        }
        pg_sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_OVERRIDE,
        )
    };
}
