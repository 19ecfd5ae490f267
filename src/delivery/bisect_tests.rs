//! The search for offending records, with a server that rejects by a rule, in each of Algolia's ways.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::delivery::batch::{Action, BatchBuilder, Push};
use crate::delivery::classify::{classify, Verdict};
use crate::delivery::outcome::TransitFailure;
use crate::delivery::transport::Response;

/// How the server names the first offending record.
#[derive(Clone, Copy, Debug)]
enum Wording {
    /// `position` and `objectID` are members of their own.
    Classic,
    /// The objectID is only in the message.
    Newer,
    /// A column of the body, just after the record.
    Column,
    /// Nothing that identifies the record.
    Mute,
}

const WORDINGS: [Wording; 4] = [Wording::Classic, Wording::Newer, Wording::Column, Wording::Mute];

/// A server that rejects batches with a poisonous record or with more than `most` records.
struct Server {
    poison: BTreeSet<usize>,
    wording: Wording,
    most: usize,
    /// The positions of the records of each request, and whether it was accepted.
    requests: Vec<(Vec<usize>, bool)>,
}

fn batch(rows: usize) -> Batch {
    let mut builder = BatchBuilder::new(usize::MAX, usize::MAX);
    for row in 0..rows {
        assert_eq!(builder.push(Action::AddObject, &format!(r#"{{"objectID":"{row}"}}"#)), Push::Taken);
    }
    builder.finish()
}

impl Server {
    fn new(poison: impl IntoIterator<Item = usize>, wording: Wording) -> Server {
        Server { poison: poison.into_iter().collect(), wording, most: usize::MAX, requests: Vec::new() }
    }

    fn answer(&mut self, part: &Batch) -> SendResult {
        let body: serde_json::Value = serde_json::from_slice(part.body()).unwrap();
        let records = body["requests"].as_array().unwrap();
        let id = |record: &serde_json::Value| record["body"]["objectID"].as_str().unwrap().parse().unwrap();
        let rows: Vec<usize> = records.iter().map(id).collect();
        let offender = rows.iter().position(|row| self.poison.contains(row));
        let (status, text) = match offender {
            _ if rows.len() > self.most => (413, String::from("{}")),
            Some(place) => (400, self.complaint(part, place, rows[place])),
            None => (200, serde_json::json!({"taskID": 1, "objectIDs": rows.iter().map(usize::to_string).collect::<Vec<_>>()}).to_string()),
        };
        self.requests.push((rows, status == 200));
        let response = Response { status, body: text.into_bytes(), ..Response::default() };
        let outcome = match classify(&response, records.len(), SystemTime::UNIX_EPOCH) {
            Verdict::Delivered { task_id } => DeliveryOutcome::Delivered { task_id },
            Verdict::Rejected { reason, status, offending_record } => {
                DeliveryOutcome::Rejected { reason, status, offending_record }
            }
            Verdict::TooLarge { reason } => {
                DeliveryOutcome::Rejected { reason, status: 413, offending_record: OffendingRecord::Unknown }
            }
            other => panic!("{other:?}"),
        };
        report(outcome)
    }

    fn complaint(&self, part: &Batch, place: usize, row: usize) -> String {
        let end = (0..part.bytes()).rev().find(|at| part.record_at_offset(*at) == Some(place)).unwrap();
        match self.wording {
            Wording::Classic => serde_json::json!({"message": format!("Record at the position {place} objectID={row} is too big size=14072/10000 bytes."), "position": place, "objectID": row.to_string(), "status": 400}),
            Wording::Newer => serde_json::json!({"message": format!("Record {row} is too big: size: 11072 byte(s), maximum allowed: 10000 byte(s)."), "status": 400}),
            Wording::Column => serde_json::json!({"message": format!("The 'objectID' attribute is required near line:1 column:{end}"), "status": 400}),
            Wording::Mute => serde_json::json!({"message": "something is wrong", "status": 400}),
        }
        .to_string()
    }

    /// The records of all accepted requests, in order.
    fn taken(&self) -> Vec<usize> {
        self.requests.iter().filter(|(_, taken)| *taken).flat_map(|(rows, _)| rows.clone()).collect()
    }
}

fn report(outcome: DeliveryOutcome) -> SendResult {
    let (delivered, rejected) = (Vec::new(), Vec::new());
    SendResult {
        outcome,
        delivered,
        last_task: None,
        rejected,
        transit_failure: TransitFailure::None,
        host: "host".to_owned(),
        attempts: 1,
        wire_bytes: 1,
        may_come_late: false,
        short_of_memory: false,
    }
}

fn rejected(report: &SendResult) -> BTreeSet<usize> {
    report.rejected.iter().map(|rejection| rejection.row).collect()
}

#[test]
fn a_good_batch_takes_one_request() {
    let mut server = Server::new([], Wording::Mute);
    let report = bisect(&batch(1000), |part| server.answer(part));
    assert_eq!(report.outcome, DeliveryOutcome::Delivered { task_id: Some(1) });
    assert!(report.delivered.is_empty() && report.rejected.is_empty());
    assert_eq!(server.requests.len(), 1);
}

#[test]
fn one_offender_among_a_thousand_is_found_and_the_others_arrive_once_and_in_order() {
    for (wording, most_requests) in WORDINGS.into_iter().zip([2, 2, 4, 21]) {
        let mut server = Server::new([500], wording);
        let report = bisect(&batch(1000), |part| server.answer(part));
        assert_eq!(report.outcome, DeliveryOutcome::Delivered { task_id: Some(1) }, "{wording:?}");
        assert_eq!(rejected(&report), BTreeSet::from([500]), "{wording:?}");
        assert_eq!(server.taken(), (0..1000).filter(|row| *row != 500).collect::<Vec<_>>(), "{wording:?}");
        assert!(server.requests.len() <= most_requests, "{wording:?}: {}", server.requests.len());
        assert_eq!(report.attempts as usize, server.requests.len());
    }
}

#[test]
fn the_complaint_goes_with_the_record() {
    let mut server = Server::new([1], Wording::Classic);
    let report = bisect(&batch(3), |part| server.answer(part));
    let [rejection] = &report.rejected[..] else { panic!("{report:?}") };
    assert_eq!((rejection.status, rejection.object_id.as_deref()), (400, Some("1")));
    assert!(rejection.reason.contains("objectID=1 is too big"), "{}", rejection.reason);
}

#[test]
fn a_batch_that_is_too_large_as_a_whole_arrives_in_parts() {
    let mut server = Server { most: 300, ..Server::new([], Wording::Mute) };
    let report = bisect(&batch(1000), |part| server.answer(part));
    assert_eq!(report.outcome, DeliveryOutcome::Delivered { task_id: Some(1) });
    assert!(report.rejected.is_empty());
    assert_eq!(server.taken(), (0..1000).collect::<Vec<_>>());
}

#[test]
fn a_record_too_large_by_itself_is_given_up() {
    let mut server = Server { most: 0, ..Server::new([], Wording::Mute) };
    let report = bisect(&batch(1), |part| server.answer(part));
    assert_eq!(rejected(&report), BTreeSet::from([0]));
    assert_eq!(report.rejected[0].status, 413);
}

#[test]
fn an_id_that_two_records_share_condemns_the_guilty_one_alone() {
    let mut builder = BatchBuilder::new(usize::MAX, usize::MAX);
    for record in [r#"{"objectID":"a","x":"good"}"#, r#"{"objectID":"a","x":"bad"}"#] {
        assert_eq!(builder.push(Action::AddObject, record), Push::Taken);
    }
    let report = bisect(&builder.finish(), |part| {
        let bad = String::from_utf8_lossy(part.body()).contains("bad");
        report(if bad {
            let offending_record = OffendingRecord::ObjectId("a".to_owned());
            DeliveryOutcome::Rejected { reason: "no".to_owned(), status: 400, offending_record }
        } else {
            DeliveryOutcome::Delivered { task_id: Some(1) }
        })
    });
    assert_eq!((rejected(&report), report.delivered), (BTreeSet::from([1]), vec![0]));
}

#[test]
fn a_rejection_is_proven_by_a_name_or_by_what_is_taken() {
    let proofs = |rows: usize, poison: Vec<usize>, wording| {
        let mut server = Server::new(poison, wording);
        let report = bisect(&batch(rows), |part| server.answer(part));
        report.rejected.iter().map(|rejection| rejection.proven).collect::<Vec<_>>()
    };
    for wording in [Wording::Classic, Wording::Newer, Wording::Column] {
        assert_eq!(proofs(1, vec![0], wording), [true], "{wording:?} names it");
        assert_eq!(proofs(2, vec![0, 1], wording), [true, true], "{wording:?} names both");
    }
    assert_eq!(proofs(1, vec![0], Wording::Mute), [false]);
    assert_eq!(proofs(3, vec![0, 1, 2], Wording::Mute), [false; 3]);
    assert_eq!(proofs(3, vec![0, 1], Wording::Mute), [true, true], "the third was taken");
}

#[test]
fn who_was_rejected_before_anything_was_taken_is_asked_for_once_more() {
    let mut server = Server::new([], Wording::Mute);
    let mut left = 4;
    // A gateway that rejects everything, and stops doing so during the search.
    let report = bisect(&batch(4), |part| {
        left -= 1;
        server.poison = if left > 0 { (0..4).collect() } else { BTreeSet::new() };
        server.answer(part)
    });
    assert_eq!(report.rejected, []);
    let mut delivered = report.delivered;
    delivered.sort_unstable();
    assert_eq!(delivered, [0, 1, 2, 3]);
    assert!(matches!(report.outcome, DeliveryOutcome::Delivered { .. }));
}

#[test]
fn where_everything_is_rejected_the_search_is_short() {
    let mut server = Server::new(0..1000, Wording::Mute);
    let report = bisect(&batch(1000), |part| server.answer(part));
    assert!(matches!(report.outcome, DeliveryOutcome::Rejected { .. }));
    assert_eq!(report.rejected.len(), DOUBTFUL);
    assert!(report.rejected.iter().all(|rejection| !rejection.proven));
    assert!(report.attempts < 40, "{}", report.attempts);
}

#[test]
fn a_good_half_behind_a_bad_one_is_found() {
    let mut server = Server::new(0..500, Wording::Mute);
    let report = bisect(&batch(1000), |part| server.answer(part));
    assert_eq!(report.delivered, (500..1000).collect::<Vec<_>>());
    assert!(report.rejected.iter().all(|rejection| rejection.proven));
    assert_eq!(server.taken(), report.delivered);
}

#[test]
fn a_search_that_meets_an_outage_keeps_what_it_has_found() {
    let mut server = Server::new([10, 700], Wording::Classic);
    let report = bisect(&batch(1000), |part| {
        if server.requests.len() == 2 {
            return report(DeliveryOutcome::Retry {
                reason: "down".into(),
                not_before: Some(Duration::from_secs(1)),
            });
        }
        server.answer(part)
    });
    assert!(matches!(report.outcome, DeliveryOutcome::Retry { .. }));
    assert_eq!(rejected(&report), BTreeSet::from([10, 700]));
    assert!(report.delivered.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn exactly_the_offenders_are_rejected_and_all_others_delivered_once(
        rows in 1usize..200,
        poison in prop::collection::btree_set(0usize..200, 0..12),
        wording in prop::sample::select(WORDINGS.to_vec()),
        most in 20usize..400,
    ) {
        let poison: BTreeSet<usize> = poison.into_iter().filter(|row| *row < rows).collect();
        let mut server = Server { most, ..Server::new(poison.clone(), wording) };
        // What a search leaves at its limit is claimed again, as the worker does.
        let (mut waiting, mut dead, mut searches) = ((0..rows).collect::<Vec<_>>(), BTreeSet::new(), 0);
        let whole = batch(rows);
        while !waiting.is_empty() {
            let before = waiting.len();
            let report = bisect(&whole.subset(&waiting).unwrap(), |part| server.answer(part));
            prop_assert!(report.attempts as usize <= ROUNDS);
            let guilty: BTreeSet<usize> = rejected(&report);
            dead.extend(guilty.iter().map(|place| waiting[*place]));
            let done = matches!(report.outcome, DeliveryOutcome::Delivered { .. });
            let keep = |place: &usize| !done && !guilty.contains(place) && !report.delivered.contains(place);
            waiting = (0..before).filter(keep).map(|place| waiting[place]).collect();
            prop_assert!(waiting.len() < before, "each search makes headway");
            searches += 1;
        }
        prop_assert!(searches <= 12);
        prop_assert_eq!(&dead, &poison);
        let mut taken = server.taken();
        taken.sort_unstable();
        prop_assert_eq!(taken, (0..rows).filter(|row| !poison.contains(row)).collect::<Vec<_>>());
    }
}

#[test]
fn a_part_of_a_large_batch_is_half_of_it_at_most_unless_it_is_a_single_record() {
    let mut builder = BatchBuilder::new(usize::MAX, usize::MAX);
    for row in 0..20 {
        let text = "x".repeat(if row == 7 { 3 << 20 } else { 100 << 10 });
        let record = format!(r#"{{"objectID":"{row}","note":"{text}"}}"#);
        assert_eq!(builder.push(Action::AddObject, &record), Push::Taken);
    }
    let batch = builder.finish();
    for wording in WORDINGS {
        let mut server = Server::new([0, 13], wording);
        let mut parts = Vec::new();
        let report = bisect(&batch, |part| {
            parts.push((part.rows(), part.bytes()));
            server.answer(part)
        });
        assert_eq!(rejected(&report), BTreeSet::from([0, 13]), "{wording:?}");
        assert_eq!(report.delivered.len(), 18, "{wording:?}");
        let (whole, others) = parts.split_first().unwrap();
        let is_small = |(rows, bytes): &(usize, usize)| *rows == 1 || *bytes <= whole.1 / 2 + 100;
        assert!(others.iter().all(is_small), "{wording:?}: {parts:?}");
    }
}
