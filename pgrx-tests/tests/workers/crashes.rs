//! A record that crashes a worker blocks neither the server nor its neighbours: it is found, and becomes a dead letter.

use std::time::Duration;

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::standin::{Fault, Times};
use audit_algolia_tests::wait::wait_until;
use nix::sys::signal::Signal;
use postgres::error::SqlState;
use postgres::Client;

use crate::support::*;

/// So many crashes, one after the other, take time.
const LONG: Duration = Duration::from_secs(120);

fn stage(workers: usize) -> Stage {
    Stage::builder()
        .setting("audit_algolia.workers", workers)
        .setting("audit_algolia.retry_min", "10ms")
        .setting("audit_algolia.retry_max", "100ms")
        // This is how long objects are held after a crash.
        .setting("audit_algolia.request_timeout", "1s")
        .start()
        .unwrap()
}

/// Makes each worker abort that is about to send a batch with this text, while the file exists.
fn abort_over(stage: &Stage, text: &str) -> std::path::PathBuf {
    let file = stage.cluster.data_dir().join("audit_algolia.failpoint");
    std::fs::write(&file, format!("sending {text} abort")).unwrap();
    file
}

/// A number from the server, as soon as one answers.
fn number(stage: &Stage, query: &str) -> Option<i64> {
    let mut db = stage.cluster.connect("postgres", "postgres").ok()?;
    Some(db.query_one(query, &[]).ok()?.get(0))
}

/// Runs statements after whose commit a worker crashes, possibly before the session gets its answer.
fn run_into_a_crash(db: &mut Client, statements: &str) {
    if let Err(error) = db.batch_execute(statements) {
        assert!(error.is_closed() || error.code() == Some(&SqlState::CRASH_SHUTDOWN), "{error}");
    }
}

const DEAD: &str = "select count(*) from audit_algolia.dead_letters";
const QUEUED: &str = "select count(*) from audit_algolia.queue";

#[test]
fn a_record_over_which_workers_crash_is_found_and_given_up_and_all_others_arrive() {
    for workers in [1, 2] {
        let stage = stage(workers);
        let mut db = staged(&stage, "log");
        abort_over(&stage, "poison");
        run_into_a_crash(
            &mut db,
            "begin;
             insert into log select n, 'note ' || n from generate_series(1, 1000) as n where n <> 300;
             insert into log values (300, 'poison');
             insert into log select n, 'note ' || n from generate_series(1001, 1300) as n;
             commit",
        );
        wait_until("the dead letter", LONG, || number(&stage, DEAD) == Some(1));
        wait_until("an empty queue", LONG, || number(&stage, QUEUED) == Some(0));
        assert_holds(&stage.standin, "log", (1..=1300).filter(|id| *id != 300));
        let mut db = stage.session();
        let letter = db
            .query_one("select object_id, attempts, http_status, error from audit_algolia.dead_letters", &[])
            .unwrap();
        assert_eq!((letter.get::<_, &str>(0), letter.get::<_, i32>(1)), ("300", 3));
        assert_eq!(letter.get::<_, Option<i32>>(2), None);
        let error: &str = letter.get(3);
        assert_eq!(error, "a worker has crashed 3 times while it delivered this record alone");
        let crashes = stage.cluster.log().matches("was terminated by signal 6").count();
        assert!(crashes <= 10, "{crashes} crashes");
        eprintln!("{workers} workers: {crashes} crashes");
    }
}

#[test]
fn a_version_over_which_workers_crash_is_given_up_and_the_next_one_of_its_object_is_sent() {
    let stage = stage(1);
    let mut db = stage.admin();
    db.batch_execute(
        "create table log (id bigint primary key, note text);
         select audit_algolia.watch('log', columns => '{note}', mode => 'mirror')",
    )
    .unwrap();
    let file = abort_over(&stage, "poison");
    run_into_a_crash(
        &mut db,
        "insert into log select n, case n when 7 then 'poison' else 'note' end from generate_series(1, 20) as n",
    );
    wait_until("the dead letter", LONG, || number(&stage, DEAD) == Some(1));
    wait_until("an empty queue", LONG, || number(&stage, QUEUED) == Some(0));
    assert_holds(&stage.standin, "log", (1..=20).filter(|id| *id != 7));
    std::fs::remove_file(file).unwrap();
    let mut db = stage.session();
    db.batch_execute("update log set note = 'cured' where id = 7").unwrap();
    stage.wait_for_records("log", 20);
    wait_until("the dead letter to go", SOON, || number(&stage, DEAD) == Some(0));
}

#[test]
fn rows_on_their_way_when_another_process_crashes_are_sent_again_at_once() {
    let stage = stage(1);
    let mut db = staged(&stage, "log");
    for crash in 1..=4 {
        // It is sent alone each time.
        let requests = stage.standin.request_count();
        stage.standin.fault(None, Fault::Hang, Times::Count(1000));
        if crash == 1 {
            insert(&mut db, "log", 1..=1);
        }
        wait_until("a request that hangs", SOON, || stage.standin.request_count() > requests);
        let mut victim = stage.session();
        let pid: i32 = one(&mut victim, "select pg_backend_pid()");
        let mut witness = stage.session();
        stage.cluster.kill_backend(pid, Signal::SIGKILL).unwrap();
        // The killed session ends before the server notices and ends all others.
        wait_until("the crash", SOON, || witness.batch_execute("select 1").is_err());
        db = stage.session();
    }
    stage.standin.clear_faults();
    stage.wait_for_records("log", 1);
    wait_for_empty_queue(&mut db);
    assert_eq!(number(&stage, DEAD), Some(0));
}
