//! Owns what a chaos run does, as far as a seed decides it: every transaction of every writer, and which trouble comes
//! after how many of them. When exactly things happen is up to the machine.

use fastrand::Rng;

/// Watched tables; each goes to an index of its name. The last is partitioned.
pub const TABLES: [&str; 3] = ["alpha", "beta", "gamma"];

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Commit,
    Rollback,
}

/// Rows for one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Which of [`TABLES`].
    pub table: usize,
    pub count: usize,
    /// The place of a row that the index refuses.
    pub poison: Option<usize>,
}

/// One transaction of a writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// One statement for each.
    Insert(Vec<Rows>, End),
    /// Each part in a savepoint that is released (true) or rolled back to.
    Savepoints(Vec<(Rows, bool)>, End),
    Copy(Rows, End),
    /// Prepared at once; ended at once or after some more transactions.
    TwoPhase {
        rows: Rows,
        end: End,
        later: bool,
    },
}

/// What goes wrong, or is done to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// SIGKILL, which has the server restart itself.
    KillWorker,
    KillWriter,
    TerminateWorkers,
    TerminateLauncher,
    TerminateWriters,
    StopImmediately,
    RestartFast,
    Pause(usize),
    Resume,
    Set(&'static str, &'static str),
    PinSnapshot,
    Unpin,
    Vacuum {
        full: bool,
    },
    Reindex,
    /// So many requests are answered like this.
    Answer(Answer, u64),
    /// Algolia refuses everything until it is mended.
    Suspend,
    Mend,
}

/// What the stand-in does to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Unavailable,
    InternalError,
    TooManyRequests,
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

const ANSWERS: [Answer; 13] = [
    Answer::Unavailable,
    Answer::InternalError,
    Answer::TooManyRequests,
    Answer::Reset,
    Answer::Hang,
    Answer::HangThenServe,
    Answer::Truncate,
    Answer::AcceptThenDrop,
    Answer::AcceptThenHang,
    Answer::WrongObjectIds,
    Answer::EndlessBody,
    Answer::Html,
    Answer::Redirect,
];

/// Settings that are changed while everything runs.
const SETTINGS: [(&str, &[&str]); 7] = [
    ("audit_algolia.batch_rows", &["1", "7", "100", "1000"]),
    ("audit_algolia.in_flight", &["1", "4", "16"]),
    ("audit_algolia.workers", &["1", "2", "4"]),
    ("audit_algolia.tail_share", &["0", "10", "50"]),
    ("audit_algolia.linger", &["0", "20ms"]),
    ("audit_algolia.compression", &["on", "off"]),
    ("audit_algolia.max_attempts", &["0", "3"]),
];

/// The whole of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub writers: Vec<Vec<Step>>,
    /// Each with the number of finished transactions after which it comes, in this order.
    pub troubles: Vec<(u64, Trouble)>,
}

impl Plan {
    /// The plan of a seed for so many writers with so many transactions each.
    pub fn new(seed: u64, writers: usize, steps: usize) -> Plan {
        let mut dice = Rng::with_seed(seed);
        let mut seeds = || dice.u64(..);
        let writers: Vec<Vec<Step>> = (0..writers)
            .map(|_| {
                let mut dice = Rng::with_seed(seeds());
                (0..steps).map(|_| step(&mut dice)).collect()
            })
            .collect();
        let total = (writers.len() * steps) as u64;
        let mut dice = Rng::with_seed(seeds());
        let mut times: Vec<u64> = (0..(steps / 3).max(8)).map(|_| dice.u64(0..=total * 95 / 100)).collect();
        times.sort_unstable();
        let troubles = times.into_iter().map(|at| (at, trouble(&mut dice))).collect();
        Plan { writers, troubles }
    }
}

fn end(dice: &mut Rng) -> End {
    if dice.u8(0..10) < 7 {
        End::Commit
    } else {
        End::Rollback
    }
}

fn rows(dice: &mut Rng, most: usize) -> Rows {
    let count = dice.usize(1..=most);
    let poison = (dice.u8(0..20) == 0).then(|| dice.usize(0..count));
    Rows { table: dice.usize(0..TABLES.len()), count, poison }
}

fn step(dice: &mut Rng) -> Step {
    match dice.u8(0..10) {
        0..=2 => Step::Insert(vec![rows(dice, 3)], End::Commit),
        3 => Step::Insert(vec![rows(dice, 400)], end(dice)),
        4..=5 => Step::Insert((0..dice.usize(2..=4)).map(|_| rows(dice, 30)).collect(), end(dice)),
        6..=7 => {
            let parts = (0..dice.usize(2..=5)).map(|_| (rows(dice, 30), dice.bool())).collect();
            Step::Savepoints(parts, end(dice))
        }
        8 => Step::Copy(rows(dice, 300), end(dice)),
        _ => Step::TwoPhase { rows: rows(dice, 30), end: end(dice), later: dice.bool() },
    }
}

fn trouble(dice: &mut Rng) -> Trouble {
    match dice.u8(0..40) {
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
            let (name, values) = SETTINGS[dice.usize(0..SETTINGS.len())];
            Trouble::Set(name, values[dice.usize(0..values.len())])
        }
        19 => Trouble::PinSnapshot,
        20 => Trouble::Unpin,
        21..=22 => Trouble::Vacuum { full: dice.bool() },
        23 => Trouble::Reindex,
        24 => Trouble::Suspend,
        25..=27 => Trouble::Mend,
        _ => Trouble::Answer(ANSWERS[dice.usize(0..ANSWERS.len())], dice.u64(1..=6)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_the_plan() {
        assert_eq!(Plan::new(7, 3, 50), Plan::new(7, 3, 50));
        assert_ne!(Plan::new(7, 3, 50), Plan::new(8, 3, 50));
    }

    #[test]
    fn troubles_come_in_order_and_before_the_end() {
        let plan = Plan::new(1, 4, 200);
        assert!(plan.troubles.is_sorted_by_key(|(at, _)| *at));
        assert!(plan.troubles.iter().all(|(at, _)| *at <= 760));
        assert!(plan.troubles.len() >= 50);
    }

    #[test]
    fn every_kind_of_transaction_and_trouble_occurs() {
        let plan = Plan::new(3, 4, 1000);
        let kinds: std::collections::HashSet<_> =
            plan.troubles.iter().map(|(_, trouble)| std::mem::discriminant(trouble)).collect();
        assert_eq!(kinds.len(), 17);
        let steps: std::collections::HashSet<_> =
            plan.writers.iter().flatten().map(std::mem::discriminant).collect();
        assert_eq!(steps.len(), 4);
    }
}
