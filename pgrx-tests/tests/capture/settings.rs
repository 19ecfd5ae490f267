//! `index_settings` configures an index for its queries.

use serde_json::{json, Value};

use crate::play::{failure, one, texts, Play};
use crate::support::Client;

const LOG: &str =
    "create table log (id bigint primary key, user_id text, report int, event text, at timestamptz)";
const LOG_RULES: &str = "columns => '{user_id, report, event, at}', pseudonymize => '{user_id}',
    time_column => 'at', facets => '{user_id, report, event}'";

fn settings(play: &mut Play) -> Value {
    let query = format!("select audit_algolia.index_settings('{}')", play.name);
    one(&mut play.admin, &query)
}

/// Sends the settings to the index, as `configure_index` would.
fn configure(play: &mut Play) -> Client {
    let client = Client::of(&play.stage.standin);
    let body = settings(play);
    let answer = client.json("PUT", &format!("/1/indexes/{}/settings", play.name), &body);
    assert_eq!(answer.status, 200, "{}", answer.text);
    client
}

fn search(client: &Client, index: &str, query: Value) -> Value {
    let answer = client.post(&format!("/1/indexes/{index}/query"), &query);
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json
}

fn ids(answer: &Value) -> Vec<&str> {
    answer["hits"].as_array().unwrap().iter().map(|hit| hit["objectID"].as_str().unwrap()).collect()
}

#[test]
fn peaks_users_and_accesses_of_a_report_can_be_asked_for() {
    let mut play = Play::new("settings_log", LOG);
    play.watch("log", LOG_RULES);
    play.run(
        "insert into log values
             (1, 'anna', 7, 'view', '2026-11-20 13:10+00'), (2, 'ben', 7, 'view', '2026-11-20 13:50+00'),
             (3, 'anna', 7, 'edit', '2026-11-20 17:00+00'), (4, 'anna', 7, 'edit', '2026-11-21 08:00+00'),
             (5, 'cleo', 8, 'edit', '2026-11-21 09:00+00')",
    );
    assert_eq!(play.records().len(), 5);
    let client = configure(&mut play);
    let pseudonym: String = one(&mut play.admin, "select audit_algolia.pseudonym('anna')");
    // When is report 7 requested most?
    let peaks = search(
        &client,
        play.name,
        json!({"filters": "report:7", "hitsPerPage": 0, "facets": ["at_hour", "at_weekday", "at_day"]}),
    );
    assert_eq!(peaks["facets"]["at_hour"]["2026-11-20T13"], 2);
    assert_eq!(peaks["facets"]["at_weekday"], json!({"Fri": 3, "Sat": 1}));
    assert_eq!(peaks["facets"]["at_day"], json!({"2026-11-20": 3, "2026-11-21": 1}));
    // Who changed it most, in a time range?
    let epoch = |time: &str| format!("extract(epoch from '{time}'::timestamptz)::bigint");
    let from: i64 = one(&mut play.admin, &format!("select {}", epoch("2026-11-20 16:00+00")));
    let users = search(
        &client,
        play.name,
        json!({"filters": format!("report:7 AND event:edit AND at >= {from}"), "facets": ["user_id"]}),
    );
    assert_eq!(users["facets"]["user_id"], json!({ &pseudonym: 2 }));
    // Who had access, newest first?
    assert_eq!(ids(&search(&client, play.name, json!({"filters": "report:7"}))), ["4", "3", "2", "1"]);
    let hers = json!({"filters": format!("user_id:{pseudonym}"), "query": "edit"});
    assert_eq!(ids(&search(&client, play.name, hers)), ["4", "3"]);
    // Numbers are compared as numbers.
    let eights = json!({"filters": "report > 7", "query": "edit"});
    assert_eq!(ids(&search(&client, play.name, eights)), ["5"]);
}

#[test]
fn the_history_of_a_document_and_its_permissions_can_be_asked_for() {
    let mut play = Play::new(
        "settings_changes",
        "create table permission (id int primary key, document text, holder text, level text)",
    );
    play.watch(
        "permission",
        "columns => '{id, document, holder, level}', operations => '{insert, update, delete}',
         facets => '{document, holder, previous.level}'",
    );
    play.run("insert into permission values (1, 'D', 'h1', 'read'), (2, 'D', 'h2', 'read'), (3, 'E', 'h1', 'read')");
    play.run("set audit_algolia.actor = 'carol'; update permission set level = 'write' where id = 1");
    play.run("delete from permission where id = 2");
    assert_eq!(play.records().len(), 5);
    let client = configure(&mut play);
    let ask = |filters: &str| {
        let answer = search(&client, play.name, json!({"filters": filters, "facets": ["op", "changed_by"]}));
        let hits = answer["hits"].as_array().unwrap();
        // Changes within a millisecond are equally new.
        let times: Vec<f64> = hits.iter().map(|hit| hit["changed_at"].as_f64().unwrap()).collect();
        assert!(times.windows(2).all(|pair| pair[0] >= pair[1]), "{times:?}");
        (texts(hits.iter().map(|hit| hit["op"].as_str().unwrap())), answer["facets"].clone())
    };
    let (ops, facets) = ask("document:D");
    assert_eq!(ops, ["delete", "insert", "insert", "update"]);
    assert_eq!(
        facets,
        json!({"op": {"insert": 2, "update": 1, "delete": 1}, "changed_by": {"carol": 2, "app": 2}})
    );
    assert_eq!(ask("id:1").0, ["insert", "update"]);
    assert_eq!(ask("previous.level:read AND changed:level").0, ["update"]);
    assert_eq!(ask("changed_at > 9999999999").0, [""; 0]);
}

#[test]
fn tables_that_share_an_index_are_all_provided_for() {
    let mut play = Play::new(
        "settings_union",
        &format!(
            "{LOG}; create table visit (id int primary key, page text, seen_at date, cost numeric(5, 2))"
        ),
    );
    play.watch("log", LOG_RULES);
    play.watch(
        "visit",
        r#"columns => '{page AS Seite, seen_at AS at, cost}', time_column => 'seen_at',
           facets => '{Seite, cost, at_day}', object_prefix => 'v'"#,
    );
    assert_eq!(
        settings(&mut play),
        json!({
            "attributesForFaceting": ["searchable(user_id)", "report", "searchable(event)",
                "at_day", "at_hour", "at_weekday", "at_hour_of_day", "searchable(Seite)", "cost"],
            "customRanking": ["desc(at)"],
            "numericAttributesForFiltering": ["report", "at", "cost"],
            "searchableAttributes": ["unordered(user_id)", "unordered(report)", "unordered(event)",
                "unordered(Seite)", "unordered(cost)"],
            "disableTypoToleranceOnAttributes": ["user_id"],
            "attributesToHighlight": [],
            "maxValuesPerFacet": 1000,
        })
    );
    configure(&mut play);
}

#[test]
fn what_is_a_number_in_the_records_is_one_in_the_settings() {
    let mut play = Play::new(
        "settings_numbers",
        "create domain score as numeric; create domain good_score as score check (value > 0);
         create table visit (id int primary key, due date, seen timestamp, marks int[], score good_score, level int,
             price money, name text)",
    );
    play.watch(
        "visit",
        r#"columns => '{due, seen, marks, score, level, price, name}', pseudonymize => '{level}',
           facets => '{due, seen, marks, score, level, price, name}'"#,
    );
    play.run("insert into visit values (1, '2026-01-02', '2026-01-02 03:04', '{4, 5}', 6, 7, '8', 'n')");
    let record = play.records().remove("1").unwrap();
    let numbers: Vec<_> = ["due", "seen", "marks", "score", "level", "price", "name"]
        .into_iter()
        .filter(|name| record[name].is_number() || record[name][0].is_number())
        .collect();
    assert_eq!(numbers, ["due", "seen", "marks", "score"]);
    let settings = settings(&mut play);
    assert_eq!(settings["numericAttributesForFiltering"], json!(numbers));
    assert_eq!(
        settings["attributesForFaceting"],
        json!([
            "due",
            "seen",
            "marks",
            "score",
            "searchable(level)",
            "searchable(price)",
            "searchable(name)"
        ])
    );
}

#[test]
fn who_owns_all_tables_of_an_index_may_ask_for_its_settings() {
    let mut play = Play::new("settings_rights", LOG);
    play.watch("log", LOG_RULES);
    play.admin
        .batch_execute(
            "grant usage on schema audit_algolia to owner, app;
             grant execute on function audit_algolia.index_settings to owner, app;
             create table foreign_log (id int primary key)",
        )
        .unwrap();
    let call = "select audit_algolia.index_settings('settings_rights')";
    play.owner.batch_execute(call).unwrap();
    let refused = failure(&mut play.app, call);
    assert_eq!(refused.code().code(), "42501");
    play.watch("foreign_log", "columns => '{id}', object_prefix => 'f'");
    let refused = failure(&mut play.owner, call);
    assert_eq!(
        (refused.code().code(), refused.message()),
        (
            "42501",
            "must be owner of table settings_rights.foreign_log, which delivers to index \"settings_rights\""
        )
    );
    for (index, code, message) in [
        ("null", "22004", "index_name must not be null"),
        ("'nowhere'", "42704", "index \"nowhere\" does not exist"),
    ] {
        let error = failure(&mut play.owner, &format!("select audit_algolia.index_settings({index})"));
        assert_eq!((error.code().code(), error.message()), (code, message));
        assert!(error.hint().is_some());
    }
    play.owner.batch_execute("alter table log rename event to what").unwrap();
    let error = failure(&mut play.admin, call);
    assert_eq!(
        (error.code().code(), error.message()),
        ("42703", "column \"event\" of watched table \"log\" no longer exists")
    );
    play.admin
        .batch_execute("select audit_algolia.unwatch('log'), audit_algolia.unwatch('foreign_log')")
        .unwrap();
    let error = failure(&mut play.owner, call);
    assert_eq!(
        (error.code().code(), error.message()),
        ("55000", "no table is watched for index \"settings_rights\"")
    );
}

#[test]
fn the_page_is_told_of_the_callers_indices_and_of_no_secret() {
    let mut play = Play::new(
        "page_rights",
        &format!(
            "{LOG}; create table permission (id int primary key, holder text, is_open bool, rule jsonb, score score_of_page)"
        )
        .replace("create table log", "create domain score_of_page as numeric; create table log"),
    );
    play.watch("log", LOG_RULES);
    play.admin
        .batch_execute(
            "grant usage on schema audit_algolia to owner, app;
             grant execute on function audit_algolia.page_config, audit_algolia.watch to owner, app;
             create table foreign_log (id int primary key)",
        )
        .unwrap();
    play.owner
        .batch_execute(
            "select audit_algolia.watch('permission', 'page_permission', '{holder AS who, is_open, rule, score}',
                 operations => '{insert, update}', facets => '{who, is_open, score}')",
        )
        .unwrap();
    play.admin
        .batch_execute("select audit_algolia.watch('foreign_log', 'page_foreign', '{id}', mode => 'mirror', operations => '{insert, update, delete, truncate}')")
        .unwrap();
    // An index whose rules no longer fit its table does not prevent the others.
    play.owner
        .batch_execute(
            "create table worn (id int primary key, note text);
             select audit_algolia.watch('worn', 'page_worn', '{note}');
             alter table worn drop column note",
        )
        .unwrap();
    let config: Value = one(&mut play.owner, "select audit_algolia.page_config()");
    let find = |name: &str| {
        let mut indices = config["indices"].as_array().unwrap().iter();
        indices.find(|index| index["name"] == name).cloned()
    };
    // The owner has indices of other tests too.
    assert_eq!(find("page_foreign"), None);
    assert_eq!(find("page_worn"), None);
    let log = find("page_rights").unwrap();
    assert_eq!(
        find("page_permission").unwrap(),
        json!({
            "name": "page_permission",
            "records": "changes",
            "attributes": [
                {"name": "who", "type": "text"},
                {"name": "is_open", "type": "boolean"},
                {"name": "rule", "type": "json"},
                {"name": "score", "type": "number"},
            ],
            "attributesForFaceting": ["searchable(who)", "searchable(is_open)", "score", "op", "changed",
                "searchable(changed_by)", "filterOnly(transaction_id)"],
        })
    );
    assert_eq!(log["time"], "at");
    assert_eq!(log["attributes"][0], json!({"name": "user_id", "type": "text", "pseudonym": true}));
    assert_eq!(config["time_zone"], "UTC");
    let all: Value = one(&mut play.admin, "select audit_algolia.page_config(array['page_foreign'])");
    assert_eq!(all["indices"][0]["records"], "rows");
    let key: String =
        one(&mut play.admin, "select coalesce(current_setting('audit_algolia.api_key', true), '')");
    assert!(key.is_empty() || !all.to_string().contains(&key));
    // The application owns nothing.
    let none: Value = one(&mut play.app, "select audit_algolia.page_config()");
    assert_eq!(none["indices"], json!([]));
    for (call, code) in [
        ("select audit_algolia.page_config(array['page_foreign'])", "42501"),
        ("select audit_algolia.page_config(array['unknown'])", "42704"),
        ("select audit_algolia.page_config(array['page_worn'])", "42703"),
        ("select audit_algolia.page_config(array[null])", "22004"),
    ] {
        assert_eq!(failure(&mut play.owner, call).code().code(), code, "{call}");
    }
}
