//! `secured_key` makes keys that can search what they should, and do nothing else.

use audit_algolia_tests::stage::Stage;
use audit_algolia_tests::standin::ApiKey;
use postgres::Client as Session;
use serde_json::{json, Value};

use crate::play::{failure, one};
use crate::support::Client;

const PARENT: &str = "parent-search-key-7b1f";

fn stage() -> Stage {
    Stage::builder()
        .standin(|config| {
            config.keys.push(ApiKey::new(PARENT, &["search"]));
            config.keys.push(ApiKey::new("write-key", &["search", "addObject"]));
        })
        .start()
        .unwrap()
}

fn key(db: &mut Session, arguments: &str) -> String {
    one(db, &format!("select audit_algolia.secured_key('{PARENT}', {arguments})"))
}

/// The objectIDs that a search finds, or the status and the message with which it is refused.
fn search(stage: &Stage, key: &str, index: &str, query: Value) -> Result<Vec<String>, (u16, String)> {
    let answer = Client::of(&stage.standin).with_key(key).post(&format!("/1/indexes/{index}/query"), &query);
    match answer.status {
        200 => {
            let hits = answer.json["hits"].as_array().unwrap();
            Ok(hits.iter().map(|hit| hit["objectID"].as_str().unwrap().to_owned()).collect())
        }
        status => Err((status, answer.message().to_owned())),
    }
}

#[test]
fn a_key_finds_what_its_filters_let_through_and_nothing_else() {
    let stage = stage();
    let mut db = stage.admin();
    db.batch_execute(
        r#"create table log (id int primary key, team text, event text);
           create table other (id int primary key, team text);
           select audit_algolia.watch('log', columns => '{team, event}', facets => '{team, event}'),
               audit_algolia.watch('other', columns => '{team}', facets => '{team}');
           insert into log values (1, 'red & "blue"', 'view'), (2, 'green', 'view'), (3, 'red & "blue"', 'edit');
           insert into other values (1, 'green')"#,
    )
    .unwrap();
    stage.wait_for_records("log", 3);
    stage.wait_for_records("other", 1);
    let admin = Client::of(&stage.standin);
    for index in ["log", "other"] {
        let settings = json!({"attributesForFaceting": ["team", "event"]});
        assert_eq!(admin.json("PUT", &format!("/1/indexes/{index}/settings"), &settings).status, 200);
    }
    let bad_key = Err((403, "Invalid Application-ID or API key".to_owned()));
    let all = json!({});

    let reds = key(&mut db, "'team:''red & \"blue\"'''");
    assert_eq!(search(&stage, &reds, "log", all.clone()).unwrap(), ["1", "3"]);
    // Whatever a user of the key adds restricts the result further.
    assert_eq!(search(&stage, &reds, "log", json!({"filters": "event:edit"})).unwrap(), ["3"]);
    assert_eq!(search(&stage, &reds, "log", json!({"filters": "team:green"})).unwrap(), [""; 0]);
    assert_eq!(search(&stage, &reds, "other", all.clone()).unwrap(), [""; 0]);

    let everything = key(&mut db, "''");
    assert_eq!(search(&stage, &everything, "other", all.clone()).unwrap(), ["1"]);
    let of_log = key(&mut db, "'', now() + interval '1 hour', '{log, absent_*}'");
    assert_eq!(search(&stage, &of_log, "log", all.clone()).unwrap().len(), 3);
    let refused = search(&stage, &of_log, "other", all.clone());
    assert_eq!(refused, Err((403, "Index not allowed with this API key".to_owned())));
    let expired = key(&mut db, "'', now() - interval '1 hour'");
    assert_eq!(search(&stage, &expired, "log", all.clone()), bad_key);
    // A modified key is invalid. Here the restriction is cut off.
    let cut = reds.len() - 8;
    assert_eq!(search(&stage, &reds[..cut], "log", all.clone()), bad_key);
    // A key whose parent can write is invalid too.
    let of_writer: String = one(&mut db, "select audit_algolia.secured_key('write-key', '')");
    assert_eq!(search(&stage, &of_writer, "log", all), bad_key);
}

#[test]
fn a_key_is_the_one_that_official_clients_make() {
    let stage = stage();
    let mut db = stage.admin();
    let made: String = one(
        &mut db,
        "select audit_algolia.secured_key('2640659426d5107b6e47d75db9cbaef8', '',
             '2050-01-01 00:00:00.999+01', '{Movies}')",
    );
    assert_eq!(made, "NjFhZmE0OGEyMTI3OThiODc0OTlkOGM0YjcxYzljY2M2NmU2NDE5ZWY0NDZjMWJhNjA2NzBkMjAwOTI2YWQyZnJlc3RyaWN0SW5kaWNlcz1Nb3ZpZXMmdmFsaWRVbnRpbD0yNTI0NjA0NDAw");
}

#[test]
fn few_may_make_keys_and_nobody_learns_the_parent_from_us() {
    let stage = stage();
    let mut db = stage.admin();
    db.batch_execute("create role clerk login; grant usage on schema audit_algolia to clerk").unwrap();
    let mut clerk = stage.cluster.client("postgres", "clerk");
    let call = "select audit_algolia.secured_key('x', '')";
    assert_eq!(failure(&mut clerk, call).message(), "permission denied for function secured_key");
    db.batch_execute("grant execute on function audit_algolia.secured_key to clerk").unwrap();
    clerk.batch_execute(call).unwrap();
    // With everything logged except the statements themselves.
    db.batch_execute("set log_min_messages = debug1; set log_min_error_statement = 'panic'").unwrap();
    key(&mut db, "'a:b'");
    for (arguments, code, message) in [
        ("null, 'a:b'", "22004", "parent_key must not be null"),
        ("'PARENT', null", "22004", "filters must not be null"),
        ("' ', ''", "22023", "parent_key must not be empty"),
        ("'PARENT', '', 'infinity'", "22023", "valid_until must be finite"),
        ("'PARENT', '', null, '{}'", "22023", "restrict_indices names no index"),
        ("'PARENT', '', null, '{a, null}'", "22004", "a name in restrict_indices must not be null"),
        ("'PARENT', '', null, '{a, \"\"}'", "22023", "restrict_indices must not contain empty names"),
        (
            "'PARENT', '', null, '{\"a,b\"}'",
            "22023",
            "index name \"a,b\" contains a comma, which separates the names",
        ),
    ] {
        let call = format!("select audit_algolia.secured_key({})", arguments.replace("PARENT", PARENT));
        let error = failure(&mut db, &call);
        assert_eq!((error.code().code(), error.message()), (code, message), "{arguments}");
        assert!(error.hint().is_some(), "{arguments}");
        assert!(!format!("{error:?}").contains(PARENT), "{error:?}");
    }
    assert!(!stage.cluster.log().contains(PARENT));
}
