//! Processes with an old library beside processes with the new one, and updates that come too early.

use audit_algolia_tests::stage::{one, Stage};
use postgres::Client;

use crate::support::*;

const TABLE: &str = "
    create table former (id bigint primary key);
    select audit_algolia.watch('former', columns => '{id}');";

/// Asserts that an inserted row is captured, and rows that were inserted before are.
#[track_caller]
fn assert_captures(db: &mut Client) {
    db.batch_execute("insert into former select count(*) + 1 from former").unwrap();
    let counts = "select (select count(*) from former) = (select count(*) from audit_algolia.queue)";
    assert!(one::<bool>(db, counts));
}

/// Without preload each session loads the library by itself.
#[test]
fn sessions_with_either_library_capture_into_the_objects_of_either_version() {
    for version in versions() {
        let Some(upgrade) = Upgrade::from(&version, Stage::builder().preload(false)) else { continue };
        let mut old = upgrade.stage.admin();
        old.batch_execute(TABLE).unwrap();
        assert_captures(&mut old);
        upgrade.replace_library(PRESENT);
        let mut new = upgrade.stage.admin();
        assert_captures(&mut new);
        assert_refused(&mut new, PRESENT, &version);
        assert_captures(&mut old);
        update(&mut new, PRESENT);
        assert_captures(&mut old);
        assert_refused(&mut old, &version, PRESENT);
        assert_captures(&mut new);
        new.batch_execute("select audit_algolia.pause()").unwrap();
        update(&mut new, &version);
        assert_captures(&mut old);
        assert_captures(&mut new);
        assert_refused(&mut new, PRESENT, &version);
        old.batch_execute("select audit_algolia.resume()").unwrap();
    }
}

#[test]
fn an_update_before_the_restart_fails_and_changes_nothing() {
    let version = "0.1.0";
    let Some(upgrade) = Upgrade::from(version, Stage::builder()) else { return };
    let mut db = upgrade.stage.session();
    db.batch_execute(TABLE).unwrap();
    upgrade.replace_library(PRESENT);
    let mut db = upgrade.stage.session();
    let error = db.batch_execute("alter extension audit_algolia update").unwrap_err();
    let error = error.as_db_error().unwrap();
    assert!(error.message().starts_with("could not find function \"watch_0_2_wrapper\""), "{error}");
    assert_eq!(extension_version(&mut db), version);
    db.batch_execute("insert into former values (1); select audit_algolia.unwatch('former')").unwrap();
    upgrade.stage.wait_for_records("former", 1);
}
