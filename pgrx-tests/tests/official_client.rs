//! Algolia's own Python client works against the stand-in, which shows that the two agree on the wire format.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use audit_algolia_tests::standin::{Standin, StandinConfig, ADMIN_KEY, APP_ID};

const SCRIPT: &str = include_str!("official_client.py");
/// What is installed once and cached under `target/`.
const PACKAGE: &str = "algoliasearch==4.48.0";

#[test]
fn algolias_own_client_is_content_with_the_stand_in() {
    let python = client_environment();
    let config =
        StandinConfig { hosts: 2, indexing_delay: Duration::from_millis(2), ..StandinConfig::default() };
    let standin = Standin::start(config).expect("the stand-in starts");
    let mut command = Command::new(python);
    command.args(["-c", SCRIPT, APP_ID, ADMIN_KEY]);
    for variable in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        command.env_remove(variable);
    }
    for url in standin.base_urls() {
        command.arg(url.rsplit(':').next().expect("a port"));
    }
    let output = command.output().expect("the installed Python runs");
    assert!(output.status.success(), "the script failed:\n{}", said(&output));
    assert!(standin.requests().iter().all(|entry| entry.header("x-algolia-api-key") == Some(ADMIN_KEY)));
    assert!(standin.indices().is_empty(), "the script deletes its index");
}

/// The Python of a virtual environment with the client, created on first use.
fn client_environment() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("official-client");
    let python = folder.join("bin/python");
    let has_client = |python: &Path| {
        let probe = Command::new(python).args(["-c", "import algoliasearch.search.client"]).output();
        probe.is_ok_and(|output| output.status.success())
    };
    if has_client(&python) {
        return python;
    }
    let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder).output();
    match made {
        Err(error) => {
            panic!("python3 is missing on this machine ({error}): install python3 and python3-venv")
        }
        Ok(output) if !output.status.success() => {
            panic!("`python3 -m venv` does not work here: install python3-venv\n{}", said(&output))
        }
        Ok(_) => {}
    }
    let pip = Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE])
        .output()
        .expect("the new environment has a python");
    assert!(
        pip.status.success(),
        "pip cannot install {PACKAGE}: the PyPI registry is missing or out of reach\n{}",
        said(&pip)
    );
    assert!(has_client(&python), "{PACKAGE} was installed but cannot be imported");
    python
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
