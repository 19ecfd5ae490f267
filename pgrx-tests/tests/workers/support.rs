//! Shared by the tests of the workers: watched tables, rows with known ids, and the statistics.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use audit_algolia_tests::server::Cluster;
pub(crate) use audit_algolia_tests::stage::one;
use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::standin::Standin;
use audit_algolia_tests::wait::{eventually, wait_until};
use postgres::Client;

/// How long something that the server does at once may take: two seconds are promised.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(2);

/// One line of `queue_stats()`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Queue {
    pub(crate) state: String,
    pub(crate) queued: i64,
    pub(crate) in_flight: i64,
    pub(crate) retrying: i64,
    pub(crate) dead: i64,
    pub(crate) dead_total: i64,
    pub(crate) enqueued_total: i64,
    pub(crate) delivered_total: i64,
    pub(crate) failed_total: i64,
    pub(crate) last_error: String,
}

/// Creates a table whose rows go to an index of the same name, without waiting for anything.
pub(crate) fn watch(db: &mut Client, table: &str) {
    db.batch_execute(&format!(
        "create table {table} (id bigint primary key, note text);
         select audit_algolia.watch('{table}', columns => '{{note}}')"
    ))
    .unwrap();
}

/// Inserts the rows `ids` in one statement.
pub(crate) fn insert(db: &mut Client, table: &str, ids: std::ops::RangeInclusive<i64>) {
    db.execute(
        &format!("insert into {table} select n, 'note ' || n from generate_series($1::bigint, $2) as n"),
        &[ids.start(), ids.end()],
    )
    .unwrap();
}

/// The statistics of an index.
#[track_caller]
pub(crate) fn queue(db: &mut Client, index: &str) -> Queue {
    let row = db
        .query_one(
            "select state, queued, in_flight, retrying, enqueued_total, delivered_total, failed_total,
                 coalesce(last_error, ''), dead, dead_total
             from audit_algolia.queue_stats() where index_name = $1",
            &[&index],
        )
        .unwrap();
    Queue {
        state: row.get(0),
        queued: row.get(1),
        in_flight: row.get(2),
        retrying: row.get(3),
        enqueued_total: row.get(4),
        delivered_total: row.get(5),
        failed_total: row.get(6),
        last_error: row.get(7),
        dead: row.get(8),
        dead_total: row.get(9),
    }
}

/// Waits until the statistics of an index show this state.
#[track_caller]
pub(crate) fn wait_for_state(db: &mut Client, index: &str, state: &str) {
    let mut last = String::new();
    let reached = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_until("the state", SOON, || {
            last = queue(db, index).state;
            last == state
        });
    }));
    assert!(reached.is_ok(), "state is {last}, not {state}");
}

/// The PIDs of the delivery workers of a database.
pub(crate) fn workers(db: &mut Client, database: &str) -> Vec<i32> {
    let rows = db.query(
        "select pid from pg_stat_activity where backend_type = 'audit_algolia worker' and datname = $1 order by pid",
        &[&database],
    );
    rows.unwrap().iter().map(|row| row.get(0)).collect()
}

/// A worker of a database, as soon as there is one: a worker may just have ended, and another not yet begun.
#[track_caller]
pub(crate) fn a_worker(db: &mut Client, database: &str) -> i32 {
    eventually("a worker", SOON, || workers(db, database).first().copied())
}

/// Waits until a database has so many workers.
#[track_caller]
pub(crate) fn wait_for_workers(db: &mut Client, database: &str, count: usize) {
    wait_until(&format!("{count} workers in {database}"), SOON, || workers(db, database).len() == count);
}

/// Ends the workers of a database, and waits until others have replaced them.
#[track_caller]
pub(crate) fn replace_workers(db: &mut Client, database: &str) {
    let before = workers(db, database);
    for pid in &before {
        db.execute("select pg_terminate_backend($1)", &[pid]).unwrap();
    }
    wait_until("other workers", SOON, || {
        let after = workers(db, database);
        after.len() == before.len() && after.iter().all(|pid| !before.contains(pid))
    });
}

/// Waits until nothing is queued or in flight for any index, according to the statistics and to the table.
#[track_caller]
pub(crate) fn wait_for_empty_queue(db: &mut Client) {
    let left = "select coalesce(sum(queued + in_flight), 0)::bigint from audit_algolia.queue_stats()";
    wait_until("an empty queue", SOON, || one::<i64>(db, left) == 0);
    assert_eq!(one::<i64>(db, "select count(*) from audit_algolia.queue"), 0);
}

/// The objectIDs that were sent to an index, in order of arrival.
pub(crate) fn sent(standin: &Standin, index: &str) -> Vec<i64> {
    standin
        .arrivals()
        .iter()
        .filter(|arrival| arrival.index == index)
        .map(|arrival| arrival.object_id.parse().unwrap())
        .collect()
}

/// Asserts that exactly the rows `ids` were sent to the index, each once.
#[track_caller]
pub(crate) fn assert_each_once(standin: &Standin, index: &str, ids: impl IntoIterator<Item = i64>) {
    let sent = sent(standin, index);
    let distinct: BTreeSet<i64> = sent.iter().copied().collect();
    assert_eq!(sent.len(), distinct.len(), "rows were sent twice");
    assert_eq!(distinct, ids.into_iter().collect());
}

/// Asserts that the index holds exactly the rows `ids`.
#[track_caller]
pub(crate) fn assert_holds(standin: &Standin, index: &str, ids: impl IntoIterator<Item = i64>) {
    let held: BTreeSet<i64> = standin.index(index).keys().map(|id| id.parse().unwrap()).collect();
    assert_eq!(held, ids.into_iter().collect());
}

/// How long something takes.
pub(crate) fn took(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}

/// Asserts that the log contains no fault of ours.
#[track_caller]
pub(crate) fn assert_no_faults(cluster: &Cluster) {
    let faults = ["deadlock", "PANIC", "terminated by signal", "ERROR:", "FATAL:", "WARNING:"];
    let log = cluster.log();
    let found: Vec<&str> =
        log.lines().filter(|line| faults.iter().any(|fault| line.contains(fault))).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// A stage whose `postgres` database has one watched table.
pub(crate) fn staged(stage: &Stage, table: &str) -> Client {
    let mut db = stage.admin();
    watch(&mut db, table);
    db
}

/// A file that belongs to the server's account, removed with the cluster's folder.
pub(crate) struct KeyFile {
    path: std::path::PathBuf,
}

impl KeyFile {
    pub(crate) fn new(stage: &Stage, content: &str, mode: u32) -> KeyFile {
        use std::os::unix::fs::{chown, MetadataExt, PermissionsExt};
        let path = stage.cluster.data_dir().join("key");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let owner = std::fs::metadata(stage.cluster.data_dir()).unwrap();
        chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
        KeyFile { path }
    }

    pub(crate) fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    pub(crate) fn write(&self, content: &str) {
        std::fs::write(&self.path, content).unwrap();
    }
}

/// How often the processes have gone to sleep.
pub(crate) fn switches(pids: &[i32]) -> Vec<u64> {
    pids.iter()
        .map(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            line.unwrap().trim().parse().unwrap()
        })
        .collect()
}
