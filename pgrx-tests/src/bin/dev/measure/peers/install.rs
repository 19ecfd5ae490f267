//! Installs Algolia's clients from their registries into the target folder, for the services.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{ensure, Context, Result};

use audit_algolia_tests::cargo;

use crate::package::quietly;

const NODE_PACKAGES: [&str; 2] = ["algoliasearch@5.64.0", "pg@8.23.1"];
const PYTHON_PACKAGES: [&str; 2] = ["algoliasearch==4.48.0", "psycopg[binary]"];

const SCRIPTS: [(&str, &str); 5] = [
    ("service.mjs", include_str!("service.mjs")),
    ("poller.mjs", include_str!("poller.mjs")),
    ("pgq.mjs", include_str!("pgq.mjs")),
    ("wal2json.mjs", include_str!("wal2json.mjs")),
    ("poller.py", include_str!("poller.py")),
];

/// A program that runs the services, and the folder with them and the client.
pub(super) struct Runtime {
    program: PathBuf,
    folder: PathBuf,
}

impl Runtime {
    fn new(program: PathBuf, folder: PathBuf) -> Result<Runtime> {
        fs::create_dir_all(&folder)?;
        for (name, script) in SCRIPTS {
            fs::write(folder.join(name), script)?;
        }
        Ok(Runtime { program, folder })
    }

    /// A command that runs a service without a proxy.
    pub(super) fn command(&self, script: &str) -> Command {
        let mut command = Command::new(&self.program);
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
            command.env_remove(name);
        }
        command.arg(self.folder.join(script));
        command
    }

    /// Installs the client, unless `probe` finds it.
    fn with_client(self, probe: &[&str], install: impl FnOnce(&Runtime) -> Result<()>) -> Result<Runtime> {
        let has_client =
            || quietly(Command::new(&self.program).args(probe).current_dir(&self.folder)).is_ok();
        if !has_client() {
            install(&self)?;
            ensure!(has_client(), "Algolia's client was installed, but cannot be imported");
        }
        Ok(self)
    }
}

/// Node.js.
pub(super) fn node() -> Result<Runtime> {
    let node = Runtime::new(PathBuf::from("node"), cargo::target_dir().join("measure/node"))?;
    fs::write(node.folder.join("package.json"), r#"{"private": true}"#)?;
    let probe = ["--input-type=module", "--eval", "import 'pg'; import 'algoliasearch';"];
    node.with_client(&probe, |node| {
        quietly(Command::new("node").arg("--version")).context("node is missing")?;
        let mut install = Command::new("npm");
        install.args(["install", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--prefix"]);
        quietly(install.arg(&node.folder).args(NODE_PACKAGES))
            .context("npm could not install Algolia's client and pg")
    })
}

/// Python, in a virtual environment.
pub(super) fn python() -> Result<Runtime> {
    let folder = cargo::target_dir().join("measure/python");
    let python = Runtime::new(folder.join("venv/bin/python"), folder)?;
    python.with_client(&["-c", "import psycopg, algoliasearch.search.client"], |python| {
        quietly(Command::new("python3").args(["-m", "venv", "--clear"]).arg(python.folder.join("venv")))
            .context("python3 makes no virtual environment")?;
        let mut pip = Command::new(&python.program);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        quietly(pip.args(PYTHON_PACKAGES)).context("pip could not install Algolia's client and psycopg")
    })
}
