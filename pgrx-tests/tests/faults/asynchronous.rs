//! Transactions that commit without waiting for the disk: a crash can undo them after others have seen them.

use audit_algolia_tests::server::StopMode;
use audit_algolia_tests::stage::Stage;

use crate::support::*;

#[test]
fn what_a_crash_can_still_take_back_is_not_sent() {
    let stage = Stage::builder()
        .setting("synchronous_commit", "off")
        .setting("wal_writer_delay", "10s")
        .start()
        .unwrap();
    staged(&stage, "log").batch_execute("checkpoint").unwrap();
    for id in 1..=5 {
        let mut db = stage.admin();
        insert(&mut db, "log", id..=id);
        stage.wait_for_records("log", usize::try_from(id).unwrap());
        stage.cluster.restart(StopMode::Immediate).unwrap();
        let rows: i64 = one(&mut stage.admin(), "select count(*) from log");
        assert_eq!(rows, id, "the index has a row that the table has lost");
    }
    wait_for_empty_queue(&mut stage.admin());
    assert_holds(&stage.standin, "log", 1..=5);
}
