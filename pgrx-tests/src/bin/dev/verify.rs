//! `cargo verify`: runs all checks one after the other, and counts the results.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use audit_algolia_tests::cargo::{self, Profile};
use audit_algolia_tests::chaos::{self, Chaos, Outcome};
use audit_algolia_tests::server::{Installation, PgConfig, INSTALLATION_VARIABLE, NEWER_VARIABLE};

use crate::provision::{provision, Purpose};
use crate::releases;

/// Tests that start no server, or none of a chosen version.
const WITHOUT_SERVER: [&str; 10] = [
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

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Runs only the tests whose name contains this
    #[arg(long, value_name = "FILTER")]
    test: Option<String>,
    /// Performs chaos runs for so many minutes instead, and reports them
    #[arg(long, value_name = "MINUTES", conflicts_with = "test")]
    soak: Option<u64>,
    /// Repeats the chaos runs of a seed, a short one and a long one; with --soak, the long runs begin with it
    #[arg(long, conflicts_with = "test")]
    seed: Option<u64>,
    /// Downloads these versions of PostgreSQL (16, 17, 18 or all) and runs the tests that need a server on each. With
    /// `all`, all other checks run first
    #[arg(long, value_name = "VERSIONS", value_delimiter = ',', conflicts_with_all = ["soak", "seed"])]
    postgres: Vec<String>,
}

/// How many tests have passed and failed so far. A step that is not a test counts as one.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
}

/// Runs all steps. Returns `false` if something failed, and an error if nothing could be checked at all.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let mut tally = Tally::default();
    let versions = releases::wanted(&arguments.postgres)?;
    let started = begin("provision");
    let pg = provision(Purpose::ServeAndCompare)?;
    println!("PostgreSQL {} at {}", pg.version(), pg.path().display());
    tally.step(started, true);
    if arguments.soak.is_some() || arguments.seed.is_some() {
        chaos(&pg, arguments, &mut tally)?;
    } else {
        if versions.is_empty() || arguments.postgres.iter().any(|word| word == "all") {
            checks(&pg, &mut tally);
            tests(&pg, arguments.test.as_deref(), &mut tally);
        }
        for (place, major) in versions.iter().enumerate() {
            tests_on(*major, versions.get(place + 1).copied(), arguments.test.as_deref(), &mut tally)?;
        }
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(tally.failed == 0)
}

fn checks(pg: &PgConfig, tally: &mut Tally) {
    let mut format = cargo::command();
    format.args(["fmt", "--all", "--", "--check"]);
    tally.run("format", &mut format);

    let mut lint = cargo::command();
    lint.args(["clippy", "-q", "--all-targets"]);
    cargo::for_server(&mut lint, pg, Profile::Dev);
    lint.args(["--", "-D", "warnings"]);
    tally.run("lint the extension", &mut lint);

    let mut lint = cargo::command();
    lint.args(["clippy", "-q", "-p", "audit_algolia_tests", "--all-targets", "--", "-D", "warnings"]);
    tally.run("lint the harness", &mut lint);
}

fn tests(pg: &PgConfig, filter: Option<&str>, tally: &mut Tally) {
    let mut core = cargo::command();
    core.args(["test", "--no-fail-fast", "-p", "audit_algolia", "--no-default-features"]).args(filter);
    tally.test("test the core", &mut core);

    let started = begin("build the extension");
    // Also builds for the newer version, if one is named, so that no test has to.
    let installation = Installation::newer().and_then(|_| Installation::prepare(pg, Profile::Dev));
    tally.step(started, installation.is_ok());
    match installation {
        Ok(installation) => {
            let mut all = cargo::command();
            all.args(["test", "--no-fail-fast", "-p", "audit_algolia_tests"]).args(filter);
            all.env(INSTALLATION_VARIABLE, installation.root());
            tally.test("test the extension", &mut all);
        }
        Err(error) => eprintln!("{error:#}"),
    }
}

/// Runs the tests that need a server on a version that is downloaded. Tests of `pg_upgrade` upgrade to `newer`.
fn tests_on(major: u32, newer: Option<u32>, filter: Option<&str>, tally: &mut Tally) -> Result<()> {
    let started = begin(&format!("build the extension for PostgreSQL {major}"));
    let pg = releases::fetch(major)?;
    println!("PostgreSQL {} at {}", pg.version(), pg.path().display());
    let installation = Installation::prepare(&pg, Profile::Dev)?;
    tally.step(started, true);
    let mut tests = cargo::command();
    tests.args(["test", "--no-fail-fast", "-p", "audit_algolia_tests"]);
    for target in targets_with_server()? {
        tests.args(["--test", &target]);
    }
    tests.args(filter).env("PG_CONFIG", pg.path()).env(INSTALLATION_VARIABLE, installation.root());
    if let Some(newer) = newer {
        tests.env(NEWER_VARIABLE, releases::fetch(newer)?.path());
    }
    tally.test(&format!("test the extension on PostgreSQL {major}"), &mut tests);
    Ok(())
}

/// The integration tests, except those that do not depend on the version of the server.
fn targets_with_server() -> Result<Vec<String>> {
    let folder = cargo::workspace().join("pgrx-tests/tests");
    let mut targets = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let is_target =
            path.extension().is_some_and(|ending| ending == "rs") || path.join("main.rs").is_file();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if is_target && !WITHOUT_SERVER.contains(&name.as_str()) && !name.starts_with("tidy") {
            targets.push(name);
        }
    }
    targets.sort_unstable();
    Ok(targets)
}

/// Performs chaos runs: those of a seed, or one after the other until the time is up or one has failed. Each counts as
/// a test.
fn chaos(pg: &PgConfig, arguments: &Arguments, tally: &mut Tally) -> Result<()> {
    let started = begin("build the extension");
    let installation = Installation::prepare(pg, Profile::Dev)?;
    tally.step(started, true);
    std::env::set_var(INSTALLATION_VARIABLE, installation.root());
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    let mut tell = |outcome: &Outcome| {
        println!(
            "   seed {}: {} transactions, {} rows",
            outcome.chaos.seed,
            outcome.transactions(),
            outcome.verdict.committed
        );
        tally.passed += u64::from(outcome.passed());
        tally.failed += u64::from(!outcome.passed());
    };
    let outcomes = if let Some(minutes) = arguments.soak {
        println!("== chaos for {minutes} minutes from seed {seed}");
        chaos::soak(seed, Duration::from_secs(minutes * 60), tell)
    } else {
        println!("== chaos of seed {seed}");
        [Chaos::short(seed), Chaos::long(seed)]
            .map(|chaos| chaos.run())
            .into_iter()
            .inspect(&mut tell)
            .collect()
    };
    let report = chaos::markdown(&outcomes);
    println!("\n{report}");
    let file = cargo::target_dir().join("chaos/report.md");
    std::fs::create_dir_all(cargo::target_dir().join("chaos"))?;
    std::fs::write(&file, report)?;
    println!("also in {}", file.display());
    Ok(())
}

fn begin(name: &str) -> Instant {
    println!("== {name}");
    Instant::now()
}

impl Tally {
    fn step(&mut self, started: Instant, passed: bool) {
        self.passed += u64::from(passed);
        self.failed += u64::from(!passed);
        end(started, passed);
    }

    fn run(&mut self, name: &str, command: &mut Command) {
        let started = begin(name);
        let passed = match command.status() {
            Ok(status) => status.success(),
            Err(error) => {
                eprintln!("cargo could not be started: {error}");
                false
            }
        };
        self.step(started, passed);
    }

    /// Runs tests and counts each. A run that fails without a failed test, because it did not build or its process
    /// died, counts as one failure.
    fn test(&mut self, name: &str, command: &mut Command) {
        let started = begin(name);
        let mut seen = Tally::default();
        let succeeded = seen.watch(command).unwrap_or_else(|error| {
            eprintln!("{error:#}");
            false
        });
        if !succeeded && seen.failed == 0 {
            seen.failed = 1;
        }
        self.passed += seen.passed;
        self.failed += seen.failed;
        end(started, succeeded);
    }

    fn watch(&mut self, command: &mut Command) -> Result<bool> {
        let mut child = command.stdout(Stdio::piped()).spawn().context("cargo could not be started")?;
        let output = child.stdout.take().context("cargo has no output")?;
        let mut terminal = std::io::stdout();
        for line in BufReader::new(output).split(b'\n') {
            let line = line?;
            terminal.write_all(&line)?;
            terminal.write_all(b"\n")?;
            self.count(&String::from_utf8_lossy(&line));
        }
        Ok(child.wait()?.success())
    }

    /// Adds the counts of a line such as `test result: ok. 3 passed; 0 failed; …`.
    fn count(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        let number = |what: &str| -> u64 {
            let part = result.split(['.', ';']).find_map(|part| part.trim().strip_suffix(what));
            part.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
        };
        self.passed += number(" passed");
        self.failed += number(" failed");
    }
}

fn end(started: Instant, passed: bool) {
    let word = if passed { "ok" } else { "FAILED" };
    println!("   {word}, {:.1} s", started.elapsed().as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_result_lines_only() {
        let mut tally = Tally::default();
        for line in [
            "test one ... ok",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.18s",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1.00s",
            "a test result: ok. 5 passed",
        ] {
            tally.count(line);
        }
        assert_eq!(tally, Tally { passed: 15, failed: 2 });
    }

    #[test]
    fn a_run_that_dies_is_one_failure() {
        let mut tally = Tally::default();
        tally.test("nothing", Command::new("sh").args(["-c", "exit 3"]));
        assert_eq!(tally, Tally { passed: 0, failed: 1 });
    }
}
