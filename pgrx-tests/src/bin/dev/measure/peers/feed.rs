//! Puts records where a service reads them.

use std::time::Duration;

use anyhow::Result;

use super::super::rows::Records;
use super::super::testbed::Testbed;
use super::kind::Kind;
use crate::waiting::{self, OFTEN};

/// How long the server may take for something that is done at once.
const SOON: Duration = Duration::from_secs(20);

/// Gives a service exactly this many of the records.
pub(super) fn feed(kind: Kind, testbed: &mut Testbed, records: Records, rows: u64) -> Result<()> {
    match kind {
        Kind::JavaScript | Kind::JavaScriptGzip | Kind::Python => queue(testbed, records, rows),
        Kind::Pgq => pgq(testbed, records, rows),
        Kind::Wal2json => outbox(testbed, records, rows),
    }
}

/// A queue to be polled: a key and the record.
fn queue(testbed: &mut Testbed, records: Records, rows: u64) -> Result<()> {
    let kept = records.kept();
    testbed.execute(&format!(
        "TRUNCATE polled_queue; INSERT INTO polled_queue SELECT n, record FROM {kept} WHERE n <= {rows}"
    ))?;
    testbed.execute("VACUUM (ANALYZE) polled_queue")
}

/// A new PgQ queue, with a tick after each thousand events.
fn pgq(testbed: &mut Testbed, records: Records, rows: u64) -> Result<()> {
    testbed.execute(
        "SELECT pgq.drop_queue(queue_name, true) FROM pgq.get_queue_info();
         SELECT pgq.create_queue('measured'), pgq.register_consumer('measured', 'algolia')",
    )?;
    let kept = records.kept();
    thousands(
        testbed,
        rows,
        &format!("PERFORM pgq.insert_event('measured', 'insert', record) FROM {kept} WHERE n > place AND n <= place + 1000"),
        "PERFORM pgq.ticker('measured')",
    )
}

/// Newer servers only load decoding plugins that a setting names.
pub(super) fn allow_wal2json(testbed: &mut Testbed) -> Result<()> {
    let setting = "output_plugin_libraries";
    let current = "SELECT current_setting($1, true)";
    if let Some(allowed) = testbed.db.query_one(current, &[&setting])?.get::<_, Option<String>>(0) {
        let allowed = format!("{allowed}, wal2json");
        testbed.cluster.set(&[(setting, &allowed)])?;
        waiting::until("the new setting", SOON, OFTEN, || {
            Ok(testbed.db.query_one(current, &[&setting])?.get::<_, String>(0) == allowed)
        })?;
    }
    Ok(())
}

/// An outbox, filled once its reader has connected to the WAL.
fn outbox(testbed: &mut Testbed, records: Records, rows: u64) -> Result<()> {
    drop_slot(testbed)?;
    testbed.execute("TRUNCATE outbox")?;
    testbed.execute("SELECT pg_create_logical_replication_slot('measured', 'wal2json')")?;
    let kept = records.kept();
    thousands(
        testbed,
        rows,
        &format!("INSERT INTO outbox SELECT n, record FROM {kept} WHERE n > place AND n <= place + 1000"),
        "NULL",
    )
}

/// Drops the replication slot; its reader takes a moment to disconnect.
pub(super) fn drop_slot(testbed: &mut Testbed) -> Result<()> {
    let drop =
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE active_pid IS NULL";
    let dropped = || {
        testbed.db.query(drop, &[])?;
        Ok(testbed.db.query("SELECT FROM pg_replication_slots", &[])?.is_empty())
    };
    waiting::until("end of the replication slot's use", SOON, OFTEN, dropped)?;
    Ok(())
}

/// Runs a statement for each thousand rows, and another after its commit.
fn thousands(testbed: &mut Testbed, rows: u64, first: &str, then: &str) -> Result<()> {
    testbed.execute(&format!(
        "DO $$ BEGIN
             FOR place IN 0..{last} BY 1000 LOOP
                 {first};
                 COMMIT;
                 {then};
                 COMMIT;
             END LOOP;
         END $$",
        last = rows.saturating_sub(1),
    ))
}
