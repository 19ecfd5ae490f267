//! Invents the transactions of one writer.

use fastrand::Rng;

use super::tables::{CHANGING, TABLES};
use super::transactions::{Action, End, Rows, Size, Step, Work};

/// How many blocks of rows are remembered, to be changed later.
const REMEMBERED: usize = 24;

/// Invents the transactions of one writer.
pub(super) struct Author {
    dice: Rng,
    /// The next id.
    next: i64,
    /// The number of the next note.
    notes: i64,
    /// Rows that can be changed. All of them are this writer's own, so that no writer waits for another.
    changeable: Vec<Rows>,
}

impl Author {
    pub(super) fn new(dice: Rng, first: i64) -> Author {
        Author { dice, next: first, notes: 0, changeable: Vec::new() }
    }

    pub(super) fn step(&mut self) -> Step {
        if self.dice.u8(0..120) == 0 {
            return Step { actions: vec![Action::Insert(self.rows(4, true))], end: End::Commit };
        }
        let step = match self.dice.u8(0..10) {
            0..=2 => Step { actions: vec![Action::Insert(self.rows(3, false))], end: End::Commit },
            3 => Step { actions: vec![Action::Insert(self.rows(400, false))], end: self.end() },
            4 => Step { actions: vec![Action::Copy(self.rows(300, false))], end: self.end() },
            5..=6 => {
                let parts = self.dice.usize(2..=4);
                Step { actions: (0..parts).map(|_| self.write()).collect(), end: self.end() }
            }
            _ => {
                let mut actions = Vec::new();
                self.nest(&mut actions, 3);
                Step { actions, end: self.end() }
            }
        };
        self.leave_alone_if_prepared(&step);
        step
    }

    /// Rows that a prepared transaction has locked stay locked until this writer ends it, so it must not change them.
    fn leave_alone_if_prepared(&mut self, step: &Step) {
        if !matches!(step.end, End::Prepare(..)) {
            return;
        }
        let touches = |action: &Action, block: &Rows| match action {
            Action::Insert(rows) | Action::Copy(rows) | Action::Change(rows, _) => {
                (block.first..block.first + block.count).contains(&rows.first)
            }
            _ => false,
        };
        self.changeable.retain(|block| !step.actions.iter().any(|action| touches(action, block)));
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
        if let (true, Some(change)) = (self.dice.u8(0..5) < 2, self.change()) {
            return change;
        }
        let rows = self.rows(30, false);
        if self.dice.u8(0..5) == 0 {
            Action::Copy(rows)
        } else {
            Action::Insert(rows)
        }
    }

    /// Changes some of the rows of a block.
    fn change(&mut self) -> Option<Action> {
        let block = self.dice.choice(&self.changeable)?.clone();
        let from = self.dice.i64(0..block.count);
        let (first, count) = (block.first + from, self.dice.i64(1..=block.count - from));
        self.notes += 1;
        let work = match self.dice.u8(0..8) {
            0..=3 => Work::Rewrite(self.notes),
            4 => Work::Hide,
            5 => Work::Show(self.notes),
            _ => Work::Delete,
        };
        let poison = self.poison(first, count);
        Some(Action::Change(Rows { first, count, poison, size: Size::Usual, ..block }, work))
    }

    fn rows(&mut self, most: i64, huge: bool) -> Rows {
        let (first, count) = (self.next, self.dice.i64(1..=most));
        self.next += count;
        let table = self.dice.usize(0..TABLES.len());
        let changes = table >= CHANGING;
        // The record of an update holds two notes, which must fit together.
        let size = match huge {
            true => Size::Huge,
            false if !changes && self.dice.u8(0..12) == 0 => Size::Big,
            false => Size::Usual,
        };
        let rows = Rows { table, first, count, poison: self.poison(first, count), size };
        if changes {
            if self.changeable.len() == REMEMBERED {
                self.changeable.remove(0);
            }
            self.changeable.push(rows.clone());
        }
        rows
    }

    fn poison(&mut self, first: i64, count: i64) -> Option<i64> {
        (self.dice.u8(0..20) == 0).then(|| first + self.dice.i64(0..count))
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
