//! What is compared and comes as packages of Debian.

use std::path::PathBuf;

use audit_algolia_tests::cargo;
use audit_algolia_tests::server::PgConfig;

use crate::package::unpacked;

/// Debian's packages of what is compared: the folder where each is unpacked, nothing if the server has it already, or
/// why it is not available.
pub(super) struct Packages {
    pub(super) pgq: Result<Option<PathBuf>, String>,
    pub(super) wal2json: Result<Option<PathBuf>, String>,
}

impl Packages {
    pub(super) fn fetch(pg: &PgConfig) -> Packages {
        let folder = cargo::target_dir().join("measure/debian");
        let fetch = |module: &str, package: &str| {
            let modules = pg.folder("pkglibdir").map_err(reason)?;
            if modules.join(format!("{module}.so")).is_file() {
                return Ok(None);
            }
            let package = format!("postgresql-{}-{package}", pg.major());
            unpacked(&package, &folder).map(Some).map_err(reason)
        };
        Packages { pgq: fetch("pgq_triggers", "pgq3"), wal2json: fetch("wal2json", "wal2json") }
    }

    pub(super) fn folders(&self) -> Vec<PathBuf> {
        [&self.pgq, &self.wal2json].into_iter().flatten().flatten().cloned().collect()
    }
}

/// Why something is not measured, as text.
pub(super) fn reason(error: anyhow::Error) -> String {
    format!("{error:#}")
}
