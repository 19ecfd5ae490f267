//! What the writers of a mirror run do, as a seed determines it.

use fastrand::Rng;

/// There are few rows, so that writers often meet on the same one.
pub const KEYS: i32 = 6;

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    Insert {
        key: i32,
        value: i32,
        shown: bool,
    },
    /// Inserts, or updates the row that is there.
    Upsert {
        key: i32,
        value: i32,
        shown: bool,
    },
    InsertIfAbsent {
        key: i32,
        value: i32,
    },
    Update {
        key: i32,
        value: i32,
    },
    /// Makes the filter accept a row, or not.
    Show {
        key: i32,
        shown: bool,
    },
    /// Changes a column that the index does not hold.
    Touch {
        key: i32,
    },
    Move {
        key: i32,
        to: i32,
    },
    UpdateAll {
        value: i32,
    },
    Delete {
        key: i32,
    },
    DeleteAll,
    Truncate,
}

impl Statement {
    /// The statement as SQL for a table.
    pub fn sql(&self, table: &str) -> String {
        match self {
            Statement::Insert { key, value, shown } => {
                format!("insert into {table} values ({key}, {value}, {shown}, '')")
            }
            Statement::Upsert { key, value, shown } => format!(
                "insert into {table} as t values ({key}, {value}, {shown}, '')
                 on conflict (id) do update set v = excluded.v, shown = excluded.shown"
            ),
            Statement::InsertIfAbsent { key, value } => {
                format!("insert into {table} values ({key}, {value}, true, '') on conflict do nothing")
            }
            Statement::Update { key, value } => format!("update {table} set v = {value} where id = {key}"),
            Statement::Show { key, shown } => format!("update {table} set shown = {shown} where id = {key}"),
            Statement::Touch { key } => format!("update {table} set note = note || 'x' where id = {key}"),
            Statement::Move { key, to } => format!("update {table} set id = {to} where id = {key}"),
            Statement::UpdateAll { value } => format!("update {table} set v = v + {value}"),
            Statement::Delete { key } => format!("delete from {table} where id = {key}"),
            Statement::DeleteAll => format!("delete from {table}"),
            Statement::Truncate => format!("truncate {table}"),
        }
    }
}

/// A part of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Plain(Statement),
    /// In a savepoint that is released (true) or rolled back to.
    Savepoint(Vec<Statement>, bool),
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Commit,
    Rollback,
    /// Prepared, then committed (true) or rolled back.
    TwoPhase(bool),
}

/// One transaction of a writer.
pub type Step = (Vec<Part>, End);

/// The kind of table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Plain,
    /// Its own triggers change rows again, some before ours and some after.
    Restless,
    Partitioned,
    /// Its partitions are detached, attached and dropped.
    Moving,
}

const SHAPES: [Shape; 4] = [Shape::Plain, Shape::Restless, Shape::Partitioned, Shape::Moving];

/// The writers' steps, and the shape of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub shape: Shape,
    pub writers: Vec<Vec<Step>>,
}

impl Plan {
    /// The plan that a seed determines for this many writers with this many transactions each.
    pub fn new(seed: u64, writers: usize, steps: usize) -> Plan {
        let mut dice = Rng::with_seed(seed);
        let shape = SHAPES[dice.usize(0..SHAPES.len())];
        let writers = (0..writers).map(|_| (0..steps).map(|_| step(&mut dice)).collect()).collect();
        Plan { shape, writers }
    }
}

fn step(dice: &mut Rng) -> Step {
    let parts = (0..dice.usize(1..=4)).map(|_| match dice.u8(0..5) {
        0 => Part::Savepoint((0..dice.usize(1..=3)).map(|_| statement(dice)).collect(), dice.bool()),
        _ => Part::Plain(statement(dice)),
    });
    let parts = parts.collect();
    let end = match dice.u8(0..12) {
        0..=1 => End::Rollback,
        2 => End::TwoPhase(true),
        3 => End::TwoPhase(false),
        _ => End::Commit,
    };
    (parts, end)
}

fn statement(dice: &mut Rng) -> Statement {
    let (key, to, value, shown) =
        (dice.i32(1..=KEYS), dice.i32(1..=KEYS), dice.i32(0..1_000_000), dice.u8(0..4) > 0);
    match dice.u8(0..40) {
        0..=5 => Statement::Insert { key, value, shown },
        6..=13 => Statement::Upsert { key, value, shown },
        14..=15 => Statement::InsertIfAbsent { key, value },
        16..=23 => Statement::Update { key, value },
        24..=26 => Statement::Show { key, shown },
        27 => Statement::Touch { key },
        28..=31 => Statement::Move { key, to },
        32 => Statement::UpdateAll { value },
        33..=37 => Statement::Delete { key },
        38 => Statement::DeleteAll,
        _ => Statement::Truncate,
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
    fn every_kind_of_statement_end_and_shape_occurs() {
        let plans: Vec<Plan> = (0..10).map(|seed| Plan::new(seed, 4, 200)).collect();
        let steps = || plans.iter().flat_map(|plan| plan.writers.iter().flatten());
        let mut statements = std::collections::HashSet::new();
        for part in steps().flat_map(|(parts, _)| parts) {
            match part {
                Part::Plain(one) => drop(statements.insert(std::mem::discriminant(one))),
                Part::Savepoint(some, _) => {
                    statements.extend(some.iter().map(std::mem::discriminant));
                }
            }
        }
        assert_eq!(statements.len(), 11);
        for end in [End::Commit, End::Rollback, End::TwoPhase(true), End::TwoPhase(false)] {
            assert!(steps().any(|(_, other)| *other == end));
        }
        for shape in SHAPES {
            assert!(plans.iter().any(|plan| plan.shape == shape));
        }
    }
}
