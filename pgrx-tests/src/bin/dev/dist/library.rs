//! The library as users run it: optimised, stripped, and the same wherever it is built.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{ensure, Context, Result};

use audit_algolia_tests::cargo;
use audit_algolia_tests::server::PgConfig;

/// The stripped library for a version of PostgreSQL.
pub(super) struct Library {
    pub(super) major: u32,
    pub(super) path: PathBuf,
}

impl Library {
    /// Builds the extension from the source in `workspace`.
    pub(super) fn build(pg: &PgConfig, workspace: &Path) -> Result<Library> {
        let target = workspace.join("target/dist/build").join(format!("pg{}", pg.major()));
        cargo::begin_with_anothers(&target, "release")?;
        println!("   building it in {}, some minutes the first time", target.display());
        let status = cargo::command()
            .current_dir(workspace)
            .args(["build", "-q", "--locked", "--release", "--lib", "-p", "audit_algolia"])
            .args(["--no-default-features", "--features", &format!("pg{}", pg.major())])
            .arg("--target-dir")
            .arg(&target)
            .env("PGRX_PG_CONFIG_PATH", pg.path())
            .env("CARGO_ENCODED_RUSTFLAGS", flags(workspace)?.join("\u{1f}"))
            .status()
            .context("cargo could not be started")?;
        ensure!(status.success(), "the extension does not build: {status}");
        let path = target.join("audit_algolia.so");
        strip(&target.join("release/libaudit_algolia.so"), &path)?;
        Ok(Library { major: pg.major(), path })
    }

    /// The newest version of glibc that it asks for, such as `2.34`.
    pub(super) fn glibc(&self) -> Result<String> {
        let output = Command::new("objdump").arg("-p").arg(&self.path).output();
        let output = output.context("objdump could not be started")?;
        ensure!(output.status.success(), "objdump does not read {}", self.path.display());
        newest_glibc(&String::from_utf8_lossy(&output.stdout))
            .with_context(|| format!("{} asks for no glibc", self.path.display()))
    }

    /// Whether it has the id by which debuggers and crash reports know the build.
    pub(super) fn has_build_id(&self) -> Result<bool> {
        let content = fs::read(&self.path)?;
        Ok(content.windows(18).any(|window| window == b".note.gnu.build-id"))
    }
}

/// No path of this machine gets into the library: messages name the files as if all lay in the same places everywhere.
fn flags(workspace: &Path) -> Result<Vec<String>> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home =
        home.or_else(|| env::home_dir().map(|home| home.join(".cargo"))).context("cargo has no home")?;
    // Of several that fit a path, the last is taken.
    let places = [(home.as_path(), "/cargo"), (workspace, "/audit_algolia")];
    let mut flags: Vec<String> =
        places.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect();
    flags.push("-Clink-arg=-Wl,--build-id=sha1".to_owned());
    Ok(flags)
}

/// As Debian's tools do it.
fn strip(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("strip")
        .args(["--strip-unneeded", "--remove-section=.comment", "--remove-section=.note", "-o"])
        .args([to, from])
        .status()
        .context("strip could not be started")?;
    ensure!(status.success(), "{} could not be stripped", from.display());
    Ok(())
}

fn newest_glibc(listing: &str) -> Option<String> {
    let versions = listing.split_whitespace().filter_map(|word| word.strip_prefix("GLIBC_"));
    let number =
        |version: &str| -> Vec<u32> { version.split('.').filter_map(|part| part.parse().ok()).collect() };
    versions.max_by_key(|version| number(version)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        let listing = "  required from libc.so.6:\n    0x1 0x00 02 GLIBC_2.9\n    0x2 0x00 03 GLIBC_2.34\n    GLIBC_2.4";
        assert_eq!(newest_glibc(listing).as_deref(), Some("2.34"));
        assert_eq!(newest_glibc("nothing"), None);
    }
}
