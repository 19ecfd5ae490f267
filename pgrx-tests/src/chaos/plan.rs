//! Owns what a chaos run does, as far as a seed decides it: every transaction of every writer down to the ids of its
//! rows, and which trouble comes after how many of them. When exactly things happen is up to the machine.

use fastrand::Rng;

/// Watched tables; each goes to an index of its name. The last is partitioned.
pub const TABLES: [&str; 3] = ["alpha", "beta", "gamma"];

/// Ids of one writer begin at a multiple of this.
const IDS: i64 = 1_000_000_000;

/// Rows for one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Which of [`TABLES`].
    pub table: usize,
    /// The id of the first; the others follow. No other rows have them.
    pub first: i64,
    pub count: i64,
    /// The id of one that the index refuses.
    pub poison: Option<i64>,
    /// Whether the others are nearly as large as the index takes them.
    pub big: bool,
}

/// What a transaction does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Insert(Rows),
    Copy(Rows),
    /// Savepoints are nested like brackets, each with a release or a rollback.
    Savepoint,
    Release,
    RollBackTo,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Commit,
    Rollback,
    /// The client goes away without a word.
    Leave,
    /// PREPARE; after so many more transactions COMMIT PREPARED (true) or ROLLBACK PREPARED.
    Prepare(bool, usize),
}

/// One transaction of a writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub actions: Vec<Action>,
    pub end: End,
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
    /// Dead letters try it again, and die again.
    Redrive,
    Set(&'static str, &'static str),
    PinSnapshot,
    Unpin,
    Vacuum {
        full: bool,
    },
    Reindex,
    /// So many requests are answered like this.
    Answer(Answer, u64),
    /// So many of a hundred are, drawn by the number, until it is mended.
    Flaky(Answer, u8, u64),
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

const ANSWERS: [Answer; 14] = [
    Answer::Unavailable,
    Answer::InternalError,
    Answer::TooManyRequests,
    Answer::ComeBackLater,
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

/// The whole of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whether the index names the record that it refuses; if not, it has to be looked for.
    pub names_culprits: bool,
    pub writers: Vec<Vec<Step>>,
    /// Each with the number of finished transactions after which it comes, in this order.
    pub troubles: Vec<(u64, Trouble)>,
}

impl Plan {
    /// The plan of a seed for so many writers with so many transactions each.
    pub fn new(seed: u64, writers: usize, steps: usize) -> Plan {
        let mut seeds = Rng::with_seed(seed);
        let names_culprits = seeds.bool();
        let writers: Vec<Vec<Step>> = (1..=writers)
            .map(|number| {
                let dice = Rng::with_seed(seeds.u64(..));
                let mut author = Author { dice, next: number as i64 * IDS };
                (0..steps).map(|_| author.step()).collect()
            })
            .collect();
        let total = (writers.len() * steps) as u64;
        let mut dice = Rng::with_seed(seeds.u64(..));
        let mut times: Vec<u64> = (0..(steps / 3).max(8)).map(|_| dice.u64(0..=total * 95 / 100)).collect();
        times.sort_unstable();
        let troubles = times.into_iter().map(|at| (at, trouble(&mut dice))).collect();
        Plan { names_culprits, writers, troubles }
    }
}

/// Makes up the transactions of one writer.
struct Author {
    dice: Rng,
    next: i64,
}

impl Author {
    fn step(&mut self) -> Step {
        match self.dice.u8(0..10) {
            0..=2 => Step { actions: vec![Action::Insert(self.rows(3))], end: End::Commit },
            3 => Step { actions: vec![Action::Insert(self.rows(400))], end: self.end() },
            4 => Step { actions: vec![Action::Copy(self.rows(300))], end: self.end() },
            5..=6 => {
                let parts = self.dice.usize(2..=4);
                Step { actions: (0..parts).map(|_| self.write()).collect(), end: self.end() }
            }
            _ => {
                let mut actions = Vec::new();
                self.nest(&mut actions, 3);
                Step { actions, end: self.end() }
            }
        }
    }

    /// A few parts, some of them in savepoints.
    fn nest(&mut self, actions: &mut Vec<Action>, depth: usize) {
        for _ in 0..self.dice.usize(1..=3) {
            if depth == 0 || self.dice.u8(0..3) == 0 {
                actions.push(self.write());
            } else {
                actions.push(Action::Savepoint);
                self.nest(actions, depth - 1);
                actions.push(if self.dice.bool() { Action::Release } else { Action::RollBackTo });
            }
        }
    }

    fn write(&mut self) -> Action {
        let rows = self.rows(30);
        if self.dice.u8(0..5) == 0 {
            Action::Copy(rows)
        } else {
            Action::Insert(rows)
        }
    }

    fn rows(&mut self, most: i64) -> Rows {
        let (first, count) = (self.next, self.dice.i64(1..=most));
        self.next += count;
        let poison = (self.dice.u8(0..20) == 0).then(|| first + self.dice.i64(0..count));
        Rows { table: self.dice.usize(0..TABLES.len()), first, count, poison, big: self.dice.u8(0..12) == 0 }
    }

    fn end(&mut self) -> End {
        match self.dice.u8(0..20) {
            0..=9 => End::Commit,
            10..=13 => End::Rollback,
            14 => End::Leave,
            _ => {
                let after = if self.dice.bool() { 0 } else { self.dice.usize(1..=20) };
                End::Prepare(self.dice.u8(0..3) > 0, after)
            }
        }
    }
}

fn trouble(dice: &mut Rng) -> Trouble {
    match dice.u8(0..44) {
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
        28 => Trouble::Redrive,
        29..=30 => Trouble::Flaky(ANSWERS[dice.usize(0..ANSWERS.len())], dice.u8(5..=60), dice.u64(..)),
        _ => Trouble::Answer(ANSWERS[dice.usize(0..ANSWERS.len())], dice.u64(1..=6)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

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
    fn every_kind_of_trouble_occurs() {
        let plan = Plan::new(3, 4, 1000);
        let kinds: HashSet<_> =
            plan.troubles.iter().map(|(_, trouble)| std::mem::discriminant(trouble)).collect();
        assert_eq!(kinds.len(), 19);
    }

    #[test]
    fn every_kind_of_transaction_occurs() {
        let plan = Plan::new(3, 4, 1000);
        let steps = || plan.writers.iter().flatten();
        let ends: HashSet<_> = steps().map(|step| std::mem::discriminant(&step.end)).collect();
        let actions: HashSet<_> =
            steps().flat_map(|step| &step.actions).map(std::mem::discriminant).collect();
        assert_eq!((ends.len(), actions.len()), (4, 5));
    }

    #[test]
    fn savepoints_are_closed_and_no_id_is_used_twice() {
        let plan = Plan::new(5, 3, 300);
        let mut ids = HashSet::new();
        for step in plan.writers.iter().flatten() {
            let mut open = 0;
            for action in &step.actions {
                match action {
                    Action::Savepoint => open += 1,
                    Action::Release | Action::RollBackTo => open -= 1,
                    Action::Insert(rows) | Action::Copy(rows) => {
                        assert!((rows.first..rows.first + rows.count).all(|id| ids.insert(id)));
                        assert!(rows.poison.is_none_or(|id| ids.contains(&id)));
                    }
                }
                assert!(open >= 0);
            }
            assert_eq!(open, 0);
        }
    }
}
