//! What `--bare` does: the packages are installed in bare Debian systems by the lines of README.md, upgraded and removed,
//! and what they deliver arrives.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, ensure, Context, Result};
use nix::unistd::geteuid;

use audit_algolia_tests::cargo;
use audit_algolia_tests::standin::{Standin, StandinConfig, ADMIN_KEY, APP_ID};

use super::contents::Format;
use super::made::{folder, Made};
use crate::apt;

/// A release of Debian with the version of PostgreSQL that it has.
pub(super) struct System {
    suite: &'static str,
    major: u32,
    /// Who makes the cluster: `by-hand` or `by-package`, Debian's of PostgreSQL.
    cluster: &'static str,
}

const SYSTEMS: [System; 2] = [
    System { suite: "bookworm", major: 15, cluster: "by-hand" },
    System { suite: "trixie", major: 17, cluster: "by-package" },
];

/// A system, and the package that it begins with.
pub(super) struct Trial {
    pub(super) system: &'static System,
    pub(super) before: PathBuf,
}

/// Makes the bare system `$1` as the archive `$2`, from the mirror that this system uses.
const MAKE: &str = r#"
set -eu
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | sort -u | head -n 1)
mmdebstrap --quiet --mode=root --variant=minbase "$1" "$2.new.tar" "$mirror"
mv "$2.new.tar" "$2"
"#;

/// Unpacks the archive `$1` into `$2` and runs the rest there, in namespaces that end all its processes and mounts.
const RUN: &str = r#"
set -eu
archive=$1 root=$2
shift 2
tar -xf "$archive" -C "$root"
cp /etc/resolv.conf "$root/etc/resolv.conf"
exec unshare --mount --pid --fork --kill-child --mount-proc="$root/proc" chroot "$root" "$@"
"#;

/// The system that has this version of PostgreSQL.
pub(super) fn system(major: u32) -> Option<&'static System> {
    SYSTEMS.iter().find(|system| system.major == major)
}

pub(super) fn run(trials: &[Trial], made: &[Made]) -> Result<()> {
    ensure!(geteuid().is_root(), "bare systems are made as root only");
    ensure!(!trials.is_empty(), "no bare system has such a version of PostgreSQL");
    apt::install_program("mmdebstrap")?;
    for Trial { system, before } in trials {
        println!("== {} with PostgreSQL {}", system.suite, system.major);
        let package = made.iter().find(|one| one.major == system.major && one.format == Format::Deb);
        system.test(before, &package.context("no package has been made for it")?.file)?;
    }
    Ok(())
}

impl System {
    /// The one package for its version of PostgreSQL in a folder.
    pub(super) fn package_in(&self, folder: &Path) -> Result<PathBuf> {
        let start = format!("postgresql-{}-audit-algolia_", self.major);
        let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let mut found = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start)));
        match (found.next(), found.next()) {
            (Some(package), None) => Ok(package),
            (None, _) => bail!("{} has no package for PostgreSQL {}", folder.display(), self.major),
            _ => bail!("{} has several packages for PostgreSQL {}", folder.display(), self.major),
        }
    }

    fn test(&self, before: &Path, package: &Path) -> Result<()> {
        let systems = folder().join("systems");
        fs::create_dir_all(&systems)?;
        let archive = systems.join(format!("{}.tar", self.suite));
        if !archive.is_file() {
            bash(MAKE, &[self.suite.as_ref(), archive.as_os_str()]).context("mmdebstrap failed")?;
        }
        let root = systems.join(format!("{}.{}", self.suite, std::process::id()));
        fs::create_dir(&root)?;
        // A new folder is its owner's alone, but the server's user has to get through.
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755))?;
        let result = self.test_in(&root, &archive, before, package);
        fs::remove_dir_all(&root)?;
        result
    }

    fn test_in(&self, root: &Path, archive: &Path, before: &Path, package: &Path) -> Result<()> {
        let standin = Standin::start(StandinConfig::default())?;
        for (file, name) in [(before, "before"), (package, "after")] {
            let folder = root.join("packages").join(name);
            fs::create_dir_all(&folder)?;
            fs::copy(file, folder.join(file.file_name().unwrap_or_default()))?;
        }
        let readme = fs::read_to_string(cargo::workspace().join("README.md"))?;
        let lines = first_record(&readme).context("README.md has no three lines to the first record")?;
        fs::write(root.join("first_record.sh"), self.adapt(lines, &standin.base_urls().join(",")))?;
        fs::write(root.join("bare.sh"), include_str!("bare.sh"))?;
        let major = self.major.to_string();
        let arguments = ["/bin/bash", "/bare.sh", &major, self.cluster].map(OsStr::new);
        bash(RUN, &[&[archive.as_os_str(), root.as_os_str()][..], &arguments].concat())
            .with_context(|| format!("the package fails in {}", self.suite))?;
        let arrived: Vec<String> = standin.index("log").into_keys().collect();
        ensure!(arrived == ["1", "2", "3"], "these records have arrived: {arrived:?}");
        println!("   installed, delivered, upgraded, removed: {}", self.suite);
        Ok(())
    }

    /// The lines for this version of PostgreSQL, and for a stand-in for Algolia.
    fn adapt(&self, lines: &str, hosts: &str) -> String {
        lines
            .replace("-17-", &format!("-{}-", self.major))
            .replace("/17/", &format!("/{}/", self.major))
            .replace(" 17 ", &format!(" {} ", self.major))
            .replace("YourApplicationID", APP_ID)
            .replace("YourWriteKey", &format!("{ADMIN_KEY} audit_algolia.hosts {hosts}"))
    }
}

/// The lines in the first block of code under the heading about Debian.
fn first_record(readme: &str) -> Option<&str> {
    let (_, section) = readme.split_once("\n## On Debian\n")?;
    let block = section.split("```").nth(1)?.strip_prefix("sh\n")?;
    (block.lines().count() == 3).then_some(block)
}

fn bash(script: &str, arguments: &[&OsStr]) -> Result<()> {
    let status = Command::new("bash")
        .args(["-c", script, "bash"])
        .args(arguments)
        .status()
        .context("bash could not be started")?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_readme_are_found_and_adapted() {
        let readme = fs::read_to_string(cargo::workspace().join("README.md")).unwrap();
        let lines = SYSTEMS[0].adapt(first_record(&readme).unwrap(), "http://127.0.0.1:1");
        assert!(lines.starts_with("sudo apt install ./postgresql-15-audit-algolia_"), "{lines}");
        assert!(lines.contains("/etc/postgresql/15/main/"), "{lines}");
        assert!(lines.contains(" audit_algolia.hosts http://127.0.0.1:1 "), "{lines}");
        assert!(!lines.contains("Your") && !lines.contains("17"), "{lines}");
    }
}
