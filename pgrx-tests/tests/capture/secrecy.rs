//! Values that were not allowed, and originals of pseudonymized ones, stay in the table they are in.

use std::fs;

use audit_algolia_tests::stage::PSEUDONYM_KEY;
use audit_algolia_tests::standin::ADMIN_KEY;

use crate::play::{failure, settle, watch};
use audit_algolia_tests::stage::Stage;

/// Occurs nowhere else.
const RAW: &str = "raw-value-7c1e9";

fn is_written_ahead(stage: &Stage, text: &str) -> bool {
    let segments = fs::read_dir(stage.cluster.data_dir().join("pg_wal")).unwrap().flatten();
    let mut contents = segments.filter_map(|segment| fs::read(segment.path()).ok());
    contents.any(|content| content.windows(text.len()).any(|part| part == text.as_bytes()))
}

#[test]
fn raw_values_reach_neither_queue_nor_wire_nor_log_nor_the_write_ahead_log_of_the_queue() {
    let stage = Stage::builder()
        .setting("audit_algolia.enabled", "off")
        .setting("log_min_messages", "debug2")
        .setting("audit_algolia.compression", "off")
        .start()
        .unwrap();
    let mut admin = stage.admin();
    admin
        .batch_execute(
            "create unlogged table t (id text primary key, who text, secret text, v text, words text[]);
             create unlogged table parted (id text primary key, who text, secret text) partition by list (id);
             create unlogged table one partition of parted default;
             create unlogged table origin (id text, who text, secret text, v text)",
        )
        .unwrap();
    watch(&mut admin, "t", "t", "columns => '{who, v, words}', pseudonymize => '{id, who, words}'");
    watch(&mut admin, "parted", "t", "columns => '{who}', pseudonymize => '{id, who}', object_prefix => 'p'");
    // The value is put together inside the server, so that statements in the log do not show it.
    let raw = format!("'{}' || '{}'", &RAW[..6], &RAW[6..]);
    admin
        .batch_execute(&format!(
            "insert into t values ({raw} || 1, {raw}, {raw}, 'shown', array[{raw}]);
             insert into t select {raw} || i, {raw} || i, {raw}, 'shown', array[{raw}] from generate_series(2, 500) as i;
             insert into parted values ({raw}, {raw}, {raw})"
        ))
        .unwrap();
    let queue: Vec<String> = admin
        .query("select record from audit_algolia.queue", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(queue.len(), 501);
    assert!(queue.iter().all(|record| !record.contains(RAW)));
    // Of an unlogged table only the queue's side is written ahead.
    admin.batch_execute("checkpoint; select pg_switch_wal()").unwrap();
    assert!(is_written_ahead(&stage, "shown"));
    assert!(!is_written_ahead(&stage, RAW));
    // Errors of capture name columns, not values.
    admin.batch_execute("alter table t rename column v to w").unwrap();
    let error = failure(&mut admin, &format!("insert into t (id, who) values ({raw}, {raw})"));
    assert!(!format!("{error:?}").contains(RAW));
    stage.cluster.set(&[("audit_algolia.enabled", "on")]).unwrap();
    settle(&mut admin, "t");
    assert_eq!(stage.standin.index("t").len(), 501);
    for request in stage.standin.requests() {
        assert!(!request.body_text().contains(RAW));
        assert!(!request.path.contains(RAW));
    }
    let log = stage.cluster.log();
    for secret in [RAW, PSEUDONYM_KEY, ADMIN_KEY] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}
