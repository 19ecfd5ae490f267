//! The alerts of a transaction: which notifications its commit sends.
//!
//! Alerts are kept per subtransaction, because a savepoint may be rolled back. Their number is bounded, so that a
//! statement over millions of rows fills neither the session's memory nor the server's notification queue.

#![forbid(unsafe_code)]

use serde_json::{json, Value};

use crate::record::{escape_non_ascii, leading_object_id};

/// The channel of the notifications.
pub const CHANNEL: &str = "audit_algolia_alert";
/// The most notifications of one record each per transaction. One more notification has the number of further records.
pub const MAX_NOTIFICATIONS: usize = 1000;
/// The most bytes of their payloads per transaction.
pub const MAX_BYTES: usize = 1 << 20;
/// The longest payload that PostgreSQL accepts, in bytes.
const MAX_PAYLOAD_BYTES: usize = 7999;

/// Where alerts come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertOrigin {
    /// The name of the index of the records.
    pub index: String,
    /// The qualified name of the watched table, quoted as in SQL.
    pub source: String,
}

impl AlertOrigin {
    /// The payload for one record. Omits an objectID that is too long for a payload.
    fn payload_of(&self, record: &[u8]) -> String {
        let head = record.get(..MAX_PAYLOAD_BYTES).unwrap_or(record);
        let head = head.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        let payload = leading_object_id(head).map(|id| self.payload(json!({"objectID": id})));
        payload
            .filter(|payload| payload.len() <= MAX_PAYLOAD_BYTES)
            .unwrap_or_else(|| self.payload(json!({})))
    }

    /// The payload is ASCII, which is valid in every database encoding.
    fn payload(&self, mut members: Value) -> String {
        members["index"] = json!(self.index);
        members["source"] = json!(self.source);
        escape_non_ascii(&members.to_string()).unwrap_or_default().into_owned()
    }
}

/// The alerts of a transaction so far.
#[derive(Debug, Default)]
pub struct PendingAlerts {
    /// Each with the subtransaction that made the record. Those of a subtransaction follow those of its parent.
    payloads: Vec<(u32, String)>,
    bytes: usize,
    /// The number of further records, by subtransaction and origin.
    more: Vec<(u32, AlertOrigin, u64)>,
}

impl PendingAlerts {
    pub fn is_empty(&self) -> bool {
        self.payloads.is_empty() && self.more.is_empty()
    }

    /// Adds a record that alerts, which a subtransaction has made.
    pub fn add(&mut self, subtransaction: u32, origin: &AlertOrigin, record: &[u8]) {
        if self.payloads.len() >= MAX_NOTIFICATIONS || self.bytes >= MAX_BYTES {
            return self.add_more(subtransaction, origin, 1);
        }
        let payload = origin.payload_of(record);
        self.bytes += payload.len();
        self.payloads.push((subtransaction, payload));
    }

    /// Adds a payload that was stored.
    pub fn add_payload(&mut self, payload: String) {
        self.bytes += payload.len();
        self.payloads.push((0, payload));
    }

    fn add_more(&mut self, subtransaction: u32, origin: &AlertOrigin, count: u64) {
        match self.more.iter_mut().find(|(by, of, _)| (*by, of) == (subtransaction, origin)) {
            Some((_, _, known)) => *known += count,
            None => self.more.push((subtransaction, origin.clone(), count)),
        }
    }

    /// Passes the alerts of a committed subtransaction to its parent.
    pub fn commit_subtransaction(&mut self, mine: u32, parent: u32) {
        for (by, _) in self.payloads.iter_mut().rev().take_while(|(by, _)| *by == mine) {
            *by = parent;
        }
        let (merged, others) = std::mem::take(&mut self.more).into_iter().partition(|(by, _, _)| *by == mine);
        self.more = others;
        let merged: Vec<(u32, AlertOrigin, u64)> = merged;
        for (_, origin, count) in merged {
            self.add_more(parent, &origin, count);
        }
    }

    /// Drops the alerts of a subtransaction that was rolled back.
    pub fn abort_subtransaction(&mut self, mine: u32) {
        let kept = self.payloads.iter().rposition(|(by, _)| *by != mine).map_or(0, |last| last + 1);
        for (_, payload) in self.payloads.drain(kept..) {
            self.bytes -= payload.len();
        }
        self.more.retain(|(by, _, _)| *by != mine);
    }

    /// The payloads of all notifications.
    pub fn into_payloads(self) -> Vec<String> {
        let more = self.more.into_iter().map(|(_, origin, count)| origin.payload(json!({"more": count})));
        self.payloads.into_iter().map(|(_, payload)| payload).chain(more).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> AlertOrigin {
        AlertOrigin { index: "log".to_owned(), source: "public.log".to_owned() }
    }

    fn record(id: impl std::fmt::Display) -> Vec<u8> {
        json!({"objectID": id.to_string(), "alert": true})
            .to_string()
            .replace("\"alert\":true,", "")
            .into_bytes()
    }

    fn ids(alerts: PendingAlerts) -> Vec<Value> {
        let read = |payload: String| serde_json::from_str::<Value>(&payload).unwrap();
        alerts.into_payloads().into_iter().map(read).map(|mut payload| payload["objectID"].take()).collect()
    }

    #[test]
    fn a_payload_names_index_object_and_source_and_no_value() {
        let mut alerts = PendingAlerts::default();
        alerts.add(1, &origin(), br#"{"objectID":"7\"\u00e9","note":"secret","alert":true}"#);
        assert_eq!(
            alerts.into_payloads(),
            [r#"{"index":"log","objectID":"7\"\u00e9","source":"public.log"}"#]
        );
    }

    #[test]
    fn a_payload_is_never_longer_than_the_server_takes() {
        for (id, is_named) in [("x".repeat(7900), true), ("x".repeat(9000), false), ("é".repeat(3000), false)]
        {
            let payload = origin().payload_of(&record(&id));
            assert!(payload.len() <= MAX_PAYLOAD_BYTES);
            assert_eq!(payload.contains("objectID"), is_named, "{}", id.len());
        }
        let names = AlertOrigin { index: "\u{1}".repeat(256), source: "😀".repeat(126) };
        assert!(names.payload(json!({"more": u64::MAX})).len() <= MAX_PAYLOAD_BYTES);
    }

    #[test]
    fn what_a_savepoint_takes_back_is_not_told() {
        let mut alerts = PendingAlerts::default();
        alerts.add(1, &origin(), &record("a"));
        alerts.add(2, &origin(), &record("b"));
        alerts.add(3, &origin(), &record("c"));
        alerts.commit_subtransaction(3, 2);
        alerts.abort_subtransaction(2);
        alerts.add(4, &origin(), &record("d"));
        alerts.commit_subtransaction(4, 1);
        alerts.abort_subtransaction(4);
        assert_eq!(ids(alerts), ["a", "d"]);
    }

    #[test]
    fn beyond_a_bound_only_the_number_is_told() {
        let mut alerts = PendingAlerts::default();
        for id in 0..MAX_NOTIFICATIONS {
            alerts.add(1, &origin(), &record(id));
        }
        alerts.add(2, &origin(), &record("x"));
        alerts.commit_subtransaction(2, 1);
        alerts.add(1, &origin(), &record("y"));
        alerts.add(3, &origin(), &record("z"));
        alerts.abort_subtransaction(3);
        let payloads = alerts.into_payloads();
        assert_eq!(payloads.len(), MAX_NOTIFICATIONS + 1);
        assert_eq!(payloads[MAX_NOTIFICATIONS], r#"{"index":"log","more":2,"source":"public.log"}"#);

        let mut long = PendingAlerts::default();
        for _ in 0..MAX_NOTIFICATIONS {
            long.add(1, &origin(), &record("x".repeat(7000)));
        }
        let payloads = long.into_payloads();
        assert!(payloads.iter().map(String::len).sum::<usize>() < MAX_BYTES + 10_000);
        assert!(payloads.last().is_some_and(|last| last.contains("more")));
    }
}
