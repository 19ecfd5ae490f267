//! What tests look at afterwards: all requests, accepted operations and counts.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;

use super::clock::unix_micros;

/// A request as it was received, and how it was answered.
#[derive(Clone, Debug)]
pub struct JournalEntry {
    /// The HTTP method.
    pub method: String,
    /// The path with its query string, as sent.
    pub path: String,
    /// The address that received it (its position in `base_urls`).
    pub host: usize,
    /// The headers, names in lower case (none in light mode).
    pub headers: Vec<(String, String)>,
    /// Bytes of the body on the wire.
    pub body_bytes: usize,
    /// Bytes of the body after decompression.
    pub decoded_bytes: usize,
    /// The decompressed body (empty in light mode).
    pub body: Bytes,
    /// The status of the answer; `None` until there is one, or if there was none.
    pub status: Option<u16>,
    /// When its body had been read.
    pub at: Instant,
}

impl JournalEntry {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The decompressed body as text. Invalid bytes are replaced.
    pub fn body_text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One accepted operation.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Its number, from 0, in order of acceptance.
    pub seq: u64,
    /// When it was accepted.
    pub at: Instant,
    /// When it was accepted, in microseconds since 1970.
    pub unix_micros: i64,
    /// The index it is for.
    pub index: String,
    /// The record it is about; empty for operations on a whole index.
    pub object_id: String,
    /// The batch action, or the endpoint's name.
    pub action: &'static str,
    /// The request that contained it (its position in `requests()`).
    pub request: usize,
}

/// Everything recorded since the start or the last reset.
#[derive(Default)]
pub(super) struct Journal {
    pub(super) entries: Vec<JournalEntry>,
    pub(super) arrivals: Vec<Arrival>,
    operations: BTreeMap<String, u64>,
    epoch: u64,
}

/// Identifies an entry until the next reset.
#[derive(Clone, Copy)]
pub(super) struct EntryId {
    pub(super) at: usize,
    epoch: u64,
}

impl Journal {
    pub(super) fn open(&mut self, entry: JournalEntry) -> EntryId {
        self.entries.push(entry);
        EntryId { at: self.entries.len() - 1, epoch: self.epoch }
    }

    pub(super) fn answered(&mut self, id: EntryId, status: u16) {
        if id.epoch == self.epoch {
            if let Some(entry) = self.entries.get_mut(id.at) {
                entry.status = Some(status);
            }
        }
    }

    /// Records accepted operations of one request: (index, objectID, action).
    pub(super) fn accept<'a>(
        &mut self,
        id: EntryId,
        operations: impl Iterator<Item = (&'a str, &'a str, &'static str)>,
    ) {
        let (at, micros) = (Instant::now(), unix_micros());
        for (index, object_id, action) in operations {
            match self.operations.get_mut(index) {
                Some(count) => *count += 1,
                None => {
                    self.operations.insert(index.to_owned(), 1);
                }
            }
            self.arrivals.push(Arrival {
                seq: self.arrivals.len() as u64,
                at,
                unix_micros: micros,
                index: index.to_owned(),
                object_id: object_id.to_owned(),
                action,
                request: id.at,
            });
        }
    }

    pub(super) fn operations(&self, index: &str) -> u64 {
        self.operations.get(index).copied().unwrap_or(0)
    }

    pub(super) fn reset(&mut self) {
        *self = Journal { epoch: self.epoch + 1, ..Journal::default() };
    }
}
