//! Answers that are too long, keys with a low limit, and hosts that do not answer.

use audit_algolia_tests::stage::{Stage, StageBuilder};
use audit_algolia_tests::standin::{Fault, FaultBody, FaultRule, Gzip, Times};
use postgres::Client;
use serde_json::json;

use crate::support::{error, mirrored, reconcile, try_reconcile, wait_for_empty_queue, well, write, Found};

/// A stage with a mirrored table of a hundred rows, which are delivered.
fn stage(builder: StageBuilder) -> (Stage, Client) {
    mirrored(builder, "text", 100)
}

/// Writes so many records without a row to the index, with ids of this length. They come after all others.
fn stray(stage: &Stage, count: usize, bytes: usize) {
    let records: Vec<_> =
        (0..count).map(|n| json!({"objectID": format!("x{n:0width$}", width = bytes - 1)})).collect();
    write(stage, "t", "addObject", &records);
}

#[test]
fn ids_too_long_for_one_answer_are_read_by_fewer_at_a_time() {
    let (stage, mut db) = stage(Stage::builder());
    stray(&stage, 1000, 6000);
    let found = Found { checked: 100, orphaned: 1000, ..Found::default() };
    assert_eq!(reconcile(&mut db, "'t'"), found);
}

#[test]
fn a_later_page_that_is_too_long_begins_the_search_anew() {
    let (stage, mut db) = stage(Stage::builder());
    // The first page contains the rows' records and short ids. Nothing of it is counted twice.
    stray(&stage, 900, 10);
    let long: Vec<_> = (0..1000).map(|n| json!({"objectID": format!("y{n:05999}")})).collect();
    write(&stage, "t", "addObject", &long);
    let found = Found { checked: 100, orphaned: 1900, repaired: 1900, ..Found::default() };
    assert_eq!(reconcile(&mut db, "'t', repair => true"), found);
    wait_for_empty_queue(&mut db);
    assert_eq!(reconcile(&mut db, "'t'"), well(100));
}

#[test]
fn a_gateway_that_refuses_pages_is_an_error_and_no_end_of_the_index() {
    let (stage, mut db) = stage(Stage::builder());
    stray(&stage, 1, 10);
    let fault =
        Fault::Status { code: 413, body: FaultBody::Html("too large".to_owned()), headers: Vec::new() };
    stage.standin.inject(FaultRule::new(fault, Times::Always).reads().index("t"));
    let (code, message, hint) = error(try_reconcile(&mut db, "'t'"));
    assert_eq!(code, "58000", "{message}");
    assert!(message.contains("413") && hint.contains("audit_algolia.hosts"), "{message} {hint}");
}

#[test]
fn a_key_that_allows_few_hits_reads_by_few() {
    let (stage, mut db) = stage(Stage::builder().standin(|config| config.keys[0].max_hits = Some(7)));
    stray(&stage, 30, 10);
    assert_eq!(reconcile(&mut db, "'t'"), Found { checked: 100, orphaned: 30, ..Found::default() });
}

#[test]
fn a_host_that_cannot_unzip_is_asked_nevertheless() {
    let (_stage, mut db) = stage(Stage::builder().standin(|config| config.gzip = Gzip::Ignored));
    assert_eq!(reconcile(&mut db, "'t'"), well(100));
}

#[test]
fn a_host_that_does_not_answer_is_left_for_the_next_long_before_a_delivery_would() {
    let builder = Stage::builder().setting("audit_algolia.request_timeout", "10min");
    let (stage, mut db) = stage(builder.standin(|config| config.hosts = 2));
    stage.standin.inject(FaultRule::new(Fault::Hang, Times::Always).reads().host(0));
    db.batch_execute("set statement_timeout = '2min'").unwrap();
    assert_eq!(reconcile(&mut db, "'t'"), well(100));
}
