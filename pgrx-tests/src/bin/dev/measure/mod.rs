//! `cargo measure`: the project's numbers, each beside what it is compared with, in one run.
//!
//! Absolute times say more about a machine than about the extension. So every comparison alternates between its
//! variants, takes medians, and is judged by a ratio against what the contract promises.

mod capture;
mod capture_sql;
mod drain;
mod freshness;
mod lasting;
mod machine;
mod memory;
mod phases;
mod polling;
mod process;
mod report;
mod spread;
mod standin;
mod world;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};

use audit_algolia_tests::cargo::{self, Profile};
use audit_algolia_tests::server::Installation;

use self::machine::Machine;
use self::report::Report;
use crate::interrupt;
use crate::provision::{provision, Purpose};
use crate::screen::while_waiting;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Takes about three minutes: fewer rows, fewer repeats
    #[arg(long)]
    quick: bool,
    /// Measures one part only: capture, drain, freshness, lasting, memory or phases
    #[arg(long, value_name = "PART")]
    only: Option<String>,
}

/// How much is measured.
#[derive(Clone, Copy)]
struct Scale {
    /// How often each comparison is made.
    repeats: usize,
    /// Rows of a bulk insert.
    bulk: u64,
    /// Rows of a loop of single inserts in the server.
    singles: u64,
    /// Rows of a loop of single inserts from a client.
    client: u64,
    /// Rows of a drain.
    drain: u64,
    /// Rows given to the polling service.
    polled: u64,
    /// The backlog behind which fresh rows are watched.
    backlog: u64,
    /// Rows delivered while a snapshot is pinned.
    pinned: u64,
    /// Rows queued when the statistics are asked.
    counted: u64,
    /// How long each phase of steady traffic takes.
    phase: Duration,
}

const QUICK: Scale = Scale {
    repeats: 3,
    bulk: 200_000,
    singles: 20_000,
    client: 4_000,
    drain: 300_000,
    polled: 30_000,
    backlog: 500_000,
    pinned: 300_000,
    counted: 1_000_000,
    phase: Duration::from_secs(4),
};

const FULL: Scale = Scale {
    repeats: 7,
    bulk: 200_000,
    singles: 50_000,
    client: 10_000,
    drain: 1_000_000,
    polled: 100_000,
    backlog: 5_000_000,
    pinned: 2_000_000,
    counted: 10_000_000,
    phase: Duration::from_secs(20),
};

/// Measures, prints the table and writes it to the target folder.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let parts: [(&str, Part); 6] = [
        ("capture", capture::measure),
        ("drain", drain::measure),
        ("freshness", freshness::measure),
        ("lasting", lasting::measure),
        ("memory", memory::measure),
        ("phases", phases::measure),
    ];
    let wanted = |name: &str| arguments.only.as_deref().is_none_or(|only| only == name);
    ensure!(
        parts.iter().any(|(name, _)| wanted(name)),
        "the parts are capture, drain, freshness, lasting, memory and phases"
    );
    let scale = if arguments.quick { QUICK } else { FULL };
    let pg = provision(Purpose::ServeAndCompare)?;
    let installation =
        while_waiting("building the extension for release", || Installation::prepare(&pg, Profile::Release))?;
    while_waiting("building the stand-in for release", build_standin)?;
    interrupt::watch()?;

    let machine = Machine::look(installation.version())?;
    println!("{machine}");
    let started = Instant::now();
    let mut report = Report::new(machine, if arguments.quick { "quick" } else { "full" });
    let installation = Arc::new(installation);
    for (name, part) in parts.iter().filter(|(name, _)| wanted(name)) {
        println!("measuring {name} …");
        part(&installation, &scale, &mut report).with_context(|| format!("{name} could not be measured"))?;
    }
    report.took(started.elapsed());

    let folder = cargo::target_dir().join("measure");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let text = report.markdown();
    let (table, data) = (folder.join("measure.md"), folder.join("measure.json"));
    fs::write(&table, &text)?;
    fs::write(&data, serde_json::to_string_pretty(&report.json())?)?;
    println!("\n{text}\nalso in {} and {}", table.display(), data.display());
    Ok(())
}

type Part = fn(&Arc<Installation>, &Scale, &mut Report) -> Result<()>;

fn build_standin() -> Result<()> {
    let mut build = cargo::command();
    build.args(["build", "-q", "--release", "-p", "audit_algolia_tests", "--bin", "standin"]);
    build.arg("--target-dir").arg(cargo::target_dir());
    let status = build.status().context("cargo could not be started")?;
    ensure!(status.success(), "the stand-in does not build: {status}");
    Ok(())
}
