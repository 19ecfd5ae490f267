//! Puts kept records where a service takes them from.

use std::time::Duration;

use anyhow::Result;

use super::super::world::{Records, World};
use super::Kind;
use crate::waiting::{self, OFTEN};

/// How long the server may take for what it does at once.
const SOON: Duration = Duration::from_secs(20);

/// Gives a service so many of the records, and nothing else.
pub(super) fn feed(kind: Kind, world: &mut World, records: Records, rows: u64) -> Result<()> {
    match kind {
        Kind::JavaScript | Kind::JavaScriptGzip | Kind::Python => queue(world, records, rows),
        Kind::Pgq => pgq(world, records, rows),
        Kind::Wal2json => outbox(world, records, rows),
    }
}

/// A queue to poll: a key and the record.
fn queue(world: &mut World, records: Records, rows: u64) -> Result<()> {
    let kept = records.kept();
    world.db.batch_execute(&format!(
        "TRUNCATE polled_queue; INSERT INTO polled_queue SELECT n, record FROM {kept} WHERE n <= {rows}"
    ))?;
    Ok(world.db.batch_execute("VACUUM (ANALYZE) polled_queue")?)
}

/// A new queue of PgQ's, with a tick after each thousand events.
fn pgq(world: &mut World, records: Records, rows: u64) -> Result<()> {
    world.db.batch_execute(
        "SELECT pgq.drop_queue(queue_name, true) FROM pgq.get_queue_info();
         SELECT pgq.create_queue('measured'), pgq.register_consumer('measured', 'algolia')",
    )?;
    let kept = records.kept();
    thousands(
        world,
        rows,
        &format!("PERFORM pgq.insert_event('measured', 'insert', record) FROM {kept} WHERE n > place AND n <= place + 1000"),
        "PERFORM pgq.ticker('measured')",
    )
}

/// Newer servers decode only with what a setting names.
pub(super) fn allow_wal2json(world: &mut World) -> Result<()> {
    let setting = "output_plugin_libraries";
    let current = "SELECT current_setting($1, true)";
    if let Some(allowed) = world.db.query_one(current, &[&setting])?.get::<_, Option<String>>(0) {
        let allowed = format!("{allowed}, wal2json");
        world.cluster.set(&[(setting, &allowed)])?;
        waiting::until("the new setting", SOON, OFTEN, || {
            Ok(world.db.query_one(current, &[&setting])?.get::<_, String>(0) == allowed)
        })?;
    }
    Ok(())
}

/// An outbox, filled once somebody is going to read it from the log.
fn outbox(world: &mut World, records: Records, rows: u64) -> Result<()> {
    drop_slot(world)?;
    world.db.batch_execute("TRUNCATE outbox")?;
    world.db.batch_execute("SELECT pg_create_logical_replication_slot('measured', 'wal2json')")?;
    let kept = records.kept();
    thousands(
        world,
        rows,
        &format!("INSERT INTO outbox SELECT n, record FROM {kept} WHERE n > place AND n <= place + 1000"),
        "NULL",
    )
}

/// Ends what is kept for a reader, who takes a moment to be gone.
pub(super) fn drop_slot(world: &mut World) -> Result<()> {
    let drop =
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE active_pid IS NULL";
    let dropped = || {
        world.db.query(drop, &[])?;
        Ok(world.db.query("SELECT FROM pg_replication_slots", &[])?.is_empty())
    };
    waiting::until("end of the replication slot's use", SOON, OFTEN, dropped)?;
    Ok(())
}

/// A statement for each thousand rows, and another after its commit.
fn thousands(world: &mut World, rows: u64, first: &str, then: &str) -> Result<()> {
    Ok(world.db.batch_execute(&format!(
        "DO $$ BEGIN
             FOR place IN 0..{last} BY 1000 LOOP
                 {first};
                 COMMIT;
                 {then};
                 COMMIT;
             END LOOP;
         END $$",
        last = rows.saturating_sub(1),
    ))?)
}
