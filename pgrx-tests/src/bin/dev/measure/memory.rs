//! Whether a worker stays as large as it is, over very many rows and over an outage; what large rows take.

use std::time::Duration;

use anyhow::{ensure, Context, Result};

use super::drain::drain;
use super::process::{size, Size};
use super::report::{Reach, Report, Row};
use super::world::World;
use super::Site;
use crate::waiting::{self, OFTEN};

/// What may come on top, in megabytes: the allocator gives back what it likes.
const SLACK: f64 = 3.0;

pub(super) fn measure(site: &Site, report: &mut Report) -> Result<()> {
    super::large::measure(site, report)?;
    let mut world = World::start(&site.installation)?;
    let mut sizes = Vec::new();
    let mut delivered = 0;
    for rows in site.scale.looks {
        drain(&mut world, rows - delivered)?;
        delivered = rows;
        sizes.push((format!("{rows} rows"), size(worker(&mut world)?)?));
    }
    let first = worker(&mut world)?;
    let attempts = site.scale.attempts;
    outage(&mut world, attempts)?;
    sizes.push((format!("{attempts} failed attempts more"), size(worker(&mut world)?)?));
    ensure!(worker(&mut world)? == first, "it was not the same worker all the time");
    let start = sizes.first().map(|(_, size)| size.anonymous).unwrap_or_default();
    for (after, Size { resident, peak, anonymous }) in sizes {
        let name = format!("memory of the worker after {after}");
        report.keep(&name, "MB: VmRSS, VmHWM, RssAnon", &[resident, peak, anonymous]);
        let figures =
            format!("VmRSS {resident:.1} MB, VmHWM {peak:.1} MB, of it its own (RssAnon) {anonymous:.1} MB");
        report.add(Row::new(name, figures).reach(Reach::AtMost(
            SLACK,
            "MB more of its own than at first",
            anonymous - start,
        )));
    }
    Ok(())
}

fn worker(world: &mut World) -> Result<u32> {
    world.workers()?.first().copied().context("no worker")
}

/// Nobody answers until so many attempts have failed; then everything is delivered.
fn outage(world: &mut World, attempts: i64) -> Result<()> {
    let url = world.light.url.clone();
    let quick = [("audit_algolia.retry_min", "1ms"), ("audit_algolia.retry_max", "1ms")];
    world.set(&quick, 1)?;
    world.set(&[("audit_algolia.hosts", "http://127.0.0.1:1")], 1)?;
    world.load(100_000)?;
    let failed = "SELECT sum(errors_total)::bigint FROM audit_algolia.worker_stats()";
    waiting::until(&format!("{attempts} attempts that fail"), Duration::from_secs(300), OFTEN, || {
        Ok(world.db.query_one(failed, &[])?.get::<_, i64>(0) >= attempts)
    })?;
    world.set(&[("audit_algolia.hosts", &url)], 1)?;
    world.wait_until_empty().map(drop)
}
