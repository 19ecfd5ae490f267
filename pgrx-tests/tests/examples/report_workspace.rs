//! Reports with readers and editors: the questions in `report_workspace.sql`, with the answers that it promises.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use audit_algolia_tests::stage::Stage;
use serde_json::{json, Value};

use crate::{hits, in_order, key_of, place, pseudonym, query, run, settle, support};

const INDICES: [&str; 5] = [
    "workspace_access",
    "workspace_edit",
    "workspace_permission",
    "workspace_recommendation",
    "workspace_report",
];

/// The workspace after its script, and the script's output.
fn workspace() -> &'static (Stage, String) {
    static WORKSPACE: OnceLock<(Stage, String)> = OnceLock::new();
    // It lives as long as the process; then the harness ends its server.
    WORKSPACE.get_or_init(|| {
        let stage = crate::stage();
        let answers = run(&stage, "postgres", "report_workspace.sql");
        settle(&stage);
        (stage, answers)
    })
}

/// A question of the script.
struct Question {
    number: String,
    index: String,
    query: Value,
    answer: Value,
}

fn questions(stage: &Stage) -> Vec<Question> {
    let list =
        "select number, index_name, query::text, answer::text from report_workspace.question order by number";
    let rows = stage.admin().query(list, &[]).unwrap();
    let parsed = |text: &str| serde_json::from_str(text).unwrap();
    rows.iter()
        .map(|row| Question {
            number: row.get(0),
            index: row.get(1),
            query: parsed(row.get(2)),
            answer: parsed(row.get(3)),
        })
        .collect()
}

/// Hits as the script shows them: in exact order, without the members that identify a change.
fn shown(answer: &Value) -> Vec<Value> {
    let mut hits = hits(answer).clone();
    if hits.iter().any(|hit| hit["changed_at"].is_number()) {
        assert!(hits.is_sorted_by(|a, b| place(a).0 >= place(b).0), "not newest first: {hits:?}");
        in_order(&mut hits);
        hits.reverse();
    }
    for hit in &mut hits {
        let hit = hit.as_object_mut().unwrap();
        hit.remove("objectID");
        hit.remove("changed_at");
    }
    hits
}

#[test]
fn each_question_has_its_answer() {
    let (stage, answers) = workspace();
    let key = key_of("auditor", answers);
    let questions = questions(stage);
    let numbers: Vec<&str> = questions.iter().map(|question| question.number.as_str()).collect();
    assert_eq!(numbers, ["1", "2", "3a", "3b", "3c", "4a", "4b", "5a", "5b", "5c"]);
    for Question { number, index, query: asked, answer: expected } in &questions {
        let answer = query(stage, &key, index, asked);
        for (name, expected) in expected.as_object().unwrap() {
            let found = if name == "hits" { json!(shown(&answer)) } else { answer[name].clone() };
            assert_eq!(found, *expected, "question {number}");
        }
    }
}

/// Who had which permission at some time from `from` on until the last of the changes, which are sorted.
fn held(changes: &[Value], from: f64) -> BTreeMap<String, BTreeSet<String>> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let first = changes.partition_point(|change| place(change).0 <= from);
    let mut now: BTreeMap<String, String> = BTreeMap::new();
    let mut held: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for count in 0..=changes.len() {
        if count >= first {
            for (user, level) in &now {
                held.entry(user.clone()).or_default().insert(level.clone());
            }
        }
        match changes.get(count) {
            Some(change) if change["op"] == "delete" => drop(now.remove(&text(&change["user"]))),
            Some(change) => drop(now.insert(text(&change["user"]), text(&change["level"]))),
            None => (),
        }
    }
    held
}

#[test]
fn who_had_which_permission_in_a_period_follows_from_the_index_alone() {
    let (stage, answers) = workspace();
    let mut admin = stage.admin();
    let mut moment = |name: &str| -> f64 {
        let query = "select extract(epoch from at)::float8 from report_workspace.moment where name = $1";
        admin.query_one(query, &[&name]).unwrap().get(0)
    };
    let (t1, t2) = (moment("t1"), moment("t2"));
    let asked = json!({"filters": format!("report:1 AND changed_at <= {t2:.3}"), "hitsPerPage": 1000});
    let answer = query(stage, &key_of("auditor", answers), "workspace_permission", &asked);
    let mut changes = hits(&answer).clone();
    in_order(&mut changes);
    let levels = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let expected: BTreeMap<String, BTreeSet<String>> = [
        (pseudonym(&mut admin, "alice"), levels(&["write"])),
        (pseudonym(&mut admin, "ben"), levels(&["read", "write"])),
        (pseudonym(&mut admin, "carol"), levels(&["read"])),
    ]
    .into();
    assert_eq!(held(&changes, t1), expected);
}

#[test]
fn a_key_shows_what_it_is_for_and_changes_nothing() {
    let (stage, answers) = workspace();
    let key = key_of("manager of report 1", answers);
    for (index, records) in [
        ("workspace_access", 6),
        ("workspace_edit", 9),
        ("workspace_permission", 8),
        ("workspace_report", 3),
        ("workspace_recommendation", 0),
    ] {
        let answer = query(stage, &key, index, &json!({"hitsPerPage": 100}));
        assert_eq!(hits(&answer).len(), records, "{index}");
        assert!(hits(&answer).iter().all(|hit| hit["report"] == 1), "{answer}");
        let client = support::Client::of(&stage.standin).with_key(&key);
        let forged = support::batch(&client, index, support::add([json!({"objectID": "forged"})]));
        assert_eq!(forged.status, 403, "{}", forged.text);
    }
    let client = support::Client::of(&stage.standin).with_key(&key);
    assert_eq!(client.post("/1/indexes/another/query", &json!({})).status, 403);
}

#[test]
fn no_user_and_no_body_is_in_an_index() {
    let (stage, _) = workspace();
    for index in INDICES {
        let records = stage.standin.index(index);
        assert!(!records.is_empty(), "{index}");
        let all = json!(records).to_string().to_lowercase();
        // Compares whole words, because a pseudonym may contain a short name by chance.
        let words: BTreeSet<&str> = all.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        for name in ["alice", "ben", "carol", "dave", "adams", "brown", "clark", "dunn"] {
            assert!(!words.contains(name), "{index} knows {name}: {all}");
        }
        assert!(!all.contains("the first figures"), "{index}: {all}");
    }
}
