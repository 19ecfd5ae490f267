//! The extension's files in the workspace, and their installation into a PostgreSQL.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, Permissions};
use std::hash::{Hash, Hasher};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cargo;

/// The name of the install script.
pub(super) fn script_name() -> String {
    format!("audit_algolia--{}.sql", env!("CARGO_PKG_VERSION"))
}

/// The parts of the install script, in order.
fn script_parts() -> Result<Vec<PathBuf>> {
    sql_files(&cargo::workspace().join("sql/install"), "")
}

fn upgrade_steps() -> Result<Vec<PathBuf>> {
    sql_files(&cargo::workspace().join("sql"), "audit_algolia--")
}

fn sql_files(folder: &Path, start: &str) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_file() && name.starts_with(start) && name.ends_with(".sql") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Puts library, control file and scripts into the folders of a new copy.
pub(super) fn add_extension(library: &Path, libraries: &Path, extensions: &Path) -> Result<()> {
    let put = |target: PathBuf, content: &[u8]| -> Result<()> {
        fs::write(&target, content).with_context(|| format!("cannot write {}", target.display()))?;
        Ok(fs::set_permissions(&target, Permissions::from_mode(0o644))?)
    };
    let suffix = library.extension().unwrap_or_default().to_string_lossy();
    // A system-wide installation may contain the extension too. A hard link must not be overwritten, for that would
    // change the original.
    let module = libraries.join(format!("audit_algolia.{suffix}"));
    for old in [&module, &extensions.join("audit_algolia.control"), &extensions.join(script_name())] {
        if old.exists() {
            fs::remove_file(old)?;
        }
    }
    put(module, &fs::read(library)?)?;
    let control = fs::read_to_string(cargo::workspace().join("audit_algolia.control"))?;
    let control = control.replace("@CARGO_VERSION@", env!("CARGO_PKG_VERSION"));
    put(extensions.join("audit_algolia.control"), control.as_bytes())?;
    let mut script = String::new();
    for part in script_parts()? {
        script.push_str(&fs::read_to_string(part)?);
        script.push('\n');
    }
    if !script.is_empty() {
        put(extensions.join(script_name()), script.as_bytes())?;
    }
    for step in upgrade_steps()? {
        let target = extensions.join(step.file_name().unwrap_or_default());
        if target.exists() {
            fs::remove_file(&target)?;
        }
        put(target, &fs::read(&step)?)?;
    }
    Ok(())
}

/// Distinguishes builds of the extension without reading the library, which has tens of megabytes.
pub(super) fn fingerprint(library: &Path) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    let meta = fs::metadata(library)?;
    (library, meta.len(), meta.mtime(), meta.mtime_nsec()).hash(&mut hasher);
    fs::read(cargo::workspace().join("audit_algolia.control"))?.hash(&mut hasher);
    for file in script_parts()?.iter().chain(&upgrade_steps()?) {
        (file, fs::read(file)?).hash(&mut hasher);
    }
    Ok(hasher.finish())
}
