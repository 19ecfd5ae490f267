//! `cargo demo`: delivers this machine's package history as an audit table, from a cluster of its own to a stand-in for
//! Algolia.
//!
//! Everything that is started belongs to the [`Environment`] and ends when that is dropped: at the end, after an error,
//! or after Ctrl-C. If the process is killed, the cluster's watchdog cleans up.

mod analyst;
mod backlog;
mod environment;
mod page;
mod proof;
mod search;
mod status;

use anyhow::Result;

use audit_algolia_tests::history::{self, Change};
use audit_algolia_tests::workload::WATCH;

use self::environment::Environment;
use crate::interrupt::{self, Interrupted};
use crate::screen::{grouped, heading, wrapped};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Keeps database and stand-in running at the end, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Takes only the newest N changes of the history
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
}

/// Runs the demo.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    heading(1, "A database, an index, and a table to watch");
    let mut changes = history::collect()?;
    if let Some(rows) = arguments.rows {
        changes.drain(..changes.len().saturating_sub(rows));
    }
    let mut env = Environment::open(changes.len())?;
    let result = play(&mut env, &changes, arguments.keep);
    if result.as_ref().is_err_and(|error| !error.is::<Interrupted>()) {
        eprintln!("the end of the server's log:\n{}", env.log_tail());
    }
    result
}

fn play(env: &mut Environment, changes: &[Change], keep: bool) -> Result<()> {
    interrupt::check()?;
    println!("\n{WATCH};\n");
    println!(
        "{}",
        wrapped(
            "Authors and addresses leave as pseudonyms. The summary is not among the allowed columns and never \
             leaves: people write names and addresses into it.",
            0
        )
    );

    heading(2, "A backlog: delivery is paused while years of history are loaded");
    backlog::load(env, changes)?;
    interrupt::check()?;

    heading(3, "Newest first: what is committed while the backlog drains does not wait behind it");
    backlog::drain(env, changes.len() as u64)?;
    interrupt::check()?;

    heading(4, "A row, and what Algolia got of it");
    proof::show_records(env)?;
    interrupt::check()?;

    heading(5, "What an analyst finds out, without the database, with a search key alone");
    analyst::ask(env)?;
    interrupt::check()?;

    heading(6, "Everything arrived, and nothing that should not");
    let rows = proof::check(env)?;
    interrupt::check()?;

    heading(7, "The audit page: what analysts and auditors look at");
    let page = page::serve(env)?;
    interrupt::check()?;

    println!("\n{} changes delivered; the demo is complete.", grouped(rows));
    match (keep, page) {
        (true, _page) => env.stay()?,
        (false, Some(_)) => println!("The page has ended with it; cargo demo --keep leaves it there."),
        (false, None) => {}
    }
    Ok(())
}
