//! Shared by the tests of `reconcile`: the call, and an index that somebody else has written to.

use audit_algolia_tests::stage::{Stage, StageBuilder, SOON};
use audit_algolia_tests::wait::wait_until;
use nix::sys::signal::Signal;
use postgres::Client;
use serde_json::{json, Value};

use crate::client;

/// The result of `reconcile`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Found {
    pub(crate) checked: i64,
    pub(crate) missing: i64,
    pub(crate) different: i64,
    pub(crate) orphaned: i64,
    pub(crate) repaired: i64,
}

/// Calls `reconcile` with these arguments.
pub(crate) fn try_reconcile(db: &mut Client, arguments: &str) -> Result<Found, postgres::Error> {
    let row = db.query_one(&format!("select * from audit_algolia.reconcile({arguments})"), &[])?;
    Ok(Found {
        checked: row.get("checked"),
        missing: row.get("missing"),
        different: row.get("different"),
        orphaned: row.get("orphaned"),
        repaired: row.get("repaired"),
    })
}

#[track_caller]
pub(crate) fn reconcile(db: &mut Client, arguments: &str) -> Found {
    try_reconcile(db, arguments).unwrap()
}

/// The result if everything is as it should be.
pub(crate) fn well(checked: i64) -> Found {
    Found { checked, ..Found::default() }
}

#[track_caller]
pub(crate) fn wait_for_empty_queue(db: &mut Client) {
    wait_until("an empty queue", SOON, || {
        db.query_one("select count(*) from audit_algolia.queue", &[]).unwrap().get::<_, i64>(0) == 0
    });
}

/// A stage with a mirrored table of so many rows, which are delivered, whose key has this type.
pub(crate) fn mirrored(builder: StageBuilder, key: &str, rows: usize) -> (Stage, Client) {
    let stage = builder.start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(&format!(
        "create table t (id {key} primary key, v text);
         select audit_algolia.watch('t', columns => '{{v}}', mode => 'mirror');
         insert into t select n, 'x' from generate_series(1, {rows}) as n"
    ))
    .unwrap();
    stage.wait_for_records("t", rows);
    wait_for_empty_queue(&mut db);
    (stage, db)
}

/// Writes records to an index directly.
pub(crate) fn write(stage: &Stage, index: &str, action: &str, records: &[Value]) {
    let requests: Vec<Value> =
        records.iter().map(|record| json!({"action": action, "body": record})).collect();
    let answer = client::Client::of(&stage.standin)
        .post(&format!("/1/indexes/{index}/batch"), &json!({ "requests": requests }));
    assert_eq!(answer.status, 200, "{}", answer.text);
}

/// Deletes records from an index directly.
pub(crate) fn lose(stage: &Stage, index: &str, ids: &[&str]) {
    let records: Vec<Value> = ids.iter().map(|id| json!({ "objectID": id })).collect();
    write(stage, index, "deleteObject", &records);
}

/// The SQLSTATE, message and hint of an error.
#[track_caller]
pub(crate) fn error(result: Result<Found, postgres::Error>) -> (String, String, String) {
    let error = result.unwrap_err();
    let error = error.as_db_error().unwrap();
    let hint = error.hint().unwrap_or_default().to_owned();
    (error.code().code().to_owned(), error.message().to_owned(), hint)
}

/// Calls `reconcile` in a session that stops at a failpoint (see `src/pg/failpoint.rs`), and calls `meanwhile` each
/// time. That returns whether the session should stop there again.
#[track_caller]
pub(crate) fn reconcile_stopping(
    stage: &Stage,
    point: &str,
    arguments: &str,
    mut meanwhile: impl FnMut() -> bool,
) -> Found {
    let file = stage.cluster.data_dir().join("audit_algolia.failpoint");
    let mut db = stage.admin();
    let pid: i32 = db.query_one("select pg_backend_pid()", &[]).unwrap().get(0);
    let order = || std::fs::write(&file, format!("{point} stop")).unwrap();
    let go_on = || stage.cluster.kill_backend(pid, Signal::SIGCONT).unwrap();
    order();
    std::thread::scope(|scope| {
        let call = scope.spawn(move || reconcile(&mut db, arguments));
        let is_stopped = || {
            wait_until(&format!("a stop {point}"), SOON, || {
                call.is_finished() || (!file.exists() && is_stopped(pid))
            });
            !call.is_finished()
        };
        assert!(is_stopped(), "it never came to {point}");
        loop {
            let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut meanwhile));
            if let Ok(true) = again {
                order();
            }
            go_on();
            match again {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(true) if is_stopped() => (),
                Ok(_) => break,
            }
        }
        let _ = std::fs::remove_file(&file);
        call.join().unwrap()
    })
}

/// Whether a process has stopped. One that stops itself may be about to.
fn is_stopped(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
}
