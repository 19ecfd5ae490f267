//! Scraped posts and profiles: consumers read streams of changes with a search key, and roles are limited.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use audit_algolia_tests::stage::Stage;
use audit_algolia_tests::wait::eventually;
use fastrand::Rng;
use postgres::error::SqlState;
use postgres::Client;
use serde_json::{json, Value};

use crate::{hits, in_order, key_of, place, pseudonym, query, run, settle};

const POSTS: &str = "scraped_raw_post";
const PROFILES: &str = "scraped_raw_profile";

/// Reads a topic as the script tells consumers to, and keeps the current rows by their change records.
struct Consumer<'a> {
    stage: &'a Stage,
    key: String,
    topic: &'static str,
    /// How many hits a query returns.
    page: usize,
    /// The time of the latest change that it has read.
    read_to: f64,
    /// How many seconds it looks back.
    look_back: f64,
    known: BTreeSet<String>,
    changes: Vec<Value>,
}

impl<'a> Consumer<'a> {
    fn new(stage: &'a Stage, answers: &str, topic: &'static str, page: usize) -> Consumer<'a> {
        let key = key_of(topic, answers);
        let (known, changes) = (BTreeSet::new(), Vec::new());
        Consumer { stage, key, topic, page, read_to: 0.0, look_back: 60.0, known, changes }
    }

    /// Reads what is new, and returns how many queries that took.
    fn poll(&mut self) -> usize {
        let from = self.read_to - self.look_back;
        let mut filters = format!("changed_at >= {from:.3}");
        let (mut queries, mut below) = (0, f64::INFINITY);
        loop {
            queries += 1;
            let asked = json!({"filters": filters, "hitsPerPage": self.page});
            let answer = query(self.stage, &self.key, self.topic, &asked);
            let shown = hits(&answer);
            for change in shown {
                let id = change["objectID"].as_str().unwrap().to_owned();
                if self.known.insert(id) {
                    self.changes.push(change.clone());
                }
            }
            if answer["nbHits"].as_u64().unwrap() <= shown.len() as u64 {
                break;
            }
            let last = place(shown.last().unwrap()).0;
            assert!(last < below, "a query cannot show all changes of one moment");
            below = last;
            filters = format!("changed_at >= {from:.3} AND changed_at <= {below}");
        }
        in_order(&mut self.changes);
        self.read_to = self.changes.last().map_or(0.0, |change| place(change).0);
        queries
    }

    /// The rows that result from the changes, by their keys, without the attributes about the change.
    fn rows(&self) -> BTreeMap<String, Value> {
        let mut rows = BTreeMap::new();
        for change in &self.changes {
            let key = change["objectID"].as_str().unwrap().rsplit_once('@').unwrap().0.to_owned();
            let before = rows.remove(&key);
            // The old values are those that the previous change left.
            let previous = change["previous"].as_object().into_iter().flatten();
            let before = before.unwrap_or(Value::Null);
            for (name, value) in previous {
                assert_eq!(before[name], *value, "{change}");
            }
            if change["op"] != "delete" {
                rows.insert(key, row(change));
            }
        }
        rows
    }
}

/// A change without the attributes about the change.
fn row(change: &Value) -> Value {
    let mut row = change.clone();
    let attributes = row.as_object_mut().unwrap();
    for name in ["objectID", "op", "changed", "previous", "changed_by", "changed_at", "transaction_id"] {
        attributes.remove(name);
    }
    row
}

fn scraped() -> (Stage, String) {
    let stage = crate::stage();
    let answers = run(&stage, "postgres", "scraped_content.sql");
    settle(&stage);
    (stage, answers)
}

/// A change without its time and number.
fn brief(change: &Value) -> Value {
    let mut brief = change.clone();
    let attributes = brief.as_object_mut().unwrap();
    for name in ["objectID", "changed_at", "transaction_id"] {
        attributes.remove(name);
    }
    brief
}

#[test]
fn each_change_is_told_with_the_row_before_and_after() {
    let (stage, answers) = scraped();
    let mut admin = stage.admin();
    let [ann, bob, forum, photos] =
        ["ann", "bob", "forum scraper", "photos scraper"].map(|name| pseudonym(&mut admin, name));
    let changes_of = |topic| {
        let mut consumer = Consumer::new(&stage, &answers, topic, 1000);
        assert_eq!(consumer.poll(), 1);
        consumer.changes.iter().map(brief).collect::<Vec<Value>>()
    };
    let post = |id: &str, author: &str, body: &str, likes: i32, more: Value| {
        let mut record = json!({"post_id": id, "author": author, "body": body, "likes": likes});
        record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        record
    };
    let by_forum = |op: &str| json!({"source": "forum", "op": op, "changed_by": forum});
    assert_eq!(
        changes_of(POSTS),
        [
            post("f1", &ann, "hello", 1, by_forum("insert")),
            post("f2", &bob, "first", 0, by_forum("insert")),
            post("f1", &ann, "a boat", 5, json!({"source": "photos", "op": "insert", "changed_by": photos})),
            post(
                "f1",
                &ann,
                "hello, world",
                3,
                json!({"source": "forum", "op": "update", "changed_by": forum,
                       "changed": ["body", "likes"], "previous": {"body": "hello", "likes": 1}})
            ),
            post("f2", &bob, "first", 0, by_forum("delete")),
        ]
    );
    assert_eq!(
        changes_of(PROFILES),
        [
            json!({"source": "forum", "handle": ann, "followers": 10, "bio": "sails", "op": "insert", "changed_by": forum}),
            json!({"source": "photos", "handle": ann, "followers": 200, "op": "insert", "changed_by": photos}),
            json!({"source": "forum", "handle": ann, "followers": 11, "bio": "sails", "op": "update", "changed_by": forum,
                   "changed": ["followers"], "previous": {"followers": 10}}),
        ]
    );
    let everything = json!([stage.standin.index(POSTS), stage.standin.index(PROFILES)]).to_string();
    for private in ["payload", "192.0.2.7", "ann@example.org", "\"ann\"", "\"bob\"", ":ann", "scraper"] {
        assert!(!everything.contains(private), "{private}: {everything}");
    }
}

/// The batches of one scraper: new, changed and unchanged posts, and some that were deleted.
fn scrape(db: &mut Client, source: &str, seed: u64) {
    let mut dice = Rng::with_seed(seed);
    for _ in 0..20 {
        let posts: Vec<Value> = (0..dice.usize(1..20))
            .map(|_| {
                let (id, author) = (format!("p{}", dice.u8(..30)), format!("author {}", dice.u8(..5)));
                json!({"id": id, "author": author, "text": format!("text {}", dice.u8(..3)), "likes": dice.u8(..4)})
            })
            .collect();
        let saved = "select scraped_content.save_posts($1, $2)";
        db.execute(saved, &[&source, &Value::Array(posts)]).unwrap();
        let gone = format!("p{}", dice.u8(..30));
        db.execute(
            "delete from scraped_content.raw_post where source = $1 and post_id = $2",
            &[&source, &gone],
        )
        .unwrap();
    }
}

#[test]
fn a_consumer_follows_a_table_while_it_is_written_to() {
    let (stage, answers) = scraped();
    // Two scrapers of one source, which write the same rows, and one of another.
    let seed = fastrand::u64(..);
    // A query returns fewer changes than there are to read, and more than there are in a millisecond.
    let mut consumer = Consumer::new(&stage, &answers, POSTS, 200);
    std::thread::scope(|scope| {
        let scrapers: Vec<_> = [("forum", 0), ("forum", 1), ("photos", 2)]
            .into_iter()
            .map(|(source, number)| {
                let mut db = stage.cluster.client("postgres", "example_scraper");
                // The test must not fail on a slow machine.
                db.batch_execute("set statement_timeout = 0; set lock_timeout = 0").unwrap();
                scope.spawn(move || scrape(&mut db, source, seed ^ number))
            })
            .collect();
        while !scrapers.iter().all(|scraper| scraper.is_finished()) {
            consumer.poll();
        }
    });
    let mut admin = stage.admin();
    let table =
        "select source, post_id, audit_algolia.pseudonym(author), body, likes from scraped_content.raw_post";
    let expected: BTreeMap<String, Value> = admin
        .query(table, &[])
        .unwrap()
        .iter()
        .map(|row| {
            let [source, id, author, body]: [String; 4] = [0, 1, 2, 3].map(|place| row.get(place));
            let likes: i32 = row.get(4);
            let key = format!("{source}:{id}");
            (key, json!({"source": source, "post_id": id, "author": author, "body": body, "likes": likes}))
        })
        .collect();
    let queries = eventually("the last changes", Duration::from_secs(30), || {
        let queries = consumer.poll();
        let waiting: i64 = admin.query_one("select count(*) from audit_algolia.queue", &[]).unwrap().get(0);
        (waiting == 0 && consumer.changes.len() == stage.standin.index(POSTS).len()).then_some(queries)
    });
    assert!(queries > 1, "all changes fit in a query");
    assert_eq!(consumer.rows(), expected, "seed {seed}");
}

#[track_caller]
fn fails(db: &mut Client, sql: &str, state: &SqlState) {
    let error = db.batch_execute(sql).unwrap_err();
    assert_eq!(error.code(), Some(state), "{sql}: {error}");
}

#[test]
fn roles_do_what_they_are_for_and_no_statement_lasts() {
    let (stage, _) = scraped();
    let before = stage.standin.index(POSTS).len();
    let denied = SqlState::INSUFFICIENT_PRIVILEGE;
    let mut scraper = stage.cluster.client("postgres", "example_scraper");
    for sql in [
        "select from audit_algolia.queue",
        "select from audit_algolia.sources",
        "select audit_algolia.unwatch('scraped_content.raw_post')",
        "select audit_algolia.pseudonym('ann')",
        "alter table scraped_content.raw_post disable trigger user",
        "truncate scraped_content.raw_post",
    ] {
        fails(&mut scraper, sql, &denied);
    }
    let mut reader = stage.cluster.client("postgres", "example_reader");
    let rows: i64 = reader.query_one("select count(*) from scraped_content.raw_post", &[]).unwrap().get(0);
    assert_eq!(rows, 2);
    fails(&mut reader, "delete from scraped_content.raw_post", &SqlState::READ_ONLY_SQL_TRANSACTION);
    fails(&mut reader, "begin read write; delete from scraped_content.raw_post", &denied);
    reader.batch_execute("rollback").unwrap();
    fails(&mut reader, "create temporary table t ()", &SqlState::READ_ONLY_SQL_TRANSACTION);
    fails(&mut reader, "select from audit_algolia.queue", &denied);
    fails(&mut reader, "select pg_sleep(60)", &SqlState::QUERY_CANCELED);

    // A statement that takes too long is rolled back, and nothing of it is recorded. The role's limit is shortened
    // here, so that the test need not wait as long.
    let limit: String = scraper.query_one("show statement_timeout", &[]).unwrap().get(0);
    assert_eq!(limit, "5s");
    let slow = "set statement_timeout = '200ms';
        with saved as (
            insert into scraped_content.raw_post (source, post_id, author, body, payload)
            values ('forum', 'slow', 'ann', 'never', '{}') returning 1)
        select pg_sleep(60) from saved";
    fails(&mut scraper, slow, &SqlState::QUERY_CANCELED);
    let kept = "insert into scraped_content.raw_post (source, post_id, author, body, payload)
        values ('forum', 'quick', 'ann', 'kept', '{}')";
    scraper.batch_execute(&format!("reset statement_timeout; {kept}")).unwrap();
    settle(&stage);
    assert_eq!(stage.standin.index(POSTS).len(), before + 1);
}
