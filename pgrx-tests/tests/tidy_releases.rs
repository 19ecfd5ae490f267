//! What belongs to a release: its install script, which never changes again, its commit, C functions that keep their
//! arguments, a step to the next version and one back, and an entry in the changelog. No server.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use audit_algolia_tests::cargo::workspace;
use audit_algolia_tests::server::released_versions;
use audit_algolia_tests::stage::leave_out;
use sha2::{Digest, Sha256};

const PRESENT: &str = env!("CARGO_PKG_VERSION");

fn released_script(version: &str) -> PathBuf {
    workspace().join(format!("sql/released/audit_algolia--{version}.sql"))
}

#[test]
fn the_script_of_a_released_version_never_changes() {
    let sums = fs::read_to_string(workspace().join("sql/released/SHA256SUMS")).unwrap();
    let found: BTreeSet<String> = released_versions()
        .unwrap()
        .iter()
        .map(|version| {
            let sum = Sha256::digest(fs::read(released_script(version)).unwrap());
            let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{sum}  audit_algolia--{version}.sql")
        })
        .collect();
    assert_eq!(sums.lines().map(str::to_owned).collect::<BTreeSet<_>>(), found);
}

#[test]
fn the_script_of_a_release_is_what_it_installs() {
    if !released_versions().unwrap().iter().any(|version| version == PRESENT) {
        return;
    }
    assert_eq!(fs::read_to_string(released_script(PRESENT)).unwrap(), install_script());
}

fn install_script() -> String {
    let parts = fs::read_dir(workspace().join("sql/install")).unwrap();
    let mut parts: Vec<PathBuf> = parts.map(|entry| entry.unwrap().path()).collect();
    parts.sort();
    parts.iter().map(|part| fs::read_to_string(part).unwrap()).collect()
}

/// What git says, or `None` if it fails.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").current_dir(workspace()).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// Tests of upgrades build the library of the commit.
#[test]
fn the_script_of_an_earlier_release_is_that_of_its_commit() {
    let commits = fs::read_to_string(workspace().join("sql/released/COMMITS")).unwrap();
    let listed: Vec<(&str, &str)> = commits.lines().map(|line| line.split_once(' ').unwrap()).collect();
    let mut versions = released_versions().unwrap();
    versions.retain(|version| version != PRESENT);
    assert_eq!(listed.iter().map(|(version, _)| *version).collect::<Vec<_>>(), versions);
    for (version, commit) in listed {
        let Some(parts) = git(&["ls-tree", "--name-only", commit, "sql/install/"]) else {
            leave_out(&format!("the commit of version {version}, which this clone does not have"));
            continue;
        };
        let script: String =
            parts.lines().map(|part| git(&["show", &format!("{commit}:{part}")]).unwrap()).collect();
        assert_eq!(fs::read_to_string(released_script(version)).unwrap(), script, "{version}");
    }
}

/// Objects of an old version call a later library. It would read arguments that are not there, or return columns that
/// nobody expects.
#[test]
fn a_c_function_keeps_its_arguments_and_its_result() {
    let mut scripts: Vec<String> = released_versions()
        .unwrap()
        .iter()
        .map(|version| fs::read_to_string(released_script(version)).unwrap())
        .collect();
    scripts.push(install_script());
    let mut known: BTreeMap<&str, &str> = BTreeMap::new();
    for script in &scripts {
        for function in script.split("\ncreate function audit_algolia.").skip(1) {
            let declaration = function.split(';').next().unwrap();
            let Some((_, symbol)) = declaration.split_once("'MODULE_PATHNAME', ") else { continue };
            let signature = declaration.split("\n    language ").next().unwrap();
            let before = known.insert(symbol, signature).unwrap_or(signature);
            assert_eq!(
                before, signature,
                "{symbol} was released otherwise: the function needs a new symbol (CONTRIBUTING.md, \"A change of objects\")"
            );
        }
    }
    assert!(known.contains_key("'watch_0_2_wrapper'"), "{known:?}");
}

#[test]
fn each_version_has_a_step_to_the_next_and_back() {
    let mut versions = released_versions().unwrap();
    if versions.last().is_none_or(|last| last != PRESENT) {
        versions.push(PRESENT.to_owned());
    }
    let mut wanted = Vec::new();
    for pair in versions.windows(2) {
        for (from, to) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
            let name = format!("audit_algolia--{from}--{to}.sql");
            let script = fs::read_to_string(workspace().join("sql").join(&name)).unwrap_or_default();
            let guard = format!(
                "\\echo Use \"ALTER EXTENSION audit_algolia UPDATE TO '{to}'\" to load this file. \\quit\n"
            );
            assert!(script.starts_with(&guard), "sql/{name} opens with {guard}");
            wanted.push(name);
        }
    }
    let mut found: Vec<String> = fs::read_dir(workspace().join("sql"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("audit_algolia--"))
        .collect();
    wanted.sort();
    found.sort();
    assert_eq!(found, wanted);
}

#[test]
fn the_changelog_dates_every_release() {
    let changelog = fs::read_to_string(workspace().join("CHANGELOG.md")).unwrap();
    for version in released_versions().unwrap() {
        let heading = format!("\n## [{version}] - ");
        let date = changelog.split(&heading).nth(1).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let is_date = date.len() == 10 && date.split('-').all(|part| part.parse::<u32>().is_ok());
        assert!(is_date, "CHANGELOG.md has no section of {version} with a date");
    }
}
