//! Large rows: a worker's memory is bounded by bytes, however many of them wait.

use std::time::Duration;

use audit_algolia_tests::stage::{Stage, StageBuilder, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

use crate::support::*;

const MB: i64 = 1 << 20;
/// The default of `audit_algolia.batch_bytes`.
const BATCH: i64 = 8 * MB;
/// What a worker needs besides its batches: threads with their stacks and buffers, plans, and shared pages that it has
/// touched.
const OWN: i64 = 16 * MB;

/// A stage with one worker, on a server with little shared memory.
fn stage() -> StageBuilder {
    Stage::builder()
        .standin(|standin| {
            standin.light = true;
            standin.max_record_bytes = usize::MAX;
            // So that as many requests as possible are in flight at a time.
            standin.latency = Duration::from_millis(200);
        })
        .setting("shared_buffers", "4MB")
        .setting("max_wal_size", "4GB")
        .setting("audit_algolia.workers", 1)
        .setting("audit_algolia.max_record_bytes", "64MB")
}

/// The peak memory of the process.
fn peak(pid: i32) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<i64>().unwrap() * 1024
}

/// Stores a text of so many bytes that hardly compresses in the temporary table `noise`.
fn make_noise(db: &mut Client, bytes: i64) {
    db.batch_execute("create temp table noise (text text)").unwrap();
    db.batch_execute("alter table noise alter text set storage external").unwrap();
    let noise = format!(
        "insert into noise
         select left(string_agg(encode(sha512(n::text::bytea), 'base64'), ''), {bytes})
         from generate_series(1, {bytes} / 80) as n"
    );
    db.batch_execute(&noise).unwrap();
}

/// Inserts rows with the text, each in a statement of its own, while delivery is paused. Then delivers them, and
/// returns how much the worker has grown at most.
fn growth(stage: &Stage, db: &mut Client, ids: std::ops::RangeInclusive<i64>) -> i64 {
    db.batch_execute("select audit_algolia.pause('log')").unwrap();
    wait_for_state(db, "log", "paused");
    for id in ids {
        db.execute("insert into log select $1, text from noise", &[&id]).unwrap();
    }
    wait_until("a worker", SOON, || workers(db, "postgres").len() == 1);
    let worker = a_worker(db, "postgres");
    let before = peak(worker);
    db.batch_execute("select audit_algolia.resume('log')").unwrap();
    wait_until("delivery", 6 * SOON, || one::<i64>(db, "select count(*) from audit_algolia.queue") == 0);
    assert_eq!(workers(db, "postgres"), [worker], "{}", stage.cluster.log());
    peak(worker) - before
}

#[test]
fn a_worker_holds_a_few_batches_of_bytes_however_many_large_rows_wait() {
    let stage = stage().start().unwrap();
    let mut db = staged(&stage, "log");
    make_noise(&mut db, 8 * MB);
    let grown = growth(&stage, &mut db, 1..=30);
    assert_eq!(stage.standin.light_counts("log").operations, 30);
    let bound = 4 * BATCH + 2 * 8 * MB;
    eprintln!("30 rows of 8 MB: {} MB, at most {} MB and {} MB", grown / MB, bound / MB, OWN / MB);
    assert!(grown < bound + OWN, "{} MB", grown / MB);
}

#[test]
fn a_worker_with_many_slots_holds_no_more_bytes() {
    let stage = stage().setting("audit_algolia.in_flight", 16).start().unwrap();
    let mut db = staged(&stage, "log");
    make_noise(&mut db, MB);
    let grown = growth(&stage, &mut db, 1..=100);
    assert_eq!(stage.standin.light_counts("log").operations, 100);
    let bound = 4 * BATCH + 2 * MB;
    eprintln!("100 rows of 1 MB: {} MB, at most {} MB and {} MB", grown / MB, bound / MB, OWN / MB);
    assert!(grown < bound + OWN, "{} MB", grown / MB);
}

#[test]
fn a_worker_holds_a_few_batches_of_bytes_of_a_mirrored_table() {
    let stage = stage().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table log (id bigint primary key, note text);
         select audit_algolia.watch('log', columns => '{note}', mode => 'mirror')",
    )
    .unwrap();
    make_noise(&mut db, 8 * MB);
    let grown = growth(&stage, &mut db, 1..=30);
    assert_eq!(stage.standin.light_counts("log").operations, 30);
    let bound = 4 * BATCH + 2 * 8 * MB;
    eprintln!("30 objects of 8 MB: {} MB, at most {} MB and {} MB", grown / MB, bound / MB, OWN / MB);
    assert!(grown < bound + OWN, "{} MB", grown / MB);
}

#[test]
fn a_record_that_is_too_large_is_judged_by_its_length_and_not_read() {
    let stage = stage().setting("audit_algolia.max_record_bytes", "100kB").start().unwrap();
    let mut db = staged(&stage, "log");
    make_noise(&mut db, 16 * MB);
    let grown = growth(&stage, &mut db, 1..=6);
    assert_eq!(stage.standin.light_counts("log").operations, 0);
    let whole = "select count(*) from audit_algolia.dead_letters
                 where length(record ->> 'note') = 16 * 1024 * 1024 and object_id = record ->> 'objectID'
                     and error like 'record has 1_______ bytes, more than audit_algolia.max_record_bytes = 102400 allows'";
    assert_eq!(one::<i64>(&mut db, whole), 6);
    // PostgreSQL itself copies one record at a time into the dead letters, and tries to compress it meanwhile.
    eprintln!("6 records of 16 MB too large: {} MB", grown / MB);
    assert!(grown < 2 * 16 * MB + OWN, "{} MB", grown / MB);
}

#[test]
fn a_record_that_fits_is_delivered_however_much_longer_its_escapes_make_the_text() {
    let stage = stage().setting("audit_algolia.max_record_bytes", "300kB").start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table log (id bigint primary key, note json);
         select audit_algolia.watch('log', columns => '{note}');
         insert into log values
             (1, ('\"' || repeat('\\u0041', 250000) || '\"')::json),
             (2, ('\"' || repeat('\\u0041', 350000) || '\"')::json)",
    )
    .unwrap();
    wait_until("judgement", 2 * SOON, || queue(&mut db, "log").queued == 0);
    assert_eq!((stage.standin.light_counts("log").operations, queue(&mut db, "log").dead), (1, 1));
    assert_eq!(one::<String>(&mut db, "select object_id from audit_algolia.dead_letters"), "2");
}

/// Limits the address space of a process to so many bytes more than it has; `None`: no limit.
fn limit(db: &mut Client, pid: i32, more: Option<i64>) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let has: i64 = line.trim().trim_end_matches(" kB").parse::<i64>().unwrap() * 1024;
    let limit = more.map_or("unlimited".to_owned(), |more| (has + more).to_string());
    // Run as the server's user, who owns the process.
    db.batch_execute(&format!(
        "copy (select 1) to program 'cat >/dev/null; prlimit --pid={pid} --as={limit}:unlimited'"
    ))
    .unwrap();
}

/// Two small rows, a large one, and a worker that does not have enough memory for it.
fn short(stage: &Stage, db: &mut Client, bytes: i64, memory: i64) -> i32 {
    wait_until("a worker", SOON, || workers(db, "postgres").len() == 1);
    insert(db, "log", 101..=101);
    wait_until("delivery", SOON, || stage.standin.light_counts("log").operations == 1);
    db.batch_execute("select audit_algolia.pause('log')").unwrap();
    wait_for_state(db, "log", "paused");
    insert(db, "log", 1..=2);
    db.execute("insert into log select 3, repeat('x', $1::bigint::integer)", &[&bytes]).unwrap();
    let worker = a_worker(db, "postgres");
    limit(db, worker, Some(memory));
    db.batch_execute("select audit_algolia.resume('log')").unwrap();
    worker
}

#[test]
fn a_record_for_which_there_is_no_memory_waits_by_itself_and_ends_nobody() {
    let stage = stage()
        .setting("audit_algolia.max_record_bytes", "1GB")
        .setting("audit_algolia.retry_max", "1s")
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    let worker = short(&stage, &mut db, 128 * MB, 96 * MB);
    wait_until("the small rows", SOON, || stage.standin.light_counts("log").operations == 3);
    wait_until("an explanation", SOON, || queue(&mut db, "log").last_error.contains("not enough memory"));
    insert(&mut db, "log", 1001..=2000);
    wait_until("later rows", SOON, || stage.standin.light_counts("log").operations == 1003);
    wait_until("nothing but the large row", SOON, || queue(&mut db, "log").queued == 1);
    limit(&mut db, worker, None);
    wait_until("the large row", 2 * SOON, || queue(&mut db, "log").queued == 0);
    assert_eq!(stage.standin.light_counts("log").operations, 1004);
    assert_eq!(workers(&mut db, "postgres"), [worker], "{}", stage.cluster.log());
    let log = stage.cluster.log();
    assert!(!log.contains("terminated by signal") && !log.contains("ERROR"), "{log}");
}

#[test]
fn a_dead_letter_for_which_there_is_no_memory_waits_by_itself_and_ends_nobody() {
    let stage = stage()
        .setting("audit_algolia.max_record_bytes", "100kB")
        .setting("audit_algolia.retry_max", "1s")
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    // As a text that cannot be compressed.
    db.batch_execute("alter table audit_algolia.queue alter record set storage external").unwrap();
    let worker = short(&stage, &mut db, 256 * MB, 96 * MB);
    wait_until("the small rows", SOON, || stage.standin.light_counts("log").operations == 3);
    wait_until("an explanation", SOON, || {
        queue(&mut db, "log").last_error.contains("memory to move it to the dead letters")
    });
    insert(&mut db, "log", 1001..=2000);
    wait_until("later rows", SOON, || stage.standin.light_counts("log").operations == 1003);
    limit(&mut db, worker, None);
    wait_until("the dead letter", 2 * SOON, || queue(&mut db, "log").dead == 1);
    assert_eq!(workers(&mut db, "postgres"), [worker], "{}", stage.cluster.log());
    let log = stage.cluster.log();
    assert!(!log.contains("terminated by signal") && !log.contains("ERROR"), "{log}");
}
