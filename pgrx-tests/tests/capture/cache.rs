//! What a session caches of a source, and what invalidates it.

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::eventually;
use nix::sys::signal::Signal;

use crate::play::{one, watch};

#[test]
fn what_changes_while_a_source_is_being_loaded_is_not_remembered_as_it_was() {
    let stage = Stage::builder().start().unwrap();
    let mut admin = stage.admin();
    admin
        .batch_execute(
            "create table t (id bigint primary key, v int);
             create function is_wanted(int) returns boolean language sql immutable as 'select $1 > 10'",
        )
        .unwrap();
    watch(&mut admin, "t", "t", "columns => '{v}', mode => 'mirror', filter => 'is_wanted(v)'");
    let mut writer = stage.admin();
    let pid: i32 = one(&mut writer, "select pg_backend_pid()");
    std::fs::write(stage.cluster.data_dir().join("audit_algolia.failpoint"), "in the load of a source stop")
        .unwrap();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| writer.batch_execute("insert into t values (1, 11)"));
        eventually("a writer that stands still", SOON, || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            status.contains(") T ").then_some(())
        });
        admin
            .batch_execute(
                "create or replace function is_wanted(int) returns boolean language sql immutable as 'select $1 > 0'",
            )
            .unwrap();
        stage.cluster.kill_backend(pid, Signal::SIGCONT).unwrap();
        writing.join().unwrap().unwrap();
    });
    writer.batch_execute("insert into t values (2, 2)").unwrap();
    stage.wait_for_records("t", 2);
}
