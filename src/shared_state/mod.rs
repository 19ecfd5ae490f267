//! Shared state: what all processes of the server share about queues, claims and workers.
//!
//! It lives in shared memory and starts as all zeroes, also after a crash. [`SharedState`] is behind one lock;
//! [`Announcements`] and [`IdReserves`] consist of atomic numbers and are used without it. The rows are the truth; shared
//! state only makes them quick to find and keeps two workers from holding the same one. After a start, spans and counts
//! are rebuilt from the tables. Totals, attempts, quarantines and the latest indexing tasks are not, which loses no row
//! and breaks no order. Nothing here knows PostgreSQL, so it is tested without it.
//!
//! Words: a *lane* is one index of one database; a *span* is a closed interval of queue ids; a *flight* is a batch between
//! its claim and its settlement.
//!
//! | subject | files |
//! |---|---|
//! | the whole, and its lanes | `state`, `lane` |
//! | what a commit changes | `commit`, `commit_delta`, `announcement`, `announcements`, `prepared` |
//! | what a worker claims next, the tail's share | `next`, `lane`, `partial_batch`, `claimable`, `capacity`, `worker_limits`, `ready_work` |
//! | claim, flight, settlement | `flights`, `worker` |
//! | failures of a lane | `lane_backoff`, `unattributed_rejections` |
//! | rows held back: suspects and isolated records | `held_back`, `held_back_table`, `held_back_claims`, `suspects`, `suspect_search` |
//! | rows over which the server crashed | `crash_suspect`, `crash_suspects` |
//! | objects of mirrored tables | `object_claims`, `quarantine`, `held_objects` |
//! | workers' slots, and whom to wake | `worker_slots`, `latch_set` |
//! | the process that sends history | `backfill`, `backfiller` |
//! | databases and their extension | `databases`, `database`, `extension`, `close_lanes` |
//! | lost rows and wrong counters | `sweep` |
//! | settings of indices, indexing tasks | `index_settings`, `indexing_tasks` |
//! | blocks of ids | `id_reserve` |
//! | what statistics show | `statistics` |
//! | times and texts in shared memory | `clock`, `time`, `fixed_string` |
#![forbid(unsafe_code)]

mod announcement;
mod announcements;
mod backfill;
mod backfiller;
mod capacity;
mod claimable;
mod clock;
mod close_lanes;
mod commit;
mod commit_delta;
mod crash_suspect;
mod crash_suspects;
mod database;
mod databases;
mod extension;
mod fixed_string;
mod flights;
mod held_back;
mod held_back_claims;
mod held_back_table;
mod held_objects;
mod id_reserve;
mod index_settings;
mod indexing_tasks;
mod lane;
mod lane_backoff;
mod latch_set;
mod next;
mod object_claims;
mod partial_batch;
mod prepared;
mod quarantine;
mod ready_work;
mod state;
mod statistics;
mod suspect_search;
mod suspects;
mod sweep;
#[cfg(test)]
mod tests;
mod time;
mod unattributed_rejections;
mod worker;
mod worker_limits;
mod worker_slots;

pub use announcement::{Announcement, Prepared, PREPARED};
pub use announcements::{Announced, Announcements, Commit, COMMITTING};
pub use backfiller::{Backfiller, BackfillerExit};
pub use claimable::{Claimable, HeldBackClaim, QueueEnd};
pub use commit_delta::{CommitDelta, Count, FlushTarget};
pub use crash_suspect::{CrashRetry, CrashSuspect, CRASH_SUSPECTS, MAX_CRASHES};
pub use database::{Database, Extension, DATABASES};
pub use extension::ExtensionCheck;
pub use fixed_string::FixedString;
pub use flights::{EndedFlight, FlightResult};
pub use held_back::{HeldBack, RejectAction, HELD_BACK};
pub use held_objects::{HeldObject, NotHeld};
pub use id_reserve::{IdReserves, TakenBlock, REFILL_AT, RESERVED_BLOCKS};
pub use index_settings::SettingsResult;
pub use lane::{Lane, LaneFailure, LaneKey, ID_BLOCK};
pub use latch_set::LatchSet;
pub use next::Next;
pub use object_claims::object_hash;
pub use quarantine::{Postponed, Quarantine, OBJECTS, QUARANTINES};
pub use ready_work::ReadyWork;
pub use state::{SharedState, CLAIMS, LANES};
pub use suspect_search::{RetryDelay, SuspectSearch};
pub use time::Micros;
pub use unattributed_rejections::UnattributedRejections;
pub use worker::{Flight, SlotState, Worker, FLIGHTS, WORKERS};
pub use worker_limits::WorkerLimits;
pub use worker_slots::WorkerExit;
