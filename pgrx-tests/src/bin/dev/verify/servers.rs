//! Runs the tests on one version of PostgreSQL, suite by suite.

use std::ffi::OsStr;
use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};

use audit_algolia_tests::cargo::{self, Profile};
use audit_algolia_tests::server::{
    Installation, PgConfig, INSTALLATION_VARIABLE, NEWER_VARIABLE, WARNINGS_VARIABLE,
};

use super::matrix::{Cell, Matrix};
use super::tally::{begin, Tally};
use super::warnings;

/// Tests that start no server, or none of a chosen version.
const WITHOUT_SERVER: [&str; 11] = [
    "audit_page",
    "demo",
    "harness",
    "licences",
    "official_client",
    "standin",
    "standin_doors",
    "standin_faults",
    "standin_program",
    "standin_reads",
    "standin_searches",
];

/// Names of suites, with the arguments of `cargo test` that select them.
pub(super) struct Suites(Vec<(String, Vec<String>)>);

impl Suites {
    /// All suites, and the unit tests of the harness.
    pub(super) fn all() -> Result<Suites> {
        let mut all = vec![("units".to_owned(), vec!["--lib".to_owned(), "--bins".to_owned()])];
        all.extend(targets()?.into_iter().map(as_suite));
        Ok(Suites(all))
    }

    /// The integration tests, except those that do not depend on the version of the server.
    pub(super) fn with_server() -> Result<Suites> {
        let mut targets = targets()?;
        targets.retain(|name| !WITHOUT_SERVER.contains(&name.as_str()) && !name.starts_with("tidy"));
        Ok(Suites(targets.into_iter().map(as_suite).collect()))
    }
}

fn as_suite(target: String) -> (String, Vec<String>) {
    let arguments = vec!["--test".to_owned(), target.clone()];
    (target, arguments)
}

/// The integration tests.
fn targets() -> Result<Vec<String>> {
    let folder = cargo::workspace().join("pgrx-tests/tests");
    let mut targets = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let is_target =
            path.extension().is_some_and(|ending| ending == "rs") || path.join("main.rs").is_file();
        if is_target {
            targets.push(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    targets.sort_unstable();
    Ok(targets)
}

/// The oldest supported version. Newer ones may warn about what it accepts.
const OLDEST: u32 = 15;

/// The PostgreSQL to test, and the one that tests of `pg_upgrade` upgrade to.
pub(super) struct Server {
    pub(super) pg: PgConfig,
    pub(super) newer: Option<PgConfig>,
}

impl Server {
    /// Runs suites. On a newer version than the oldest it then fails for each unexpected warning in the servers' logs.
    pub(super) fn test(&self, suites: &Suites, filter: Option<&str>, tally: &mut Tally, matrix: &mut Matrix) {
        let major = self.pg.major();
        let started = begin(&format!("build the extension for PostgreSQL {major}"));
        let installation = self.prepare();
        tally.step(started, installation.is_ok());
        let installation = match installation {
            Ok(installation) => installation,
            Err(error) => return eprintln!("{error:#}"),
        };
        let log = cargo::target_dir().join(format!("verify/warnings-{major}.log"));
        let _ = fs::remove_file(&log);
        for (name, arguments) in &suites.0 {
            let mut tests = cargo::command();
            tests.args(["test", "--no-fail-fast", "-p", "audit_algolia_tests"]).args(arguments);
            tests.args(filter);
            tests
                .env("PG_CONFIG", self.pg.path())
                .env(INSTALLATION_VARIABLE, installation.root())
                .env(WARNINGS_VARIABLE, &log);
            match &self.newer {
                Some(newer) => tests.env(NEWER_VARIABLE, newer.path()),
                None => &mut tests,
            };
            let begun = Instant::now();
            let seen = tally.test(&format!("test {name} on PostgreSQL {major}"), &mut tests);
            matrix.add(self.pg.version(), name, Cell { seen, took: begun.elapsed() });
        }
        if major == OLDEST {
            return;
        }
        let started = begin(&format!("warnings in the logs of PostgreSQL {major}"));
        let unexpected = warnings::unexpected(&fs::read_to_string(&log).unwrap_or_default());
        for warning in &unexpected {
            println!("{warning}");
        }
        tally.step(started, unexpected.is_empty());
    }

    /// Builds the extension for both servers, so that no test has to.
    fn prepare(&self) -> Result<Installation> {
        fs::create_dir_all(cargo::target_dir().join("verify"))?;
        match &self.newer {
            Some(newer) => drop(Installation::prepare(newer, Profile::Dev)?),
            // The variable may be set for this process, and so for the tests.
            None if std::env::var_os(NEWER_VARIABLE)
                .as_deref()
                .is_some_and(|path| path != OsStr::new("")) =>
            {
                drop(Installation::newer()?);
            }
            None => {}
        }
        Installation::prepare(&self.pg, Profile::Dev)
    }
}
