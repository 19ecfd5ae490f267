//! `cargo verify`: runs all checks one after the other, and counts the results.

mod chaos_runs;
mod matrix;
mod servers;
mod tally;
mod warnings;

use anyhow::Result;

use audit_algolia_tests::cargo::{self, Profile};
use audit_algolia_tests::server::PgConfig;

use self::matrix::Matrix;
use self::servers::{Server, Suites};
use self::tally::{begin, Tally};
use crate::provision::{provision, provision_page, ForPage, Purpose};
use crate::releases;

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

/// Runs all steps. Returns `false` if something failed, and an error if nothing could be checked at all.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let mut tally = Tally::default();
    let versions = releases::wanted(&arguments.postgres)?;
    let started = begin("provision");
    let pg = provision(Purpose::ServeWithPython)?;
    println!("PostgreSQL {} at {}", pg.version(), pg.path().display());
    let is_chaos = arguments.soak.is_some() || arguments.seed.is_some();
    if let (false, Err(missing)) = (is_chaos, provision_page(ForPage::Testing)) {
        println!("without the audit page: {missing}");
    }
    tally.step(started, true);
    if is_chaos {
        chaos_runs::run(&pg, arguments.soak, arguments.seed, &mut tally)?;
    } else {
        tests(pg, &versions, arguments, &mut tally)?;
    }
    tally.print();
    Ok(tally.failed == 0)
}

fn tests(pg: PgConfig, versions: &[u32], arguments: &Arguments, tally: &mut Tally) -> Result<()> {
    let filter = arguments.test.as_deref();
    let mut matrix = Matrix::default();
    let is_all = versions.is_empty() || arguments.postgres.iter().any(|word| word == "all");
    if is_all {
        checks(&pg, tally);
        test_core(filter, tally);
    }
    build_tests(tally);
    if is_all {
        // The oldest version is upgraded to the newest in one step, and each other version to the next.
        let newer = versions.last().map(|major| releases::fetch(*major)).transpose()?;
        Server { pg, newer }.test(&Suites::all()?, filter, tally, &mut matrix);
    }
    for (place, major) in versions.iter().enumerate() {
        let started = begin(&format!("fetch PostgreSQL {major}"));
        let pg = releases::fetch(*major)?;
        println!("PostgreSQL {} at {}", pg.version(), pg.path().display());
        tally.step(started, true);
        let newer = versions.get(place + 1).map(|major| releases::fetch(*major)).transpose()?;
        Server { pg, newer }.test(&Suites::with_server()?, filter, tally, &mut matrix);
    }
    if !versions.is_empty() {
        println!("\n{}", matrix.markdown());
        let file = cargo::target_dir().join("verify/matrix.md");
        std::fs::write(&file, matrix.markdown())?;
        println!("also in {}", file.display());
    }
    Ok(())
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

fn test_core(filter: Option<&str>, tally: &mut Tally) {
    let mut core = cargo::command();
    core.args(["test", "--no-fail-fast", "-p", "audit_algolia", "--no-default-features"]).args(filter);
    tally.test("test the core", &mut core);
}

/// Builds the tests, which do not depend on the version of the server, all at once.
fn build_tests(tally: &mut Tally) {
    let mut build = cargo::command();
    build.args(["test", "-q", "-p", "audit_algolia_tests", "--no-run"]);
    tally.run("build the tests", &mut build);
}
