//! The extension's files in the workspace, and their installation into a PostgreSQL.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, Permissions};
use std::hash::{Hash, Hasher};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cargo;

/// What the names of all scripts start with.
const SCRIPT_START: &str = "audit_algolia--";

/// The name of the install script.
pub(super) fn script_name() -> String {
    format!("audit_algolia--{}.sql", env!("CARGO_PKG_VERSION"))
}

/// The parts of the install script, in order.
fn script_parts() -> Result<Vec<PathBuf>> {
    sql_files(&cargo::workspace().join("sql/install"), "")
}

/// The steps from one version to the next, and back.
fn upgrade_steps() -> Result<Vec<PathBuf>> {
    sql_files(&cargo::workspace().join("sql"), SCRIPT_START)
}

/// The install scripts of released versions, which tests of upgrades begin with. No package has them.
fn released_scripts() -> Result<Vec<PathBuf>> {
    sql_files(&cargo::workspace().join("sql/released"), SCRIPT_START)
}

/// The released versions, the oldest first.
///
/// # Errors
/// When their folder cannot be read.
pub fn released_versions() -> Result<Vec<String>> {
    let scripts = released_scripts()?;
    let names = scripts.iter().filter_map(|path| path.file_stem()?.to_str()?.strip_prefix(SCRIPT_START));
    let mut versions: Vec<String> = names.map(str::to_owned).collect();
    versions.sort_by_key(|version| {
        version.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>()
    });
    Ok(versions)
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
        files.push(named(&step)?);
    }
    Ok(files)
}

fn named(file: &Path) -> Result<(String, Vec<u8>)> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok((name, fs::read(file)?))
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
    let released = released_scripts()?.iter().map(|script| named(script)).collect::<Result<Vec<_>>>()?;
    for (name, content) in released.into_iter().chain(extension_files()?) {
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
    for file in script_parts()?.iter().chain(&upgrade_steps()?).chain(&released_scripts()?) {
        (file, fs::read(file)?).hash(&mut hasher);
    }
    Ok(hasher.finish())
}
