//! `cargo measure`: all figures of the project in one run, each with what it is compared with.
//!
//! Absolute times say more about a machine than about the extension. So the contenders take turns in being measured
//! first, where that is possible. Each measurement is repeated, medians are compared, and their ratio is judged by what
//! the contract promises.

mod capture;
mod chart;
mod commits;
mod contender;
mod ddl;
mod drain;
mod freshness;
mod idle;
mod large;
mod lasting;
mod machine;
mod matrix;
mod memory;
mod packages;
mod peers;
mod pgbench;
mod phases;
mod process;
mod report;
mod requests;
mod row;
mod rows;
mod samples;
mod scale;
mod scaling;
mod setup;
mod spread;
mod standin_process;
mod testbed;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{ensure, Context, Result};
use nix::sys::statvfs::statvfs;

use audit_algolia_tests::cargo::{self, Profile};
use audit_algolia_tests::server::{clusters_folder, Installation};

use self::machine::Machine;
use self::packages::Packages;
use self::report::Report;
use self::row::Row;
use self::scale::{Scale, FULL, QUICK};
use self::setup::Setup;
use crate::interrupt;
use crate::provision::{provision, Purpose};
use crate::screen::while_waiting;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Takes under five minutes: fewer rows, fewer repeats, fewer fields of the tables
    #[arg(long)]
    quick: bool,
    /// Measures one part only: capture, writers, peak, drain, matrix, freshness, requests, lasting, memory, phases, scaling,
    /// idle or ddl
    #[arg(long, value_name = "PART")]
    only: Option<String>,
    /// Measures only a backlog of so many rows, compared with a tenth of them: 50000000 take 45 GB and a quarter of an
    /// hour
    #[arg(long, value_name = "ROWS", conflicts_with = "only")]
    backlog: Option<u64>,
}

type Part = fn(&Setup, &mut Report) -> Result<()>;

const PARTS: &[(&str, Part)] = &[
    ("capture", capture::measure),
    ("writers", capture::writers::measure),
    ("peak", capture::peak::measure),
    ("drain", drain::measure),
    ("matrix", matrix::measure),
    ("freshness", freshness::measure),
    ("requests", requests::measure),
    ("lasting", lasting::measure),
    ("memory", memory::measure),
    ("phases", phases::measure),
    ("scaling", scaling::measure),
    ("idle", idle::measure),
    ("ddl", ddl::measure),
];

/// Measures, prints the tables, and writes them to the target folder, with a chart. Returns whether everything could be
/// measured.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
    let mut parts = PARTS.to_vec();
    parts.retain(|(name, _)| arguments.only.as_deref().is_none_or(|only| only == *name));
    ensure!(!parts.is_empty(), "the parts are {}", names.join(", "));
    let mut scale = if arguments.quick { QUICK } else { FULL };
    if let Some(rows) = arguments.backlog {
        parts = vec![("backlog", lasting::many::compare)];
        scale = Scale { counted: rows, disk: scale.disk.max(rows.div_ceil(1_200_000)), ..scale };
    }
    ensure_room(&scale)?;
    let pg = provision(Purpose::ServeWithPython)?;
    let packages = while_waiting("fetching what it is compared with", || Packages::fetch(&pg));
    let installation = while_waiting("building the extension for release", || {
        Installation::prepare_with(&pg, Profile::Release, &packages.folders())
    })?;
    while_waiting("building the stand-in for release", build_standin)?;
    interrupt::watch()?;

    let machine = Machine::look(installation.version())?;
    println!("{machine}");
    let started = Instant::now();
    let mut report = Report::new(machine, if arguments.quick { "quick" } else { "full" });
    let setup = Setup { installation: Arc::new(installation), packages, scale };
    let folder = cargo::target_dir().join("measure");
    let mut complete = true;
    for (name, part) in parts {
        println!("measuring {name} …");
        let begun = Instant::now();
        if let Err(error) = part(&setup, &mut report) {
            // A part that fails does not discard the results of the others.
            interrupt::check()?;
            report.add(Row::not_measured(format!("all of {name}"), &format!("{error:#}")));
            complete = false;
        }
        println!("{name} took {:.0} s", begun.elapsed().as_secs_f64());
        report.took(started.elapsed());
        write(&report, &folder)?;
    }
    println!("\n{}\nalso in {}", report.markdown(), folder.join("measure.md").display());
    Ok(complete)
}

/// A full disk would harm other programs too.
fn ensure_room(scale: &Scale) -> Result<()> {
    let folder = clusters_folder();
    let folder = folder.parent().unwrap_or(&folder);
    let found = statvfs(folder).with_context(|| format!("cannot look at {}", folder.display()))?;
    let free = found.blocks_available() as u64 * found.fragment_size() as u64 / 1_000_000_000;
    let (needed, folder) = (scale.disk, folder.display());
    ensure!(free >= needed, "this takes up to {needed} GB below {folder}, where {free} GB are free");
    Ok(())
}

/// The tables, their data and the chart.
fn write(report: &Report, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::write(folder.join("measure.md"), report.markdown())?;
    fs::write(folder.join("measure.json"), serde_json::to_string_pretty(&report.json())?)?;
    fs::write(folder.join("measure.svg"), report.chart())?;
    Ok(())
}

fn build_standin() -> Result<()> {
    let mut build = cargo::command();
    build.args(["build", "-q", "--release", "-p", "audit_algolia_tests", "--bin", "standin"]);
    build.arg("--target-dir").arg(cargo::target_dir());
    let status = build.status().context("cargo could not be started")?;
    ensure!(status.success(), "the stand-in does not build: {status}");
    Ok(())
}
