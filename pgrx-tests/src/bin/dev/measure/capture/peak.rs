//! How much memory a writer needs whose statement captures very many rows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

use anyhow::Result;

use super::super::process::size;
use super::super::report::Report;
use super::super::spread::short;
use super::super::world::World;
use super::super::Site;
use super::shape::Shape;
use super::variant::Variant;
use crate::interrupt;

/// Those that differ in what a statement keeps until its end.
const VARIANTS: [Variant; 5] =
    [Variant::Bare, Variant::Ours, Variant::Row, Variant::Statement, Variant::Json];

pub(in super::super) fn measure(site: &Site, report: &mut Report) -> Result<()> {
    let rows = site.scale.writer;
    let mut world = World::start(&site.installation)?;
    let (there, hmac) = super::prepare(site, &mut world, report)?;
    let head = ["one statement with", "peak MB", "MB beyond no trigger"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    let mut bare = None;
    for variant in VARIANTS.into_iter().filter(|one| there.contains(one)) {
        interrupt::check()?;
        world.db.batch_execute(&variant.set_up(Shape::Narrow, hmac))?;
        let peak = peak(&world, &variant.table(Shape::Narrow), rows)?;
        world.db.batch_execute(&format!("TRUNCATE {}", variant.table(Shape::Narrow)))?;
        let beyond = peak - *bare.get_or_insert(peak);
        report.keep(&format!("peak memory of a writer: {}", variant.name()), "MB (RssAnon)", &[peak]);
        lines.push(vec![variant.name().to_owned(), short(peak), short(beyond)]);
    }
    report.table(
        format!("Peak memory of a writer that inserts {rows} narrow rows in one statement"),
        "The most the session's process had for itself (RssAnon, looked at every 2 ms).",
        lines,
    );
    Ok(())
}

/// The most memory of its own that a new session has during the statement, in megabytes.
fn peak(world: &World, table: &str, rows: u64) -> Result<f64> {
    let mut db = world.cluster.connect("postgres", "postgres")?;
    let backend = World::backend(&mut db)?;
    let (columns, values) = (Shape::Narrow.columns(), Shape::Narrow.values("i"));
    let statement =
        format!("INSERT INTO {table} ({columns}) SELECT {values} FROM generate_series(1, {rows}) AS i");
    let done = AtomicBool::new(false);
    scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut peak = 0.0_f64;
            while !done.load(Ordering::Relaxed) {
                if let Ok(now) = size(backend) {
                    peak = peak.max(now.anonymous);
                }
                sleep(Duration::from_millis(2));
            }
            peak
        });
        let result = db.batch_execute(&statement);
        done.store(true, Ordering::Relaxed);
        result?;
        watcher.join().map_err(|_| anyhow::anyhow!("the watcher has failed"))
    })
}
