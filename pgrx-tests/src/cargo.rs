//! Runs cargo for this workspace, and builds the extension with it.
//!
//! The extension has a target folder for each PostgreSQL version. The file name of a `cdylib` contains no hash, so
//! builds with and without a `pgNN` feature would overwrite each other in a shared one.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{ensure, Context, Result};

use crate::server::PgConfig;

/// How the extension is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Built in seconds, for tests and the demo.
    Dev,
    /// As users run it, for benchmarks.
    Release,
}

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    let member = Path::new(env!("CARGO_MANIFEST_DIR"));
    member.parent().unwrap_or(member).to_path_buf()
}

/// The target folder that this program was built in.
pub fn target_dir() -> PathBuf {
    let program = env::current_exe().unwrap_or_default();
    let tagged = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    tagged.map_or_else(|| workspace().join("target"), Path::to_path_buf)
}

/// A cargo command at the root of the workspace. It drops the variables that an outer `cargo run` or `cargo test` has
/// set, because build scripts that depend on them would run again each time.
pub fn command() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace());
    let leaked = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if leaked.iter().any(|prefix| text.starts_with(prefix)) || text == "LD_LIBRARY_PATH" {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// Adds the options that build the extension for one PostgreSQL version: features, headers and target folder. Builds
/// for tests also have the failpoints.
pub fn for_server(cargo: &mut Command, pg: &PgConfig, profile: Profile) {
    for_server_into(cargo, pg, profile, &extension_target(pg));
}

fn for_server_into(cargo: &mut Command, pg: &PgConfig, profile: Profile, target: &Path) {
    let failpoints = if profile == Profile::Dev { ",failpoints" } else { "" };
    cargo
        .args(["-p", "audit_algolia", "--no-default-features", "--features"])
        .arg(format!("pg{}{failpoints}", pg.major()))
        .arg("--target-dir")
        .arg(target)
        .env("PGRX_PG_CONFIG_PATH", pg.path());
}

/// Builds the extension, unless nothing has changed, and returns its library.
pub fn build_extension(pg: &PgConfig, profile: Profile) -> Result<PathBuf> {
    let folder = if profile == Profile::Release { "release" } else { "debug" };
    let library = extension_target(pg).join(folder).join(LIBRARY);
    if !library.exists() {
        begin_with_anothers(&extension_target(pg), folder)?;
        eprintln!("building audit_algolia for PostgreSQL {}, about two minutes the first time", pg.major());
    }
    let mut cargo = command();
    cargo.args(["build", "-q", "--lib"]);
    for_server(&mut cargo, pg, profile);
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    let status = cargo.status().context("cargo could not be started")?;
    ensure!(status.success(), "the extension does not build: {status}");
    ensure!(library.is_file(), "cargo left no {}", library.display());
    Ok(library)
}

/// Builds the extension, as for tests, from another source than this workspace's, and puts its library into a file.
pub(crate) fn build_other(source: &Path, pg: &PgConfig, version: &str, library: &Path) -> Result<()> {
    let target = target_dir().join("extension").join(format!("pg{}-{version}", pg.major()));
    begin_with_anothers(&target, "debug")?;
    let mut cargo = command();
    cargo.current_dir(source).args(["build", "-q", "--lib"]);
    for_server_into(&mut cargo, pg, Profile::Dev, &target);
    let status = cargo.status().context("cargo could not be started")?;
    ensure!(status.success(), "version {version} of the extension does not build: {status}");
    fs::rename(target.join("debug").join(LIBRARY), library)?;
    Ok(fs::remove_dir_all(&target)?)
}

/// Copies the folder of a profile from another target folder beside this one, unless it exists. Most crates do not depend
/// on the version of PostgreSQL, and need not be compiled again. A folder of the same PostgreSQL is preferred.
pub fn begin_with_anothers(target: &Path, folder: &str) -> Result<()> {
    let (all, new) = (target.parent().unwrap_or(target), target.join(format!("{folder}.new")));
    let others = fs::read_dir(all).into_iter().flatten().flatten().map(|entry| entry.path());
    let others = others.filter(|other| other.join(folder).join(".fingerprint").is_dir());
    let is_same_server = |other: &PathBuf| {
        let start = |path: &Path| path.file_name()?.to_str()?.split('-').next().map(str::to_owned);
        start(other) == start(target)
    };
    let Some(other) = others.max_by_key(is_same_server).map(|other| other.join(folder)) else {
        return Ok(());
    };
    if target.join(folder).exists() {
        return Ok(());
    }
    fs::create_dir_all(&new)?;
    // `-a` keeps the times, which cargo compares. Fingerprints are copied first: if a crate is missing, it is compiled
    // again.
    for part in [".fingerprint", "build", "deps"] {
        let status = Command::new("cp").arg("-a").args([&other.join(part), &new]).status()?;
        ensure!(status.success(), "cp could not copy {}", other.display());
    }
    Ok(fs::rename(&new, target.join(folder))?)
}

/// The file name of the library that cargo builds.
pub(crate) const LIBRARY: &str =
    if cfg!(target_os = "macos") { "libaudit_algolia.dylib" } else { "libaudit_algolia.so" };

fn extension_target(pg: &PgConfig) -> PathBuf {
    target_dir().join("extension").join(format!("pg{}", pg.major()))
}
