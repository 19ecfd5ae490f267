//! Queries and writes under a snapshot of this moment, whatever the transaction's isolation.
//!
//! The server finds triggers in catalogs that it always reads as they are now. What belongs to a trigger must be read
//! alike: under the snapshot of an older REPEATABLE READ transaction it may not exist yet.

use std::cell::Cell;
use std::ffi::CString;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::report::SqlResult;
use super::subtransaction::rolled_back_with;

/// How often a write is retried after concurrent changes.
const ATTEMPTS: u32 = 100;

/// A row of a result, valid while SPI has the result.
pub(super) struct ResultRow {
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
}

impl ResultRow {
    /// A column's value by its ordinal, counted from 1; `None` for null.
    pub(super) fn get<T: FromDatum>(&self, ordinal: i32) -> Option<T> {
        let mut is_null = true;
        // SAFETY: tuple and descriptor belong to the result that SPI keeps while a `ResultRow` lives. The caller
        // requests the column's type.
        unsafe {
            let datum = pg_sys::SPI_getbinval(self.tuple, self.descriptor, ordinal, &mut is_null);
            T::from_polymorphic_datum(datum, is_null, pg_sys::SPI_gettypeid(self.descriptor, ordinal))
        }
    }
}

/// Oids as an argument of a query.
pub(super) fn oids(tables: &[pg_sys::Oid]) -> (pg_sys::Oid, pg_sys::Datum) {
    (pg_sys::OIDARRAYOID, tables.to_vec().into_datum().unwrap_or(pg_sys::Datum::null()))
}

/// Runs a query with arguments, each a type and a value, and applies `read` to its first row, if there is one.
pub(super) fn first_row<T>(
    query: &str,
    arguments: &[(pg_sys::Oid, pg_sys::Datum)],
    read: impl FnOnce(&ResultRow) -> SqlResult<T>,
) -> SqlResult<Option<T>> {
    let query = CString::new(query).unwrap_or_default();
    let (mut types, mut values): (Vec<_>, Vec<_>) = arguments.iter().copied().unzip();
    Spi::connect(|_| {
        // SAFETY: SPI is connected. A read-only query uses the snapshot pushed here. It is popped below, or by the
        // abort of the (sub)transaction after an error.
        let row = unsafe {
            pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
            pg_sys::SPI_execute_with_args(
                query.as_ptr(),
                arguments.len() as i32,
                types.as_mut_ptr(),
                values.as_mut_ptr(),
                std::ptr::null(),
                true,
                1,
            );
            pg_sys::PopActiveSnapshot();
            (pg_sys::SPI_processed > 0).then(|| ResultRow {
                tuple: *(*pg_sys::SPI_tuptable).vals,
                descriptor: (*pg_sys::SPI_tuptable).tupdesc,
            })
        };
        row.as_ref().map(read).transpose()
    })
}

/// Runs a statement that writes on behalf of the session's own statement, which must not fail because of it: concurrent
/// commits since the transaction's snapshot are overwritten, as under READ COMMITTED, after waiting if necessary.
pub(super) fn write(statement: &str, arguments: &[(pg_sys::Oid, pg_sys::Datum)]) -> SqlResult<()> {
    // SAFETY: reads the isolation level of the current transaction.
    if unsafe { pg_sys::XactIsoLevel } < pg_sys::XACT_REPEATABLE_READ as i32 {
        return execute(statement, arguments);
    }
    for _ in 1..ATTEMPTS {
        let is_conflict = |code| code == PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE;
        if rolled_back_with(|| execute(statement, arguments), is_conflict).is_ok() {
            return Ok(());
        }
    }
    execute(statement, arguments)
}

fn execute(statement: &str, arguments: &[(pg_sys::Oid, pg_sys::Datum)]) -> SqlResult<()> {
    let statement = CString::new(statement).unwrap_or_default();
    let (mut types, mut values): (Vec<_>, Vec<_>) = arguments.iter().copied().unzip();
    // SAFETY: SPI is connected. There are as many types and values as the statement has arguments. The server copies
    // the snapshot, and frees the plan when SPI is left.
    Spi::connect_mut(|_| unsafe {
        let plan = pg_sys::SPI_prepare(statement.as_ptr(), types.len() as i32, types.as_mut_ptr());
        pg_sys::SPI_execute_snapshot(
            plan,
            values.as_mut_ptr(),
            std::ptr::null(),
            pg_sys::GetLatestSnapshot(),
            std::ptr::null_mut(),
            false,
            true,
            0,
        );
    });
    Ok(())
}

/// A cursor under a snapshot that is taken when it is opened.
pub(super) struct Cursor(pg_sys::Portal);

impl Cursor {
    /// Opens a query with arguments, each a type and a value. It is planned with the current user and settings.
    pub(super) fn open(query: &str, arguments: &[(pg_sys::Oid, pg_sys::Datum)]) -> Cursor {
        let query = CString::new(query).unwrap_or_default();
        let (mut types, mut values): (Vec<_>, Vec<_>) = arguments.iter().copied().unzip();
        // SAFETY: SPI is connected. The portal outlives the connection, and a read-only query keeps its own snapshot.
        Spi::connect(|_| unsafe {
            pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
            let portal = pg_sys::SPI_cursor_open_with_args(
                std::ptr::null(),
                query.as_ptr(),
                arguments.len() as i32,
                types.as_mut_ptr(),
                values.as_mut_ptr(),
                std::ptr::null(),
                true,
                0,
            );
            pg_sys::PopActiveSnapshot();
            Cursor(portal)
        })
    }

    /// Applies `read` to the next rows, at most `count`; `None` if there are no more. What `read` leaves in the current
    /// memory context is freed afterwards.
    pub(super) fn fetch<T>(
        &self,
        count: i64,
        read: impl FnOnce(pg_sys::TupleDesc, &[pg_sys::HeapTuple]) -> SqlResult<T>,
    ) -> SqlResult<Option<T>> {
        // SAFETY: the portal lives until `close` or the end of the transaction. The fetched rows live until SPI is
        // left.
        Spi::connect(|_| unsafe {
            pg_sys::SPI_cursor_fetch(self.0, true, count);
            let (fetched, count) = (&*pg_sys::SPI_tuptable, pg_sys::SPI_processed as usize);
            if count == 0 {
                return Ok(None);
            }
            read(fetched.tupdesc, std::slice::from_raw_parts(fetched.vals, count)).map(Some)
        })
    }

    /// Closes the cursor. After an error, the end of the transaction does.
    pub(super) fn close(self) {
        // SAFETY: opened by `open`, and not used any more.
        unsafe { pg_sys::SPI_cursor_close(self.0) };
    }
}

/// All rows of a query whose result is known to be small; otherwise as [`first_row`].
pub(super) fn all_rows<T>(
    query: &str,
    arguments: &[(pg_sys::Oid, pg_sys::Datum)],
    mut read: impl FnMut(&ResultRow) -> T,
) -> SqlResult<Vec<T>> {
    let cursor = Cursor::open(query, arguments);
    let mut all = Vec::new();
    let more = |all: &mut Vec<T>, read: &mut dyn FnMut(&ResultRow) -> T| {
        cursor.fetch(1000, |descriptor, tuples| {
            all.extend(tuples.iter().map(|tuple| read(&ResultRow { tuple: *tuple, descriptor })));
            Ok(())
        })
    };
    while more(&mut all, &mut read)?.is_some() {}
    cursor.close();
    Ok(all)
}

/// A query without arguments that is planned once per session, for frequent use.
pub(super) struct PreparedQuery {
    query: &'static str,
    plan: Cell<pg_sys::SPIPlanPtr>,
}

impl PreparedQuery {
    pub(super) const fn new(query: &'static str) -> PreparedQuery {
        PreparedQuery { query, plan: Cell::new(std::ptr::null_mut()) }
    }

    /// All rows of its result, which is known to be small.
    pub(super) fn all_rows<T>(&self, mut read: impl FnMut(&ResultRow) -> T) -> Vec<T> {
        // SAFETY: SPI is connected. The plan is kept for the rest of the session. A read-only query uses the snapshot
        // pushed here, which an error pops as well.
        Spi::connect(|_| unsafe {
            if self.plan.get().is_null() {
                let query = CString::new(self.query).unwrap_or_default();
                let plan = pg_sys::SPI_prepare(query.as_ptr(), 0, std::ptr::null_mut());
                pg_sys::SPI_keepplan(plan);
                self.plan.set(plan);
            }
            pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
            pg_sys::SPI_execute_plan(self.plan.get(), std::ptr::null_mut(), std::ptr::null(), true, 0);
            pg_sys::PopActiveSnapshot();
            let (found, count) = (&*pg_sys::SPI_tuptable, pg_sys::SPI_processed as usize);
            let tuples = match count {
                0 => &[],
                _ => std::slice::from_raw_parts(found.vals, count),
            };
            tuples.iter().map(|tuple| read(&ResultRow { tuple: *tuple, descriptor: found.tupdesc })).collect()
        })
    }
}
