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

/// How often something is written anew that others have changed meanwhile.
const ATTEMPTS: u32 = 100;

/// One row of a result, while SPI has it.
pub(super) struct ResultRow {
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
}

impl ResultRow {
    /// A column's value by its ordinal, from 1 on; `None` for null.
    pub(super) fn get<T: FromDatum>(&self, ordinal: i32) -> Option<T> {
        let mut is_null = true;
        // SAFETY: tuple and descriptor belong to the result SPI holds while a `ResultRow` lives; the caller asks for the
        // type the query has.
        unsafe {
            let datum = pg_sys::SPI_getbinval(self.tuple, self.descriptor, ordinal, &mut is_null);
            T::from_polymorphic_datum(datum, is_null, pg_sys::SPI_gettypeid(self.descriptor, ordinal))
        }
    }
}

/// Oids as the argument of a query.
pub(super) fn oids(tables: &[pg_sys::Oid]) -> (pg_sys::Oid, pg_sys::Datum) {
    (pg_sys::OIDARRAYOID, tables.to_vec().into_datum().unwrap_or(pg_sys::Datum::null()))
}

/// Runs a query with arguments, each a type and a value, and `read` on its first row, if there is one.
pub(super) fn first_row<T>(
    query: &str,
    arguments: &[(pg_sys::Oid, pg_sys::Datum)],
    read: impl FnOnce(&ResultRow) -> SqlResult<T>,
) -> SqlResult<Option<T>> {
    let query = CString::new(query).unwrap_or_default();
    let (mut types, mut values): (Vec<_>, Vec<_>) = arguments.iter().copied().unzip();
    Spi::connect(|_| {
        // SAFETY: SPI is connected; as a read-only query it uses the snapshot pushed here, which is popped again unless
        // an error aborts the (sub)transaction, which pops it too.
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

/// Runs a statement that writes, of which the session's own statement knows nothing and must not fail: what has been committed
/// since the transaction's snapshot is written over, as it is at READ COMMITTED, whoever has to be waited for.
pub(super) fn write(statement: &str, arguments: &[(pg_sys::Oid, pg_sys::Datum)]) -> SqlResult<()> {
    // SAFETY: reads the isolation of the current transaction.
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
    // SAFETY: SPI is connected; there are as many types and values as the statement has arguments. The server copies the
    // snapshot, and gives the plan back when SPI is left.
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

/// A query under a snapshot of the moment it was opened, read piece by piece.
pub(super) struct Cursor(pg_sys::Portal);

impl Cursor {
    /// Opens a query with arguments, each a type and a value. It is planned with the rights and settings in force.
    pub(super) fn open(query: &str, arguments: &[(pg_sys::Oid, pg_sys::Datum)]) -> Cursor {
        let query = CString::new(query).unwrap_or_default();
        let (mut types, mut values): (Vec<_>, Vec<_>) = arguments.iter().copied().unzip();
        // SAFETY: SPI is connected; the portal outlives that, and keeps a snapshot of its own as a read-only query.
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

    /// Runs `read` over the next rows, `count` at most; nothing when there are none any more. What `read` leaves in the
    /// current memory context is gone afterwards.
    pub(super) fn fetch<T>(
        &self,
        count: i64,
        read: impl FnOnce(pg_sys::TupleDesc, &[pg_sys::HeapTuple]) -> SqlResult<T>,
    ) -> SqlResult<Option<T>> {
        // SAFETY: the portal lives until `close`, or the end of the transaction; what SPI fetches until it is left.
        Spi::connect(|_| unsafe {
            pg_sys::SPI_cursor_fetch(self.0, true, count);
            let (fetched, count) = (&*pg_sys::SPI_tuptable, pg_sys::SPI_processed as usize);
            if count == 0 {
                return Ok(None);
            }
            read(fetched.tupdesc, std::slice::from_raw_parts(fetched.vals, count)).map(Some)
        })
    }

    /// Closes it; after an error the transaction's end does.
    pub(super) fn close(self) {
        // SAFETY: opened by `open`, and used no more.
        unsafe { pg_sys::SPI_cursor_close(self.0) };
    }
}

/// All rows of a query whose result is known to be small, as [`first_row`] reads one.
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

/// A query without arguments that is planned once per session, for what is asked often and must cost next to nothing.
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
        // SAFETY: SPI is connected; the plan was kept for the rest of the session. As a read-only query it uses the
        // snapshot pushed here, which an error pops, too.
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
