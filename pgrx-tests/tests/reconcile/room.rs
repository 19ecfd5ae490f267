//! How many records of a mirrored table can be repaired at a time.

use std::sync::{Arc, Mutex};

use audit_algolia_tests::stage::Stage;
use serde_json::json;

use crate::support::{reconcile, wait_for_empty_queue, write, Found};

#[test]
fn a_transaction_repairs_as_many_as_it_can_hold_and_says_when_there_are_more() {
    const MOST: i64 = 32_768;
    let stage = Stage::builder().start().unwrap();
    let warnings: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = warnings.clone();
    let mut config: postgres::Config =
        stage.cluster.connection_string("postgres", "postgres").parse().unwrap();
    config.notice_callback(move |notice| heard.lock().unwrap().push(notice.message().to_owned()));
    let mut db = config.connect(postgres::NoTls).unwrap();
    db.batch_execute(
        "create table t (id bigint primary key);
         select audit_algolia.watch('t', columns => '{id}', mode => 'mirror')",
    )
    .unwrap();
    let stray: Vec<_> = (0..MOST + 100).map(|id| json!({"objectID": id.to_string()})).collect();
    stray.chunks(10_000).for_each(|some| write(&stage, "t", "addObject", some));
    let found = Found { orphaned: MOST + 100, repaired: MOST, ..Found::default() };
    assert_eq!(reconcile(&mut db, "'t', repair => true"), found);
    let said = std::mem::take(&mut *warnings.lock().unwrap());
    assert!(said.len() == 1 && said[0].contains("one transaction can repair 32768"), "{said:?}");
    wait_for_empty_queue(&mut db);
    let found = Found { orphaned: 100, repaired: 100, ..Found::default() };
    assert_eq!(reconcile(&mut db, "'t', repair => true"), found);
    assert!(warnings.lock().unwrap().is_empty(), "there is room for the rest");
}
