//! Whose repairs are to be made next.

use std::collections::HashMap;

use super::notes::Group;
use super::step::now;
use crate::ledger::Micros;

/// How long the repairs of a table wait when many have failed and none was made.
const LONGEST_PAUSE: Micros = 10_000_000;

/// Whose turn it is, by table and index: whoever had none for longest. Where many repairs fail and none is made, the cause
/// is one for all of them, and the others are not tried at once.
#[derive(Default)]
pub(super) struct Turns {
    count: u64,
    taken: HashMap<(u32, i32), Turn>,
}

#[derive(Clone, Copy, Default)]
struct Turn {
    last: u64,
    /// Full steps in a row in which nothing was made.
    vain: u32,
    /// No step before this time.
    until: Micros,
}

impl Turns {
    fn of(&self, group: &Group) -> Turn {
        self.taken.get(&key_of(group)).copied().unwrap_or_default()
    }

    pub(super) fn next<'g>(&self, groups: &'g [Group], now: Micros) -> Option<&'g Group> {
        let due = groups.iter().filter(|group| self.due(group) <= now);
        due.min_by_key(|group| self.of(group).last)
    }

    fn due(&self, group: &Group) -> Micros {
        group.due.max(self.of(group).until)
    }

    /// When the next is due.
    pub(super) fn first(&self, groups: &[Group]) -> Option<Micros> {
        groups.iter().map(|group| self.due(group)).min()
    }

    /// A step has been taken; in vain, if nothing was made of as many as one can take.
    pub(super) fn take(&mut self, group: &Group, in_vain: bool, pause: impl FnOnce(u32) -> Micros) {
        self.count += 1;
        let turn = self.taken.entry(key_of(group)).or_default();
        turn.last = self.count;
        if in_vain {
            turn.until = now().saturating_add(pause(turn.vain).min(LONGEST_PAUSE));
            turn.vain = turn.vain.saturating_add(1);
        } else {
            *turn = Turn { last: self.count, ..Turn::default() };
        }
    }
}

fn key_of(group: &Group) -> (u32, i32) {
    (group.table.to_u32(), group.index_id)
}
