//! Keeps the plans of the worker's statements right for a queue of any length.
//!
//! A plan is made for the size of a table at that moment, and kept until the table is analyzed again. The queue is
//! usually empty. Then reading all of it looks cheapest, even for a join or an array of ids, which is ruinous once an
//! outage has left millions of rows. So in this process alone the planner is told that the queue is large. Its columns
//! have no statistics either, see `sql/install/10_tables.sql`.

use std::cell::Cell;

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::pg::list::cells;

/// So many rows and pages that a sequential scan is never chosen.
const ROWS: f64 = 10_000_000.0;
const PAGES: u32 = 400_000;

thread_local! {
    static TABLES: Cell<[pg_sys::Oid; 2]> = const { Cell::new([pg_sys::InvalidOid; 2]) };
    static INSTALLED: Cell<bool> = const { Cell::new(false) };
}

static mut PREVIOUS: pg_sys::get_relation_info_hook_type = None;

/// Plans further statements as if these tables were large.
pub(super) fn plan_as_large(tables: [pg_sys::Oid; 2]) {
    TABLES.set(tables);
    if !INSTALLED.replace(true) {
        // SAFETY: the hook is a global variable of this process, and only this thread uses PostgreSQL.
        unsafe {
            PREVIOUS = pg_sys::get_relation_info_hook;
            pg_sys::get_relation_info_hook = Some(on_relation_info);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_relation_info(
    root: *mut pg_sys::PlannerInfo,
    relation: pg_sys::Oid,
    is_parent: bool,
    info: *mut pg_sys::RelOptInfo,
) {
    // SAFETY: the previous hook is called as the server would have called it. The planner passes its own description of
    // the relation, whose indexes are a list of descriptions. It has not used their sizes yet
    // (optimizer/util/plancat.c).
    unsafe {
        if let Some(previous) = PREVIOUS {
            // The previous hook has no pgrx guard and may raise an error.
            pg_sys::ffi::pg_guard_ffi_boundary(|| previous(root, relation, is_parent, info));
        }
        if TABLES.get().contains(&relation) {
            (*info).tuples = ROWS;
            (*info).pages = PAGES;
            for cell in cells((*info).indexlist) {
                let index = cell.ptr_value.cast::<pg_sys::IndexOptInfo>();
                (*index).tuples = ROWS;
                (*index).pages = PAGES;
            }
        }
    }
}
