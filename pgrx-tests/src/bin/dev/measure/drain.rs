//! How quickly a backlog drains: one worker, two, behind latency; beside a bare loop in SQL and a polling service.

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{ensure, Result};
use postgres::Client;

use audit_algolia_tests::server::Installation;

use super::polling::Service;
use super::process::{cpu_seconds, fine_cpu_seconds, memory, Memory};
use super::report::{Reach, Report, Row};
use super::spread::{ratio, short, Spread};
use super::world::{World, INDEX};
use super::Scale;
use crate::interrupt;

/// What one drain showed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Drain {
    pub(super) rate: f64,
    cpu_per_million: f64,
    wal_per_row: f64,
    beyond: Memory,
}

/// Newest first, a thousand at a time, as the extension claims them; but claimed and deleted in one statement.
const BARE_LOOP: &str = "
    DO $$
    DECLARE
        deleted bigint;
    BEGIN
        LOOP
            WITH gone AS (
                DELETE FROM bare_queue AS q
                USING (SELECT index_id, id FROM bare_queue ORDER BY index_id DESC, id DESC LIMIT 1000
                       FOR UPDATE SKIP LOCKED) AS newest
                WHERE q.index_id = newest.index_id AND q.id = newest.id
                RETURNING q.record
            )
            SELECT count(*) + 0 * coalesce(sum(length(record)), 0) INTO deleted FROM gone;
            COMMIT;
            EXIT WHEN deleted = 0;
        END LOOP;
    END $$";

pub(super) fn measure(installation: &Arc<Installation>, scale: &Scale, report: &mut Report) -> Result<()> {
    let mut world = World::start(installation)?;
    let rows = scale.drain;
    let mut service = Service::install();
    if let Err(error) = &service {
        report.note(format!("The polling service: {error:#}."));
    }
    // The first time, memory and files are made; that is nobody's rate.
    drain(&mut world, rows / 10)?;
    world.db.batch_execute(
        "CREATE TABLE bare_queue (LIKE audit_algolia.queue INCLUDING ALL);
         CREATE TABLE polled_queue (LIKE audit_algolia.queue INCLUDING ALL)",
    )?;
    let (mut one, mut two, mut far) = (Vec::new(), Vec::new(), Vec::new());
    let (mut bare, mut polled) = (Vec::new(), Vec::new());
    for _ in 0..scale.repeats {
        world.light.set_latency(0)?;
        world.set(&[("audit_algolia.workers", "1"), ("audit_algolia.in_flight", "4")], 1)?;
        one.push(drain(&mut world, rows)?);
        bare.push(bare_loop(&mut world, rows)?);
        if let Ok(service) = &mut service {
            copy_queue(&mut world, "polled_queue", scale.polled)?;
            polled.push(service.run(&mut world, scale.polled)?);
        }
        world.set(&[("audit_algolia.workers", "2")], 2)?;
        two.push(drain(&mut world, rows)?);
        world.light.set_latency(20)?;
        world.set(&[("audit_algolia.workers", "1"), ("audit_algolia.in_flight", "16")], 1)?;
        far.push(drain(&mut world, rows)?);
    }
    tell(report, rows, &one, &two, &far);
    compare(report, &one, &bare, &polled, service.err());
    Ok(())
}

/// Queues rows while paused, resumes, and waits until all have arrived.
pub(super) fn drain(world: &mut World, rows: u64) -> Result<Drain> {
    world.pause()?;
    world.load(rows)?;
    world.light.reset()?;
    let workers = world.workers()?;
    let cpu = |workers: &[u32]| workers.iter().map(|&pid| cpu_seconds(pid)).sum::<Result<f64>>();
    let (cpu_before, wal_before) = (cpu(&workers)?, world.wal()?);
    let mut watched = Memory::default();
    let started = Instant::now();
    world.resume()?;
    while world.queued()? > 0 {
        interrupt::check()?;
        ensure!(started.elapsed() < Duration::from_secs(600), "the drain does not end");
        if let Some(Ok(now)) = workers.first().map(|&pid| memory(pid)) {
            watched.private_dirty = watched.private_dirty.max(now.private_dirty);
            watched.anonymous = watched.anonymous.max(now.anonymous);
        }
        sleep(Duration::from_millis(10));
    }
    let seconds = started.elapsed().as_secs_f64();
    let arrived = world.light.count(INDEX)?;
    ensure!(arrived == rows, "{arrived} of {rows} rows arrived");
    let plain = plain_backend(world)?;
    Ok(Drain {
        rate: rows as f64 / seconds,
        cpu_per_million: (cpu(&workers)? - cpu_before) * 1e6 / rows as f64,
        wal_per_row: (world.wal()? - wal_before) / rows as f64,
        beyond: Memory {
            private_dirty: watched.private_dirty - plain.private_dirty,
            anonymous: watched.anonymous - plain.anonymous,
        },
    })
}

/// The memory of a session that has just asked something.
fn plain_backend(world: &World) -> Result<Memory> {
    let mut db = world.cluster.connect("postgres", "postgres")?;
    let pid = World::backend(&mut db)?;
    memory(pid)
}

/// Fills a queue that nobody but us knows with rows such as the extension's.
fn copy_queue(world: &mut World, table: &str, rows: u64) -> Result<()> {
    world.pause()?;
    world.load(rows)?;
    world.db.batch_execute(&format!("INSERT INTO {table} SELECT * FROM audit_algolia.queue"))?;
    world.resume()?;
    world.wait_until_empty()?;
    world.light.reset()
}

/// Rows a second, and processor seconds for a million rows.
fn bare_loop(world: &mut World, rows: u64) -> Result<(f64, f64)> {
    copy_queue(world, "bare_queue", rows)?;
    let mut db: Client = world.cluster.connect("postgres", "postgres")?;
    db.batch_execute("SET synchronous_commit = off")?;
    let backend = World::backend(&mut db)?;
    let before = fine_cpu_seconds(backend)?;
    let started = Instant::now();
    db.batch_execute(BARE_LOOP)?;
    let rate = rows as f64 / started.elapsed().as_secs_f64();
    let processor = (fine_cpu_seconds(backend)? - before) * 1e6 / rows as f64;
    let left: i64 = db.query_one("SELECT count(*) FROM bare_queue", &[])?.get(0);
    ensure!(left == 0, "the bare loop left {left} rows");
    Ok((rate, processor))
}

fn tell(report: &mut Report, rows: u64, one: &[Drain], two: &[Drain], far: &[Drain]) {
    let rates = |drains: &[Drain]| drains.iter().map(|one| one.rate).collect::<Vec<_>>();
    let bound = 16.0 * 1000.0 / 0.020;
    let cases = [
        ("no latency, one worker", rates(one), None),
        ("no latency, two workers", rates(two), None),
        ("20 ms, one worker, in_flight 16", rates(far), Some(bound)),
    ];
    for (name, values, bound) in cases {
        let name = format!("drain of {rows} rows, {name}");
        report.keep(&name, "rows/s", &values);
        let Some(spread) = Spread::of(&values) else {
            continue;
        };
        let mut row = Row::new(name, format!("{spread} rows/s"));
        if let Some(bound) = bound {
            // Where the processor is the limit, latency must not make it any slower.
            let reachable: Vec<f64> = one.iter().map(|near| near.rate.min(bound)).collect();
            row = row.ratio(ratio(&values, &reachable)).reach(Reach::RatioAtLeast(0.8));
        }
        report.add(row);
    }
    report.note(
        "At 20 ms the drain is compared with the bound 16 × 1,000 rows / 20 ms = 800,000 rows/s, or, where the \
         processor is the limit, with the drain without latency.",
    );
    for (name, drains) in [("no latency", one), ("20 ms", far)] {
        let values: Vec<f64> = drains.iter().map(|one| one.cpu_per_million).collect();
        if let Some(spread) = Spread::of(&values) {
            let name = format!("processor time of the worker, {name}");
            report.keep(&name, "s per million rows", &values);
            report.add(Row::new(name, format!("{spread} s per million rows")));
        }
    }
    let wal: Vec<f64> = one.iter().map(|one| one.wal_per_row).collect();
    if let Some(spread) = Spread::of(&wal) {
        report.keep("WAL of delivery", "bytes a row", &wal);
        report.add(
            Row::new("WAL of delivery, beyond the insert", format!("{spread} bytes a row"))
                .reach(Reach::AtMost(130.0, "bytes a row", spread.median)),
        );
    }
    // A worker keeps what it needed with sixteen requests in flight: only the first drain is one with defaults alone.
    let memory: Vec<Memory> = one.iter().take(1).map(|one| one.beyond).collect();
    if let Some(last) = one.last() {
        let text = format!("{} MB", short(last.beyond.anonymous));
        report.add(Row::new("the same once it had 16 requests in flight, anonymous", text));
    }
    let dirty: Vec<f64> = memory.iter().map(|one| one.private_dirty).collect();
    let anonymous: Vec<f64> = memory.iter().map(|one| one.anonymous).collect();
    for (name, values) in [("private and dirty", dirty), ("anonymous", anonymous)] {
        let Some(spread) = Spread::of(&values) else {
            continue;
        };
        let name = format!("worker's memory beyond a plain backend, {name}");
        report.keep(&name, "MB", &values);
        let row = Row::new(name, format!("{spread} MB"));
        report.add(row.reach(Reach::AtMost(16.0, "MB", spread.median)));
    }
}

fn compare(
    report: &mut Report,
    one: &[Drain],
    bare: &[(f64, f64)],
    polled: &[(f64, f64)],
    missing: Option<anyhow::Error>,
) {
    let rates: Vec<f64> = one.iter().map(|one| one.rate).collect();
    let own: Vec<f64> = one.iter().map(|one| one.cpu_per_million).collect();
    let (bare, bare_cpu): (Vec<f64>, Vec<f64>) = bare.iter().copied().unzip();
    report.keep("bare loop", "rows/s", &bare);
    if let Some(spread) = Spread::of(&bare_cpu) {
        report.add(
            Row::new(
                "processor time of the worker against the bare loop",
                format!("the loop: {spread} s per million rows"),
            )
            .ratio(ratio(&own, &bare_cpu)),
        );
    }
    if let Some(spread) = Spread::of(&bare) {
        report.add(
            Row::new("drain against a bare DELETE … RETURNING loop", format!("the loop: {spread} rows/s"))
                .ratio(ratio(&rates, &bare))
                .reach(Reach::RatioAtLeast(1.2)),
        );
    }
    let what = "drain against a polling service on Algolia's Python client";
    let processor = "processor time against the polling service and its backend";
    let (service, cpu): (Vec<f64>, Vec<f64>) = polled.iter().copied().unzip();
    match (Spread::of(&service), Spread::of(&cpu)) {
        (Some(rate), Some(seconds)) => {
            report.keep("polling service", "rows/s", &service);
            report.keep("polling service, processor time", "s per million rows", &cpu);
            report.add(
                Row::new(what, format!("the service: {rate} rows/s"))
                    .ratio(ratio(&rates, &service))
                    .reach(Reach::RatioAtLeast(4.0)),
            );
            report.add(
                Row::new(processor, format!("the service: {seconds} s per million rows"))
                    .ratio(ratio(&own, &cpu))
                    .reach(Reach::RatioAtMost(0.3)),
            );
        }
        _ => {
            let reason = missing.map_or_else(|| "no run".to_owned(), |error| short_reason(&error));
            report.add(Row::not_measured(what, reason.clone()));
            report.add(Row::not_measured(processor, reason));
        }
    }
}

fn short_reason(error: &anyhow::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().chars().take(80).collect()
}

/// A rate as a text.
pub(super) fn rows_per_second(rate: f64) -> String {
    format!("{} rows/s", short(rate))
}
