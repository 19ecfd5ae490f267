//! What the shared catalogs say of databases: which there are, and who may do what with them.

use std::convert::Infallible;
use std::ffi::CStr;

use pgrx::pg_sys;

use super::process::in_transaction;

/// The `pg_database.datconnlimit` of a database whose DROP was interrupted.
const DATCONNLIMIT_INVALID_DB: i32 = -2;

/// A database of the server.
pub(super) struct CatalogDatabase {
    pub(super) oid: u32,
    pub(super) name: String,
    /// It accepts connections and is no template, which a worker would keep from being copied.
    pub(super) is_open: bool,
}

/// All databases.
pub(super) fn all() -> Vec<CatalogDatabase> {
    let list: Result<Vec<CatalogDatabase>, Infallible> = in_transaction(|| {
        let mut found = Vec::new();
        // SAFETY: the shared catalog of databases is read under a catalog snapshot, inside a transaction. Each tuple is
        // read before the next is fetched.
        unsafe {
            let catalog = pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as i32);
            let scan = pg_sys::table_beginscan_catalog(catalog, 0, std::ptr::null_mut());
            loop {
                let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
                let Some(row) = row::<pg_sys::FormData_pg_database>(tuple) else { break };
                // A database whose DROP was interrupted accepts no connections either.
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

/// The database that this process is connected to.
pub(super) fn my_database() -> u32 {
    // SAFETY: set when the process connected, and never changed.
    unsafe { pg_sys::MyDatabaseId.to_u32() }
}

/// The name of that database.
pub(super) fn my_name() -> String {
    // SAFETY: a look-up in the catalog, inside a transaction. The name, if found, is a C string.
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

/// Whether the current user may copy a database: its owner may, and anybody who may create databases may copy a
/// template.
pub(super) fn may_copy(database: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in the system caches, inside the statement's transaction. Each row has the type of its cache.
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

/// Applies `said` to a row of a system cache, if it exists.
///
/// # Safety
/// Call it inside a transaction, with the row type of the cache.
pub(super) unsafe fn cached<T, R>(
    cache: pg_sys::SysCacheIdentifier::Type,
    oid: pg_sys::Oid,
    said: impl FnOnce(&T) -> R,
) -> Option<R> {
    // SAFETY: the caller guarantees this. The row is read before it is released.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(cache as i32, oid.into());
        let answer = said(row::<T>(tuple)?);
        pg_sys::ReleaseSysCache(tuple);
        Some(answer)
    }
}

/// The fixed part of a catalog row.
///
/// # Safety
/// `tuple` is null or a valid row of the catalog whose rows begin with a `T`.
unsafe fn row<'a, T>(tuple: pg_sys::HeapTuple) -> Option<&'a T> {
    // SAFETY: the caller guarantees this. The server's GETSTRUCT does the same.
    unsafe {
        let header = tuple.as_ref()?.t_data;
        header.cast::<u8>().add(usize::from((*header).t_hoff)).cast::<T>().as_ref()
    }
}
