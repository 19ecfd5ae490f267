//! Measures the memory of each process for rows of 8 MB. It must not exceed a few times `batch_bytes` and two rows,
//! however many rows there are.

use std::time::Duration;

use anyhow::{ensure, Result};
use audit_algolia_tests::memory::{peak_meanwhile, peak_of, peak_of_session};

use super::report::Report;
use super::row::{Row, Target};
use super::setup::Setup;
use super::testbed::Testbed;
use crate::waiting::{self, OFTEN};

const MEGABYTE: f64 = (1 << 20) as f64;
/// The size of a row, and of `batch_bytes`, in megabytes.
const ROW: f64 = 8.0;
const BATCH: f64 = 8.0;
const MOST: f64 = 4.0 * BATCH + 2.0 * ROW;
/// What a worker needs besides batches, in megabytes: the client for HTTP and TLS, threads, and shared memory that it
/// has touched.
const OWN: f64 = 16.0;
/// An expression for the text of a row.
const TEXT: &str = "repeat(md5(i::text), 262144)";
const PATIENCE: Duration = Duration::from_secs(300);

/// The modes, with the name of the table for each.
const MODES: [(&str, &str); 2] = [("append", "appended"), ("mirror", "mirrored")];

pub(super) fn measure(setup: &Setup, report: &mut Report) -> Result<()> {
    let more = [
        // Shared memory that a process has touched counts as its own.
        ("shared_buffers", "4MB"),
        ("audit_algolia.on_capture_error", "warn"),
        ("audit_algolia.max_record_bytes", "64MB"),
    ];
    let mut testbed = Testbed::start(&setup.installation, &more)?;
    let rows = setup.scale.large;
    for (mode, table) in MODES {
        write(&mut testbed, report, (mode, table), rows)?;
        deliver(&mut testbed, report, mode)?;
        reconcile(&mut testbed, report, (mode, table), rows)?;
        repair(&mut testbed, report, (mode, table), rows)?;
        testbed.execute(&format!("DROP TABLE {table}, {table}_plain"))?;
        backfill(&mut testbed, report, (mode, table), rows)?;
        testbed.execute(&format!("DROP TABLE {table}"))?;
    }
    Ok(())
}

/// Reports the memory of a process in excess of a plain session's.
fn tell(report: &mut Report, what: String, taken: u64, plain: u64, most: f64) {
    let beyond = taken.saturating_sub(plain) as f64 / MEGABYTE;
    report.keep(&what, "MB: VmHWM beyond a plain session", &[beyond]);
    let figures =
        format!("{:.0} MB, a plain session {:.0}", taken as f64 / MEGABYTE, plain as f64 / MEGABYTE);
    report.add(Row::new(what, figures).target(Target::AtMost(most, "MB beyond a plain session", beyond)));
}

fn plain(testbed: &Testbed) -> Result<u64> {
    peak_of_session(&mut testbed.connect()?)
}

/// The writer's session, compared with one that writes to a table that is not watched.
fn write(testbed: &mut Testbed, report: &mut Report, (mode, table): (&str, &str), rows: u64) -> Result<()> {
    testbed.execute(&format!(
        "CREATE TABLE {table} (id bigint PRIMARY KEY, n int, v text);
         CREATE TABLE {table}_plain (LIKE {table} INCLUDING ALL);
         SELECT audit_algolia.watch('{table}', columns => '{{v}}', mode => '{mode}', filter => '100 / n <> 1000');
         SELECT audit_algolia.pause()"
    ))?;
    let peak = |name: &str| {
        let mut session = testbed.connect()?;
        session.batch_execute(&format!(
            "INSERT INTO {name} SELECT i, 1, {TEXT} FROM generate_series(1, {rows}) AS i"
        ))?;
        peak_of_session(&mut session)
    };
    let (bare, ours) = (peak(&format!("{table}_plain"))?, peak(table)?);
    tell(report, format!("memory of a writer of rows of 8 MB, {mode}"), ours, bare, MOST);
    Ok(())
}

/// The worker that delivers the rows.
fn deliver(testbed: &mut Testbed, report: &mut Report, mode: &str) -> Result<()> {
    let plain = plain(testbed)?;
    testbed.resume()?;
    testbed.wait_until_empty()?;
    let worker = testbed.worker()?;
    tell(report, format!("memory of a worker, rows of 8 MB, {mode}"), peak_of(worker)?, plain, MOST + OWN);
    Ok(())
}

/// A session that compares and sends what is missing, which is everything, because the server keeps nothing.
fn reconcile(
    testbed: &mut Testbed,
    report: &mut Report,
    (mode, table): (&str, &str),
    rows: u64,
) -> Result<()> {
    testbed.pause()?;
    let plain = plain(testbed)?;
    let mut session = testbed.connect()?;
    let query = format!("SELECT checked FROM audit_algolia.reconcile('{table}', repair => true)");
    match session.query_one(&query, &[]) {
        Ok(row) => ensure!(row.get::<_, i64>(0) == rows as i64, "not all rows were compared"),
        Err(error) => {
            report.missing(&format!("memory of reconcile, {mode}"), &format!("{error:#}"));
            return Ok(());
        }
    }
    tell(
        report,
        format!("memory of reconcile, rows of 8 MB, {mode}"),
        peak_of_session(&mut session)?,
        plain,
        MOST,
    );
    Ok(())
}

/// The process that makes repairs.
fn repair(testbed: &mut Testbed, report: &mut Report, (mode, table): (&str, &str), rows: u64) -> Result<()> {
    testbed.execute(&format!("TRUNCATE {table}; TRUNCATE audit_algolia.queue"))?;
    testbed.execute(&format!(
        "INSERT INTO {table} SELECT i, 0, {TEXT} FROM generate_series(1, {rows}) AS i;
         ALTER TABLE {table} DISABLE TRIGGER ALL"
    ))?;
    let (taken, plain) = (
        meanwhile(testbed, |testbed| {
            testbed.execute(&format!("UPDATE {table} SET n = 1"))?;
            until_none(testbed, "repairs", "SELECT count(*) FROM audit_algolia.repair")
        })?,
        plain(testbed)?,
    );
    tell(report, format!("memory of repairs, rows of 8 MB, {mode}"), taken, plain, MOST);
    Ok(())
}

/// The process that sends a backfill.
fn backfill(
    testbed: &mut Testbed,
    report: &mut Report,
    (mode, table): (&str, &str),
    rows: u64,
) -> Result<()> {
    testbed.execute(&format!(
        "TRUNCATE audit_algolia.queue;
         CREATE TABLE {table} (id bigint PRIMARY KEY, v text);
         INSERT INTO {table} SELECT i, {TEXT} FROM generate_series(1, {rows}) AS i"
    ))?;
    let (taken, plain) = (
        meanwhile(testbed, |testbed| {
            testbed.execute(&format!(
                "SELECT audit_algolia.watch('{table}', columns => '{{v}}', mode => '{mode}', backfill => true)"
            ))?;
            let left = format!("SELECT {rows} - count(*) FROM audit_algolia.queue");
            until_none(testbed, "history", &left)
        })?,
        plain(testbed)?,
    );
    tell(report, format!("memory of a backfill, rows of 8 MB, {mode}"), taken, plain, MOST);
    Ok(())
}

/// The memory of the process for backfills and repairs during `work`.
fn meanwhile(testbed: &mut Testbed, work: impl FnOnce(&mut Testbed) -> Result<()>) -> Result<u64> {
    let address = testbed.cluster.connection_string("postgres", "postgres");
    let find = || {
        let mut session = postgres::Client::connect(&address, postgres::NoTls).ok()?;
        let query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'audit_algolia backfill'";
        u32::try_from(session.query_opt(query, &[]).ok()??.get::<_, i32>(0)).ok()
    };
    let ((), peak) = peak_meanwhile(find, || work(testbed))?;
    ensure!(peak > 0, "no process was seen");
    Ok(peak)
}

fn until_none(testbed: &mut Testbed, what: &str, count: &str) -> Result<()> {
    waiting::until(what, PATIENCE, OFTEN, || Ok(testbed.db.query_one(count, &[])?.get::<_, i64>(0) == 0))
        .map(drop)
}
