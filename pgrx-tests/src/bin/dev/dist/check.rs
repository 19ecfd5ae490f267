//! What `--check` does: packages made once more, elsewhere, have the same bytes, and lintian finds no errors.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{ensure, Context, Result};

use audit_algolia_tests::cargo;

use super::contents::{Format, Package};
use super::library::Library;
use super::made::{folder, Made};
use super::nfpm::Nfpm;
use super::release::Release;
use crate::apt;

/// Copies the files that git knows, or would add, from the folder `$1` into the new folder `$2`.
const COPY: &str = r#"
set -eu
rm -rf "$2"
mkdir -p "$2"
cd "$1"
git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- -cf - | tar -xf - -C "$2"
"#;

/// Copies the source to another place, where nothing is built yet.
pub(super) fn copy_source() -> Result<PathBuf> {
    let elsewhere = folder().join("elsewhere");
    let status = Command::new("bash")
        .args(["-c", COPY, "copy"])
        .args([&cargo::workspace(), &elsewhere])
        .status()
        .context("bash could not be started")?;
    ensure!(status.success(), "the source could not be copied");
    Ok(elsewhere)
}

/// Packs the library that was built elsewhere, and compares.
pub(super) fn compare(nfpm: &Nfpm, made: &[Made], library: &Library, release: &Release) -> Result<()> {
    let again = folder().join("again");
    for one in made.iter().filter(|one| one.major == library.major) {
        let file = nfpm.pack(&Package::new(library, one.format, release)?, &again)?;
        ensure!(
            fs::read(&file)? == fs::read(&one.file)?,
            "{} and {} are made of the same source and differ",
            one.file.display(),
            file.display()
        );
        println!("   made elsewhere, it has the same bytes: {}", name(&one.file));
    }
    Ok(())
}

/// Fails at errors that lintian finds in Debian's packages; shows its warnings.
pub(super) fn lint(made: &[Made]) -> Result<()> {
    apt::install_program("lintian")?;
    for one in made.iter().filter(|one| one.format == Format::Deb) {
        println!("== lintian {}", name(&one.file));
        let status = Command::new("lintian")
            .args(["--allow-root", "--fail-on", "error", "--tag-display-limit", "0"])
            .arg(&one.file)
            .status()
            .context("lintian could not be started")?;
        ensure!(status.success(), "lintian finds errors in {}", one.file.display());
    }
    Ok(())
}

fn name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
