//! The user that servers run as: that of this process or, because PostgreSQL refuses root, an unprivileged one.

use std::os::unix::fs::{chown, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::unistd::{geteuid, User};

/// The user that a server runs as.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    /// `None`: the user of this process.
    other: Option<(u32, u32)>,
}

impl Account {
    /// The user of this process or, if that is root, `postgres` or else `nobody`.
    pub fn for_servers() -> Result<Account> {
        if !geteuid().is_root() {
            return Ok(Account { other: None });
        }
        let user = ["postgres", "nobody"]
            .iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .context("root may not run PostgreSQL, and there is neither a user postgres nor nobody")?;
        Ok(Account { other: Some((user.uid.as_raw(), user.gid.as_raw())) })
    }

    /// A command that runs as this user, in a folder that the user can enter. It drops variables that would change how
    /// a server behaves or what it tells its clients.
    pub(crate) fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").env("LC_ALL", "C");
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("PG") || text.starts_with("RUST_") {
                command.env_remove(&name);
            }
        }
        if let Some((user, group)) = self.other {
            command.uid(user).gid(group);
        }
        command
    }

    /// Makes this user the owner of a file or folder.
    pub(crate) fn give(self, path: &Path) -> Result<()> {
        if let Some((user, group)) = self.other {
            chown(path, Some(user), Some(group))
                .with_context(|| format!("cannot give away {}", path.display()))?;
        }
        Ok(())
    }

    /// Whether this user can read `folder`. If it is another user than ours, everybody must be allowed through each
    /// folder on the way, which is often not so for a clone in a home folder.
    pub(crate) fn reaches(self, folder: &Path) -> bool {
        self.other.is_none()
            || folder.ancestors().all(|one| one.metadata().map_or(true, |meta| meta.mode() & 0o001 != 0))
    }
}
