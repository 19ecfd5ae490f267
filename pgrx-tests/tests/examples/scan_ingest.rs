//! Observations of a scanner: in whatever order messages arrive, table and index hold the newest.

use std::collections::BTreeMap;

use audit_algolia_tests::stage::Stage;
use fastrand::Rng;
use postgres::Client;
use serde_json::json;

use crate::{hits, owner, query, run, settle, OWNER, SEARCH_KEY};

const FUNCTIONS: &str = "audit_algolia.watch, audit_algolia.configure_index";
const HOSTS: [&str; 4] = ["192.0.2.1", "192.0.2.2", "198.51.100.7", "2001:db8::1"];
const SERVICES: [(i32, &str); 3] = [(22, "ssh"), (443, "https"), (8080, "a:b\\c")];
/// The time of the test's first message in Unix seconds, later than those of the script.
const START: i64 = 1_800_000_000;

/// What a scanner has observed.
#[derive(Clone, Debug, PartialEq)]
struct Message {
    ip: &'static str,
    port: i32,
    service: &'static str,
    state: &'static str,
    banner: Option<String>,
    seen_at: i64,
}

impl Message {
    fn object_id(&self) -> String {
        let escaped = |part: &str| part.replace('\\', "\\\\").replace(':', "\\:");
        format!("{}:{}:{}", escaped(self.ip), self.port, escaped(self.service))
    }

    /// The part of it that is compared.
    fn seen(&self) -> Seen {
        (self.state.to_owned(), self.banner.clone(), self.seen_at)
    }
}

/// State, banner and time of an observation.
type Seen = (String, Option<String>, i64);

/// Messages for all keys, each observation with a time of its own, some of them sent twice, in any order.
fn messages(dice: &mut Rng) -> Vec<Message> {
    let mut messages = Vec::new();
    for seen_at in START..START + 600 {
        let (port, service) = SERVICES[dice.usize(..SERVICES.len())];
        let banner = dice.bool().then(|| format!("version {}", dice.u8(..)));
        let state = ["open", "closed", "filtered"][dice.usize(..3)];
        let message = Message { ip: HOSTS[dice.usize(..HOSTS.len())], port, service, state, banner, seen_at };
        messages.extend(std::iter::repeat_n(message, dice.usize(1..4)));
    }
    dice.shuffle(&mut messages);
    messages
}

fn ingest(db: &mut Client, batch: &[Message]) {
    let column = |value: fn(&Message) -> String| batch.iter().map(value).collect::<Vec<String>>();
    let ports: Vec<i32> = batch.iter().map(|message| message.port).collect();
    let banners: Vec<Option<&str>> = batch.iter().map(|message| message.banner.as_deref()).collect();
    db.execute(
        "select scan_ingest.ingest($1::text[]::inet[], $2, $3, $4, $5,
             array(select to_timestamp(t::float8) from unnest($6::text[]) with ordinality as u (t, n) order by n))",
        &[
            &column(|message| message.ip.to_owned()),
            &ports,
            &column(|message| message.service.to_owned()),
            &column(|message| message.state.to_owned()),
            &banners,
            &column(|message| message.seen_at.to_string()),
        ],
    )
    .unwrap();
}

/// The rows of the table by the objectIDs of their records.
fn table(db: &mut Client) -> BTreeMap<String, Seen> {
    let rows = "select format('%s', ip), port, service, state, banner, extract(epoch from seen_at)::bigint
                from scan_ingest.observation";
    let escaped = |part: String| part.replace('\\', "\\\\").replace(':', "\\:");
    db.query(rows, &[])
        .unwrap()
        .iter()
        .map(|row| {
            let id = format!("{}:{}:{}", escaped(row.get(0)), row.get::<_, i32>(1), escaped(row.get(2)));
            (id, (row.get(3), row.get(4), row.get(5)))
        })
        .collect()
}

fn index(stage: &Stage) -> BTreeMap<String, Seen> {
    settle(stage);
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let records = stage.standin.index("scan_observation").into_iter();
    records
        .map(|(id, record)| {
            let seen = (
                text(&record["state"]).unwrap(),
                text(&record["banner"]),
                record["seen_at"].as_i64().unwrap(),
            );
            (id, seen)
        })
        .collect()
}

#[test]
fn the_newest_observation_wins_however_messages_come() {
    let stage = crate::stage();
    let mut db = owner(&stage, FUNCTIONS);
    let answers = run(&stage, OWNER, "scan_ingest.sql");
    assert!(answers.contains("\n3\n1\n192.0.2.1|22|ssh|open|2026-11-20 12:00:00+00\n"), "{answers}");
    let asked = json!({"filters": "port:443 AND state:open", "facets": ["ip"]});
    assert_eq!(index(&stage), table(&mut db));
    let answer = query(&stage, SEARCH_KEY, "scan_observation", &asked);
    assert_eq!(answer["facets"], json!({"ip": {"2001:db8::1": 1}}));
    assert_eq!(hits(&answer)[0]["objectID"], "2001\\:db8\\:\\:1:443:https");

    let seed = fastrand::u64(..);
    let messages = messages(&mut Rng::with_seed(seed));
    let mut newest: BTreeMap<String, Seen> = table(&mut db);
    for message in &messages {
        let seen = newest.entry(message.object_id()).or_insert_with(|| message.seen());
        if seen.2 < message.seen_at {
            *seen = message.seen();
        }
    }
    let batches: Vec<&[Message]> = messages.chunks(20).collect();
    std::thread::scope(|scope| {
        for share in batches.chunks(batches.len().div_ceil(4)) {
            let mut db = stage.cluster.client("postgres", OWNER);
            scope.spawn(move || share.iter().for_each(|batch| ingest(&mut db, batch)));
        }
    });
    assert_eq!(table(&mut db), newest, "seed {seed}");
    assert_eq!(index(&stage), newest, "seed {seed}");

    // All messages again: nothing is new, so nothing is sent.
    let arrivals = stage.standin.arrivals().len();
    ingest(&mut db, &messages);
    assert_eq!(index(&stage), newest, "seed {seed}");
    assert_eq!(stage.standin.arrivals().len(), arrivals);

    let middle = START + 590;
    let forgotten = "select scan_ingest.forget(to_timestamp($1::bigint::float8))";
    let gone: i64 = db.query_one(forgotten, &[&middle]).unwrap().get(0);
    newest.retain(|_, seen| seen.2 >= middle);
    assert!(gone > 0);
    assert_eq!(index(&stage), newest, "seed {seed}");
}
