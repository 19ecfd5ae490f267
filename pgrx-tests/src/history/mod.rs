//! Real changes to real documents that a machine knows of: the changelogs of its packages, the log of its package
//! manager and, if there is neither, the history of this repository.

mod time;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{ensure, Context, Result};
use flate2::read::MultiGzDecoder;

use crate::cargo;

use self::time::{mail_time, plain_time};

/// A change of a document: a release of a package, or its installation on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The package.
    pub package: String,
    /// The new version.
    pub version: String,
    /// Who changed it; `dpkg` for installations on this machine.
    pub author: String,
    /// The author's address, if known.
    pub email: Option<String>,
    /// When, in Unix seconds.
    pub changed_at: i64,
    /// The urgency, such as `low`.
    pub urgency: String,
    /// The first lines of the entry.
    pub summary: String,
}

/// The maximum length of a summary in characters. An entry may have thousands of lines.
const SUMMARY: usize = 400;

/// All changes that this machine knows of, the oldest first.
pub fn collect() -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    let mut known = HashSet::new();
    for file in changelogs() {
        // Some files are in another format or are not text. They yield no entries.
        let Ok(text) = read(&file) else { continue };
        changes.extend(
            changelog(&text)
                .into_iter()
                .filter(|one| known.insert((one.package.clone(), one.version.clone()))),
        );
    }
    for file in files_of("/var/log", |name| name.starts_with("dpkg.log")) {
        changes.extend(read(&file).map(|text| dpkg_log(&text)).unwrap_or_default());
    }
    if changes.is_empty() {
        changes = own_history()?;
    }
    changes.sort_by_key(|change| change.changed_at);
    Ok(changes)
}

/// The entries of a Debian changelog.
pub fn changelog(text: &str) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut open: Option<Change> = None;
    for line in text.lines() {
        if let Some(started) = heading(line) {
            open = Some(started);
        } else if let Some(signature) = line.strip_prefix(" -- ") {
            let Some(mut change) = open.take() else { continue };
            if sign(&mut change, signature).is_some() {
                changes.push(change);
            }
        } else if let Some(change) = open.as_mut() {
            let room = change.summary.len() < SUMMARY;
            let words = line.trim().trim_start_matches("* ");
            if room && !words.is_empty() {
                let gap = if change.summary.is_empty() { "" } else { " " };
                let left = SUMMARY.saturating_sub(change.summary.len());
                change.summary.extend(gap.chars().chain(words.chars()).take(left));
            }
        }
    }
    changes
}

/// The package manager's log. Its times have no zone and are taken as UTC.
pub fn dpkg_log(text: &str) -> Vec<Change> {
    let action = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[date, time, action, package, old, new] = words.as_slice() else {
            return None;
        };
        let (version, summary) = match action {
            "install" => (new, format!("install {new}")),
            "upgrade" => (new, format!("upgrade from {old} to {new}")),
            "remove" | "purge" => (old, format!("{action} {old}")),
            _ => return None,
        };
        Some(Change {
            package: package.split(':').next().unwrap_or(package).to_owned(),
            version: version.to_owned(),
            author: "dpkg".to_owned(),
            email: None,
            changed_at: plain_time(date, time)?,
            urgency: "none".to_owned(),
            summary,
        })
    };
    text.lines().filter_map(action).collect()
}

/// The commits of this repository.
fn own_history() -> Result<Vec<Change>> {
    let output = Command::new("git")
        .args(["log", "--format=%h%x1f%an%x1f%ae%x1f%at%x1f%s"])
        .current_dir(cargo::workspace())
        .output()
        .context("git could not be started")?;
    ensure!(output.status.success(), "git log failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(git_log(&String::from_utf8_lossy(&output.stdout)))
}

fn git_log(text: &str) -> Vec<Change> {
    let commit = |line: &str| {
        let parts: Vec<&str> = line.splitn(5, '\u{1f}').collect();
        let &[version, author, email, time, summary] = parts.as_slice() else {
            return None;
        };
        Some(Change {
            package: "audit_algolia".to_owned(),
            version: version.to_owned(),
            author: author.to_owned(),
            email: Some(email.to_owned()),
            changed_at: time.parse().ok()?,
            urgency: "none".to_owned(),
            summary: summary.to_owned(),
        })
    };
    text.lines().filter_map(commit).collect()
}

/// `package (version) distributions; urgency=medium, …`
fn heading(line: &str) -> Option<Change> {
    if !line.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return None;
    }
    let (package, rest) = line.split_once(" (")?;
    let (version, rest) = rest.split_once(')')?;
    let (_, options) = rest.split_once(';')?;
    let single = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
    if !single(package) || !single(version) {
        return None;
    }
    let urgency = options.split([',', ' ']).find_map(|option| option.trim().strip_prefix("urgency="));
    Some(Change {
        package: package.to_owned(),
        version: version.to_owned(),
        author: String::new(),
        email: None,
        changed_at: 0,
        urgency: urgency.unwrap_or("none").to_lowercase(),
        summary: String::new(),
    })
}

/// `Name <address>  Mon, 02 Jan 2006 15:04:05 -0700`
fn sign(change: &mut Change, signature: &str) -> Option<()> {
    let (author, rest) = signature.split_once('<')?;
    let (email, time) = rest.split_once('>')?;
    change.author = author.trim().trim_matches('"').to_owned();
    change.email = Some(email.trim().to_owned()).filter(|text| !text.is_empty());
    change.changed_at = mail_time(time)?;
    Some(())
}

fn changelogs() -> Vec<PathBuf> {
    let packages = files_of("/usr/share/doc", |_| true);
    packages.iter().flat_map(|folder| files_of(folder, |name| name.starts_with("changelog"))).collect()
}

fn files_of(folder: impl AsRef<Path>, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(&wanted))
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

fn read(path: &Path) -> Result<String> {
    let mut file = BufReader::new(File::open(path)?);
    let mut content = Vec::new();
    if file.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        MultiGzDecoder::new(file).read_to_end(&mut content)?;
    } else {
        file.read_to_end(&mut content)?;
    }
    Ok(String::from_utf8_lossy(&content).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGELOG: &str = "\
adduser (3.134) unstable; urgency=Low, binary-only=yes

  [ Marc Haber ]
  * fix a typo
    in the manual

 -- Marc Haber <mh+debian-packages@zugschlus.de>  Sun, 02 Apr 2023 18:33:38 +0200

adduser (3.133) unstable;

 -- \"No Address\" <>  Fri, 01 Mar 1996 00:00:00 -0930

broken (1) unstable; urgency=low

 -- Nobody <n@example.org>  yesterday
";

    #[test]
    fn reads_the_entries_of_a_changelog() {
        let changes = changelog(CHANGELOG);
        assert_eq!(changes.len(), 2);
        let first = &changes[0];
        assert_eq!((first.package.as_str(), first.version.as_str()), ("adduser", "3.134"));
        assert_eq!(first.author, "Marc Haber");
        assert_eq!(first.email.as_deref(), Some("mh+debian-packages@zugschlus.de"));
        assert_eq!((first.changed_at, first.urgency.as_str()), (1_680_453_218, "low"));
        assert_eq!(first.summary, "[ Marc Haber ] fix a typo in the manual");
        let second = &changes[1];
        assert_eq!(
            (second.author.as_str(), &second.email, second.urgency.as_str()),
            ("No Address", &None, "none")
        );
        assert_eq!(second.changed_at, 825_672_600);
    }

    #[test]
    fn cuts_long_summaries_between_characters() {
        let text = format!(
            "a (1) b; urgency=low\n\n  * {}\n\n -- A <a@b>  Sun, 02 Apr 2023 18:33:38 +0200\n",
            "ß".repeat(900)
        );
        let summary = &changelog(&text)[0].summary;
        assert!(summary.starts_with('ß') && summary.len() <= 2 * SUMMARY);
    }

    #[test]
    fn reads_what_the_package_manager_did() {
        let log = "\
2025-06-24 14:36:25 startup archives unpack
2025-06-24 14:36:25 upgrade libsystemd0:amd64 252.36-1 252.38-1
2025-06-24 14:36:25 status half-configured libsystemd0:amd64 252.36-1
2025-06-24 14:36:26 install jq:amd64 <none> 1.6
2025-06-24 14:36:27 remove jq:amd64 1.6 <none>
";
        let told: Vec<_> =
            dpkg_log(log).into_iter().map(|one| (one.package, one.version, one.summary)).collect();
        let expected = [
            ("libsystemd0", "252.38-1", "upgrade from 252.36-1 to 252.38-1"),
            ("jq", "1.6", "install 1.6"),
            ("jq", "1.6", "remove 1.6"),
        ];
        assert_eq!(told, expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())));
        assert_eq!(dpkg_log(log)[0].changed_at, 1_750_775_785);
    }

    #[test]
    fn reads_commits() {
        let changes = git_log("abc1234\u{1f}Ada\u{1f}ada@example.org\u{1f}1700000000\u{1f}Add a thing\n");
        assert_eq!(changes.len(), 1);
        assert_eq!((changes[0].version.as_str(), changes[0].changed_at), ("abc1234", 1_700_000_000));
    }
}
