//! A batch in flight: its rows, between their claim and their settlement.

use std::sync::Arc;

use crate::delivery::http::HttpClient;
use crate::delivery::sink::Sink;
use crate::shared_state::{object_hash, Micros};

/// A batch that is on its way.
pub(super) struct InFlight {
    pub(super) index_id: i32,
    /// The rows of the batch, in its order.
    pub(super) ids: Vec<i64>,
    /// Of each, which object it is a version of.
    pub(super) objects: Vec<Option<String>>,
    /// Rows that were claimed with them and are not sent.
    pub(super) unsent: Vec<Unsendable>,
    pub(super) started_at: Micros,
    /// They are held back.
    pub(super) held_back: bool,
    /// By whom it was sent: what an old sink has to say means nothing for a new one.
    pub(super) sink: Arc<Sink<HttpClient>>,
}

impl InFlight {
    /// All the rows that are claimed for it.
    pub(super) fn rows(&self) -> impl Iterator<Item = i64> + '_ {
        self.ids.iter().copied().chain(self.unsent.iter().map(|row| row.id))
    }

    /// The objects that are claimed for it: of each the hash and the row.
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
    /// Which object it is a version of.
    pub(super) object: Option<String>,
    pub(super) reason: UnsendableReason,
}

/// Why a record is not sent.
#[derive(Clone)]
pub(super) enum UnsendableReason {
    /// It is too large: its bytes, as Algolia measures it.
    TooLarge(usize),
    /// So often the server has crashed while this record alone was on its way.
    Crashes(u32),
    /// It is damaged, and cannot be read: what the server says of that.
    Damaged(String),
}
