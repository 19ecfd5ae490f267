//! Filters: conditions over a row's columns that decide whether a change of it is queued.
//!
//! A filter is stored as text in which every name outside `pg_catalog` is qualified. So it means the same to everybody
//! under the pinned search_path, and in a restored dump. It is parsed, planned and evaluated as the owner of the
//! watched table, so it gets no rights from the extension's owner or from a writer.

mod parse;

use std::ffi::{CStr, CString};
use std::rc::Rc;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::encoding::{is_utf8, utf8};
use super::list::cells;
use super::owner::{as_role, as_user, pin_output_settings, set_locally};
use super::report::{explained, redacted, sql_error, SqlError, SqlResult};
use parse::{parse, Planned};

/// A planned condition over the columns of one relation.
pub(super) struct Filter {
    expression: *mut pg_sys::Expr,
    owner: pg_sys::Oid,
    /// Its result may depend on the session's settings, which have to be set aside.
    pub(super) depends_on_settings: bool,
    context: pg_sys::MemoryContext,
    /// Whose rows it looks at.
    table: Rc<str>,
}

impl Drop for Filter {
    fn drop(&mut self) {
        // SAFETY: the context was made for the expression, which goes with the filter.
        unsafe { pg_sys::MemoryContextDelete(self.context) };
    }
}

/// A filter made ready for the rows of one statement.
pub(super) struct Evaluation {
    state: *mut pg_sys::ExprState,
    econtext: *mut pg_sys::ExprContext,
    owner: pg_sys::Oid,
    table: Rc<str>,
}

impl Filter {
    /// Compiles a stored filter for the columns of `relation`, which may be a partition of the watched table. `place`
    /// tells where the rows to be looked at have the column at a place of the relation.
    ///
    /// # Safety
    /// `relation` is open and locked.
    pub(super) unsafe fn compile(
        text: &str,
        relation: pg_sys::Relation,
        owner: pg_sys::Oid,
        place: impl Fn(usize) -> Option<usize>,
    ) -> SqlResult<Filter> {
        // SAFETY: the relation's name is a C string.
        let table = unsafe { CStr::from_ptr((*(*relation).rd_rel).relname.data.as_ptr()) }.to_string_lossy();
        as_user(owner, || {
            pin_literal_settings();
            explained(
                || {
                    // SAFETY: the caller guarantees this.
                    let condition = unsafe { parse(text, relation) }?;
                    // SAFETY: as above; the condition was made a moment ago.
                    let planned = unsafe { Planned::of(condition, relation, &place) }?;
                    Ok(Filter::keep(&planned, owner, &table))
                },
                &format!("the filter of watched table \"{table}\" does not fit it any more"),
                "Call audit_algolia.unwatch() and then audit_algolia.watch() with a filter over the table's present columns.",
            )
        })
    }

    /// Copies a plan to where it lives as long as the filter does.
    fn keep(planned: &Planned, owner: pg_sys::Oid, table: &str) -> Filter {
        // SAFETY: a context of our own below the one that lasts as long as the process; its name is a constant, as it
        // has to be. The expression is a node tree.
        unsafe {
            let context = pg_sys::AllocSetContextCreateExtended(
                pg_sys::TopMemoryContext,
                c"audit_algolia filter".as_ptr(),
                pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
                pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
                pg_sys::ALLOCSET_SMALL_MAXSIZE as usize,
            );
            let before = pg_sys::MemoryContextSwitchTo(context);
            let expression = pg_sys::copyObjectImpl(planned.expression.cast_const().cast()).cast();
            pg_sys::MemoryContextSwitchTo(before);
            let depends_on_settings = planned.depends_on_settings;
            Filter { expression, owner, depends_on_settings, context, table: table.into() }
        }
    }

    /// Makes it ready for rows in slots. Lives in the current memory context.
    pub(super) fn prepare(&self) -> Evaluation {
        // SAFETY: the expression is planned, and lives as long as we do; the owner's right to call its functions is
        // looked at here.
        as_role(self.owner, || unsafe {
            Evaluation {
                state: pg_sys::ExecInitExpr(self.expression, std::ptr::null_mut()),
                econtext: pg_sys::CreateStandaloneExprContext(),
                owner: self.owner,
                table: self.table.clone(),
            }
        })
    }
}

impl Evaluation {
    /// Whether the condition is true of a row.
    ///
    /// # Safety
    /// The slot holds a row of the relation the filter was compiled for.
    pub(super) unsafe fn accepts(&self, slot: *mut pg_sys::TupleTableSlot) -> bool {
        // SAFETY: this is ExecEvalExprSwitchContext, an inline function of the server's; what the functions allocate
        // is in the context for one row, which is reset below.
        as_role(self.owner, || unsafe {
            let Some(evaluate) = (*self.state).evalfunc else {
                return false;
            };
            (*self.econtext).ecxt_scantuple = slot;
            let (state, econtext, mut is_null) = (self.state, self.econtext, false);
            let result = redacted(
                || {
                    let before = pg_sys::MemoryContextSwitchTo((*econtext).ecxt_per_tuple_memory);
                    let result =
                        pg_sys::ffi::pg_guard_ffi_boundary(|| evaluate(state, econtext, &mut is_null));
                    pg_sys::MemoryContextSwitchTo(before);
                    result
                },
                |kind| self.failed(kind),
            );
            pg_sys::MemoryContextReset((*econtext).ecxt_per_tuple_memory);
            !is_null && result.value() as u8 != 0
        })
    }

    /// The error of an evaluation, of which only its kind is told.
    fn failed(&self, kind: &str) -> Box<SqlError> {
        sql_error(
            PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
            format!("the filter of watched table \"{}\" failed: {kind}", self.table),
            "What the server says may quote a row's values, so it is left out here. To see it, SELECT from the table WHERE the filter in audit_algolia.sources.",
        )
    }

    pub(super) fn close(self) {
        // SAFETY: made by `prepare`, used no more.
        unsafe { pg_sys::FreeExprContext(self.econtext, true) };
    }
}

/// Checks a filter as it was given, its names meant under `path`, and returns it in the form it is kept in.
///
/// # Safety
/// `relation` is open and locked, and stays so.
pub(super) unsafe fn canonical(
    text: &str,
    relation: pg_sys::Relation,
    owner: pg_sys::Oid,
    path: &CStr,
) -> SqlResult<String> {
    // SAFETY: the relation is open; its name is a C string, and so is what a deparsed expression comes as.
    as_user(owner, || unsafe {
        let name = (*(*relation).rd_rel).relname.data.as_ptr();
        explained(
            || {
                check_encoding(text)?;
                set_locally(c"search_path", path);
                let condition = parse(text, relation)?;
                pin_literal_settings();
                let context = pg_sys::deparse_context_for(name, (*relation).rd_id);
                let kept = pg_sys::deparse_expression(condition, context, false, false);
                let kept = utf8(CStr::from_ptr(kept).to_bytes()).into_owned();
                check_encoding(&kept)?;
                // As it will be read from now on; this also looks at the owner's right to call its functions.
                let planned = Planned::of(parse(&kept, relation)?, relation, &Some)?;
                Filter::keep(&planned, owner, "").prepare().close();
                Ok(kept)
            },
            &format!("invalid filter for table \"{}\"", CStr::from_ptr(name).to_string_lossy()),
            "A filter is one boolean expression over the table's columns, as in CREATE TRIGGER … WHEN but without NEW and OLD.",
        )
    })
}

/// Has values in a filter's text written and read alike, whoever has which settings, until the innermost nest level ends.
/// What a user writes into a filter means what it means to that user; what is kept means the same to everybody.
fn pin_literal_settings() {
    pin_output_settings();
    set_locally(c"array_nulls", c"on");
    set_locally(c"standard_conforming_strings", c"on");
}

/// Texts of our own tables pass as UTF-8, which other databases keep only as far as it is ASCII.
fn check_encoding(text: &str) -> SqlResult<()> {
    if is_utf8() || text.is_ascii() {
        return Ok(());
    }
    Err(sql_error(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        "in a database that is not in UTF-8, it has to be ASCII",
        "Write other characters as chr(…), or call a function that compares with them.",
    ))
}

/// The search_path in force, with the schemas it resolves to at this moment.
pub(super) fn search_path() -> CString {
    // SAFETY: looks up schemas; their names, and the quoted ones, are C strings in the current context, or null for
    // one that is gone.
    let names: Vec<Vec<u8>> = unsafe {
        cells(pg_sys::fetch_search_path(false))
            .iter()
            .map(|cell| pg_sys::get_namespace_name(cell.oid_value))
            .filter(|name| !name.is_null())
            .map(|name| CStr::from_ptr(pg_sys::quote_identifier(name)).to_bytes().to_vec())
            .collect()
    };
    // A name has no zero byte.
    CString::new(names.join(&b", "[..])).unwrap_or_default()
}
