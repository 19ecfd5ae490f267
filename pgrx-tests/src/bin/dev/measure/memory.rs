//! Measures whether a worker's memory stays constant, over very many rows and over an outage, and what large rows take.

use std::time::Duration;

use anyhow::{ensure, Result};

use super::drain::tell_beyond;
use super::process::{memory, size, Size};
use super::report::Report;
use super::row::{Row, Target};
use super::rows::Records;
use super::setup::Setup;
use super::testbed::Testbed;
use crate::waiting::{self, OFTEN};

/// The tolerance in megabytes, because the allocator decides what it returns.
const SLACK: f64 = 3.0;
const MINUTE: Duration = Duration::from_secs(60);

pub(super) fn measure(setup: &Setup, report: &mut Report) -> Result<()> {
    super::large::measure(setup, report)?;
    let mut testbed = Testbed::start(&setup.installation, &[])?;
    let mut sizes = Vec::new();
    let mut delivered = 0;
    for rows in setup.scale.looks {
        testbed.drain(Records::Small, rows - delivered)?;
        delivered = rows;
        sizes.push((format!("{rows} rows"), size(testbed.worker()?)?));
    }
    rest(&mut testbed, setup.scale.rest, report)?;
    let first = testbed.worker()?;
    let attempts = setup.scale.attempts;
    outage(&mut testbed, attempts)?;
    sizes.push((format!("{attempts} failed attempts more"), size(testbed.worker()?)?));
    ensure!(testbed.worker()? == first, "it was not the same worker all the time");
    let start = sizes.first().map(|(_, size)| size.anonymous).unwrap_or_default();
    for (after, Size { resident, peak, anonymous }) in sizes {
        let name = format!("memory of the worker after {after}");
        report.keep(&name, "MB: VmRSS, VmHWM, RssAnon", &[resident, peak, anonymous]);
        let figures =
            format!("VmRSS {resident:.1} MB, VmHWM {peak:.1} MB, of it its own (RssAnon) {anonymous:.1} MB");
        report.add(Row::new(name, figures).target(Target::AtMost(
            SLACK,
            "MB more of its own than at first",
            anonymous - start,
        )));
    }
    Ok(())
}

/// A worker returns memory after it has been idle for a minute.
fn rest(testbed: &mut Testbed, length: Duration, report: &mut Report) -> Result<()> {
    waiting::pass(length)?;
    let left = memory(testbed.worker()?)?;
    let when = format!(" after {} s of rest", length.as_secs());
    let most = (length > MINUTE).then_some(8.0);
    tell_beyond(report, &when, testbed.beyond_plain(left)?, most);
    Ok(())
}

/// The server fails until so many attempts have failed; then everything is delivered.
fn outage(testbed: &mut Testbed, attempts: i64) -> Result<()> {
    let url = testbed.standin.url.clone();
    let quick = [("audit_algolia.retry_min", "1ms"), ("audit_algolia.retry_max", "1ms")];
    testbed.set(&quick, 1)?;
    testbed.set(&[("audit_algolia.hosts", "http://127.0.0.1:1")], 1)?;
    testbed.load(Records::Small, 100_000)?;
    let failed = "SELECT sum(errors_total)::bigint FROM audit_algolia.worker_stats()";
    waiting::until(&format!("{attempts} attempts that fail"), Duration::from_secs(300), OFTEN, || {
        Ok(testbed.db.query_one(failed, &[])?.get::<_, i64>(0) >= attempts)
    })?;
    testbed.set(&[("audit_algolia.hosts", &url)], 1)?;
    testbed.wait_until_empty().map(drop)
}
