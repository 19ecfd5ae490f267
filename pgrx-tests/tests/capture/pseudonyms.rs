//! Pseudonyms and time buckets in records.

use audit_algolia_tests::stage::{Stage, PSEUDONYM_KEY, SOON};
use audit_algolia_tests::wait::wait_until;
use data_encoding::BASE32_NOPAD;
use hmac::{Hmac, Mac};
use serde_json::json;
use sha2::Sha256;

use crate::play::{one, settle, watch, Play};
use crate::records::ODD_SESSION;

/// HMAC-SHA-256 and base32, implemented independently.
fn pseudonym(value: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(PSEUDONYM_KEY.as_bytes()).unwrap();
    mac.update(value.as_bytes());
    let code = BASE32_NOPAD.encode(&mac.finalize().into_bytes()).to_lowercase();
    format!("p_{}", &code[..26])
}

#[test]
fn pseudonyms_are_stable_and_can_be_computed_elsewhere() {
    let mut play = Play::new(
        "pseudonyms",
        "create table t (who text, n int, at timestamptz, ip inet, f float8, tags text[], ok bool, primary key (who, n));
         create table u (id uuid primary key, who varchar(20))",
    );
    play.watch("t", "columns => '{who, at, ip, f, tags, ok}', pseudonymize => '{who, at, ip, f, tags, ok}'");
    play.watch("u", "columns => '{who}', pseudonymize => '{who, id}', object_prefix => 'u/'");
    play.run(ODD_SESSION);
    play.run(
        "insert into t values ('Anna Müller', 7, '2026-01-02 03:04:05.5+00', '10.0.0.1', 0.1, '{a,b}', true)",
    );
    play.run("insert into t values ('x', 1)");
    play.run("insert into u values ('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 'Anna Müller')");
    let records = play.records();
    let anna = pseudonym("Anna Müller");
    let id = format!("{anna}:7");
    assert_eq!(
        records[&id],
        json!({
            "objectID": id, "who": anna, "at": pseudonym("2026-01-02 03:04:05.5+00"), "ip": pseudonym("10.0.0.1"),
            "f": pseudonym("0.1"), "tags": pseudonym("{a,b}"), "ok": pseudonym("t"),
        })
    );
    let x = format!("{}:1", pseudonym("x"));
    assert_eq!(records[&x], json!({"objectID": x, "who": pseudonym("x")}));
    let u = format!("u/{}", pseudonym("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"));
    assert_eq!(records[&u], json!({"objectID": u, "who": anna}));
    let computed: String = one(&mut play.admin, "select audit_algolia.pseudonym('Anna Müller')");
    assert_eq!(computed, anna);
    let nothing: Option<String> = one(&mut play.admin, "select audit_algolia.pseudonym(null)");
    assert_eq!(nothing, None);
    let empty: String = one(&mut play.admin, "select audit_algolia.pseudonym('')");
    assert_eq!(empty, pseudonym(""));
}

#[test]
fn time_buckets_follow_their_zone_over_a_clock_change() {
    let stage = Stage::builder().setting("audit_algolia.time_zone", "Europe/Berlin").start().unwrap();
    let mut admin = stage.admin();
    admin
        .batch_execute("create table t (id int primary key, at timestamptz, ts timestamp, day date)")
        .unwrap();
    watch(&mut admin, "t", "t", "columns => '{at AS seen}', time_column => 'at'");
    watch(&mut admin, "t", "days", "columns => '{day}', time_column => 'day'");
    admin
        .batch_execute(
            "set timezone = 'America/New_York';
             insert into t values (1, '2026-03-29 00:59:59.999+00', null, '2026-03-29');
             insert into t values (2, '2026-03-29 01:00:00+00'),
                 (3, '2026-10-25 00:30:00+00'), (4, '2026-10-25 01:30:00+00'), (5, '2026-12-31 23:30:00+00'), (6, null),
                 (7, 'infinity')",
        )
        .unwrap();
    settle(&mut admin, "t");
    settle(&mut admin, "days");
    let records = stage.standin.index("t");
    let hours: Vec<_> = (1..6).map(|id| records[&id.to_string()]["seen_hour"].as_str().unwrap()).collect();
    assert_eq!(hours, ["2026-03-29T01", "2026-03-29T03", "2026-10-25T02", "2026-10-25T02", "2027-01-01T00"]);
    assert_eq!(
        records["5"],
        json!({"objectID": "5", "seen": 1_798_759_800, "seen_day": "2027-01-01", "seen_hour": "2027-01-01T00",
               "seen_weekday": "Fri", "seen_hour_of_day": "00"})
    );
    assert_eq!(records["6"], json!({"objectID": "6"}));
    assert_eq!(records["7"], json!({"objectID": "7"}));
    // A date counts as its midnight in UTC.
    assert_eq!(stage.standin.index("days")["1"]["day_hour"], "2026-03-29T01");
    let zone_is_read_again = |zone: &str, id: i32, hour: &str| {
        stage.cluster.set(&[("audit_algolia.time_zone", zone)]).unwrap();
        wait_until("the zone", SOON, || {
            let mut session = stage.admin();
            one::<String>(&mut session, "show audit_algolia.time_zone") == zone
        });
        let mut session = stage.admin();
        session.execute("insert into t values ($1, '2026-12-31 23:30:00+00')", &[&id]).unwrap();
        settle(&mut session, "t");
        assert_eq!(stage.standin.index("t")[&id.to_string()]["seen_hour"], hour);
    };
    zone_is_read_again("Asia/Tokyo", 8, "2027-01-01T08");
    zone_is_read_again("UTC", 9, "2026-12-31T23");
}
