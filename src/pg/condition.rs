//! Conditions over a row's columns. A filter decides whether a change is queued, an alert whether its record alerts.
//!
//! A condition is stored as text in which every name outside `pg_catalog` is qualified. So it means the same to everybody
//! under the pinned search_path, and in a restored dump. It is parsed, planned and evaluated as the owner of the
//! watched table, so it gets no rights from the extension's owner or from a writer.

mod kind;
mod pair;
mod parse;

use std::ffi::{CStr, CString};
use std::rc::Rc;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::encoding::{is_utf8, utf8};
use super::list::cells;
use super::owner::{as_role, as_user, pin_output_settings, set_locally};
use super::report::{explained, redacted, sql_error, SqlError, SqlResult};
pub(super) use kind::ConditionKind;
pub(super) use pair::{Conditions, Evaluations};
use parse::{parse, Planned};

/// A planned condition over the columns of one relation.
struct Condition {
    kind: ConditionKind,
    expression: *mut pg_sys::Expr,
    owner: pg_sys::Oid,
    /// Its result may depend on the session's settings, which must be pinned.
    depends_on_settings: bool,
    context: pg_sys::MemoryContext,
    /// The name of the table whose rows it judges.
    table: Rc<str>,
}

impl Drop for Condition {
    fn drop(&mut self) {
        // SAFETY: the context was created for the expression, and ends with the condition.
        unsafe { pg_sys::MemoryContextDelete(self.context) };
    }
}

/// A condition that is prepared for the rows of one statement.
struct Evaluation {
    kind: ConditionKind,
    state: *mut pg_sys::ExprState,
    econtext: *mut pg_sys::ExprContext,
    owner: pg_sys::Oid,
    table: Rc<str>,
}

impl Condition {
    /// Compiles a stored condition for the columns of `relation`, which may be a partition of the watched table. `place`
    /// maps a column's place in the relation to its place in the rows that will be judged.
    ///
    /// # Safety
    /// `relation` is open and locked.
    unsafe fn compile(
        kind: ConditionKind,
        text: &str,
        relation: pg_sys::Relation,
        owner: pg_sys::Oid,
        place: impl Fn(usize) -> Option<usize>,
    ) -> SqlResult<Condition> {
        let word = kind.word();
        // SAFETY: the relation's name is a C string.
        let table = unsafe { CStr::from_ptr((*(*relation).rd_rel).relname.data.as_ptr()) }.to_string_lossy();
        as_user(owner, || {
            pin_literal_settings();
            explained(
                || {
                    // SAFETY: the caller guarantees this.
                    let condition = unsafe { parse(kind, text, relation) }?;
                    // SAFETY: as above. The condition was just made.
                    let planned = unsafe { Planned::of(kind, condition, relation, &place) }?;
                    Ok(Condition::keep(kind, &planned, owner, &table))
                },
                &format!("the {word} of watched table \"{table}\" no longer fits the table"),
                &format!(
                    "Call audit_algolia.unwatch() and then audit_algolia.watch() with {} over the table's current columns.",
                    kind.with_article()
                ),
            )
        })
    }

    /// Copies a plan into memory that lives as long as the condition.
    fn keep(kind: ConditionKind, planned: &Planned, owner: pg_sys::Oid, table: &str) -> Condition {
        // SAFETY: creates a context below the one that lives as long as the process. Its name is a constant, as
        // required. The expression is a node tree.
        unsafe {
            let context = pg_sys::AllocSetContextCreateExtended(
                pg_sys::TopMemoryContext,
                c"audit_algolia condition".as_ptr(),
                pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
                pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
                pg_sys::ALLOCSET_SMALL_MAXSIZE as usize,
            );
            let before = pg_sys::MemoryContextSwitchTo(context);
            let expression = pg_sys::copyObjectImpl(planned.expression.cast_const().cast()).cast();
            pg_sys::MemoryContextSwitchTo(before);
            let depends_on_settings = planned.depends_on_settings;
            Condition { kind, expression, owner, depends_on_settings, context, table: table.into() }
        }
    }

    /// Prepares the condition for rows in slots. The result lives in the current memory context.
    fn prepare(&self) -> Evaluation {
        // SAFETY: the expression is planned and lives as long as the condition. This checks that the owner may call its
        // functions.
        as_role(self.owner, || unsafe {
            Evaluation {
                kind: self.kind,
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
    /// The slot holds a row of the relation that the condition was compiled for.
    unsafe fn is_true(&self, slot: *mut pg_sys::TupleTableSlot) -> bool {
        // SAFETY: this is ExecEvalExprSwitchContext, an inline function of the server. Functions allocate in the
        // per-tuple context, which is reset below.
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

    /// The error of an evaluation. It names only the kind of error.
    fn failed(&self, kind: &str) -> Box<SqlError> {
        let word = self.kind.word();
        sql_error(
            PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
            format!("the {word} of watched table \"{}\" failed: {kind}", self.table),
            format!("The server's error may quote a row's values, so it is omitted here. To see it, SELECT from the table WHERE the {word} in audit_algolia.sources."),
        )
    }

    fn close(self) {
        // SAFETY: created by `prepare`, and not used any more.
        unsafe { pg_sys::FreeExprContext(self.econtext, true) };
    }
}

/// Checks a condition as the user wrote it, with names resolved by `path`, and returns its stored form.
///
/// # Safety
/// `relation` is open and locked, and stays so.
pub(super) unsafe fn canonical(
    kind: ConditionKind,
    text: &str,
    relation: pg_sys::Relation,
    owner: pg_sys::Oid,
    path: &CStr,
) -> SqlResult<String> {
    // SAFETY: the relation is open. Its name and the deparsed expression are C strings.
    as_user(owner, || unsafe {
        let name = (*(*relation).rd_rel).relname.data.as_ptr();
        explained(
            || {
                check_encoding(text)?;
                set_locally(c"search_path", path);
                let condition = parse(kind, text, relation)?;
                pin_literal_settings();
                let context = pg_sys::deparse_context_for(name, (*relation).rd_id);
                let kept = pg_sys::deparse_expression(condition, context, false, false);
                let kept = utf8(CStr::from_ptr(kept).to_bytes()).into_owned();
                check_encoding(&kept)?;
                // Parses the stored form as it will be parsed from now on, and checks that the owner may call its
                // functions.
                let planned = Planned::of(kind, parse(kind, &kept, relation)?, relation, &Some)?;
                Condition::keep(kind, &planned, owner, "").prepare().close();
                Ok(kept)
            },
            &format!("invalid {} for table \"{}\"", kind.word(), CStr::from_ptr(name).to_string_lossy()),
            &format!("{} is one boolean expression over the table's columns, as in CREATE TRIGGER … WHEN but without NEW and OLD.", kind.with_article()),
        )
    })
}

/// Pins the settings by which literals in a condition are written and read, until the innermost nest level ends. A
/// condition means what its author's settings say; its stored form means the same to everybody.
fn pin_literal_settings() {
    pin_output_settings();
    set_locally(c"array_nulls", c"on");
    set_locally(c"standard_conforming_strings", c"on");
}

/// Our own tables pass texts as UTF-8. In other encodings only ASCII is stored unchanged.
fn check_encoding(text: &str) -> SqlResult<()> {
    if is_utf8() || text.is_ascii() {
        return Ok(());
    }
    Err(sql_error(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        "it must be ASCII, because the database's encoding is not UTF-8",
        "Write other characters as chr(…), or call a function that compares with them.",
    ))
}

/// The current search_path, with the schemas that it resolves to at this moment.
pub(super) fn search_path() -> CString {
    // SAFETY: looks up schemas. Their names and the quoted ones are C strings in the current context, or null for a
    // dropped schema.
    let names: Vec<Vec<u8>> = unsafe {
        cells(pg_sys::fetch_search_path(false))
            .iter()
            .map(|cell| pg_sys::get_namespace_name(cell.oid_value))
            .filter(|name| !name.is_null())
            .map(|name| CStr::from_ptr(pg_sys::quote_identifier(name)).to_bytes().to_vec())
            .collect()
    };
    // Names contain no zero byte.
    CString::new(names.join(&b", "[..])).unwrap_or_default()
}
