//! Alerts: which records alert, what an alert may be, and with whose rights it is evaluated.

use audit_algolia_tests::stage::SOON;
use audit_algolia_tests::wait::wait_until;
use serde_json::{json, Value};

use crate::changes::{brief, changes};
use crate::play::{failure, one, settle, Play};

const TABLE: &str = "create table t (id int primary key, v text, allowed boolean, secret int)";

/// The keys of the records that alert.
#[track_caller]
fn alerting(play: &mut Play) -> Vec<String> {
    let records = play.records();
    assert!(records.values().all(|record| record.get("alert").is_none_or(|alert| *alert == json!(true))));
    records.into_iter().filter(|(_, record)| record.get("alert").is_some()).map(|(id, _)| id).collect()
}

#[test]
fn records_of_rows_for_which_an_alert_is_true_say_so() {
    let mut play = Play::new("alert_append", TABLE);
    play.watch("t", "columns => '{v}', alert => 'not allowed or secret > 5', filter => 'id < 100'");
    play.run(
        "insert into t values (1, 'a', true, 1), (2, 'b', false, 1), (3, 'c', null, 9), (4, 'd', null, null),
             (5, 'e', true, 6), (101, 'f', false, 9)",
    );
    play.run("insert into t select i, 'g', i % 2 = 0, 0 from generate_series(10, 99) as i");
    let odd = (11..100).step_by(2).map(|id| id.to_string());
    let mut expected: Vec<String> = ["2", "3", "5"].map(str::to_owned).into_iter().chain(odd).collect();
    expected.sort();
    assert_eq!(alerting(&mut play), expected);
    assert_eq!(play.records()["2"], json!({"objectID": "2", "v": "b", "alert": true}));
    let alert: String =
        one(&mut play.admin, "select alert from audit_algolia.sources where index_name = 'alert_append'");
    assert_eq!(alert, "((NOT allowed) OR (secret > 5))");
    let preview = "select string_agg(record ->> 'objectID', ' ' order by record ->> 'objectID')
         from audit_algolia.preview('t', 6) as record where (record ->> 'alert')::boolean";
    assert_eq!(one::<String>(&mut play.admin, preview), "95 97 99");
    let settings: Value = one(&mut play.admin, "select audit_algolia.index_settings('alert_append')");
    assert_eq!(settings["attributesForFaceting"], json!(["alert"]));
    let page: Value = one(&mut play.admin, "select audit_algolia.page_config('{alert_append}')");
    let attributes = json!([{"name": "v", "type": "text"}, {"name": "alert", "type": "boolean"}]);
    assert_eq!(page["indices"][0]["attributes"], attributes);
}

#[test]
fn a_change_alerts_by_the_row_as_it_becomes_or_as_it_was_deleted() {
    let mut play = Play::new("alert_changes", TABLE);
    play.watch("t", "columns => '{v}', operations => '{insert, update, delete}', alert => 'not allowed'");
    play.run("insert into t values (1, 'a', true), (2, 'b', false)");
    play.run("update t set v = 'c' where id = 1");
    play.run("update t set allowed = false where id = 1");
    play.run("update t set secret = 7");
    play.run("update t set allowed = true, v = 'd' where id = 1");
    play.run("delete from t where id = 1; delete from t");
    let told: Vec<(String, bool)> =
        changes(&mut play).iter().map(|record| (brief(record), record.get("alert").is_some())).collect();
    let expected = [
        ("1 insert a", false),
        ("2 insert b", true),
        ("1 update c a", false),
        // No allowed column has changed, but that the row alerts from now on is told.
        ("1 update c", true),
        ("1 update d c", false),
        ("1 delete d", false),
        ("2 delete b", true),
    ];
    assert_eq!(told, expected.map(|(brief, alerts)| (brief.to_owned(), alerts)));
}

#[test]
fn a_mirror_shows_which_rows_alert_now() {
    let mut play = Play::new("alert_mirror", TABLE);
    play.watch("t", "columns => '{v}', mode => 'mirror', alert => 'not allowed'");
    play.run("insert into t values (1, 'a', true), (2, 'b', false), (3, 'c', false)");
    assert_eq!(alerting(&mut play), ["2", "3"]);
    play.run("update t set allowed = not allowed where id < 3; delete from t where id = 3");
    assert_eq!(alerting(&mut play), ["1"]);
    assert_eq!(play.ids(), ["1", "2"]);
    play.run("update t set allowed = true, secret = 3");
    assert_eq!(alerting(&mut play), Vec::<String>::new());
    let sent = play.arrivals();
    play.run("update t set secret = 4");
    play.records();
    assert_eq!(play.arrivals(), sent, "nothing that the index holds has changed");
}

#[test]
fn history_alerts_and_is_what_reconcile_expects() {
    for (name, mode) in [("alert_history", "append"), ("alert_history_mirror", "mirror")] {
        let mut play = Play::new(name, TABLE);
        play.run("insert into t values (1, 'a', false), (2, 'b', true)");
        play.watch(
            "t",
            &format!("columns => '{{v}}', mode => '{mode}', alert => 'not allowed', backfill => true"),
        );
        let admin = &mut play.admin;
        let state = "select bool_and(state = 'finished') from audit_algolia.backfill_progress where source = 't'::regclass";
        wait_until("the backfill", SOON, || one::<bool>(admin, state));
        settle(admin, name);
        assert_eq!(alerting(&mut play), ["1"]);
        let compare = |db: &mut postgres::Client, repair| {
            let row =
                db.query_one("select * from audit_algolia.reconcile('t', repair => $1)", &[&repair]).unwrap();
            (row.get::<_, i64>("missing"), row.get::<_, i64>("different"), row.get::<_, i64>("repaired"))
        };
        assert_eq!(compare(&mut play.admin, false), (0, 0, 0), "{mode}");
        // What was captured under another alert differs, and is put right.
        play.admin
            .batch_execute("update audit_algolia.source set alert = 'allowed' where relation = 't'::regclass")
            .unwrap();
        assert_eq!(compare(&mut play.admin, true), (0, 2, 2), "{mode}");
        assert_eq!(alerting(&mut play), ["2"], "{mode}");
    }
}

#[test]
fn a_row_of_a_partition_alerts_by_the_partitions_columns() {
    let mut play = Play::new(
        "alert_partitions",
        "create table t (id int primary key, v text, allowed boolean) partition by range (id);
         create table low (allowed boolean, gone int, v text, id int not null);
         alter table low drop column gone; alter table t attach partition low for values from (0) to (10);
         create table high partition of t for values from (10) to (20)",
    );
    play.watch("t", "columns => '{v}', alert => 'not allowed and v <> ''x'''");
    play.run("insert into t values (1, 'a', false), (2, 'b', true), (11, 'c', false), (12, 'x', false)");
    play.run("insert into low (id, v, allowed) values (3, 'd', false)");
    assert_eq!(alerting(&mut play), ["1", "11", "3"]);
}

#[test]
fn an_alert_is_a_condition_like_a_filter() {
    let mut play = Play::new("alert_refused", TABLE);
    for (alert, code, message) in [
        ("allowed or or", "42601", "invalid alert for table \"t\": syntax error"),
        ("secret", "42804", "invalid alert for table \"t\": argument of alert must be type boolean"),
        ("exists (select 1)", "0A000", "invalid alert for table \"t\": cannot use subquery"),
        ("random() > 0.5", "42P17", "invalid alert for table \"t\": an alert cannot call volatile functions"),
        ("xmin = '1'", "42P17", "invalid alert for table \"t\": an alert cannot use system columns"),
        ("nobody > 1", "42703", "invalid alert for table \"t\": column \"nobody\" does not exist"),
    ] {
        let quoted = alert.replace('\'', "''");
        let watch = format!("select audit_algolia.watch('t', columns => '{{v}}', alert => '{quoted}')");
        let error = failure(&mut play.admin, &watch);
        assert_eq!(error.code().code(), code, "{alert}: {}", error.message());
        assert!(error.message().starts_with(message), "{alert}: {}", error.message());
        assert!(
            error.hint().unwrap().contains("An alert is one boolean expression")
                || error.hint().unwrap().contains("an alert is one boolean expression"),
            "{:?}",
            error.hint()
        );
    }
    let named = "select audit_algolia.watch('t', columns => '{v AS alert}', alert => 'not allowed')";
    let error = failure(&mut play.admin, named);
    assert_eq!(error.code().code(), "42701");
    assert_eq!(error.message(), "attribute \"alert\" is reserved for records that alert");
    let long =
        "select audit_algolia.watch('t', columns => '{v}', alert => repeat(' ', 2000000) || 'allowed')";
    assert_eq!(failure(&mut play.admin, long).code().code(), "54000");
    // Without an alert the name is anybody's.
    play.watch("t", "columns => '{v AS alert}'");
    play.run("insert into t values (1, 'mine')");
    assert_eq!(play.records()["1"]["alert"], "mine");
}

#[test]
fn an_error_in_an_alert_fails_the_statement_without_quoting_the_row() {
    let mut play = Play::new("alert_errors", TABLE);
    play.watch("t", "columns => '{v}', alert => 'v::int > 1'");
    let error = failure(&mut play.app, "insert into t values (1, 'raw value')");
    let message = "the alert of watched table \"t\" failed: invalid text representation (22P02)";
    assert_eq!((error.code().code(), error.message()), ("22P02", message));
    assert!(error.hint().unwrap().contains("WHERE the alert in audit_algolia.sources"));
    let context = error.where_().unwrap();
    assert!(context.contains("audit_algolia alert of table \"t\""), "{context}");
    assert!(!format!("{error:?}").contains("raw value"), "{error:?}");
    play.run("insert into t values (2, '2')");
    assert_eq!(alerting(&mut play), ["2"]);
}

#[test]
fn an_alert_whose_column_changes_stays_right_or_stops() {
    for (name, change, code) in [
        ("alert_renamed", "rename column secret to rank", Some("42703")),
        ("alert_dropped", "drop column secret", Some("42703")),
        ("alert_widened", "alter column secret type numeric", None),
        ("alert_moved", "drop column allowed", None),
    ] {
        let mut play = Play::new(name, TABLE);
        play.watch("t", "columns => '{v}', alert => 'secret > 1'");
        play.run("insert into t (id, v, secret) values (1, 'a', 1), (2, 'b', 2)");
        play.owner.batch_execute(&format!("alter table t {change}")).unwrap();
        match code {
            None => {
                play.run("insert into t (id, v, secret) values (3, 'c', 1), (4, 'd', 2)");
                assert_eq!(alerting(&mut play), ["2", "4"], "{name}");
            }
            Some(code) => {
                let error = failure(&mut play.app, "insert into t (id, v) values (3, 'c')");
                assert_eq!(error.code().code(), code, "{name}: {}", error.message());
                assert!(error
                    .message()
                    .contains("the alert of watched table \"t\" no longer fits the table"));
                assert!(error.hint().unwrap().contains("with an alert over"), "{name}");
                assert_eq!(alerting(&mut play), ["2"], "{name}");
            }
        }
    }
}

#[test]
fn an_alert_has_the_rights_of_the_tables_owner_whoever_writes() {
    let mut play = Play::new(
        "alert_rights",
        &format!(
            "{TABLE};
             create function who(text) returns boolean language sql stable as $$ select current_user = 'owner' $$;
             revoke execute on function who(text) from public"
        ),
    );
    play.admin.batch_execute("grant usage on schema audit_algolia to owner; grant execute on function audit_algolia.watch to owner").unwrap();
    play.owner
        .batch_execute("select audit_algolia.watch('t', index_name => 'alert_rights', columns => '{v}', alert => 'who(v)')")
        .unwrap();
    play.run("insert into t values (1)");
    play.admin.batch_execute("insert into t values (2)").unwrap();
    assert_eq!(alerting(&mut play), ["1", "2"]);
}
