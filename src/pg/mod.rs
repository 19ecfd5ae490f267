//! The shell: everything that uses PostgreSQL. Nothing outside this module names pgrx.

mod alerts;
mod api;
mod backfill;
mod capture;
mod clock;
mod condition;
mod connection;
mod counter;
mod databases;
mod ddl;
mod descriptor;
mod encoding;
mod error_context;
mod failpoint;
mod guc;

mod flight_recorder;
mod hooks;
mod hypertables;
mod latest_snapshot;
mod launcher;
mod list;
mod locks;
mod own_ddl;
mod owner;
mod partitions;
mod pending_changes;
mod process;
mod report;
mod restores;
mod rules;
mod session_holds;
mod shmem;
mod shortage;
mod subtransaction;
mod text_datum;
mod version;
mod wait_set;
mod worker;
mod xact;

use pgrx::pg_sys;
use pgrx::prelude::*;

pgrx::pg_module_magic!();

pgrx::extension_sql_file!("../../sql/install/00_guard.sql", name = "guard", bootstrap);
pgrx::extension_sql_file!("../../sql/install/10_tables.sql", name = "tables", requires = ["guard"]);
pgrx::extension_sql_file!("../../sql/install/20_functions.sql", name = "functions", requires = ["tables"]);
pgrx::extension_sql_file!("../../sql/install/30_views.sql", name = "views", requires = ["functions"]);
pgrx::extension_sql_file!("../../sql/install/40_grants.sql", name = "grants", requires = ["views"], finalize);

/// PostgreSQL calls this when the library is loaded: in the postmaster if it is preloaded, otherwise in each session
/// that uses it.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    guc::define();
    // SAFETY: reads global variables that are set before libraries are loaded.
    let (preloading, upgrading) =
        unsafe { (pg_sys::process_shared_preload_libraries_in_progress, pg_sys::IsBinaryUpgrade) };
    if preloading {
        shmem::request();
        flight_recorder::request();
        hooks::install();
        // pg_upgrade starts both servers for its own purposes. Nothing is delivered then.
        if !upgrading {
            launcher::register();
        }
    }
}
