//! Measures what idle workers for twenty databases cost: processor time, wake-ups and WAL.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use postgres::Client;

use super::process::{fine_cpu_seconds, size, sleeps};
use super::report::Report;
use super::rows::{insert, table, watch, INDEX};
use super::setup::Setup;
use super::spread::short;
use super::testbed::Testbed;
use crate::interrupt;
use crate::waiting::{self, SELDOM};

const DATABASES: usize = 20;
const WORKERS: usize = 2;
/// For this long after the last delivery, a worker may still check whether it has missed something.
const CALM: Duration = Duration::from_secs(10);

/// A process of the extension, and what it had used.
struct Process {
    id: u32,
    kind: String,
    cpu: f64,
    sleeps: u64,
}

pub(super) fn measure(setup: &Setup, report: &mut Report) -> Result<()> {
    // What autovacuum writes about twenty new databases would hide what is measured.
    let settings = [("max_worker_processes", "64"), ("autovacuum", "off")];
    let mut testbed = Testbed::start(&setup.installation, &settings)?;
    let insert = insert("audit_log", 100);
    for number in 1..DATABASES {
        interrupt::check()?;
        let name = format!("idle_{number}");
        testbed.execute(&format!("CREATE DATABASE {name}"))?;
        let mut db = testbed.cluster.connect(&name, "postgres")?;
        db.batch_execute("CREATE EXTENSION audit_algolia")?;
        db.batch_execute(&format!("{}; {}", table("audit_log"), watch("audit_log")))?;
        db.batch_execute(&insert)?;
    }
    testbed.execute(&insert)?;
    testbed.cluster.set(&[("audit_algolia.workers", &WORKERS.to_string())])?;
    settle(&mut testbed)?;
    testbed.execute("CHECKPOINT")?;

    let before = processes(&mut testbed.db)?;
    let wal = testbed.wal()?;
    let started = Instant::now();
    waiting::pass(setup.scale.idle)?;
    let seconds = started.elapsed().as_secs_f64();
    let wal = testbed.wal()? - wal;
    let after = processes(&mut testbed.db)?;
    tell(report, &before, &after, wal, seconds)
}

/// Waits until all workers run and all rows have arrived, and a while longer.
fn settle(testbed: &mut Testbed) -> Result<()> {
    let workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'audit_algolia worker'";
    let expected = (DATABASES * WORKERS) as i64;
    let rows = 100 * DATABASES as u64;
    waiting::until("idleness of all workers", Duration::from_secs(120), SELDOM, || {
        let running: i64 = testbed.db.query_one(workers, &[])?.get(0);
        Ok(running >= expected && testbed.standin.count(INDEX)? >= rows)
    })?;
    waiting::pass(CALM)
}

fn processes(db: &mut Client) -> Result<Vec<Process>> {
    let query = "SELECT pid, backend_type FROM pg_stat_activity WHERE backend_type LIKE 'audit_algolia%'";
    let mut all = Vec::new();
    for row in db.query(query, &[])? {
        let id = u32::try_from(row.get::<_, i32>(0))?;
        all.push(Process { id, kind: row.get(1), cpu: fine_cpu_seconds(id)?, sleeps: sleeps(id)? });
    }
    Ok(all)
}

fn tell(report: &mut Report, before: &[Process], after: &[Process], log: f64, seconds: f64) -> Result<()> {
    let mut kinds: Vec<&str> = after.iter().map(|one| one.kind.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let head =
        ["processes", "count", "CPU ms a minute each", "wake-ups a minute each", "memory MB each (RssAnon)"];
    let mut lines = Vec::new();
    let minute = 60.0 / seconds;
    let (mut cpu_of_all, mut wakes_of_all) = (0.0, 0.0);
    for kind in kinds {
        let (mut cpu, mut wakes, mut memory, mut count) = (0.0, 0.0, 0.0, 0.0);
        for now in after.iter().filter(|one| one.kind == kind) {
            let then = before.iter().find(|one| one.id == now.id);
            let then = then.with_context(|| format!("{kind} {} has just been started", now.id))?;
            cpu += (now.cpu - then.cpu) * 1000.0 * minute;
            wakes += (now.sleeps - then.sleeps) as f64 * minute;
            memory += size(now.id)?.anonymous;
            count += 1.0;
        }
        (cpu_of_all, wakes_of_all) = (cpu_of_all + cpu, wakes_of_all + wakes);
        report.keep(
            &format!("idle, {kind}: all of them"),
            "CPU ms a minute, wake-ups a minute, MB",
            &[cpu, wakes, memory],
        );
        let each = [cpu / count, wakes / count, memory / count].map(short);
        lines.push([kind.to_owned(), short(count)].into_iter().chain(each).collect());
    }
    let databases = DATABASES as f64;
    report.keep("idle, WAL of the whole server", "bytes a minute", &[log * minute]);
    let each = [cpu_of_all / databases, wakes_of_all / databases, log * minute / databases].map(short);
    let [cpu, wakes, log] = each;
    let legend = format!(
        "Per database and minute: {cpu} ms of CPU, {wakes} wake-ups, {log} bytes of WAL (of the whole server, whose \
         autovacuum is off). Watched for {seconds:.0} s, {} s after the last delivery. Wake-ups are the times a \
         thread went to sleep by itself.",
        CALM.as_secs(),
    );
    report.table(format!("Idle: {DATABASES} databases, {WORKERS} workers each"), legend, &head, lines);
    Ok(())
}
