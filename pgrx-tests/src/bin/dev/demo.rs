//! `cargo demo`: this machine's package history as an audit table, delivered from a cluster of its own.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use postgres::Client;

use audit_algolia_tests::cargo::Profile;
use audit_algolia_tests::history::{self, Change};
use audit_algolia_tests::server::{Cluster, Installation};
use audit_algolia_tests::workload;

use crate::provision::provision;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leaves the cluster running until Enter or Ctrl-C
    #[arg(long)]
    keep: bool,
}

/// Shows the extension at work.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let cluster = start()?;
    let mut client = cluster.connect("postgres", "postgres")?;
    workload::create_table(&mut client)?;
    if cluster.installation().has_install_script() {
        watch(&mut client)?;
    } else {
        println!("the extension has no install script: the table is loaded, and not watched");
    }
    load(&mut client)?;
    describe(&mut client)?;
    if arguments.keep {
        println!("look into it with: {}", cluster.psql("postgres"));
        println!("Enter ends it");
        std::io::stdin().read_line(&mut String::new())?;
    }
    Ok(())
}

fn start() -> Result<Cluster> {
    let pg = provision()?;
    let installation = Installation::prepare(&pg, Profile::Dev)?;
    let started = Instant::now();
    let preload = installation.has_install_script();
    let cluster = Cluster::builder()
        .installation(Arc::new(installation))
        .preload(preload)
        .start()?;
    println!(
        "PostgreSQL {} started in {} ms",
        pg.version(),
        started.elapsed().as_millis()
    );
    Ok(cluster)
}

fn watch(client: &mut Client) -> Result<()> {
    client
        .batch_execute(
            "CREATE EXTENSION audit_algolia;
             SELECT audit_algolia.watch('document_changes',
                 columns => '{package, version, author, changed_at, urgency, summary}',
                 time_column => 'changed_at',
                 facets => '{package, author, urgency}')",
        )
        .context("the table could not be watched")
}

fn load(client: &mut Client) -> Result<()> {
    let changes = history::collect()?;
    let (Some(first), Some(last)) = (changes.first(), changes.last()) else {
        println!("this machine remembers no changes");
        return Ok(());
    };
    let years = (last.changed_at - first.changed_at) / (365 * 86_400);
    println!(
        "{} changes in {years} years, from this machine's packages",
        changes.len()
    );
    let started = Instant::now();
    let mut progress = Progress::new(&changes);
    let count = workload::copy(client, &changes, |done| progress.show(done))?;
    println!("{count} rows inserted in {} ms", started.elapsed().as_millis());
    Ok(())
}

fn describe(client: &mut Client) -> Result<()> {
    let rows = client.query(
        "SELECT author, count(*), count(DISTINCT package) FROM document_changes
         GROUP BY author ORDER BY 2 DESC LIMIT 5",
        &[],
    )?;
    println!("most changes by:");
    for row in rows {
        let (author, changes, packages): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
        println!("  {changes:>6} in {packages:>4} packages  {author}");
    }
    Ok(())
}

/// A line that fills up, on a terminal only.
struct Progress {
    total: usize,
    shown: Option<Instant>,
    terminal: bool,
}

impl Progress {
    const WIDTH: usize = 40;

    fn new(changes: &[Change]) -> Progress {
        Progress {
            total: changes.len(),
            shown: None,
            terminal: std::io::stdout().is_terminal(),
        }
    }

    fn show(&mut self, done: usize) {
        let recent = self
            .shown
            .is_some_and(|at| at.elapsed() < Duration::from_millis(50));
        if !self.terminal || (recent && done < self.total) {
            return;
        }
        self.shown = Some(Instant::now());
        let filled = Progress::WIDTH * done / self.total.max(1);
        print!(
            "\r[{:<width$}] {done}/{}",
            "#".repeat(filled),
            self.total,
            width = Progress::WIDTH
        );
        if done == self.total {
            println!();
        }
        let _ = std::io::stdout().flush();
    }
}
