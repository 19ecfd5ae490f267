//! What auditors ask of change records, with only a search key.

use std::collections::BTreeMap;

use audit_algolia_tests::stage::SOON;
use audit_algolia_tests::wait::wait_until;
use serde_json::{json, Value};

use crate::play::{one, Play};
use crate::support::Client;

/// Changes are ordered by time and, within a millisecond, by number.
fn order(change: &Value) -> (i64, i64) {
    let number = change["objectID"].as_str().unwrap().rsplit_once('@').unwrap().1;
    ((change["changed_at"].as_f64().unwrap() * 1000.0).round() as i64, number.parse().unwrap())
}

/// Who had which level on a document at some time from `from` to `until`, from answers of the index alone: the state
/// after the changes up to `from`, and what later ones changed.
fn holders(client: &Client, index: &str, document: &str, from: f64, until: f64) -> Vec<String> {
    let query = json!({
        "filters": format!("document:{document} AND changed_at <= {until}"), "hitsPerPage": 1000,
    });
    let answer = client.post(&format!("/1/indexes/{index}/query"), &query);
    assert_eq!(answer.status, 200, "{}", answer.text);
    let mut changes: Vec<&Value> = answer.json["hits"].as_array().unwrap().iter().collect();
    changes.sort_by_key(|change| order(change));
    let mut state: BTreeMap<String, String> = BTreeMap::new();
    let mut seen: Vec<String> = Vec::new();
    let mut began = false;
    for change in changes {
        if !began && change["changed_at"].as_f64().unwrap() > from {
            began = true;
            seen.extend(state.iter().map(|(who, level)| format!("{who} {level}")));
        }
        let who = change["holder"].as_str().unwrap().to_owned();
        let before = change["previous"]["holder"].as_str().unwrap_or(&who).to_owned();
        state.remove(&before);
        if change["op"] != "delete" {
            let level = change["level"].as_str().unwrap().to_owned();
            if began {
                seen.push(format!("{who} {level}"));
            }
            state.insert(who, level);
        }
    }
    if !began {
        seen.extend(state.iter().map(|(who, level)| format!("{who} {level}")));
    }
    seen.sort();
    seen.dedup();
    seen
}

/// A time in seconds that is later than the start of all statements so far and earlier than that of all later ones,
/// even when rounded to milliseconds as in records.
fn tick(play: &mut Play) -> f64 {
    let next: f64 = one(
        &mut play.admin,
        "select extract(epoch from date_trunc('milliseconds', clock_timestamp()) + interval '1 ms')::float8",
    );
    play.admin
        .batch_execute(&format!(
            "do $$ begin while clock_timestamp() < to_timestamp({next}) + interval '1 ms' loop end loop; end $$"
        ))
        .unwrap();
    next
}

#[test]
fn who_had_which_permission_over_a_period_is_told_by_the_index_alone() {
    let mut play = Play::new(
        "permissions",
        "create table t (id int generated always as identity primary key, document text, holder text, level text)",
    );
    play.watch(
        "t",
        "columns => '{document, holder, level}', pseudonymize => '{holder}', operations => '{insert, update, delete}',
         facets => '{document, holder, level, op, changed_by, previous.level}'",
    );
    let client = Client::of(&play.stage.standin);
    let settings = json!({"attributesForFaceting": ["document", "holder", "level", "op", "changed_by", "previous.level"]});
    client.json("PUT", "/1/indexes/permissions/settings", &settings);
    play.run("set audit_algolia.actor = 'root'; insert into t (document, holder, level) values ('D', 'ann', 'read'), ('D', 'bob', 'write'), ('E', 'eve', 'read')");
    let first = tick(&mut play);
    play.run("update t set level = 'write' where holder = 'ann'");
    let second = tick(&mut play);
    play.run("delete from t where holder = 'bob'");
    play.run("update t set holder = 'carl' where holder = 'ann'");
    let third = tick(&mut play);
    play.run("update t set document = 'E' where holder = 'carl'");
    play.records();

    let mut named = BTreeMap::new();
    for name in ["ann", "bob", "carl", "eve"] {
        let pseudonym: String = one(&mut play.admin, &format!("select audit_algolia.pseudonym('{name}')"));
        named.insert(pseudonym, name);
    }
    let ask = |from, until| -> Vec<String> {
        let told = holders(&client, "permissions", "D", from, until);
        let mut resolved: Vec<String> = told
            .iter()
            .map(|line| line.split_once(' ').unwrap())
            .map(|(who, level)| format!("{} {level}", named[who]))
            .collect();
        resolved.sort();
        resolved
    };
    assert_eq!(ask(first, first), ["ann read", "bob write"]);
    assert_eq!(ask(second, second), ["ann write", "bob write"]);
    assert_eq!(ask(first, second), ["ann read", "ann write", "bob write"]);
    assert_eq!(ask(third, third), ["carl write"]);
    assert_eq!(ask(second, third), ["ann write", "bob write", "carl write"]);

    let count = |filters: &str| -> u64 {
        let answer = client.post("/1/indexes/permissions/query", &json!({"filters": filters}));
        answer.json["nbHits"].as_u64().unwrap()
    };
    assert_eq!(count("document:D AND op:update AND previous.level:read"), 1, "who was promoted");
    assert_eq!(count(&format!("op:delete AND changed_at > {second}")), 1, "what was taken away lately");
    let root: String = one(&mut play.admin, "select audit_algolia.pseudonym('root')");
    assert_eq!(count(&format!("changed_by:{root}")), 7);
}

/// A transaction keeps the block of ids that it began with, and a statement that waits for a row began before its
/// change.
#[test]
fn changes_of_a_row_are_told_in_their_order_whoever_began_first() {
    let mut play = Play::new(
        "ordered",
        "create table t (id int primary key, v text); insert into t values (1, '0'), (2, '0')",
    );
    play.watch("t", "columns => '{v}', operations => '{update}'");
    let mut other = play.stage.cluster.client("postgres", "app");
    // The first takes its ids, but the second changes the row before it.
    play.run("begin; update t set v = 'x' where id = 2");
    other.batch_execute("update ordered.t set v = '1' where id = 1").unwrap();
    tick(&mut play);
    play.run("update t set v = '2' where id = 1");
    // The third starts to wait for the row. Its change is recorded after the one that it has waited for.
    let waiting =
        std::thread::spawn(move || other.batch_execute("update ordered.t set v = '3' where id = 1"));
    wait_until("the third to wait", SOON, || {
        one::<i64>(
            &mut play.admin,
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like 'update ordered.t %'",
        ) == 1
    });
    tick(&mut play);
    play.run("commit");
    waiting.join().unwrap().unwrap();
    let mut changes: Vec<Value> = play.records().into_values().filter(|change| change["v"] != "x").collect();
    changes.sort_by_key(order);
    let told: Vec<(&Value, &Value)> =
        changes.iter().map(|change| (&change["previous"]["v"], &change["v"])).collect();
    assert_eq!(told, [(&json!("0"), &json!("1")), (&json!("1"), &json!("2")), (&json!("2"), &json!("3"))]);
}
