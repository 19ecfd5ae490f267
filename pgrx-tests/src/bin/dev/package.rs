//! Downloads Debian packages and unpacks them below a folder of ours, without installing them. Nothing is written to
//! system folders, and no services are started.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{ensure, Context, Result};

use crate::apt::prepare_downloads;
use crate::waiting::{self, OFTEN};

/// Nothing takes longer than this.
const PATIENCE: Duration = Duration::from_secs(120);

/// The folder that stands for the root of the file system in the package. Its name contains the package's name and
/// version.
pub(crate) fn unpacked(package: &str, folder: &Path) -> Result<PathBuf> {
    let start = format!("{package}_");
    let named = |ending: &str| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut fitting = entries.filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&start) && name.ends_with(ending)
        });
        fitting.next()
    };
    if let Some(root) = named(".root") {
        return Ok(root);
    }
    prepare_downloads()?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut download = Command::new("apt-get");
    quietly(download.current_dir(folder).args(["download", "-qq", package]))
        .with_context(|| format!("apt-get does not get {package}"))?;
    let archive = named(".deb").with_context(|| format!("apt-get left no {package}"))?;
    let (new, root) = (archive.with_extension("new"), archive.with_extension("root"));
    quietly(Command::new("dpkg-deb").arg("-x").args([&archive, &new]))
        .with_context(|| format!("dpkg-deb does not unpack {package}"))?;
    fs::rename(&new, &root)?;
    fs::remove_file(&archive)?;
    Ok(root)
}

/// Runs a command for a limited time, and prints its output only if it fails.
pub(crate) fn quietly(command: &mut Command) -> Result<()> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    if let Err(error) = waiting::until("its end", PATIENCE, OFTEN, || Ok(child.try_wait()?.is_some())) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(error);
    }
    let status = child.wait()?;
    ensure!(status.success(), "{status}");
    Ok(())
}
