//! The crates that the extension is built from, as cargo resolves them. Needs no network.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{ensure, Context, Result};
use serde_json::Value;

use crate::cargo;

/// A crate in the library.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Crate {
    pub name: String,
    pub version: String,
    pub licence: String,
    pub authors: Vec<String>,
    /// Where its source is.
    pub folder: PathBuf,
}

/// Cargo's metadata of all packages, for the platform that the extension is released for.
///
/// # Errors
/// When cargo cannot resolve them.
pub fn metadata() -> Result<Value> {
    let output = cargo::command()
        .args(["metadata", "--offline", "--locked", "--format-version", "1"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .output()
        .context("cargo could not be started")?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The extension's normal dependencies, and theirs, in the order of their names.
///
/// # Errors
/// When the metadata are incomplete.
pub fn built_in(metadata: &Value) -> Result<Vec<Crate>> {
    let nodes = list(&metadata["resolve"], "nodes");
    let packages = list(metadata, "packages");
    let root =
        packages.iter().find(|package| package["name"] == "audit_algolia").context("no package of ours")?;
    let (mut found, mut left) = (BTreeSet::new(), vec![text(root, "id")]);
    while let Some(id) = left.pop() {
        if !found.insert(id) {
            continue;
        }
        let node =
            nodes.iter().find(|node| node["id"] == id).context("a crate that cargo has not resolved")?;
        for dependency in list(node, "deps") {
            if list(dependency, "dep_kinds").iter().any(|kind| kind["kind"].is_null()) {
                left.push(text(dependency, "pkg"));
            }
        }
    }
    let theirs = packages.iter().filter(|one| found.contains(text(one, "id")) && one["id"] != root["id"]);
    let mut crates: Vec<Crate> = theirs.map(read).collect();
    crates.sort();
    Ok(crates)
}

/// The elements of a list in the metadata; none if there is no such list.
pub fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// A text in the metadata; empty if there is no such text.
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn read(package: &Value) -> Crate {
    let manifest = Path::new(text(package, "manifest_path"));
    Crate {
        name: text(package, "name").to_owned(),
        version: text(package, "version").to_owned(),
        licence: text(package, "license").to_owned(),
        authors: list(package, "authors").iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        folder: manifest.parent().unwrap_or(manifest).to_owned(),
    }
}
