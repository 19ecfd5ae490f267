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

/// The control file and the scripts, by name. The parts of the install script are joined, and the control file gets the
/// version.
pub fn extension_files() -> Result<Vec<(String, Vec<u8>)>> {
    let control = fs::read_to_string(cargo::workspace().join("audit_algolia.control"))?;
    let control = control.replace("@CARGO_VERSION@", env!("CARGO_PKG_VERSION"));
    let mut files = vec![("audit_algolia.control".to_owned(), control.into_bytes())];
    let mut script = String::new();
    for part in script_parts()? {
        script.push_str(&fs::read_to_string(part)?);
        script.push('\n');
    }
    if !script.is_empty() {
        files.push((script_name(), script.into_bytes()));
    }
    for step in upgrade_steps()? {
        let name = step.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.push((name, fs::read(&step)?));
    }
    Ok(files)
}

/// Puts library, control file and scripts into the folders of a new copy.
pub(super) fn add_extension(library: &Path, libraries: &Path, extensions: &Path) -> Result<()> {
    let put = |target: PathBuf, content: &[u8]| -> Result<()> {
        // A system-wide installation may contain the extension too. A hard link must not be overwritten, for that would
        // change the original.
        if target.exists() {
            fs::remove_file(&target)?;
        }
        fs::write(&target, content).with_context(|| format!("cannot write {}", target.display()))?;
        Ok(fs::set_permissions(&target, Permissions::from_mode(0o644))?)
    };
    let suffix = library.extension().unwrap_or_default().to_string_lossy();
    put(libraries.join(format!("audit_algolia.{suffix}")), &fs::read(library)?)?;
    for (name, content) in extension_files()? {
        put(extensions.join(name), &content)?;
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
