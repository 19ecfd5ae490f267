//! Queries under a snapshot of this very moment, whatever the transaction's isolation.
//!
//! Triggers are found in catalogs that are always read as they are now. What belongs to a trigger has to be read
//! likewise: under the snapshot of an older REPEATABLE READ transaction it may not be there yet.

use std::ffi::CString;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::report::Outcome;

/// One row of a result, while SPI has it.
pub(super) struct Row {
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
}

impl Row {
    /// A column's value by its ordinal, from 1 on; `None` for null.
    pub(super) fn get<T: FromDatum>(&self, ordinal: i32) -> Option<T> {
        let mut is_null = true;
        // SAFETY: tuple and descriptor belong to the result SPI holds while a `Row` lives; the caller asks for the
        // type the query has.
        unsafe {
            let datum = pg_sys::SPI_getbinval(self.tuple, self.descriptor, ordinal, &mut is_null);
            T::from_polymorphic_datum(datum, is_null, pg_sys::SPI_gettypeid(self.descriptor, ordinal))
        }
    }
}

/// Runs a query with arguments, each a type and a value, and `read` on its first row, if there is one.
pub(super) fn first_row<T>(
    query: &str,
    arguments: &[(pg_sys::Oid, pg_sys::Datum)],
    read: impl FnOnce(&Row) -> Outcome<T>,
) -> Outcome<Option<T>> {
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
            (pg_sys::SPI_processed > 0).then(|| Row {
                tuple: *(*pg_sys::SPI_tuptable).vals,
                descriptor: (*pg_sys::SPI_tuptable).tupdesc,
            })
        };
        row.as_ref().map(read).transpose()
    })
}
