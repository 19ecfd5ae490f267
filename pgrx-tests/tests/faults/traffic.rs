//! Writers that go on whatever happens to the server, and the comparison of what they committed with what has arrived.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use audit_algolia_tests::server::Cluster;
use audit_algolia_tests::stage::SOON;
use audit_algolia_tests::standin::Standin;
use audit_algolia_tests::wait::{eventually, wait_until};
use postgres::Client;

use crate::support::{one, queue};

/// The table the writers write to, and its index.
pub(crate) const TABLE: &str = "traffic";
const WRITERS: i64 = 2;

/// Writers at work, as the test sees them.
#[derive(Default)]
pub(crate) struct Traffic {
    stop: AtomicBool,
    /// Transactions whose commit was confirmed.
    commits: AtomicU64,
    /// Errors other than the end of a session.
    surprises: Mutex<Vec<String>>,
}

/// Ends the writers even if the test fails, which would otherwise wait for them.
struct Ending<'a>(&'a Traffic);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

impl Traffic {
    /// Waits until this many more transactions have committed, so that the writers are known to have recovered.
    #[track_caller]
    pub(crate) fn wait_for_commits(&self, more: u64) {
        let wanted = self.commits.load(Ordering::Relaxed) + more;
        wait_until("the writers to go on", SOON, || self.commits.load(Ordering::Relaxed) >= wanted);
    }
}

/// Creates the table of the writers, and watches it.
pub(crate) fn prepare(db: &mut Client) {
    crate::support::watch(db, TABLE);
}

/// Runs `work` while writers write. Each call writes rows of its own, which `round` distinguishes.
#[track_caller]
pub(crate) fn under_traffic(cluster: &Cluster, round: i64, work: impl FnOnce(&Traffic)) {
    let traffic = Traffic::default();
    thread::scope(|scope| {
        let _ending = Ending(&traffic);
        for writer in 0..WRITERS {
            let traffic = &traffic;
            scope.spawn(move || write(cluster, traffic, (round * WRITERS + writer + 1) * 1_000_000_000));
        }
        traffic.wait_for_commits(20);
        work(&traffic);
        traffic.wait_for_commits(20);
    });
    let surprises = traffic.surprises.into_inner().unwrap();
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}

fn write(cluster: &Cluster, traffic: &Traffic, mut id: i64) {
    let mut session = None;
    while !traffic.stop.load(Ordering::Relaxed) {
        let mut db = match session.take().map_or_else(|| cluster.connect("postgres", "postgres").ok(), Some) {
            Some(db) => db,
            None => {
                // The server is down or is starting.
                thread::park_timeout(Duration::from_millis(5));
                continue;
            }
        };
        // After a failure with unknown outcome, the ids are never used again. The table shows whether they were
        // committed.
        id += 10;
        match db.batch_execute(&transaction(id)) {
            Ok(()) => {
                traffic.commits.fetch_add(1, Ordering::Relaxed);
                session = Some(db);
            }
            Err(error) => {
                let told = error.as_db_error().filter(|told| !is_end_of_session(told.code().code()));
                if let Some(told) = told {
                    traffic.surprises.lock().unwrap().push(format!(
                        "{} {}",
                        told.code().code(),
                        told.message()
                    ));
                }
            }
        }
    }
}

/// The transaction that begins at an id; the kinds alternate. They pause, so that faults interrupt them.
fn transaction(id: i64) -> String {
    let rows = |from: i64, count: i64| {
        format!(
            "insert into {TABLE} select n, 'note ' || n from generate_series({from}, {}) as n;",
            from + count - 1
        )
    };
    let dwell = "select pg_sleep(0.001);";
    match id / 10 % 5 {
        0 => rows(id, 1),
        1 => format!("begin; {} {dwell} {} commit", rows(id, 3), rows(id + 3, 4)),
        2 => format!("begin; {} {dwell} rollback", rows(id, 5)),
        3 => format!(
            "begin; {} savepoint s; {} {dwell} rollback to s; {} release s; commit",
            rows(id, 2),
            rows(id + 2, 2),
            rows(id + 4, 1)
        ),
        _ => rows(id, 10),
    }
}

fn is_end_of_session(code: &str) -> bool {
    code.starts_with("57P") || code.starts_with("08")
}

/// Waits until the queue is empty, and compares: what was committed is in the index, and nothing else was ever sent.
#[track_caller]
pub(crate) fn assert_delivered(cluster: &Cluster, standin: &Standin) {
    let mut db = eventually("a session", SOON, || {
        let mut db = cluster.connect("postgres", "postgres").ok()?;
        db.batch_execute("select 1").ok()?;
        Some(db)
    });
    wait_until("an empty queue", 3 * SOON, || {
        let seen = queue(&mut db, TABLE);
        seen.queued == 0 && seen.in_flight == 0
    });
    assert_eq!(one::<i64>(&mut db, "select count(*) from audit_algolia.queue"), 0);
    let committed: BTreeSet<String> = db
        .query(&format!("select id::text from {TABLE}"), &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(committed.len() > 50, "only {} rows committed", committed.len());
    let held: BTreeSet<String> = standin.index(TABLE).into_keys().collect();
    let missing: Vec<&String> = committed.difference(&held).take(5).collect();
    let surplus: Vec<&String> = held.difference(&committed).take(5).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "missing {missing:?}, too many {surplus:?}");
    let sent = standin.arrivals();
    let unreal =
        sent.iter().find(|arrival| arrival.index == TABLE && !committed.contains(&arrival.object_id));
    assert!(unreal.is_none(), "was sent without having committed: {unreal:?}");
}

/// Waits until nothing is queued or in flight for any index.
#[track_caller]
pub(crate) fn wait_for_empty_queues(db: &mut Client) {
    let left = "select (select count(*) from audit_algolia.queue)
             + (select coalesce(sum(queued + in_flight), 0) from audit_algolia.queue_stats())::bigint";
    wait_until("empty queues", SOON, || one::<i64>(db, left) == 0);
}
