//! A batch in flight: its rows, between their claim and their settlement.

use std::sync::Arc;

use crate::delivery::http::HttpClient;
use crate::delivery::sink::Sink;
use crate::shared_state::{object_hash, Micros};

/// A batch in flight.
pub(super) struct InFlight {
    pub(super) index_id: i32,
    /// The rows in the order of the batch.
    pub(super) ids: Vec<i64>,
    /// For each row, the object that it is a version of.
    pub(super) objects: Vec<Option<String>>,
    /// Rows that were claimed with them but are not sent.
    pub(super) unsent: Vec<Unsendable>,
    pub(super) started_at: Micros,
    /// The rows are held back ones.
    pub(super) held_back: bool,
    /// The sink that sent it. Failures of an old sink mean nothing for a new one.
    pub(super) sink: Arc<Sink<HttpClient>>,
}

impl InFlight {
    /// All rows that are claimed for it.
    pub(super) fn rows(&self) -> impl Iterator<Item = i64> + '_ {
        self.ids.iter().copied().chain(self.unsent.iter().map(|row| row.id))
    }

    /// The versions that are claimed for it: each object's hash and row.
    pub(super) fn versions(&self) -> Vec<(i64, i64)> {
        let unsent = self.unsent.iter().map(|row| (row.id, &row.object));
        let all = self.ids.iter().copied().zip(&self.objects).chain(unsent);
        all.filter_map(|(id, object)| Some((object_hash(object.as_deref()?), id))).collect()
    }
}

/// A record that is not sent.
pub(super) struct Unsendable {
    pub(super) id: i64,
    pub(super) object_id: Option<String>,
    /// The object that it is a version of.
    pub(super) object: Option<String>,
    pub(super) reason: UnsendableReason,
}

/// Why a record is not sent.
#[derive(Clone)]
pub(super) enum UnsendableReason {
    /// It is too large: its size in bytes, as Algolia measures it.
    TooLarge(usize),
    /// The server has crashed this often while the record was in flight alone.
    Crashes(u32),
    /// It is damaged and cannot be read: the server's error.
    Damaged(String),
}
