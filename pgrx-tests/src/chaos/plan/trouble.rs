//! The kinds of trouble, and how often each of them is made.

use fastrand::Rng;

use strum::VariantArray;

use crate::chaos::partitions::{Ddl, HOMES};
use crate::chaos::tables::TABLES;

/// What goes wrong or is done to the server. Reports use the name of the variant.
#[derive(Clone, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(const_into_str, serialize_all = "title_case")]
pub enum Trouble {
    /// With SIGKILL, after which the server restarts.
    KillWorker,
    KillWriter,
    TerminateWorkers,
    TerminateLauncher,
    TerminateWriters,
    StopImmediately,
    RestartFast,
    Pause(usize),
    Resume,
    /// Dead letters are sent again, and die again.
    Redrive,
    Set(&'static str, &'static str),
    PinSnapshot,
    Unpin,
    Vacuum {
        full: bool,
    },
    Reindex,
    /// This many requests are answered like this.
    Answer(Answer, u64),
    /// This percentage of the requests is answered like this, until it is fixed. The number is the seed.
    Flaky(Answer, u8, u64),
    /// Algolia refuses everything until it is fixed.
    Suspend,
    /// A proxy blocks every request that contains the number, until it is fixed.
    BlockByProxy(ProxyAnswer, u16),
    Fix,
    /// Changes one of the partitions that exist from the beginning.
    Partition(Ddl, usize),
    /// The database is dumped, and restored in parallel under another name.
    Restore,
}

/// How a proxy blocks a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyAnswer {
    Reset,
    /// With an error page of this status.
    Page(u16),
}

const PROXY_ANSWERS: [ProxyAnswer; 5] = [
    ProxyAnswer::Reset,
    ProxyAnswer::Page(400),
    ProxyAnswer::Page(403),
    ProxyAnswer::Page(406),
    ProxyAnswer::Page(503),
];

/// What the stand-in does to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray)]
pub enum Answer {
    Unavailable,
    InternalError,
    TooManyRequests,
    ComeBackLater,
    Reset,
    Hang,
    HangThenServe,
    Truncate,
    AcceptThenDrop,
    AcceptThenHang,
    WrongObjectIds,
    EndlessBody,
    Html,
    Redirect,
}

/// Settings that are changed during a run.
const SETTINGS: [(&str, &[&str]); 8] = [
    ("audit_algolia.batch_rows", &["1", "7", "100", "1000"]),
    ("audit_algolia.in_flight", &["1", "4", "16"]),
    ("audit_algolia.workers", &["1", "2", "4"]),
    ("audit_algolia.tail_share", &["0", "10", "50"]),
    ("audit_algolia.linger", &["0", "20ms"]),
    ("audit_algolia.compression", &["on", "off"]),
    ("audit_algolia.batch_bytes", &["16kB", "8MB"]),
    ("audit_algolia.max_attempts", &["0", "3"]),
];

/// Draws the next trouble.
pub(super) fn draw(dice: &mut Rng) -> Trouble {
    match dice.u8(0..52) {
        0..=1 => Trouble::KillWorker,
        2 => Trouble::KillWriter,
        3..=4 => Trouble::TerminateWorkers,
        5 => Trouble::TerminateLauncher,
        6 => Trouble::TerminateWriters,
        7..=8 => Trouble::StopImmediately,
        9 => Trouble::RestartFast,
        10..=11 => Trouble::Pause(dice.usize(0..TABLES.len())),
        12..=14 => Trouble::Resume,
        15..=18 => {
            let (name, values) = one_of(dice, &SETTINGS);
            Trouble::Set(name, one_of(dice, values))
        }
        19 => Trouble::PinSnapshot,
        20 => Trouble::Unpin,
        21..=22 => Trouble::Vacuum { full: dice.bool() },
        23 => Trouble::Reindex,
        24 => Trouble::Suspend,
        25..=27 => Trouble::Fix,
        28 => Trouble::Redrive,
        29..=30 => Trouble::Flaky(one_of(dice, Answer::VARIANTS), dice.u8(5..=60), dice.u64(..)),
        31..=32 => Trouble::BlockByProxy(one_of(dice, &PROXY_ANSWERS), dice.u16(0..1000)),
        33 if dice.bool() => Trouble::Restore,
        33..=38 => Trouble::Partition(one_of(dice, Ddl::VARIANTS), dice.usize(0..HOMES.len())),
        39 => Trouble::Partition(Ddl::Attach, 0),
        _ => Trouble::Answer(one_of(dice, Answer::VARIANTS), dice.u64(1..=6)),
    }
}

fn one_of<T: Copy>(dice: &mut Rng, all: &[T]) -> T {
    all[dice.usize(0..all.len())]
}
