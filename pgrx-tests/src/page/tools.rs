//! Owns what the audit page is built and tested with: Node.js and npm, the packages they get, and a browser.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{ensure, Context, Result};
use nix::fcntl::{Flock, FlockArg};

use crate::cargo::{target_dir, workspace};

/// The oldest Node.js that builds the page and runs its tests.
const OLDEST_NODE: (u32, u32) = (18, 19);

/// What is missing, by the name of Debian's package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    Node,
    Npm,
    Chromium,
}

impl Lack {
    /// The package that has it.
    pub fn package(self) -> &'static str {
        match self {
            Lack::Node => "nodejs",
            Lack::Npm => "npm",
            Lack::Chromium => "chromium",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Lack::Node => "Node.js 18.19 or later",
            Lack::Npm => "npm",
            Lack::Chromium => "chromium",
        }
    }
}

/// What the page needs and this machine has not; the browser is only for its tests.
pub fn lacks(is_for_tests: bool) -> Vec<Lack> {
    let mut lacks = Vec::new();
    if node().is_none() {
        lacks.push(Lack::Node);
    }
    if on_path("npm").is_none() {
        lacks.push(Lack::Npm);
    }
    if is_for_tests && chromium().is_none() {
        lacks.push(Lack::Chromium);
    }
    lacks
}

/// What is missing and how it is got, in a sentence.
pub fn advice(lacks: &[Lack]) -> String {
    let names: Vec<&str> = lacks.iter().map(|lack| lack.name()).collect();
    let packages: Vec<&str> = lacks.iter().map(|lack| lack.package()).collect();
    format!("{} missing; on Debian: sudo apt-get install {}", names.join(" and "), packages.join(" "))
}

/// The tools, with the packages that the page is made of.
pub struct Tools {
    node: PathBuf,
}

impl Tools {
    /// Finds Node.js, and has npm install what `package-lock.json` names, if that has not been done.
    ///
    /// # Errors
    /// When something is missing, or npm does not get the packages.
    pub fn prepare() -> Result<Tools> {
        let lacks = lacks(false);
        ensure!(lacks.is_empty(), "{}", advice(&lacks));
        let tools = Tools { node: node().context("Node.js has gone")? };
        let _alone = lock()?;
        install_packages()?;
        Ok(tools)
    }

    /// Node.js in the page's folder, for a script that is there.
    pub fn node(&self, script: &str) -> Command {
        let mut command = Command::new(&self.node);
        command.current_dir(web()).arg(script);
        command
    }

    /// Builds the page into a folder.
    ///
    /// # Errors
    /// When the page does not build.
    pub fn build(&self, out: &Path) -> Result<()> {
        let output = self.node("build.mjs").arg("--out").arg(out).output().context("node does not start")?;
        check("the page does not build", &output)
    }
}

/// The browser for tests.
pub fn chromium() -> Option<PathBuf> {
    if let Some(named) = env::var_os("CHROMIUM") {
        return Some(PathBuf::from(named)).filter(|path| path.is_file());
    }
    let places = ["/usr/bin/chromium", "/usr/bin/google-chrome"];
    places.iter().map(PathBuf::from).find(|path| path.is_file())
}

fn web() -> PathBuf {
    workspace().join("web")
}

/// Only one process at a time installs packages.
fn lock() -> Result<Flock<File>> {
    let path = target_dir().join("web.lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).context("cannot lock web/")
}

fn install_packages() -> Result<()> {
    let wanted = fs::read(web().join("package-lock.json")).context("web/ has no package-lock.json")?;
    // What was installed last, so that npm runs only when it has something to do.
    let installed = web().join("node_modules/.installed-package-lock.json");
    if fs::read(&installed).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    let output = Command::new("npm")
        .current_dir(web())
        .args(["ci", "--no-audit", "--no-fund"])
        .stdin(Stdio::null())
        .output()
        .context("npm does not start")?;
    check("npm ci could not get the page's packages", &output)?;
    fs::write(&installed, wanted).with_context(|| format!("cannot write {}", installed.display()))
}

fn check(what: &str, output: &Output) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.trim().lines().collect();
    let end = said.get(said.len().saturating_sub(8)..).unwrap_or_default().join("\n");
    ensure!(output.status.success(), "{what}: {}\n{end}", output.status);
    Ok(())
}

/// A Node.js that is new enough.
fn node() -> Option<PathBuf> {
    ["node", "nodejs"].iter().filter_map(|name| on_path(name)).find(|path| {
        let output = Command::new(path).arg("--version").output();
        output.is_ok_and(|output| is_new_enough(&String::from_utf8_lossy(&output.stdout)))
    })
}

/// Whether a version such as `v18.20.4` will do.
fn is_new_enough(version: &str) -> bool {
    let mut parts = version.trim().trim_start_matches('v').split('.').map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else { return false };
    (major, minor) >= OLDEST_NODE
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_old_versions_of_node() {
        let of = |version| is_new_enough(version);
        assert_eq!([of("v18.19.0\n"), of("v20.1.0"), of("v22.3.1")], [true; 3]);
        assert_eq!([of("v18.13.0"), of("v12.22.5"), of(""), of("v20")], [false; 4]);
    }

    #[test]
    fn says_what_is_missing_and_how_it_is_got() {
        assert_eq!(
            advice(&[Lack::Npm, Lack::Chromium]),
            "npm and chromium missing; on Debian: sudo apt-get install npm chromium"
        );
    }
}
