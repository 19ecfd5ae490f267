//! Alerts are notified by the commit of their change, and never fail it.

use audit_algolia_tests::server::{Cluster, StopMode};
use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::fallible_iterator::FallibleIterator;
use postgres::Client;
use serde_json::{json, Value};

use crate::play::{one, watch, Play};

const TABLE: &str = "create table t (id int primary key, v text, allowed boolean)";
const RULES: &str = "columns => '{v}', alert => 'not allowed'";

/// A session that listens.
pub(crate) struct Listener {
    db: Client,
    marks: u32,
}

impl Listener {
    pub(crate) fn on(stage: &Stage) -> Listener {
        Listener::to(stage.admin())
    }

    fn to(mut db: Client) -> Listener {
        db.batch_execute("listen audit_algolia_alert").unwrap();
        Listener { db, marks: 0 }
    }

    /// What commits have notified of an index since this was last asked.
    #[track_caller]
    pub(crate) fn heard(&mut self, index: &str) -> Vec<Value> {
        self.marks += 1;
        let mark = format!("mark {}", self.marks);
        // Notifications come in the order of commits.
        self.db.execute("select pg_notify('audit_algolia_alert', $1)", &[&mark]).unwrap();
        let pid: i32 = one(&mut self.db, "select pg_backend_pid()");
        let mut notifications = self.db.notifications();
        let mut waiting = notifications.timeout_iter(SOON);
        let mut heard = Vec::new();
        loop {
            let next = waiting.next().unwrap().unwrap();
            if next.payload() == mark && next.process_id() == pid {
                return heard;
            }
            let payload: Value = serde_json::from_str(next.payload()).unwrap_or_default();
            if payload["index"] == index {
                heard.push(payload);
            }
        }
    }

    /// The objectIDs of these.
    #[track_caller]
    pub(crate) fn ids(&mut self, index: &str) -> Vec<String> {
        let heard = self.heard(index);
        let mut ids: Vec<String> =
            heard.iter().map(|payload| payload["objectID"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    }
}

/// A stage of its own, with a table `t` that is watched.
fn watched(stage: &Stage) -> Client {
    let mut db = stage.admin();
    db.batch_execute(TABLE).unwrap();
    watch(&mut db, "t", "t", RULES);
    db
}

#[test]
fn a_commit_notifies_of_records_that_alert_and_of_nothing_before() {
    let mut play = Play::new("notify", TABLE);
    let mut listener = Listener::on(play.stage);
    play.watch("t", RULES);
    play.run("begin; insert into t values (1, 'raw', false), (2, 'b', true)");
    assert_eq!(listener.ids("notify"), Vec::<String>::new());
    play.run("commit");
    let expected = json!({"index": "notify", "objectID": "1", "source": "notify.t"});
    assert_eq!(listener.heard("notify"), [expected]);
    play.run("begin; insert into t values (3, 'c', false); rollback");
    play.run("insert into t values (4, 'd', true)");
    play.run(
        "begin;
         insert into t values (5, 'e', false);
         savepoint a; insert into t values (6, 'f', false); rollback to a; insert into t values (7, 'g', false); release a;
         savepoint b; insert into t values (8, 'h', false); savepoint c; insert into t values (9, 'i', false);
         release c; rollback to b;
         do $$ begin insert into t values (10, 'j', false); raise 'x'; exception when others then null; end $$;
         commit",
    );
    assert_eq!(listener.ids("notify"), ["5", "7"]);
}

#[test]
fn each_kind_of_capture_notifies_and_history_does_not() {
    let mut play = Play::new("notify_kinds", TABLE);
    let mut listener = Listener::on(play.stage);
    play.run("insert into t values (1, 'a', false)");
    play.watch("t", &format!("{RULES}, mode => 'mirror', backfill => true"));
    let admin = &mut play.admin;
    let state = "select bool_and(state = 'finished') from audit_algolia.backfill_progress where source = 't'::regclass";
    wait_until("the backfill", SOON, || one::<bool>(admin, state));
    assert_eq!(play.records()["1"]["alert"], true);
    assert_eq!(listener.ids("notify_kinds"), Vec::<String>::new());
    play.run("insert into t values (2, 'b', true)");
    play.run("update t set allowed = false where id = 2");
    // Two versions of an object in one transaction are told of once.
    play.run("begin; update t set v = 'c' where id = 2; update t set v = 'd' where id = 2; commit");
    play.run("delete from t where id = 2");
    assert_eq!(listener.ids("notify_kinds"), ["2", "2"]);
    play.admin.batch_execute("select audit_algolia.unwatch('t')").unwrap();
    play.owner.batch_execute("alter table t rename to \"T 1\"").unwrap();
    play.watch("\"T 1\"", &format!("{RULES}, operations => '{{update}}'"));
    play.owner.batch_execute("alter table \"T 1\" rename to \"T 2\"").unwrap();
    play.run("update \"T 2\" set v = 'e'");
    assert_eq!(listener.heard("notify_kinds")[0]["source"], "notify_kinds.\"T 2\"");
}

#[test]
fn a_transaction_with_very_many_alerts_tells_their_number() {
    let mut play = Play::new("notify_many", TABLE);
    let mut listener = Listener::on(play.stage);
    play.watch("t", RULES);
    play.run("insert into t select i, 'v', i % 2 = 0 from generate_series(1, 6000) as i");
    let heard = listener.heard("notify_many");
    assert_eq!(heard.len(), 1001);
    assert_eq!(heard[1000], json!({"index": "notify_many", "more": 2000, "source": "notify_many.t"}));
}

#[test]
fn an_object_id_too_long_for_a_notification_is_left_out() {
    let mut play = Play::new("notify_long", TABLE);
    let mut listener = Listener::on(play.stage);
    play.watch("t", &format!("{RULES}, object_id => '{{v}}'"));
    play.run("insert into t values (1, repeat('x', 9000), false)");
    assert_eq!(listener.heard("notify_long"), [json!({"index": "notify_long", "source": "notify_long.t"})]);
}

#[test]
fn a_prepared_transaction_notifies_when_it_is_committed() {
    let stage = Stage::builder().setting("max_prepared_transactions", 5).start().unwrap();
    let mut db = watched(&stage);
    let mut listener = Listener::on(&stage);
    db.batch_execute(
        "begin; insert into t values (1, 'a', false), (2, 'b', true); prepare transaction 'kept';
         begin; insert into t values (3, 'c', false); prepare transaction 'undone';
         begin; insert into t values (4, 'd', false); prepare transaction 'restarted'",
    )
    .unwrap();
    assert_eq!(listener.ids("t"), Vec::<String>::new());
    db.batch_execute("commit prepared 'kept'").unwrap();
    db.batch_execute("rollback prepared 'undone'").unwrap();
    let mut heard = Vec::new();
    wait_until("the notification", SOON, || {
        heard.extend(listener.ids("t"));
        !heard.is_empty()
    });
    assert_eq!(heard, ["1"]);
    drop(db);
    // Shared memory knows nothing of it then.
    stage.cluster.restart(StopMode::Immediate).unwrap();
    let mut db = stage.session();
    let mut listener = Listener::on(&stage);
    db.batch_execute("commit prepared 'restarted'").unwrap();
    wait_until("the notification", SOON, || {
        heard.extend(listener.ids("t"));
        heard.contains(&"4".to_owned())
    });
    // Of what was sent right before the crash it may hear again.
    assert_eq!(heard.last().map(String::as_str), Some("4"));
    assert_eq!(one::<i64>(&mut db, "select count(*) from audit_algolia.prepared_alert"), 0);
    stage.wait_for_records("t", 3);
}

#[test]
fn a_full_notification_queue_fails_no_writer() {
    let has_setting = |db: &mut Client| {
        one::<bool>(db, "select exists (select from pg_settings where name = 'max_notify_queue_pages')")
    };
    let mut builder = Stage::builder();
    if has_setting(&mut crate::play::stage().admin()) {
        builder = builder.setting("max_notify_queue_pages", 64);
    }
    let stage = builder.start().unwrap();
    let mut db = watched(&stage);
    let mut listener = Listener::on(&stage);
    let is_real = has_setting(&mut db);
    if is_real {
        // Who listens and stays in a transaction keeps the queue from being emptied.
        listener.db.batch_execute("begin; select 1").unwrap();
        let full = "do $$ begin for i in 1 .. 100 loop perform pg_notify('x', repeat('x', 7900) || i); end loop; end $$";
        wait_until("a full queue", SOON, || db.batch_execute(full).is_err());
    } else {
        let order = stage.cluster.data_dir().join("audit_algolia.failpoint");
        std::fs::write(order, "notification queue is full").unwrap();
    }
    db.batch_execute("insert into t values (1, 'a', false)").unwrap();
    stage.wait_for_records("t", 1);
    assert_eq!(stage.standin.index("t")["1"]["alert"], true);
    let log = stage.cluster.log();
    assert!(log.contains("channel \"audit_algolia_alert\" is not notified"), "{log}");
    if is_real {
        listener.db.batch_execute("commit").unwrap();
    }
    db.batch_execute("insert into t values (2, 'b', false)").unwrap();
    assert_eq!(listener.ids("t"), ["2"]);
}

#[test]
fn a_writer_with_a_lock_timeout_waits_for_the_lock_on_the_notification_queue() {
    let stage = Stage::builder()
        .setting("synchronous_standby_names", "nobody")
        .setting("synchronous_commit", "local")
        .start()
        .unwrap();
    let mut db = watched(&stage);
    let mut listener = Listener::on(&stage);
    // Its commit waits for a standby that is not there, with the lock in hand.
    let mut holder = stage.admin();
    let holding = std::thread::spawn(move || {
        holder.batch_execute("set synchronous_commit = on; create table written (); notify x")
    });
    let lock = "select exists (select from pg_locks where locktype = 'object' and mode = 'AccessExclusiveLock' and granted)";
    wait_until("the lock", SOON, || one::<bool>(&mut listener.db, lock));
    let mut writer = stage.admin();
    let writing = std::thread::spawn(move || {
        writer
            .batch_execute("set lock_timeout = '50ms'; insert into t values (1, 'a', false)")
            .map(|()| writer)
    });
    let waits = "select exists (select from pg_stat_activity where wait_event_type = 'Lock' and clock_timestamp() - state_change > interval '300 ms')";
    wait_until("a writer that waits", SOON, || one::<bool>(&mut db, waits));
    assert!(!writing.is_finished());
    stage.cluster.set(&[("synchronous_standby_names", "")]).unwrap();
    holding.join().unwrap().unwrap();
    let mut writer = writing.join().unwrap().unwrap();
    assert_eq!(one::<String>(&mut writer, "show lock_timeout"), "50ms");
    // The setting is in force again.
    let error = lock_conflict(&mut db, &mut writer);
    assert_eq!(error, "55P03");
    assert_eq!(listener.ids("t"), ["1"]);
}

/// The SQLSTATE that a session gets which waits for a lock of another.
fn lock_conflict(holder: &mut Client, waiter: &mut Client) -> String {
    holder.batch_execute("begin; lock table t").unwrap();
    let error = waiter.batch_execute("insert into t values (9, 'z', true)").unwrap_err();
    holder.batch_execute("rollback").unwrap();
    error.code().unwrap().code().to_owned()
}

#[test]
fn a_promoted_standby_notifies() {
    let stage = Stage::builder().start().unwrap();
    let db = watched(&stage);
    drop(db);
    let standby = Cluster::standby_of(&stage.cluster).unwrap();
    stage.cluster.stop(StopMode::Immediate).unwrap();
    standby.promote().unwrap();
    let mut db = standby.session(SOON).unwrap();
    let mut listener = Listener::to(standby.client("postgres", "postgres"));
    wait_until("the end of recovery", SOON, || {
        db.batch_execute("insert into t values (1, 'a', false)").is_ok()
    });
    assert_eq!(listener.ids("t"), ["1"]);
}

#[test]
fn a_server_without_the_library_preloaded_notifies_too() {
    let stage = Stage::builder().preload(false).setting("max_prepared_transactions", 5).start().unwrap();
    let mut db = watched(&stage);
    let mut listener = Listener::on(&stage);
    db.batch_execute("insert into t values (1, 'a', false)").unwrap();
    assert_eq!(listener.ids("t"), ["1"]);
    // There is no worker that could tell of it.
    db.batch_execute("begin; insert into t values (2, 'b', false); prepare transaction 'p'").unwrap();
    db.batch_execute("commit prepared 'p'").unwrap();
    assert_eq!(one::<i64>(&mut db, "select count(*) from audit_algolia.prepared_alert"), 1);
}
