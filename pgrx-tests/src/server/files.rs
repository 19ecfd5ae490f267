//! Copies of folder trees, and locks on files.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{ensure, Context, Result};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

use super::account::Account;

/// How [`copy_tree`] makes a file.
#[derive(Clone, Copy)]
pub(super) enum Make {
    /// A copy with its own content.
    Copy,
    /// A hard link, for files that nobody writes.
    Link,
    /// A copy that belongs to the account.
    CopyFor(Account),
}

/// Copies a folder into another that may exist already. Symbolic links are followed, so that the copy does not refer to
/// the original.
pub(super) fn copy_tree(from: &Path, to: &Path, make: Make) -> Result<()> {
    let meta = fs::metadata(from).with_context(|| format!("cannot read {}", from.display()))?;
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(from)? {
        let source = entry?.path();
        let Some(name) = source.file_name() else { continue };
        let target = to.join(name);
        // A dangling link is of no use in the copy either.
        let Ok(found) = fs::metadata(&source) else {
            continue;
        };
        if found.is_dir() {
            copy_tree(&source, &target, make)?;
        } else if found.is_file() {
            copy_file(&source, &target, make)?;
        }
    }
    // The permissions are set last, because a folder without write permission must be filled first, and explicitly,
    // because of the umask.
    fs::set_permissions(to, Permissions::from_mode(meta.mode() & 0o7777))?;
    if let Make::CopyFor(account) = make {
        account.give(to)?;
    }
    Ok(())
}

fn copy_file(source: &Path, target: &Path, make: Make) -> Result<()> {
    match make {
        Make::Link => fs::hard_link(source, target),
        Make::Copy | Make::CopyFor(_) => fs::copy(source, target).map(drop),
    }
    .with_context(|| format!("cannot copy {} to {}", source.display(), target.display()))?;
    if let Make::CopyFor(account) = make {
        account.give(target)?;
    }
    Ok(())
}

/// Fills a folder under another name and then renames it, so that nobody sees it incomplete.
pub(super) fn in_one_step(cache: &Path, target: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let new = cache.join("new");
    for old in [&new, &target.to_path_buf()] {
        if old.exists() {
            fs::remove_dir_all(old)?;
        }
    }
    fs::create_dir(&new)?;
    fill(&new)?;
    open_to_all(&new)?;
    fs::rename(&new, target).with_context(|| format!("cannot put {} in place", target.display()))
}

/// Folders on the way got their permissions from the umask, but the server's user must be able to enter them.
fn open_to_all(folder: &Path) -> Result<()> {
    let mode = fs::metadata(folder)?.mode();
    fs::set_permissions(folder, Permissions::from_mode(mode | 0o755))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_to_all(&entry.path())?;
        }
    }
    Ok(())
}

/// Creates a folder that others can read but only this user can change, in a place where everybody can write.
pub(super) fn own_folder(path: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().mode(0o755).create(path);
    if made.is_ok() {
        fs::set_permissions(path, Permissions::from_mode(0o755))?;
    }
    let meta = fs::symlink_metadata(path).with_context(|| format!("cannot make {}", path.display()))?;
    ensure!(
        meta.is_dir() && meta.uid() == geteuid().as_raw() && meta.mode() & 0o022 == 0,
        "{} belongs to somebody else",
        path.display()
    );
    Ok(())
}

/// Waits for a lock on the file, which is created if it does not exist. The lock is released when it is dropped or the
/// process ends.
pub(super) fn lock(path: &Path, how: FlockArg) -> Result<Flock<File>> {
    let file = open(path)?;
    Flock::lock(file, how)
        .map_err(|(_, error)| error)
        .with_context(|| format!("cannot lock {}", path.display()))
}

/// The lock, or `None` if another process holds it or the file does not exist.
pub(super) fn try_lock(path: &Path) -> Option<Flock<File>> {
    let file = OpenOptions::new().write(true).open(path).ok()?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))
}
