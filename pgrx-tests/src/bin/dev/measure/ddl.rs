//! Measures what the extension costs statements that do not concern it: creating and dropping a temporary table.

use anyhow::Result;
use postgres::Client;

use super::process::seconds_of;
use super::report::Report;
use super::row::{Row, Target};
use super::samples::Samples;
use super::setup::Setup;
use super::testbed::{backend, cluster};

/// Tables created and dropped in a row. Rounds are short, so that both sides find the machine in the same state.
const TABLES: usize = 50;
const ROUNDS: usize = 40;

const STATEMENTS: [&str; 2] =
    ["CREATE TEMPORARY TABLE scratch (id serial PRIMARY KEY, v text)", "DROP TABLE scratch"];

/// Milliseconds per table, of elapsed and of processor time.
type Times = (f64, f64);

pub(super) fn measure(setup: &Setup, report: &mut Report) -> Result<()> {
    let start = |preload| cluster(&setup.installation).preload(preload).start();
    let servers = [start(false)?, start(true)?];
    let mut sessions =
        [servers[0].connect("postgres", "postgres")?, servers[1].connect("postgres", "postgres")?];
    sessions[1].batch_execute(
        "CREATE EXTENSION audit_algolia;
         CREATE TABLE parts (id bigint PRIMARY KEY, event text) PARTITION BY HASH (id);
         CREATE TABLE part PARTITION OF parts FOR VALUES WITH (MODULUS 1, REMAINDER 0);
         SELECT audit_algolia.watch('parts', columns => '{event}', mode => 'mirror')",
    )?;
    // The first ones fill the caches.
    for db in &mut sessions {
        make_and_drop(db)?;
    }
    let times =
        Samples::alternate(&[0, 1], ROUNDS, |place: usize| make_and_drop(&mut sessions[place]).map(Some))?;
    let name = "CREATE and DROP of a temporary table";
    for (name, of) in [
        (name.to_owned(), (|times: &Times| times.0) as fn(&Times) -> f64),
        (format!("{name}, processor time"), |times: &Times| times.1),
    ] {
        let (without, with) = (times.of(0, of), times.of(1, of));
        report.keep(&format!("{name}, without the extension"), "ms", &without);
        let row = Row::of(name, "ms", &with).against("without the extension", &without);
        report.add(row.target(Target::RatioAtMost(1.05)));
    }
    Ok(())
}

fn make_and_drop(db: &mut Client) -> Result<Times> {
    let (elapsed, cpu) = seconds_of(backend(db)?, || {
        let mut statements = (0..TABLES).flat_map(|_| STATEMENTS);
        Ok(statements.try_for_each(|statement| db.batch_execute(statement))?)
    })?;
    let each = 1000.0 / TABLES as f64;
    Ok((elapsed * each, cpu * each))
}
