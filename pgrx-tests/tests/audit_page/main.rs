//! The audit page's own checks and tests, run by node, with a real PostgreSQL behind the stand-in: the worked examples'
//! tables, whose figures the page must show.
//!
//! The tests count one by one, as cargo's do. Where node or a browser is missing they are told and counted as ignored.

use std::fs;
use std::process::ExitCode;

use anyhow::{ensure, Context, Result};
use audit_algolia_tests::cargo::workspace;
use audit_algolia_tests::page::{advice, chromium, lacks, Lack, Tools};
use audit_algolia_tests::stage::Stage;
use audit_algolia_tests::standin::ApiKey;
use audit_algolia_tests::worked_examples;

/// What the page's secured keys are made from.
const SEARCH_KEY: &str = "search-key-of-the-page";

/// What the names of files begin with whose tests compare the page with the database.
const WITH_DATABASE: &str = "database_";

/// The variables that ask for pictures and measurements besides.
const ON_DEMAND: [&str; 3] = ["SCREENSHOTS", "SCREENSHOTS_DOCS", "MILLION"];

/// Notes every change of what the page tells the history of.
const LEDGER: &str = include_str!("ledger.sql");

fn main() -> ExitCode {
    match run(&words()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!(
                "{error:#}\n\ntest result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out"
            );
            ExitCode::FAILURE
        }
    }
}

/// The words that names of tests are to contain. Options are for cargo's own harness.
fn words() -> Vec<String> {
    const WITH_VALUE: [&str; 5] = ["--test-threads", "--skip", "--color", "--format", "--logfile"];
    let mut words = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if WITH_VALUE.contains(&argument.as_str()) {
            arguments.next();
        } else if !argument.starts_with('-') {
            words.push(argument);
        }
    }
    words
}

fn run(words: &[String]) -> Result<bool> {
    if std::env::args().any(|argument| argument == "--list" || argument == "--ignored") {
        return Ok(true);
    }
    let tests = Tests::find(words)?;
    let is_making = ON_DEMAND.iter().any(|name| std::env::var_os(name).is_some());
    if tests.count == 0 && !is_making {
        println!("\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
        return Ok(true);
    }
    let lacks = lacks(true);
    if lacks.iter().any(|lack| *lack != Lack::Chromium) {
        skip(&tests, &advice(&lacks));
        return Ok(true);
    }
    let tools = match Tools::prepare() {
        Ok(tools) => tools,
        Err(error) => {
            skip(&tests, &format!("{error:#}"));
            return Ok(true);
        }
    };
    let mut node = tools.node("test/run.mjs");
    node.args(words).env("STANDIN", env!("CARGO_BIN_EXE_standin"));
    node.env("CHROMIUM", chromium().unwrap_or_default());
    let stage = match lacks.is_empty() && (tests.with_database > 0 || is_making) {
        true => Some(start()?),
        false => None,
    };
    if let Some(stage) = &stage {
        let url = stage.standin.base_urls().into_iter().next().context("the stand-in has no address")?;
        node.env("ALGOLIA", url).env("SEARCH_KEY", SEARCH_KEY).env("PSQL", stage.cluster.bin("psql"));
        node.env("PGHOST", "127.0.0.1").env("PGPORT", stage.cluster.port().to_string());
        node.env("PGUSER", "postgres").env("PGDATABASE", "postgres").env("PGTZ", "UTC");
    }
    Ok(node.status().context("node does not start")?.success())
}

/// A server whose tables are filled, and all of it delivered.
fn start() -> Result<Stage> {
    let stage = Stage::builder()
        .standin(|standin| standin.keys.push(ApiKey::new(SEARCH_KEY, &["search"])))
        .start()?;
    let mut admin = stage.cluster.connect("postgres", "postgres")?;
    admin.batch_execute(LEDGER)?;
    worked_examples::fill(&stage.cluster, SEARCH_KEY)?;
    let delivered: bool = admin.query_one("select audit_algolia.flush('2 min')", &[])?.get(0);
    ensure!(delivered, "the examples' records are not delivered");
    Ok(stage)
}

/// Says why nothing runs, and counts what does not.
fn skip(tests: &Tests, reason: &str) {
    println!("skipped: {} tests of the audit page; {}", tests.count, reason.replace('\n', " "));
    println!("\ntest result: ok. 0 passed; 0 failed; {} ignored; 0 measured; 0 filtered out", tests.count);
}

/// The tests of the page that have one of the words in their names.
struct Tests {
    count: usize,
    with_database: usize,
}

impl Tests {
    fn find(words: &[String]) -> Result<Tests> {
        let mut count = ["format", "types"].iter().filter(|name| fits(name, words)).count();
        let mut with_database = 0;
        for folder in ["test/unit", "test/browser"] {
            for entry in fs::read_dir(workspace().join("web").join(folder))? {
                let path = entry?.path();
                let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let is_test = file.ends_with(".test.ts");
                let own = if is_test { names(&fs::read_to_string(&path)?, words) } else { 0 };
                count += own;
                with_database += if file.starts_with(WITH_DATABASE) { own } else { 0 };
            }
        }
        Ok(Tests { count, with_database })
    }
}

/// How many of a file's tests have one of the words in their names.
fn names(text: &str, words: &[String]) -> usize {
    let starts = text.split("\ntest(").skip(1).filter_map(|rest| {
        let rest = rest.trim_start();
        let quote = rest.chars().next().filter(|first| "'\"`".contains(*first))?;
        rest.get(1..)?.split(quote).next()
    });
    starts.filter(|name| fits(name, words)).count()
}

fn fits(name: &str, words: &[String]) -> bool {
    words.is_empty() || words.iter().any(|word| name.contains(word.as_str()))
}
