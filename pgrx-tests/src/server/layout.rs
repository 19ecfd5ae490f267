//! Finds the parts of a PostgreSQL and copies them.

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{ensure, Result};

use super::files::{copy_tree, in_one_step, Make};
use super::pg_config::PgConfig;

/// Where the parts of a server are, relative to a common root. PostgreSQL finds them relative to its program, so a
/// server can be moved by keeping these relations.
pub(super) struct Layout {
    prefix: PathBuf,
    pub(super) bin: PathBuf,
    pub(super) library: PathBuf,
    pub(super) share: PathBuf,
}

impl Layout {
    pub(super) fn of(pg: &PgConfig) -> Result<Layout> {
        let [bin, library, share] = ["bindir", "pkglibdir", "sharedir"].map(|option| pg.folder(option));
        let (bin, library, share) = (bin?, library?, share?);
        let shared = bin.components().zip(library.components()).zip(share.components());
        let prefix: PathBuf =
            shared.take_while(|((a, b), c)| a == b && b == c).map(|((a, _), _): (_, Component)| a).collect();
        let below = |folder: &Path| {
            let rest = folder.strip_prefix(&prefix)?.to_path_buf();
            ensure!(!rest.as_os_str().is_empty(), "{} holds the others", folder.display());
            Ok(rest)
        };
        Ok(Layout { bin: below(&bin)?, library: below(&library)?, share: below(&share)?, prefix })
    }
}

/// A copy of the server without the extension.
pub(super) fn plain_copy(cache: &Path, pg: &PgConfig, layout: &Layout) -> Result<PathBuf> {
    let plain = cache.join("plain");
    if plain.is_dir() {
        return Ok(plain);
    }
    in_one_step(cache, &plain, |new| {
        for part in [&layout.bin, &layout.library, &layout.share] {
            copy_tree(&layout.prefix.join(part), &new.join(part), Make::Copy)?;
        }
        // A PostgreSQL with a prefix of its own keeps libpq and the like beside its modules.
        let shared = pg.folder("libdir")?;
        let own = layout.prefix.join("bin") == layout.prefix.join(&layout.bin);
        if let (true, Ok(rest)) = (own, shared.strip_prefix(&layout.prefix)) {
            let system = ["/usr", "/usr/local"].iter().any(|folder| layout.prefix == Path::new(folder));
            if !system && !layout.library.starts_with(rest) {
                copy_tree(&shared, &new.join(rest), Make::Copy)?;
            } else if !system {
                copy_files(&shared, &new.join(rest))?;
            }
        }
        Ok(())
    })?;
    Ok(plain)
}

/// Adds the modules and scripts of an unpacked package. Files that the server already has are kept, because they may be
/// links to files that must not be changed.
pub(super) fn add_package(package: &Path, layout: &Layout, new: &Path) -> Result<()> {
    let prefix = package.join(layout.prefix.strip_prefix("/").unwrap_or(&layout.prefix));
    for part in [layout.library.clone(), layout.share.join("extension")] {
        let from = prefix.join(&part);
        if from.is_dir() {
            copy_files(&from, &new.join(&part))?;
        }
    }
    Ok(())
}

fn copy_files(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let source = entry?.path();
        let target = to.join(source.file_name().unwrap_or_default());
        if source.is_file() && !target.exists() {
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}
