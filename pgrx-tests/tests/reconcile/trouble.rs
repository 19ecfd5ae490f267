//! Algolia is unreachable, keys lack rights, filters and triggers fail.

use audit_algolia_tests::stage::{Stage, StageBuilder, SOON};
use audit_algolia_tests::standin::{ApiKey, Fault, FaultRule, Times, ADMIN_KEY};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

use crate::support::{error, lose, mirrored, reconcile, try_reconcile, wait_for_empty_queue, well, Found};

/// A stage with a mirrored table of a hundred rows, which are delivered.
fn stage(builder: StageBuilder) -> (Stage, Client) {
    mirrored(builder, "int", 100)
}

fn fail_reads(stage: &Stage, fault: Fault, times: Times) {
    stage.standin.inject(FaultRule::new(fault, times).reads());
}

#[test]
fn a_short_outage_is_sat_out() {
    let (stage, mut db) = stage(Stage::builder());
    for fault in [
        Fault::error(503, "unavailable"),
        Fault::Reset,
        Fault::Truncate,
        Fault::too_many_requests(None),
        Fault::EmptyNoContent,
    ] {
        fail_reads(&stage, fault.clone(), Times::Count(2));
        assert_eq!(reconcile(&mut db, "'t'"), well(100), "{fault:?}");
    }
}

#[test]
fn a_long_outage_is_an_error() {
    let (stage, mut db) = stage(Stage::builder());
    lose(&stage, "t", &["1"]);
    fail_reads(&stage, Fault::error(503, "unavailable"), Times::Always);
    let (code, message, hint) = error(try_reconcile(&mut db, "'t', repair => true"));
    assert_eq!(code, "08006");
    assert!(message.starts_with("could not read index \"t\": ") && message.contains("503"), "{message}");
    assert!(hint.contains("when Algolia can be reached"), "{hint}");
    stage.standin.clear_faults();
    let found = Found { checked: 100, missing: 1, repaired: 1, ..Found::default() };
    assert_eq!(reconcile(&mut db, "'t', repair => true"), found);
}

#[test]
fn a_key_that_may_not_read_is_named() {
    let write_only = ApiKey::new("write-only", &["addObject", "deleteObject"]);
    let no_browse = ApiKey::new("no-browse", &["addObject", "deleteObject", "search"]);
    let (stage, mut db) =
        stage(Stage::builder().standin(|config| config.keys.extend([write_only, no_browse])));
    for key in ["write-only", "no-browse"] {
        stage.cluster.set(&[("audit_algolia.api_key", key)]).unwrap();
        let refused = |found: &Result<Found, postgres::Error>| found.is_err();
        // A session reads changed settings between two statements.
        wait_until("a refusal", SOON, || refused(&try_reconcile(&mut db, "'t'")));
        let (code, message, hint) = error(try_reconcile(&mut db, "'t'"));
        assert_eq!(code, "42501");
        assert!(message.contains("Method not allowed with this API key"), "{message}");
        assert!(hint.contains("rights search and browse"), "{hint}");
        assert!(!format!("{message}{hint}").contains(key));
        stage.cluster.set(&[("audit_algolia.api_key", ADMIN_KEY)]).unwrap();
        wait_until("an answer", SOON, || try_reconcile(&mut db, "'t'").is_ok());
    }
}

#[test]
fn an_index_that_does_not_exist_holds_nothing() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table t (id int primary key, v text);
         insert into t select n, 'x' from generate_series(1, 1500) as n;
         select audit_algolia.watch('t', columns => '{v}', mode => 'mirror')",
    )
    .unwrap();
    let found = Found { checked: 1500, missing: 1500, repaired: 1500, ..Found::default() };
    assert_eq!(reconcile(&mut db, "'t', repair => true"), found);
    stage.wait_for_records("t", 1500);
    wait_for_empty_queue(&mut db);
    assert_eq!(reconcile(&mut db, "'t'"), well(1500));
}

#[test]
fn without_preload_or_configuration_there_is_an_error() {
    let hints = |stage: &Stage| {
        let mut db = stage.admin();
        db.batch_execute(
            "create table t (id int primary key, v text); insert into t values (1, 'x');
             select audit_algolia.watch('t', columns => '{v}')",
        )
        .unwrap();
        let (code, _, hint) = error(try_reconcile(&mut db, "'t'"));
        assert_eq!(code, "55000");
        hint
    };
    let unloaded = Stage::builder().preload(false).start().unwrap();
    assert!(hints(&unloaded).contains("shared_preload_libraries"));
    let stage = Stage::builder().start().unwrap();
    stage.cluster.set(&[("audit_algolia.application_id", "")]).unwrap();
    assert!(hints(&stage).contains("audit_algolia.application_id"));
}

/// A row that is no longer in the range is read only to find out whether its object is an orphan, in a memory context
/// that the error frees.
#[test]
fn a_filter_that_fails_in_the_last_look_ends_the_comparison_and_nothing_else() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create function quotient(int) returns int language plpgsql stable as 'begin return 100 / $1; end';
         create table t (id int primary key, v int, at timestamptz default '2026-01-01');
         select audit_algolia.watch('t', columns => '{at}', mode => 'mirror', time_column => 'at',
             filter => 'public.quotient(v) > 0');
         insert into t select n, 1 from generate_series(1, 50) as n",
    )
    .unwrap();
    stage.wait_for_records("t", 50);
    wait_for_empty_queue(&mut db);
    db.batch_execute(
        "alter table t disable trigger user; update t set v = 0, at = '2020-01-01' where id > 40; alter table t enable trigger user",
    )
    .unwrap();
    for repair in [false, true, false, true] {
        let arguments = format!("'t', since => '2025-01-01', repair => {repair}");
        let (code, message, hint) = error(try_reconcile(&mut db, &arguments));
        assert_eq!(code, "22012", "{message}");
        assert_eq!(message, "the filter of watched table \"t\" failed: division by zero (22012)");
        assert!(!hint.is_empty());
    }
    db.batch_execute(
        "alter table t disable trigger user; update t set v = 1, at = '2026-01-01'; alter table t enable trigger user",
    )
    .unwrap();
    wait_for_empty_queue(&mut db);
    assert_eq!(reconcile(&mut db, "'t'"), well(50));
}

#[test]
fn an_error_of_a_trigger_that_somebody_has_put_on_the_queue_tells_where_it_was_raised() {
    let (stage, mut db) = stage(Stage::builder());
    lose(&stage, "t", &["1"]);
    db.batch_execute(
        "create function fails() returns trigger language plpgsql as $$ begin raise exception 'full'; end $$;
         create trigger fails before insert on audit_algolia.queue for each row execute function fails()",
    )
    .unwrap();
    let error = try_reconcile(&mut db, "'t', repair => true").unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!((error.code().code(), error.message()), ("P0001", "full"));
    let context = error.where_().unwrap_or_default();
    assert_eq!(context.matches("fails() line 1 at RAISE").count(), 1, "{context}");
}
