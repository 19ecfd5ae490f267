//! The dependencies: only allowed licences, one registry of each kind, and nothing that is banned. Needs no network.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeSet;
use std::fs;

use audit_algolia_tests::cargo::workspace;
use audit_algolia_tests::crates::{built_in, list, metadata, text};
use serde_json::Value;

/// The quoted words in a list of `deny.toml`, from the line that opens it to the one that closes it.
fn denied(opening: &str) -> BTreeSet<String> {
    let file = fs::read_to_string(workspace().join("deny.toml")).unwrap();
    let lines = file.lines().skip_while(|line| *line != opening).skip(1).take_while(|line| *line != "]");
    let words: BTreeSet<String> =
        lines.filter_map(|line| line.split('"').nth(1)).map(str::to_owned).collect();
    assert!(!words.is_empty(), "deny.toml has no {opening}");
    words
}

/// Whether a licence expression is satisfied by the allowed licences: `OR` is a choice, `AND` is not and binds more
/// tightly.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let met = any(&mut rest, allowed);
    met && rest.is_empty()
}

fn any(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut met = every(words, allowed);
    while let Some(("OR", rest)) = words.split_first().map(|(first, rest)| (*first, rest)) {
        *words = rest;
        met |= every(words, allowed);
    }
    met
}

fn every(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut met = single(words, allowed);
    while let Some(("AND", rest)) = words.split_first().map(|(first, rest)| (*first, rest)) {
        *words = rest;
        met &= single(words, allowed);
    }
    met
}

fn single(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let Some((first, rest)) = words.split_first() else { return false };
    *words = rest;
    if *first != "(" {
        return allowed.contains(*first);
    }
    let met = any(words, allowed);
    match words.split_first() {
        Some((&")", rest)) => {
            *words = rest;
            met
        }
        _ => false,
    }
}

#[test]
fn licence_expressions_are_understood() {
    let allowed = ["MIT", "ISC"].map(str::to_owned).into();
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("MIT AND ISC", true),
        ("MIT AND GPL-3.0", false),
        ("(GPL-3.0 OR MIT) AND ISC", true),
        ("(GPL-3.0 OR MIT) AND GPL-3.0", false),
        ("GPL-3.0 OR MIT AND GPL-3.0", false),
        ("Apache-2.0 WITH LLVM-exception", false),
        ("MIT GPL-3.0", false),
        ("(MIT", false),
        ("", false),
    ] {
        assert_eq!(is_allowed(expression, &allowed), met, "{expression}");
    }
}

#[test]
fn every_dependency_has_an_allowed_licence_and_comes_from_the_registry() {
    let (metadata, allowed, banned) = (metadata().unwrap(), denied("allow = ["), denied("deny = ["));
    let mut wrong = Vec::new();
    for package in list(&metadata, "packages") {
        let (name, licence) = (text(package, "name"), text(package, "license"));
        if !is_allowed(licence, &allowed) {
            wrong.push(format!("{name}: licence \"{licence}\" is not allowed by deny.toml"));
        }
        let is_ours = ["audit_algolia", "audit_algolia_tests"].contains(&name);
        if is_ours != package["source"].is_null() || text(package, "source").starts_with("git+") {
            wrong.push(format!("{name}: comes from {}", package["source"]));
        }
        if banned.contains(name) {
            wrong.push(format!("{name}: is banned by deny.toml"));
        }
    }
    assert!(list(&metadata, "packages").len() > 50);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Packages of npm whose licence is not on the list or not told in its words, and why they may be there.
const OF_NPM: [(&str, &str, &str); 3] = [
    ("axe-core", "MPL-2.0", "runs in tests, and is not part of the page"),
    ("hogan.js", "", "has its licence, Apache-2.0, in a file only"),
    ("mkdirp", "MIT/X11", "is MIT, and no part of the page: a tool of hogan.js uses it"),
];

/// A package that npm installs in `web/`.
struct NpmPackage {
    name: String,
    entry: Value,
}

fn npm_packages() -> Vec<NpmPackage> {
    let lock = fs::read_to_string(workspace().join("web/package-lock.json")).unwrap();
    let lock: Value = serde_json::from_str(&lock).unwrap();
    let all = lock["packages"].as_object().unwrap().iter().filter(|(place, _)| !place.is_empty());
    all.map(|(place, entry)| {
        let name = place.rsplit_once("node_modules/").unwrap().1.to_owned();
        NpmPackage { name, entry: entry.clone() }
    })
    .collect()
}

#[test]
fn every_npm_package_has_an_allowed_licence_and_comes_from_the_registry() {
    let (packages, allowed) = (npm_packages(), denied("allow = ["));
    let mut wrong = Vec::new();
    for NpmPackage { name, entry } in &packages {
        let licence = text(entry, "license");
        let excused = OF_NPM.iter().any(|(known, has, _)| (known, has) == (&name.as_str(), &licence));
        if !excused && !is_allowed(licence, &allowed) {
            wrong.push(format!("{name}: licence \"{licence}\" is not allowed by deny.toml"));
        }
        // Without an address a package is the registry's; the sum holds it to what was there when it was chosen.
        if !entry["resolved"].is_null() || !text(entry, "integrity").starts_with("sha512-") {
            wrong.push(format!("{name}: comes from {}, sum {}", entry["resolved"], entry["integrity"]));
        }
    }
    for (name, _, _) in OF_NPM {
        if packages.iter().all(|package| package.name != name) {
            wrong.push(format!("{name}: is excused, and not there"));
        }
    }
    assert!(packages.len() > 50);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn npm_runs_no_scripts_of_packages() {
    let settings = fs::read_to_string(workspace().join("web/.npmrc")).unwrap();
    assert!(settings.lines().any(|line| line == "ignore-scripts=true"), "{settings}");
}

#[test]
fn the_table_of_licences_is_complete() {
    let mut table = String::from(
        "# Third-party licences\n\n\
         The extension is built from these crates besides its own code; a test compares the list with what cargo resolves.\n\
         Their sources carry the full texts.\n\n| crate | licence |\n|---|---|\n",
    );
    let crates = built_in(&metadata().unwrap()).unwrap();
    let crates: BTreeSet<_> = crates.into_iter().map(|one| (one.name, one.licence)).collect();
    for (name, licence) in crates {
        table.push_str(&format!("| {name} | {licence} |\n"));
    }
    table.push_str(
        "\nThe audit page is bundled from these packages of npm, or from parts of them.\n\n\
         | package | licence |\n|---|---|\n",
    );
    let is_bundled = |package: &NpmPackage| package.entry["dev"].is_null();
    let bundled: BTreeSet<(String, String)> = npm_packages()
        .into_iter()
        .filter(is_bundled)
        .map(|package| (package.name, text(&package.entry, "license").to_owned()))
        .collect();
    for (name, licence) in bundled {
        let licence = if name == "hogan.js" { "Apache-2.0" } else { &licence };
        table.push_str(&format!("| {name} | {licence} |\n"));
    }
    let path = workspace().join("THIRD_PARTY_LICENSES.md");
    if fs::read_to_string(&path).ok().as_deref() != Some(&*table) {
        let right = workspace().join("target/THIRD_PARTY_LICENSES.md");
        fs::write(&right, table).unwrap();
        panic!("{} is out of date; copy {} over it", path.display(), right.display());
    }
}
