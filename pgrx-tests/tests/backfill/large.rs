//! A large table, under live traffic and with a crash: exactly its rows arrive, while neither memory nor the queue
//! grow.
//!
//! `BACKFILL_ROWS=5000000 cargo test -p audit_algolia_tests --release --test backfill -- a_large_table --nocapture`
//! runs it with more rows and prints the figures.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{channel, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use audit_algolia_tests::server::StopMode;
use audit_algolia_tests::stage::Stage;
use audit_algolia_tests::wait::eventually;

use crate::support::*;

/// Ids of live rows start here.
const LIVE: i64 = 1_000_000_000;
/// How often some of them are written.
const PACE: Duration = Duration::from_millis(5);
/// Ten times the rows that two workers with four requests each have in flight, and the step that exceeds it.
const DEEPEST: i64 = 81_000;

/// Private memory of a process, in kB.
fn memory(pid: i32) -> Option<i64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

#[derive(Default, Debug)]
struct Peaks {
    memory: i64,
    queued: i64,
}

#[test]
fn a_large_table_arrives_as_it_is_through_a_crash_and_under_live_traffic() {
    let rows: i64 = std::env::var("BACKFILL_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(100_000);
    let stage = Stage::builder()
        .standin(|standin| {
            standin.light = true;
            standin.light_ids = true;
        })
        .setting("max_wal_size", "4GB")
        .start()
        .unwrap();
    let mut db = stage.admin();
    db.batch_execute(&format!(
        "create table log (id bigint primary key, who text, event text, at timestamptz, note text);
         insert into log select n, 'user-' || n % 1000, 'opened', timestamptz '2020-01-01' + n * interval '1 s', repeat('x', 80)
             from generate_series(1, {rows}) as n"
    ))
    .unwrap();
    db.batch_execute("vacuum analyze log").unwrap();
    db.batch_execute(
        "select audit_algolia.watch('log', columns => '{who,event,at,note}', pseudonymize => '{who}', time_column => 'at',
             backfill => true)",
    )
    .unwrap();
    let started = Instant::now();
    let last = AtomicI64::new(LIVE);
    let mut peaks = Peaks::default();
    let (stage, last_id) = (&stage, &last);
    thread::scope(|scope| {
        // Dropped at the end, even if the test fails.
        let (_writing, stopped) = channel::<()>();
        scope.spawn(move || {
            let mut writer = stage.admin();
            while stopped.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
                let id = last_id.load(Ordering::Relaxed);
                let insert = "insert into log select n, 'user', 'live', now(), '' from generate_series($1::bigint, $1 + 9) as n
                    on conflict do nothing";
                match writer.execute(insert, &[&id]) {
                    Ok(_) => last_id.store(id + 10, Ordering::Relaxed),
                    // The same again, because it is unknown whether they were committed.
                    Err(_) => writer = stage.session(),
                }
            }
        });
        let mut crashed = false;
        let mut db = stage.session();
        eventually("the end", Duration::from_secs(60 + rows as u64 / 2000), || {
            let row = db.query_one(
                "select b.state, b.rows_done, s.queued from audit_algolia.backfill_progress as b, audit_algolia.queue_stats() as s",
                &[],
            );
            let Ok(row) = row else {
                db = stage.session();
                return None;
            };
            peaks.queued = peaks.queued.max(row.get(2));
            for pid in backfillers(&mut db) {
                peaks.memory = peaks.memory.max(memory(pid).unwrap_or(0));
            }
            if !crashed && row.get::<_, i64>(1) > rows / 2 {
                crashed = true;
                stage.cluster.stop(StopMode::Immediate).unwrap();
                stage.cluster.start().unwrap();
                db = stage.session();
            }
            (row.get::<_, &str>(0) == "finished").then_some(())
        });
        assert!(crashed, "it was finished before the crash");
    });
    let read_in = started.elapsed();
    let mut db = stage.session();
    wait_for_end(&mut db);
    let counts = stage.standin.light_counts("log");
    let live = last.load(Ordering::Relaxed) - LIVE;
    println!(
        "{rows} rows and {live} live ones: read in {read_in:.1?}, delivered in {:.1?}; {counts:?}, {peaks:?}",
        started.elapsed()
    );
    assert_eq!(counts.distinct as i64, rows + live);
    assert_eq!(one::<i64>(&mut db, "select count(*) from log"), rows + live);
    assert_eq!(done(&mut db), rows);
    // What was in flight at the crash, or had arrived without a durable settlement, is sent again.
    assert!(counts.repeated <= 20_000, "{} were sent twice", counts.repeated);
    assert!(peaks.queued <= DEEPEST + live, "{} rows were queued", peaks.queued);
    assert!(peaks.memory < 32_000, "{} kB", peaks.memory);
}
