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

/// As many rows and pages as make reading all of them out of the question.
const ROWS: f64 = 10_000_000.0;
const PAGES: u32 = 400_000;

thread_local! {
    static TABLES: Cell<[pg_sys::Oid; 2]> = const { Cell::new([pg_sys::InvalidOid; 2]) };
    static INSTALLED: Cell<bool> = const { Cell::new(false) };
}

static mut PREVIOUS: pg_sys::get_relation_info_hook_type = None;

/// Has statements planned from now on as if these tables were large.
pub(super) fn plan_as_large(tables: [pg_sys::Oid; 2]) {
    TABLES.set(tables);
    if !INSTALLED.replace(true) {
        // SAFETY: a hook is a plain global of this process, which has a single thread that touches PostgreSQL.
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
    // SAFETY: the hook before ours is called as the server would have called it. The planner passes its own description of
    // the relation, whose indexes are a list of descriptions, and has worked nothing out from their sizes yet
    // (optimizer/util/plancat.c).
    unsafe {
        if let Some(previous) = PREVIOUS {
            // It is not behind pgrx's guard, and may raise an error.
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
