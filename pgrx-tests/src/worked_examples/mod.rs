//! The scripts of `sql/examples`, run as a reader would run them, and weeks of work in their tables.

use std::path::{Path, PathBuf};

use anyhow::{ensure, Result};

use crate::cargo::workspace;
use crate::server::Cluster;

/// The scripts.
pub const SCRIPTS: [&str; 4] =
    ["report_workspace.sql", "scraped_content.sql", "user_analytics.sql", "scan_ingest.sql"];

/// Runs all scripts in the database `postgres`, and lets people work for some weeks. Secured keys are made from
/// `search_key`.
///
/// # Errors
/// When a script fails, or says something without being asked.
pub fn fill(cluster: &Cluster, search_key: &str) -> Result<()> {
    for script in SCRIPTS {
        run(cluster, "postgres", "postgres", search_key, &workspace().join("sql/examples").join(script))?;
    }
    let traffic = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/worked_examples/traffic.sql");
    run(cluster, "postgres", "postgres", search_key, &traffic)?;
    Ok(())
}

/// Runs a script from the beginning to the end, and returns its answers, their columns separated by `|`.
///
/// # Errors
/// When it fails, or says something without being asked.
pub fn run(cluster: &Cluster, database: &str, user: &str, search_key: &str, script: &Path) -> Result<String> {
    let key = format!("search_key={search_key}");
    let file = script.to_string_lossy();
    let arguments = ["-X", "-q", "-A", "-t", "-v", &key, "-f", &file, database];
    let output = cluster.run_as(user, "psql", &arguments)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.is_empty(), "{file}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}
