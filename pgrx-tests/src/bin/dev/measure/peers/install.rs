//! The services and Algolia's clients, from their registries into the target folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{ensure, Context, Result};

use audit_algolia_tests::cargo;

use super::without_proxy;
use crate::package::quietly;

const NODE_PACKAGES: [&str; 2] = ["algoliasearch@5.64.0", "pg@8.23.1"];
const PYTHON_PACKAGES: [&str; 2] = ["algoliasearch==4.48.0", "psycopg[binary]"];

const SCRIPTS: [(&str, &str); 4] = [
    ("service.mjs", include_str!("service.mjs")),
    ("poller.mjs", include_str!("poller.mjs")),
    ("pgq.mjs", include_str!("pgq.mjs")),
    ("wal2json.mjs", include_str!("wal2json.mjs")),
];

/// A folder in which Node.js finds the services and the client.
pub(super) struct Node {
    folder: PathBuf,
}

impl Node {
    /// Installs the packages, the first time.
    pub(super) fn install() -> Result<Node> {
        let node = Node { folder: cargo::target_dir().join("measure/node") };
        fs::create_dir_all(&node.folder)?;
        fs::write(node.folder.join("package.json"), r#"{"private": true}"#)?;
        for (name, script) in SCRIPTS {
            fs::write(node.folder.join(name), script)?;
        }
        if !node.has_client() {
            quietly(Command::new("node").arg("--version")).context("node is missing")?;
            let mut install = Command::new("npm");
            install.args(["install", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--prefix"]);
            quietly(install.arg(&node.folder).args(NODE_PACKAGES))
                .context("npm could not install Algolia's client and pg")?;
            ensure!(node.has_client(), "Algolia's client was installed, but cannot be imported");
        }
        Ok(node)
    }

    pub(super) fn command(&self, script: &str) -> Command {
        let mut command = without_proxy(Path::new("node"));
        command.arg(self.folder.join(script));
        command
    }

    fn has_client(&self) -> bool {
        let mut probe = Command::new("node");
        probe.args(["--input-type=module", "--eval", "import 'pg'; import 'algoliasearch';"]);
        quietly(probe.current_dir(&self.folder)).is_ok()
    }
}

/// A Python that has the client.
pub(super) struct Python {
    program: PathBuf,
}

impl Python {
    /// Makes a virtual environment in the target folder, the first time.
    pub(super) fn install() -> Result<Python> {
        let folder = cargo::target_dir().join("measure/python");
        let python = Python { program: folder.join("bin/python") };
        if !python.has_client() {
            quietly(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))
                .context("python3 makes no virtual environment")?;
            let mut pip = Command::new(&python.program);
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
            quietly(pip.args(PYTHON_PACKAGES))
                .context("pip could not install Algolia's client and psycopg")?;
            ensure!(python.has_client(), "Algolia's client was installed, but cannot be imported");
        }
        Ok(python)
    }

    pub(super) fn command(&self) -> Command {
        let mut command = without_proxy(&self.program);
        command.args(["-c", include_str!("poller.py")]);
        command
    }

    fn has_client(&self) -> bool {
        let mut probe = Command::new(&self.program);
        quietly(probe.args(["-c", "import psycopg, algoliasearch.search.client"])).is_ok()
    }
}
