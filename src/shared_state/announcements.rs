//! What transactions that are about to commit announce, without a lock; and pending commits, which are yet to be
//! published.
//!
//! A transaction makes its announcements before it becomes visible. They are taken back under shared state's lock, when
//! the transaction is published or has failed. A process that holds the lock sees complete announcements only. If it takes
//! a snapshot and then reads them, each transaction visible in the snapshot is either announced or already published.
//!
//! Usually a transaction queues rows of one index in one span. Such a transaction does not wait for the lock. It leaves
//! its commit pending, in the place of its announcement, and whoever locks shared state next publishes it: the transaction
//! itself if the lock is free, otherwise the process that holds the lock, right after releasing it.
#![forbid(unsafe_code)]

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU32, AtomicU64};

use super::{Announcement, CommitDelta, Count, LatchSet, Micros, SharedState};
use crate::id_ranges::{IdRanges, Span};

/// How many announcements there can be at a time. If there are more, a count is requested.
pub const COMMITTING: usize = 256;

/// The announcements and the pending commits. All zeroes is none.
#[repr(C)]
pub struct Announcements {
    pending: PendingCommits,
    places: [Place; COMMITTING],
}

/// At this many pending commits, the next transaction waits for the lock. Otherwise they might leave no places for
/// announcements.
const MANY_PENDING: u32 = COMMITTING as u32 / 4;

/// The pending commits, as a linked list: the upper half has their number, the lower half the place of the latest, plus
/// one; 0 means none. Each place links to the one before it.
#[repr(C, align(64))]
struct PendingCommits(AtomicU32);

/// One announcement, and later its commit. All zeroes is a free place.
#[repr(C, align(64))]
struct Place {
    /// The transaction that owns the place; 0: none.
    owner: AtomicU32,
    /// The same transaction, once the announcement is complete; 0 before.
    xid: AtomicU32,
    database: AtomicU32,
    index_id: AtomicI32,
    is_lazy: AtomicBool,
    queued: AtomicI64,
    dead: AtomicI64,
    repairs: AtomicI64,
    /// For a pending commit: the span of its rows, the end of its commit record in the WAL, and the time of the commit.
    lo: AtomicI64,
    hi: AtomicI64,
    lsn: AtomicU64,
    committed_at: AtomicI64,
    /// The value of [`PendingCommits`] before this commit was added: the link to the one before.
    before: AtomicU32,
}

/// The places that a transaction owns.
#[derive(Default)]
#[must_use]
pub struct Announced {
    places: Vec<u16>,
}

/// The commit of a transaction that has queued rows.
#[derive(Clone, Copy)]
pub struct Commit {
    /// The end of its commit record in the WAL.
    pub lsn: u64,
    pub at: Micros,
}

impl Announced {
    /// Whether all changes of the transaction are announced.
    pub fn is_complete(&self, changes: &[CommitDelta]) -> bool {
        self.places.len() >= changes.len()
    }
}

impl Announcements {
    /// No announcements.
    pub const fn new() -> Announcements {
        Announcements {
            pending: PendingCommits(AtomicU32::new(0)),
            places: [const { Place::new() }; COMMITTING],
        }
    }

    /// Announces the changes of transaction `xid`, which is about to commit; `is_lazy`: without waiting for the WAL
    /// flush. The search for free places begins at `start`: processes that begin at different places do not disturb
    /// each other.
    pub fn announce(
        &self,
        start: usize,
        xid: u32,
        database: u32,
        changes: &[CommitDelta],
        is_lazy: bool,
    ) -> Announced {
        let mut announced = Announced::default();
        let start = start % COMMITTING;
        let (before, from) = self.places.split_at(start);
        let mut places = (start..).zip(from).chain((0..).zip(before));
        for change in changes {
            // If there is no place, the count is requested later, when the change is published. A count requested now
            // could be over before that.
            if let Some((at, place)) = places.find(|(_, place)| place.take(xid)) {
                place.fill(&Announcement::new(xid, database, change, is_lazy));
                announced.places.push(at as u16);
            }
        }
        announced
    }

    /// Takes back the announcements of a transaction that is being published or that changed nothing. The caller must
    /// have locked `_shared_state`.
    pub fn take_back(&self, announced: &Announced, _shared_state: &mut SharedState) {
        for place in announced.places.iter().filter_map(|at| self.places.get(usize::from(*at))) {
            place.free();
        }
    }

    /// All current announcements. The caller must have locked `_shared_state`.
    pub fn all<'a>(&'a self, _shared_state: &'a SharedState) -> impl Iterator<Item = Announcement> + 'a {
        self.places.iter().filter_map(Place::read)
    }

    /// Adds the commit of an announced transaction to the pending ones, which are published by whoever holds the lock
    /// next. `Ok(true)`: many are pending, so the caller should wait for the lock. Returns the announcement if the
    /// transaction has done more than a pending commit can express.
    pub fn add_pending(
        &self,
        announced: Announced,
        changes: &[CommitDelta],
        commit: Commit,
    ) -> Result<bool, Announced> {
        let ([at], [change]) = (&announced.places[..], changes) else { return Err(announced) };
        let (Some(place), Some(span)) = (self.places.get(usize::from(*at)), only_rows_of(change)) else {
            return Err(announced);
        };
        if place.queued.load(Relaxed) != change.queued {
            // Some rows were queued after the announcement.
            return Err(announced);
        }
        place.lo.store(span.lo, Relaxed);
        place.hi.store(span.hi, Relaxed);
        place.lsn.store(commit.lsn, Relaxed);
        place.committed_at.store(commit.at, Relaxed);
        let link = |before: u32| {
            place.before.store(before, Relaxed);
            Some((((before >> 16) + 1) << 16) | (u32::from(*at) + 1))
        };
        // This comes before the attempt to lock; see `has_pending`.
        let before = self.pending.0.fetch_update(SeqCst, Relaxed, link).unwrap_or_default();
        Ok(before >> 16 >= MANY_PENDING)
    }

    /// Whether commits are pending. A process that releases the lock checks this afterwards, and a process that adds a
    /// pending commit tries to lock afterwards. So one of the two always sees the other.
    pub fn has_pending(&self) -> bool {
        self.pending.0.load(SeqCst) != 0
    }
}

impl SharedState {
    /// Publishes the pending commits. Returns the latches to set; `None` if no commits were pending.
    pub fn publish_pending(&mut self, announcements: &Announcements) -> Option<LatchSet> {
        if !announcements.has_pending() {
            return None;
        }
        let mut latches = LatchSet::default();
        let mut next = announcements.pending.0.swap(0, AcqRel);
        // Bounded by the number of places, whatever the memory contains.
        for _ in 0..COMMITTING {
            let at = usize::from(next as u16).checked_sub(1);
            let Some(place) = at.and_then(|at| announcements.places.get(at)) else { break };
            next = place.before.load(Relaxed);
            let (database, change) = (place.database.load(Relaxed), place.change());
            let at = place.committed_at.load(Relaxed);
            self.note_commit_lsn(place.lsn.load(Relaxed));
            place.free();
            latches = latches.and(self.publish(database, &[change], at));
        }
        Some(latches)
    }
}

/// The span of the rows that a change queues, if it queues rows of a single span and does nothing else.
fn only_rows_of(change: &CommitDelta) -> Option<Span> {
    let is_plain = change.queued > 0 && (change.removed, change.dead, change.repairs) == (0, 0, 0);
    let (oldest, newest) = (change.spans.oldest()?, change.spans.newest()?);
    (is_plain && oldest == newest).then_some(newest)
}

impl Default for Announcements {
    fn default() -> Announcements {
        Announcements::new()
    }
}

impl Place {
    const fn new() -> Place {
        Place {
            owner: AtomicU32::new(0),
            xid: AtomicU32::new(0),
            database: AtomicU32::new(0),
            index_id: AtomicI32::new(0),
            is_lazy: AtomicBool::new(false),
            queued: AtomicI64::new(0),
            dead: AtomicI64::new(0),
            repairs: AtomicI64::new(0),
            lo: AtomicI64::new(0),
            hi: AtomicI64::new(0),
            lsn: AtomicU64::new(0),
            committed_at: AtomicI64::new(0),
            before: AtomicU32::new(0),
        }
    }

    /// Takes the place if it is free.
    fn take(&self, xid: u32) -> bool {
        // Reading first avoids invalidating the cache line of a place that is taken.
        self.owner.load(Relaxed) == 0 && self.owner.compare_exchange(0, xid, Acquire, Relaxed).is_ok()
    }

    fn fill(&self, announcement: &Announcement) {
        self.database.store(announcement.database, Relaxed);
        self.index_id.store(announcement.index_id, Relaxed);
        self.is_lazy.store(announcement.is_lazy, Relaxed);
        self.queued.store(announcement.count.queued, Relaxed);
        self.dead.store(announcement.count.dead, Relaxed);
        self.repairs.store(announcement.count.repairs, Relaxed);
        self.xid.store(announcement.xid, Release);
    }

    fn free(&self) {
        self.xid.store(0, Relaxed);
        self.owner.store(0, Release);
    }

    fn read(&self) -> Option<Announcement> {
        let xid = self.xid.load(Acquire);
        (xid != 0).then(|| Announcement {
            xid,
            database: self.database.load(Relaxed),
            index_id: self.index_id.load(Relaxed),
            is_lazy: self.is_lazy.load(Relaxed),
            count: Count {
                queued: self.queued.load(Relaxed),
                dead: self.dead.load(Relaxed),
                repairs: self.repairs.load(Relaxed),
            },
        })
    }

    /// The change that a pending commit made.
    fn change(&self) -> CommitDelta {
        let mut spans = IdRanges::new();
        spans.add(self.lo.load(Relaxed), self.hi.load(Relaxed));
        let (index_id, queued) = (self.index_id.load(Relaxed), self.queued.load(Relaxed));
        CommitDelta { index_id, queued, spans, ..CommitDelta::EMPTY }
    }
}
