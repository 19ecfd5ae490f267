//! Libraries of released versions, which tests of upgrades begin with. Each is built from its version's commit, once for
//! each PostgreSQL version, and kept below the target folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{ensure, Context, Result};
use nix::fcntl::FlockArg;

use super::files::lock;
use super::pg_config::PgConfig;
use crate::cargo;

/// The library of a released version, or `None` if this copy of the source has no history that contains its commit.
///
/// # Errors
/// When the version has no commit in the list, or its source does not build.
pub fn released_library(pg: &PgConfig, version: &str) -> Result<Option<PathBuf>> {
    let commits = fs::read_to_string(cargo::workspace().join("sql/released/COMMITS"))?;
    let commit = commits.lines().find_map(|line| line.strip_prefix(version)?.strip_prefix(' '));
    let commit = commit.with_context(|| format!("sql/released/COMMITS does not have {version}"))?;
    let kept = cargo::target_dir().join("released").join(format!("pg{}", pg.major()));
    fs::create_dir_all(&kept)?;
    let _one_at_a_time = lock(&kept.join("lock"), FlockArg::LockExclusive)?;
    let library = kept.join(format!("audit_algolia--{version}-{commit}"));
    if !library.is_file() {
        let source = kept.join("source");
        if !unpack(commit, &source)? {
            return Ok(None);
        }
        eprintln!("building version {version}, about two minutes");
        cargo::build_other(&source, pg, version, &library)?;
        fs::remove_dir_all(&source)?;
    }
    Ok(Some(library))
}

/// Puts the source of a commit into a folder. Returns `false` if it is not in the history.
fn unpack(commit: &str, source: &Path) -> Result<bool> {
    if source.exists() {
        fs::remove_dir_all(source)?;
    }
    fs::create_dir_all(source)?;
    let archive = source.join("archive.tar");
    let git = Command::new("git")
        .current_dir(cargo::workspace())
        .args(["archive", "--format=tar", "-o"])
        .args([&archive, Path::new(commit)])
        .stderr(Stdio::null())
        .status();
    if !git.is_ok_and(|status| status.success()) {
        return Ok(false);
    }
    let tar = Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(source).status()?;
    ensure!(tar.success(), "tar could not unpack {}", archive.display());
    Ok(true)
}
