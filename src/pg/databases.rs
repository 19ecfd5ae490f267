//! What the shared catalogs say of databases: which there are, and who may do what with them.

use std::convert::Infallible;
use std::ffi::CStr;

use pgrx::pg_sys;

use super::process::in_transaction;

/// What `pg_database.datconnlimit` says of a database that was dropped halfway.
const DATCONNLIMIT_INVALID_DB: i32 = -2;

/// A database of the server.
pub(super) struct CatalogDatabase {
    pub(super) oid: u32,
    pub(super) name: String,
    /// It can be connected to and is no template: a worker in one would keep it from being copied.
    pub(super) is_open: bool,
}

/// All databases there are.
pub(super) fn all() -> Vec<CatalogDatabase> {
    let list: Result<Vec<CatalogDatabase>, Infallible> = in_transaction(|| {
        let mut found = Vec::new();
        // SAFETY: the shared catalog of databases is read under a catalog snapshot, inside a transaction; each tuple is
        // read before the next is fetched.
        unsafe {
            let catalog = pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as i32);
            let scan = pg_sys::table_beginscan_catalog(catalog, 0, std::ptr::null_mut());
            loop {
                let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
                let Some(row) = row::<pg_sys::FormData_pg_database>(tuple) else { break };
                // A database whose DROP was broken off takes no connections either.
                let is_invalid = row.datconnlimit == DATCONNLIMIT_INVALID_DB;
                let name = CStr::from_ptr(row.datname.data.as_ptr());
                found.push(CatalogDatabase {
                    oid: row.oid.to_u32(),
                    name: name.to_string_lossy().into_owned(),
                    is_open: row.datallowconn && !row.datistemplate && !is_invalid,
                });
            }
            if let Some(end) = (*(*(*scan).rs_rd).rd_tableam).scan_end {
                pg_sys::ffi::pg_guard_ffi_boundary(|| end(scan));
            }
            pg_sys::table_close(catalog, pg_sys::AccessShareLock as i32);
        }
        Ok(found)
    });
    list.unwrap_or_else(|never| match never {})
}

/// The one this process is connected to.
pub(super) fn my_database() -> u32 {
    // SAFETY: set when the process connected, and never changed.
    unsafe { pg_sys::MyDatabaseId.to_u32() }
}

/// Its name.
pub(super) fn my_name() -> String {
    // SAFETY: a look into the catalog, inside a transaction; the name, if there is one, is a C string.
    unsafe {
        let name = pg_sys::get_database_name(pg_sys::MyDatabaseId);
        match name.is_null() {
            true => String::new(),
            false => super::encoding::utf8(CStr::from_ptr(name).to_bytes()).into_owned(),
        }
    }
}

/// Whether the current user owns a database.
pub(super) fn is_owner(database: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in the catalogs, inside the statement's transaction.
    unsafe {
        let user = pg_sys::GetUserId();
        #[cfg(feature = "pg15")]
        return pg_sys::pg_database_ownercheck(database, user);
        #[cfg(not(feature = "pg15"))]
        return pg_sys::object_ownercheck(pg_sys::DatabaseRelationId, database, user);
    }
}

/// Whether the current user may copy a database: its owner, and of a template everybody, who may create databases.
pub(super) fn may_copy(database: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in the system caches, inside the statement's transaction; each kind of row is read as what its
    // cache holds.
    unsafe {
        let may_create = pg_sys::superuser()
            || cached(
                pg_sys::SysCacheIdentifier::AUTHOID,
                pg_sys::GetUserId(),
                |role: &pg_sys::FormData_pg_authid| role.rolcreatedb,
            ) == Some(true);
        let is_template = || {
            cached(pg_sys::SysCacheIdentifier::DATABASEOID, database, |row: &pg_sys::FormData_pg_database| {
                row.datistemplate
            }) == Some(true)
        };
        may_create && (is_owner(database) || is_template())
    }
}

/// What is said of a row of a system cache, if it is there.
///
/// # Safety
/// To be called inside a transaction, with the type of the rows of the cache.
pub(super) unsafe fn cached<T, R>(
    cache: pg_sys::SysCacheIdentifier::Type,
    oid: pg_sys::Oid,
    said: impl FnOnce(&T) -> R,
) -> Option<R> {
    // SAFETY: by the caller's word; the row is read before it is released.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(cache as i32, oid.into());
        let answer = said(row::<T>(tuple)?);
        pg_sys::ReleaseSysCache(tuple);
        Some(answer)
    }
}

/// The fixed part of a catalog's row.
///
/// # Safety
/// `tuple` is null or a valid row of the catalog whose rows begin with a `T`.
unsafe fn row<'a, T>(tuple: pg_sys::HeapTuple) -> Option<&'a T> {
    // SAFETY: by the caller's word; the server's GETSTRUCT does the same.
    unsafe {
        let header = tuple.as_ref()?.t_data;
        header.cast::<u8>().add(usize::from((*header).t_hoff)).cast::<T>().as_ref()
    }
}
