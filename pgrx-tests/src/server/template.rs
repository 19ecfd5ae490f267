//! A data folder fresh from initdb, from which all clusters are copied.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{bail, Result};
use nix::fcntl::FlockArg;

use super::account::Account;
use super::files::lock;
use super::install::Installation;

/// The folder, which is created once per PostgreSQL.
pub(super) fn template(installation: &Installation, account: Account) -> Result<PathBuf> {
    let cache = installation.cache();
    let _one_at_a_time = lock(&cache.join("template.lock"), FlockArg::LockExclusive)?;
    let template = cache.join("template");
    if template.join("PG_VERSION").is_file() {
        return Ok(template);
    }
    let new = cache.join("template.new");
    if new.exists() {
        fs::remove_dir_all(&new)?;
    }
    fs::create_dir(&new)?;
    fs::set_permissions(&new, Permissions::from_mode(0o700))?;
    account.give(&new)?;
    let mut complaint = String::new();
    // Checksums are the default from 18 on. A cluster can only be upgraded to one with the same choice.
    let no_checksums = (installation.major() >= 18).then_some("--no-data-checksums");
    for locale in ["C.UTF-8", "C"] {
        let output = account
            .command(&installation.bin("initdb"))
            .args(["--no-sync", "-E", "UTF8", "-A", "trust", "-U", "postgres", "--locale", locale])
            .args(no_checksums)
            .arg("-D")
            .arg(&new)
            .output()?;
        if output.status.success() {
            fs::rename(&new, &template)?;
            return Ok(template);
        }
        complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    }
    bail!("initdb failed: {complaint}")
}
