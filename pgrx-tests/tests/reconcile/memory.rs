//! The memory of a session that compares and repairs is bounded by bytes, however large and many the rows are.

use audit_algolia_tests::memory::peak_of_session;
use audit_algolia_tests::stage::{one, Stage, SOON};
use audit_algolia_tests::wait::wait_until;

use crate::support::*;

const ROW: u64 = 8 << 20;
const ROWS: i64 = 16;
/// Four times `batch_bytes`, and two rows.
const MOST: u64 = 4 * (8 << 20) + 2 * ROW;

#[test]
fn comparing_and_repairing_large_rows_takes_no_more_than_a_few() {
    let stage = Stage::builder().setting("shared_buffers", "4MB").start().unwrap();
    let mut db = stage.admin();
    for (name, mode) in [("appended", "append"), ("mirrored", "mirror")] {
        db.batch_execute(&format!(
            "create table {name} (id bigint primary key, v text);
             select audit_algolia.watch('{name}', columns => '{{v}}', mode => '{mode}');
             alter table {name} disable trigger all;
             insert into {name} select i, repeat(md5(i::text), 262144) from generate_series(1, {ROWS}) as i;
             alter table {name} enable trigger all"
        ))
        .unwrap();
        let mut session = stage.admin();
        let found = reconcile(&mut session, &format!("'{name}', repair => true"));
        let missing = Found { checked: ROWS, missing: ROWS, repaired: ROWS, ..Found::default() };
        assert_eq!(found, missing);
        let plain = peak_of_session(&mut stage.admin()).unwrap();
        let taken = peak_of_session(&mut session).unwrap().saturating_sub(plain);
        assert!(taken <= MOST, "{mode}: {} MB, which is more than {} MB", taken >> 20, MOST >> 20);
        // They are too large for the index, so they no longer wait.
        let dead = "select count(*) from audit_algolia.dead_letters";
        wait_until("dead letters", 3 * SOON, || one::<i64>(&mut db, dead) == ROWS);
        // Now the waiting records are read.
        let mut session = stage.admin();
        assert_eq!(reconcile(&mut session, &format!("'{name}'")), well(ROWS));
        let taken = peak_of_session(&mut session).unwrap().saturating_sub(plain);
        assert!(taken <= MOST, "{mode}, dead: {} MB, which is more than {} MB", taken >> 20, MOST >> 20);
        db.batch_execute(&format!("select audit_algolia.discard('{name}'); drop table {name}")).unwrap();
    }
}
