//! The versions of the library and of the extension's objects, which differ while an upgrade is under way. Then changes are
//! captured, and everything else waits or refuses, because the library does not know the tables of another version.

use std::fmt;

use pgrx::prelude::*;

use super::latest_snapshot::first_row;
use super::report::{sql_error, SqlResult};

/// What to do about it.
pub(super) const MISMATCH_HINT: &str =
    "Run ALTER EXTENSION audit_algolia UPDATE; if the library is the older one, install the new one and restart the server.";

/// The library's version.
pub(super) const LIBRARY_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The objects in this database are of another version than the library.
#[derive(PartialEq, Eq)]
pub(super) struct VersionMismatch {
    extension: String,
}

impl VersionMismatch {
    /// `None` if the objects' version is that of the library.
    pub(super) fn of(extension: String) -> Option<VersionMismatch> {
        (extension != LIBRARY_VERSION).then_some(VersionMismatch { extension })
    }

    /// Compares the versions.
    pub(super) fn find() -> SqlResult<Option<VersionMismatch>> {
        let query = include_str!("../../sql/worker/extension_version.sql");
        let extension = first_row(query, &[], |row| Ok(row.get::<String>(1)))?;
        Ok(extension.flatten().and_then(VersionMismatch::of))
    }

    /// Compares the versions, and fails if they differ.
    pub(super) fn refuse() -> SqlResult<()> {
        match VersionMismatch::find()? {
            None => Ok(()),
            Some(mismatch) => Err(sql_error(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("cannot use the tables of audit_algolia: {mismatch}"),
                MISMATCH_HINT,
            )
            .with_detail("Changes are captured meanwhile, and delivered afterwards.")),
        }
    }
}

impl fmt::Display for VersionMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the library is version {LIBRARY_VERSION}, the extension {}", self.extension)
    }
}
