//! What the extension costs statements that it has nothing to do with: making and dropping a temporary table.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use postgres::Client;

use audit_algolia_tests::server::Cluster;

use super::process::fine_cpu_seconds;
use super::report::{Reach, Report, Row};
use super::spread::{ratio, short, Spread};
use super::turns::in_turn;
use super::world::{World, SETTINGS};
use super::Site;
use crate::interrupt;

/// Tables made and dropped in a row. Rounds are short, so that both sides see the same machine.
const TABLES: usize = 50;
const ROUNDS: usize = 40;

const STATEMENTS: [&str; 2] =
    ["CREATE TEMPORARY TABLE scratch (id serial PRIMARY KEY, v text)", "DROP TABLE scratch"];

/// One side: its session, the process that serves it, and milliseconds per table, by the clock and of processor time.
struct Side {
    db: Client,
    backend: u32,
    elapsed: Vec<f64>,
    cpu: Vec<f64>,
}

impl Side {
    fn new(mut db: Client) -> Result<Side> {
        let backend = World::backend(&mut db)?;
        Ok(Side { db, backend, elapsed: Vec::new(), cpu: Vec::new() })
    }

    fn round(&mut self) -> Result<()> {
        let (begun, cpu) = (Instant::now(), fine_cpu_seconds(self.backend)?);
        for _ in 0..TABLES {
            for statement in STATEMENTS {
                self.db.batch_execute(statement)?;
            }
        }
        let each = 1000.0 / TABLES as f64;
        self.cpu.push((fine_cpu_seconds(self.backend)? - cpu) * each);
        self.elapsed.push(begun.elapsed().as_secs_f64() * each);
        Ok(())
    }
}

/// A server, preloaded or without anything of ours.
fn start(site: &Site, preload: bool) -> Result<Cluster> {
    let mut builder =
        Cluster::builder().installation(Arc::clone(&site.installation)).durable(true).preload(preload);
    for (name, value) in SETTINGS {
        builder = builder.setting(name, value);
    }
    builder.start()
}

pub(super) fn measure(site: &Site, report: &mut Report) -> Result<()> {
    let (bare, ours) = (start(site, false)?, start(site, true)?);
    let mut db = ours.connect("postgres", "postgres")?;
    db.batch_execute(
        "CREATE EXTENSION audit_algolia;
         CREATE TABLE parts (id bigint PRIMARY KEY, event text) PARTITION BY HASH (id);
         CREATE TABLE part PARTITION OF parts FOR VALUES WITH (MODULUS 1, REMAINDER 0);
         SELECT audit_algolia.watch('parts', columns => '{event}', mode => 'mirror')",
    )?;
    let mut sides = [
        Side::new(bare.connect("postgres", "postgres")?)?,
        Side::new(ours.connect("postgres", "postgres")?)?,
    ];
    // The first ones fill the caches.
    for side in &mut sides {
        side.round()?;
        (side.elapsed, side.cpu) = (Vec::new(), Vec::new());
    }
    for round in 0..ROUNDS {
        interrupt::check()?;
        for place in in_turn(&[0, 1], round, ROUNDS) {
            sides[place].round()?;
        }
    }
    let [bare, ours] = sides;
    for (of, without, with) in
        [("", &bare.elapsed, &ours.elapsed), (", processor time", &bare.cpu, &ours.cpu)]
    {
        let name = format!("CREATE and DROP of a temporary table{of}");
        report.keep(&format!("{name}, without the extension"), "ms", without);
        report.keep(&name, "ms", with);
        let median = |values: &[f64]| Spread::of(values).map_or(f64::NAN, |spread| spread.median);
        let figures =
            format!("{} ms, {} ms without the extension", short(median(with)), short(median(without)));
        report.add(Row::new(name, figures).ratio(ratio(with, without)).reach(Reach::RatioAtMost(1.1)));
    }
    Ok(())
}
