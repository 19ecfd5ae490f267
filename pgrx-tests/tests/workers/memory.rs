//! A worker's use of the machine does not grow with the work that it has done.

use std::collections::BTreeMap;
use std::time::Duration;

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::standin::{Fault, Times};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

use crate::support::*;

/// A figure from the kernel about a process, in kB.
fn figure(pid: i32, name: &str) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Private memory of a process, in kB.
fn memory(pid: i32) -> i64 {
    figure(pid, "RssAnon")
}

fn deliver(stage: &Stage, db: &mut Client, rows: std::ops::RangeInclusive<i64>) {
    let total = *rows.end() as u64;
    insert(db, "log", rows);
    wait_until("delivery", 3 * SOON, || stage.standin.light_counts("log").operations >= total);
    wait_until("an empty queue", SOON, || queue(db, "log").queued == 0);
}

#[test]
fn a_worker_stays_as_small_as_it_was() {
    let stage = Stage::builder()
        .standin(|standin| standin.light = true)
        .setting("audit_algolia.workers", 1)
        .setting("audit_algolia.retry_min", "1ms")
        .setting("audit_algolia.retry_max", "1ms")
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    wait_until("a worker", SOON, || workers(&mut db, "postgres").len() == 1);
    deliver(&stage, &mut db, 1..=50_000);
    let worker = a_worker(&mut db, "postgres");
    let before = memory(worker);
    for part in 1..=5 {
        deliver(&stage, &mut db, part * 50_000 + 1..=(part + 1) * 50_000);
    }
    let delivered = memory(worker);
    assert!(delivered < before + 3_000, "after 250,000 rows more: {before} kB, now {delivered} kB");
    // An outage: a batch is tried a thousand times.
    stage.standin.fault(None, Fault::error(503, "down"), Times::Count(1000));
    let requests = stage.standin.request_count();
    insert(&mut db, "log", 400_001..=401_000);
    wait_until("a thousand attempts", 3 * SOON, || stage.standin.request_count() >= requests + 1000);
    wait_until("an empty queue", SOON, || queue(&mut db, "log").queued == 0);
    assert_eq!(workers(&mut db, "postgres"), [worker], "it is the same worker all the time");
    let tried = memory(worker);
    assert!(tried < delivered + 3_000, "after an outage: {delivered} kB, now {tried} kB");
}

/// If address space is limited, what the allocator reserves for threads is not available for their work.
#[test]
fn many_requests_on_their_way_reserve_little_address_space() {
    const REQUESTS: usize = 16;
    let stage = Stage::builder()
        .standin(|standin| {
            standin.light = true;
            standin.latency = Duration::from_millis(300);
        })
        .setting("audit_algolia.workers", 1)
        .setting("audit_algolia.in_flight", REQUESTS)
        .setting("audit_algolia.batch_rows", 10)
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    wait_until("a worker", SOON, || workers(&mut db, "postgres").len() == 1);
    let worker = a_worker(&mut db, "postgres");
    let before = figure(worker, "VmPeak");
    deliver(&stage, &mut db, 1..=1000);
    let threads = std::fs::read_dir(format!("/proc/{worker}/task")).unwrap().count();
    assert!(threads > REQUESTS, "one thread for each request, and the main one: {threads}");
    let grown = (figure(worker, "VmPeak") - before) >> 10;
    eprintln!(
        "{REQUESTS} requests at a time: {grown} MB more of address space, {} MB in all",
        (before >> 10) + grown
    );
    // Stacks of 2 MB, and one arena, which takes twice its 64 MB for a moment.
    assert!(grown < 256, "{grown} MB");
}

/// The server's shared memory by name, in bytes.
fn shared(preload: bool) -> BTreeMap<String, i64> {
    let stage = Stage::builder().preload(preload).start().unwrap();
    let query = "select coalesce(name, 'free'), allocated_size from pg_shmem_allocations";
    let rows = stage.admin().query(query, &[]).unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).filter(|(name, _)| name != "free").collect()
}

#[test]
fn the_library_reserves_as_much_shared_memory_as_the_guide_says() {
    let guide = include_str!("../../../docs/install.md");
    let (_, told) = guide.split_once("The library reserves about ").unwrap();
    let (told, _) = told.split_once(" MB of shared memory").unwrap();
    let (with, without) = (shared(true), shared(false));
    let ours: Vec<(&String, &i64)> = with.iter().filter(|(name, _)| !without.contains_key(*name)).collect();
    let megabytes = ours.iter().map(|(_, size)| **size).sum::<i64>() as f64 / f64::from(1 << 20);
    assert_eq!(told, megabytes.round().to_string(), "{ours:?}");
}

#[test]
fn a_worker_that_rests_gives_back_what_its_senders_needed() {
    let stage = Stage::builder()
        .standin(|standin| standin.light = true)
        .setting("audit_algolia.workers", 1)
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    wait_for_workers(&mut db, "postgres", 1);
    let worker = a_worker(&mut db, "postgres");
    deliver(&stage, &mut db, 1..=50_000);
    assert!(figure(worker, "Threads") > 1);
    let busy = memory(worker);
    wait_until("the end of its senders", 3 * SOON, || figure(worker, "Threads") == 1);
    wait_until("less memory", SOON, || memory(worker) < busy);
    deliver(&stage, &mut db, 50_001..=50_010);
}
