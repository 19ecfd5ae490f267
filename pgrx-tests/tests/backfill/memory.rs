//! The memory of the backfill process is bounded by bytes, and it survives a lack of memory.

use audit_algolia_tests::memory::{peak_meanwhile, peak_of_session};
use audit_algolia_tests::stage::Stage;
use audit_algolia_tests::wait::wait_until;

use crate::support::*;

const ROW: u64 = 8 << 20;
const ROWS: i64 = 16;
/// Four times `batch_bytes`, and two rows.
const MOST: u64 = 4 * (8 << 20) + 2 * ROW;

#[test]
fn a_backfill_of_many_large_rows_takes_no_more_than_a_few() {
    let stage = Stage::builder()
        .setting("audit_algolia.enabled", "off")
        .setting("shared_buffers", "4MB")
        .start()
        .unwrap();
    let mut db = stage.admin();
    for mode in ["append", "mirror"] {
        db.batch_execute(&format!(
            "create table {mode} (id bigint primary key, v text);
             insert into {mode} select i, repeat(md5(i::text), 262144) from generate_series(1, {ROWS}) as i"
        ))
        .unwrap();
        let find = || {
            let query = "select pid from pg_stat_activity where backend_type = 'audit_algolia backfill'";
            u32::try_from(stage.admin().query_opt(query, &[]).ok()??.get::<_, i32>(0)).ok()
        };
        let ((), peak) = peak_meanwhile(find, || {
            db.batch_execute(&format!(
                "select audit_algolia.watch('{mode}', columns => '{{v}}', mode => '{mode}', backfill => true)"
            ))?;
            let queued = "select count(*) from audit_algolia.queue";
            wait_until("history", 2 * LATER, || one::<i64>(&mut db, queued) == ROWS);
            Ok(())
        })
        .unwrap();
        let plain = peak_of_session(&mut stage.admin()).unwrap();
        let taken = peak.saturating_sub(plain);
        assert!(peak > 0, "there was a process");
        assert!(taken <= MOST, "{mode}: {} MB, which is more than {} MB", taken >> 20, MOST >> 20);
        db.batch_execute(&format!("drop table {mode}; truncate audit_algolia.queue")).unwrap();
    }
}

#[test]
fn a_row_that_there_is_no_memory_for_ends_neither_its_backfill_nor_the_server() {
    let stage = Stage::builder()
        .setting("audit_algolia.enabled", "off")
        .setting("shared_buffers", "16MB")
        .address_space(480 << 20)
        .start()
        .unwrap();
    let mut db = stage.admin();
    let mark = stage.cluster.log_mark();
    db.batch_execute(
        "create table t (id bigint primary key, v text);
         -- Each of its characters takes six in a record.
         insert into t select i, case i when 3 then repeat(chr(1), 30000000) end
         from generate_series(1, 6) as i",
    )
    .unwrap();
    db.batch_execute("select audit_algolia.watch('t', columns => '{v}', backfill => true)").unwrap();
    // The newest are sent first, and those before the failing row are queued.
    let queued = "select count(*) from audit_algolia.queue";
    wait_until("the rows before it", LATER, || one::<i64>(&mut db, queued) == 3);
    wait_until("the trouble", LATER, || trouble(&mut db).contains("out of memory"));
    assert_eq!(state(&mut db), "running");
    assert!(trouble(&mut db).contains("ctid"), "{}", trouble(&mut db));
    db.batch_execute("update t set v = null where id = 3").unwrap();
    wait_for(&mut db, "finished");
    let log = stage.cluster.log_since(mark);
    assert!(!log.contains("terminated by signal"), "{log}");
}
