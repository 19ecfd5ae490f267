//! The session asks Algolia itself: without workers, at any time, and no longer than it needs to.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use audit_algolia_tests::server::{Cluster, StopMode};
use audit_algolia_tests::stage::{one, Stage, StageBuilder, SOON};
use audit_algolia_tests::standin::{Fault, FaultRule, Times, ADMIN_KEY};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

use crate::support::{error, lose, mirrored, reconcile, try_reconcile, wait_for_empty_queue, well, Found};

/// A stage with a mirrored table of a hundred rows, which are delivered.
fn stage(builder: StageBuilder) -> (Stage, Client) {
    mirrored(builder, "int", 100)
}

fn pid(db: &mut Client) -> i32 {
    one(db, "select pg_backend_pid()")
}

fn fail_reads(stage: &Stage, fault: Fault, times: Times) {
    stage.standin.inject(FaultRule::new(fault, times).reads());
}

/// The threads of a process, including its main thread; none if it has ended.
fn threads(pid: i32) -> Vec<PathBuf> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    threads.map_or_else(|_| Vec::new(), |threads| threads.map(|thread| thread.unwrap().path()).collect())
}

/// A hexadecimal or decimal number from the status of a process or thread.
fn status(path: &str, name: &str, radix: u32) -> u64 {
    let status = std::fs::read_to_string(format!("{path}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), radix).unwrap()
}

#[test]
fn reconcile_works_without_a_worker() {
    let (stage, mut db) = stage(Stage::builder());
    lose(&stage, "t", &["1", "2"]);
    let ours = "select count(*) from pg_stat_activity where backend_type = 'audit_algolia worker'";
    for (setting, value, usual, leave) in [
        ("audit_algolia.workers", "0", "2", true),
        ("audit_algolia.enabled", "off", "on", false),
        ("audit_algolia.databases", "elsewhere", "*", true),
    ] {
        stage.cluster.set(&[(setting, value)]).unwrap();
        wait_until("the setting", SOON, || {
            let is_set = one::<String>(&mut db, &format!("show {setting}")) == value;
            is_set && (!leave || one::<i64>(&mut db, ours) == 0)
        });
        let found = Found { checked: 100, missing: 2, ..Found::default() };
        assert_eq!(reconcile(&mut db, "'t'"), found, "{setting}");
        stage.cluster.set(&[(setting, usual)]).unwrap();
        wait_until("workers", SOON, || one::<i64>(&mut db, ours) > 0);
    }
    stage.cluster.set(&[("audit_algolia.workers", "0")]).unwrap();
    wait_until("the end of all workers", SOON, || one::<i64>(&mut db, ours) == 0);
    let found = Found { checked: 100, missing: 2, repaired: 2, ..Found::default() };
    assert_eq!(reconcile(&mut db, "'t', repair => true"), found);
    assert_eq!(reconcile(&mut db, "'t'"), well(100), "they wait");
    stage.cluster.set(&[("audit_algolia.workers", "2")]).unwrap();
    wait_for_empty_queue(&mut db);
    assert_eq!(reconcile(&mut db, "'t'"), well(100));
}

#[test]
fn a_standby_is_not_compared() {
    let (stage, _db) = stage(Stage::builder());
    let standby = Cluster::standby_of(&stage.cluster).unwrap();
    let mut db = standby.client("postgres", "postgres");
    let (code, message, hint) = error(try_reconcile(&mut db, "'t'"));
    assert_eq!(code, "55000");
    assert!(message.contains("standby") && hint.contains("primary"), "{message} {hint}");
}

#[test]
fn a_session_that_gives_up_does_so_at_once_and_leaves_no_thread_behind() {
    let (stage, mut db) = stage(Stage::builder());
    for fault in [Fault::Hang, Fault::StallBody, Fault::Hang] {
        fail_reads(&stage, fault, Times::Always);
        db.batch_execute("set statement_timeout = '300ms'").unwrap();
        let started = Instant::now();
        let (code, ..) = error(try_reconcile(&mut db, "'t'"));
        assert_eq!(code, "57014");
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        db.batch_execute("reset statement_timeout").unwrap();
        wait_until("the end of the question", SOON, || stage.standin.in_hang() == 0);
        let me = pid(&mut db);
        wait_until("the end of its threads", SOON, || threads(me).len() == 1);

        let mut other = stage.admin();
        let victim = pid(&mut other);
        let asking = std::thread::spawn(move || try_reconcile(&mut other, "'t'").map_err(drop));
        wait_until("a question", SOON, || stage.standin.in_hang() == 1);
        let started = Instant::now();
        db.execute("select pg_terminate_backend($1, 5000)", &[&victim]).unwrap();
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        assert_eq!(asking.join().unwrap(), Err(()));
        wait_until("the end of the question", SOON, || stage.standin.in_hang() == 0);
        stage.standin.clear_faults();
    }
    assert_eq!(reconcile(&mut db, "'t'"), well(100));
    let me = pid(&mut db);
    wait_until("the end of its threads", SOON, || threads(me).len() == 1);
}

#[test]
fn the_server_stops_at_once_while_a_session_asks() {
    for mode in [StopMode::Fast, StopMode::Immediate] {
        let (stage, _db) = stage(Stage::builder());
        fail_reads(&stage, Fault::Hang, Times::Always);
        let mut asker = stage.admin();
        let asking = std::thread::spawn(move || try_reconcile(&mut asker, "'t'").map_err(drop));
        wait_until("a question", SOON, || stage.standin.in_hang() >= 1);
        let took = stage.cluster.stop(mode).unwrap();
        assert!(took < Duration::from_secs(3), "{took:?}");
        assert_eq!(asking.join().unwrap(), Err(()));
    }
}

#[test]
fn many_sessions_compare_at_a_time() {
    const SESSIONS: usize = 10;
    let (stage, _db) = stage(Stage::builder().setting("audit_algolia.request_timeout", "10min"));
    fail_reads(&stage, Fault::StallBody, Times::Always);
    std::thread::scope(|scope| {
        let askers: Vec<_> = (0..SESSIONS)
            .map(|_| {
                let mut db = stage.admin();
                scope.spawn(move || reconcile(&mut db, "'t'"))
            })
            .collect();
        wait_until("a question of each", SOON, || stage.standin.in_hang() == SESSIONS);
        stage.standin.clear_faults();
        for asker in askers {
            assert_eq!(asker.join().unwrap(), well(100));
        }
    });
}

/// PostgreSQL's signal handlers must run on the main thread.
#[test]
fn no_thread_of_a_session_takes_its_signals() {
    let (stage, _db) = stage(Stage::builder());
    fail_reads(&stage, Fault::Hang, Times::Always);
    let mut asker = stage.admin();
    let me = pid(&mut asker);
    let asking = std::thread::spawn(move || try_reconcile(&mut asker, "'t'").map_err(drop));
    wait_until("a question", SOON, || stage.standin.in_hang() == 1);
    let others: Vec<_> = threads(me).into_iter().filter(|path| !path.ends_with(me.to_string())).collect();
    assert!(!others.is_empty());
    for path in others {
        let blocked = status(path.to_str().unwrap(), "SigBlk:", 16);
        // HUP, INT, QUIT, USR1, PIPE, ALRM, TERM, CHLD, USR2.
        for signal in [1, 2, 3, 10, 13, 14, 15, 17, 12] {
            assert_ne!(blocked & 1 << (signal - 1), 0, "{signal}: {blocked:x}");
        }
    }
    stage.standin.clear_faults();
    assert!(asking.join().unwrap().is_ok());
}

/// The C library reserves a heap of 64 MB or more for each thread, unless it is told not to.
#[test]
fn asking_reserves_little_address_space() {
    let (stage, _db) = stage(Stage::builder());
    let mut asker = stage.admin();
    let me = format!("/proc/{}", pid(&mut asker));
    one::<i64>(&mut asker, "select count(*) from audit_algolia.preview('t')");
    let before = status(&me, "VmSize:", 10);
    fail_reads(&stage, Fault::Hang, Times::Always);
    let asking = std::thread::spawn(move || try_reconcile(&mut asker, "'t'").map_err(drop));
    wait_until("a question", SOON, || stage.standin.in_hang() == 1);
    let taken = status(&me, "VmSize:", 10).saturating_sub(before);
    assert!(taken < 32 << 10, "{taken} kB");
    stage.standin.clear_faults();
    assert!(asking.join().unwrap().is_ok());
}

#[test]
fn who_may_compare_cannot_read_the_key() {
    let (stage, mut db) = stage(Stage::builder());
    db.batch_execute(
        "create role auditor login; alter table t owner to auditor;
         grant usage on schema audit_algolia to auditor;
         grant execute on function audit_algolia.reconcile to auditor",
    )
    .unwrap();
    let mut auditor = stage.cluster.client("postgres", "auditor");
    assert_eq!(reconcile(&mut auditor, "'t'"), well(100));
    for look in ["show audit_algolia.api_key", "select current_setting('audit_algolia.api_key')"] {
        let error = auditor.query_one(look, &[]).unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501");
    }
    for look in [
        "select s::text from pg_settings as s where name like 'audit_algolia.%'",
        "select a::text from pg_stat_activity as a",
    ] {
        let shown = auditor.query(look, &[]).unwrap();
        assert!(shown.iter().all(|row| !row.get::<_, String>(0).contains(ADMIN_KEY)), "{look}");
    }
    fail_reads(&stage, Fault::error(403, &format!("Invalid key {ADMIN_KEY}")), Times::Always);
    let (_, message, hint) = error(try_reconcile(&mut auditor, "'t'"));
    assert!(!format!("{message}{hint}").contains(ADMIN_KEY), "{message}");
}
