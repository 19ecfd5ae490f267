//! Clicks and impressions: the database and the index count the same.

use std::collections::BTreeMap;

use audit_algolia_tests::stage::Stage;
use postgres::Client;
use serde_json::json;

use crate::{owner, query, run, settle, OWNER, SEARCH_KEY};

const FUNCTIONS: &str =
    "audit_algolia.watch, audit_algolia.configure_index, audit_algolia.activity, audit_algolia.capture";
const SESSIONS: i64 = 4;
const USERS: i64 = 10;

/// Unique users, clicks and impressions in the hour before a time in Unix seconds, as the database counts them.
fn counted(db: &mut Client, until: i64) -> [i64; 3] {
    let query = "select * from user_analytics.last_hour(to_timestamp($1::bigint::float8))";
    let row = db.query_one(query, &[&until]).unwrap();
    [0, 1, 2].map(|place| row.get(place))
}

/// The same as the index counts them.
fn asked(stage: &Stage, until: i64) -> [i64; 3] {
    let asked = json!({
        "filters": format!("at > {} AND at <= {until}", until - 3600), "hitsPerPage": 0,
        "facets": ["event", "user_id"], "maxValuesPerFacet": 1000,
    });
    let answer = query(stage, SEARCH_KEY, "analytics_event", &asked);
    let count = |event: &str| answer["facets"]["event"][event].as_i64().unwrap_or_default();
    let users = answer["facets"]["user_id"].as_object().map_or(0, serde_json::Map::len);
    [users as i64, count("click"), count("impression")]
}

#[test]
fn the_last_hour_is_counted_alike_by_database_and_index() {
    let stage = crate::stage();
    let mut db = owner(&stage, FUNCTIONS);
    let answers = run(&stage, OWNER, "user_analytics.sql");
    assert!(answers.ends_with("\nclick|1|1\nimpression|1|1\n|2|2\n2|1|1\n"), "{answers}");
    let now: i64 = db.query_one("select ceil(extract(epoch from now()))::bigint", &[]).unwrap().get(0);
    settle(&stage);
    assert_eq!(counted(&mut db, now), [2, 1, 1]);
    assert_eq!(asked(&stage, now), [2, 1, 1]);
    assert_eq!(asked(&stage, now - 9000), [1, 0, 1]);

    // Sessions insert the same new users at once, for a day with a partition and for one without.
    let long_ago = 1_500_000_000;
    for until in [now + 86_400, long_ago] {
        std::thread::scope(|scope| {
            for session in 0..SESSIONS {
                let mut db = stage.cluster.client("postgres", OWNER);
                scope.spawn(move || events(&mut db, until, session));
            }
        });
        settle(&stage);
        // One event of each session is exactly at the beginning of the window, so it is outside.
        let expected = [USERS, SESSIONS * USERS / 2, SESSIONS * USERS / 2];
        assert_eq!(counted(&mut db, until), expected);
        assert_eq!(asked(&stage, until), expected);
    }
    let partitions: BTreeMap<String, i64> = db
        .query("select tableoid::regclass::text, count(*) from user_analytics.event group by 1", &[])
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    assert_eq!(partitions["user_analytics.event_elsewhere"], SESSIONS * (USERS + 1));
    no_user_is_told(&stage);
}

/// Each user has a click or an impression at the end of the window. What is at its beginning belongs to the previous
/// window.
fn events(db: &mut Client, until: i64, session: i64) {
    let record = "select user_analytics.record_event($1, $2, to_timestamp($3::bigint::float8))";
    for n in 0..USERS {
        let user = format!("user {} of {until}", (n + session) % USERS);
        let event = if n % 2 == 0 { "click" } else { "impression" };
        db.execute(record, &[&user, &event, &(until - n)]).unwrap();
    }
    let (user, event) = (format!("user 0 of {until}"), "impression");
    db.execute(record, &[&user, &event, &(until - 3600)]).unwrap();
}

fn no_user_is_told(stage: &Stage) {
    for record in stage.standin.index("analytics_event").into_values() {
        let user = record["user_id"].as_str().unwrap();
        assert!(user.starts_with("p_") && user.len() == 28, "{record}");
        assert!(record["event"] == "click" || record["event"] == "impression", "{record}");
    }
}
