//! Shared by the tests of the backfill: tables with rows, and the progress.

use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) use audit_algolia_tests::stage::one;
use audit_algolia_tests::stage::{Stage, StageBuilder};
use audit_algolia_tests::standin::Standin;
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

/// How long a test waits for tens of thousands of rows on a busy machine.
pub(crate) const LATER: Duration = Duration::from_secs(60);

/// A stage with one worker that sends one request at a time, so that records arrive in the order of claims.
pub(crate) fn in_order() -> StageBuilder {
    Stage::builder().setting("audit_algolia.workers", 1).setting("audit_algolia.in_flight", 1)
}

/// Creates a table `log` with the rows 1 to `rows`.
pub(crate) fn fill(db: &mut Client, rows: i64) {
    db.batch_execute(&format!(
        "create table log (id bigint primary key, note text);
         insert into log select n, 'note ' || n from generate_series(1, {rows}) as n"
    ))
    .unwrap();
}

/// Watches `log` and starts its backfill.
pub(crate) fn watch(db: &mut Client) {
    db.batch_execute("select audit_algolia.watch('log', columns => '{note}', backfill => true)").unwrap();
}

/// The state of the only backfill.
#[track_caller]
pub(crate) fn state(db: &mut Client) -> String {
    one(db, "select state from audit_algolia.backfill_progress")
}

/// Its last error.
#[track_caller]
pub(crate) fn trouble(db: &mut Client) -> String {
    one(db, "select coalesce(last_error, '') from audit_algolia.backfill_progress")
}

/// Waits until the only backfill is in this state.
#[track_caller]
pub(crate) fn wait_for(db: &mut Client, wanted: &str) {
    let mut last = String::new();
    let reached = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_until("the state", LATER, || {
            last = state(db);
            last == wanted || last == "failed"
        });
    }));
    assert!(reached.is_ok() && last == wanted, "state is {last}, not {wanted}: {}", trouble(db));
}

/// Waits until the backfill is finished and everything that it has queued has arrived.
#[track_caller]
pub(crate) fn wait_for_end(db: &mut Client) {
    wait_for(db, "finished");
    let delivered: bool = one(db, "select audit_algolia.flush('60 s')");
    assert!(delivered, "the queue is not empty after a minute");
}

/// How many rows the backfill has read.
#[track_caller]
pub(crate) fn done(db: &mut Client) -> i64 {
    one(db, "select rows_done from audit_algolia.backfill_progress")
}

/// The objectIDs that were sent to an index, in order of arrival.
pub(crate) fn sent(standin: &Standin, index: &str) -> Vec<String> {
    let arrivals = standin.arrivals();
    arrivals.iter().filter(|a| a.index == index).map(|a| a.object_id.clone()).collect()
}

/// Asserts that exactly these objects were sent to an index, each once.
#[track_caller]
pub(crate) fn assert_each_once<T: ToString>(
    standin: &Standin,
    index: &str,
    objects: impl IntoIterator<Item = T>,
) {
    let mut times: BTreeMap<String, i64> = BTreeMap::new();
    for object in objects {
        *times.entry(object.to_string()).or_default() += 1;
    }
    for object in sent(standin, index) {
        *times.entry(object).or_default() -= 1;
    }
    let wrong: Vec<(&String, &i64)> = times.iter().filter(|(_, missing)| **missing != 0).collect();
    let few = &wrong[..wrong.len().min(20)];
    assert!(wrong.is_empty(), "{} missing (positive) or sent too often (negative): {few:?}", wrong.len());
}

/// The backfill processes.
pub(crate) fn backfillers(db: &mut Client) -> Vec<i32> {
    let query = "select pid from pg_stat_activity where backend_type = 'audit_algolia backfill'";
    db.query(query, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}
