//! The least that SQL can do: a loop in the server that deletes a thousand rows after the other, and sends nothing.

use std::time::Instant;

use anyhow::{ensure, Result};

use super::super::process::fine_cpu_seconds;
use super::super::world::{Records, World};

/// What one run showed: rows a second, and processor seconds for a million rows.
#[derive(Clone, Copy)]
pub(super) struct Bare {
    pub(super) rate: f64,
    pub(super) processor: f64,
}

/// Newest first, a thousand at a time, as the extension claims them; but claimed and deleted in one statement.
const LOOP: &str = "
    DO $$
    DECLARE
        deleted bigint;
    BEGIN
        LOOP
            WITH gone AS (
                DELETE FROM bare_queue
                WHERE ctid = ANY (ARRAY(
                    SELECT ctid FROM bare_queue ORDER BY index_id DESC, id DESC LIMIT 1000 FOR UPDATE SKIP LOCKED
                ))
                RETURNING record
            )
            SELECT count(*) + 0 * coalesce(sum(length(record)), 0) INTO deleted FROM gone;
            COMMIT;
            EXIT WHEN deleted = 0;
        END LOOP;
    END $$";

/// A queue that nobody but us knows, with the same key and the same rules for vacuum, which `LIKE` leaves out.
pub(super) fn prepare(world: &mut World) -> Result<()> {
    world.db.batch_execute("CREATE TABLE bare_queue (LIKE audit_algolia.queue INCLUDING ALL)")?;
    let options =
        "SELECT array_to_string(reloptions, ', ') FROM pg_class WHERE oid = 'audit_algolia.queue'::regclass";
    let options: String = world.db.query_one(options, &[])?.get(0);
    Ok(world.db.batch_execute(&format!("ALTER TABLE bare_queue SET ({options})"))?)
}

pub(super) fn run(world: &mut World, rows: u64) -> Result<Bare> {
    let kept = Records::Small.kept();
    world.db.batch_execute(&format!(
        "INSERT INTO bare_queue SELECT index_id, source, id, enqueued_at, action, record, object
         FROM {kept} WHERE n <= {rows}"
    ))?;
    let mut db = world.cluster.connect("postgres", "postgres")?;
    db.batch_execute("SET synchronous_commit = off")?;
    let backend = World::backend(&mut db)?;
    let before = fine_cpu_seconds(backend)?;
    let started = Instant::now();
    db.batch_execute(LOOP)?;
    let rate = rows as f64 / started.elapsed().as_secs_f64();
    let processor = (fine_cpu_seconds(backend)? - before) * 1e6 / rows as f64;
    let left: i64 = db.query_one("SELECT count(*) FROM bare_queue", &[])?.get(0);
    ensure!(left == 0, "the bare loop left {left} rows");
    db.batch_execute("TRUNCATE bare_queue")?;
    Ok(Bare { rate, processor })
}
