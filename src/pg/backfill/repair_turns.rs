//! Decides which table's repairs are made next.

use std::collections::HashMap;

use super::repair_store::RepairGroup;
use crate::pg::clock::now;
use crate::shared_state::Micros;

/// The longest pause of a group after a turn without success.
const LONGEST_PAUSE: Micros = 10_000_000;

/// A table and an index.
type GroupKey = (u32, i32);

/// Gives turns to groups of repairs, the one that has waited longest first. If a turn has no success, the cause
/// probably concerns all repairs of the group, which then has to wait. This is kept in memory, because a failed step
/// undoes everything that it has stored.
#[derive(Default)]
pub(super) struct RepairTurns {
    count: u64,
    taken: HashMap<GroupKey, RepairTurn>,
    /// The group that has the turn.
    current: Option<GroupKey>,
}

#[derive(Clone, Copy, Default)]
struct RepairTurn {
    last: u64,
    /// Turns without success in a row.
    failures: u32,
    /// It gets no turn before this time.
    until: Micros,
}

impl RepairTurns {
    /// Ends the current turn.
    pub(super) fn end(&mut self) {
        self.current = None;
    }

    /// Gives the turn to the next group that is due.
    pub(super) fn next<'g>(&mut self, groups: &'g [RepairGroup], now: Micros) -> Option<&'g RepairGroup> {
        let due = groups.iter().filter(|group| self.due(group) <= now);
        let group = due.min_by_key(|group| self.of(group).last)?;
        let key = key_of(group);
        self.count += 1;
        self.taken.entry(key).or_default().last = self.count;
        self.current = Some(key);
        Some(group)
    }

    /// When the next group is due.
    pub(super) fn first(&self, groups: &[RepairGroup]) -> Option<Micros> {
        groups.iter().map(|group| self.due(group)).min()
    }

    /// The turn was a success.
    pub(super) fn succeed(&mut self) {
        if let Some(turn) = self.current.and_then(|key| self.taken.get_mut(&key)) {
            *turn = RepairTurn { last: turn.last, ..RepairTurn::default() };
        }
    }

    /// The turn had no success: the group waits for a pause that may depend on its failures in a row. Returns how many
    /// there are now; `None` if no group has the turn.
    pub(super) fn fail(&mut self, pause: impl FnOnce(u32) -> Micros) -> Option<u32> {
        let turn = self.taken.get_mut(&self.current?)?;
        turn.until = now().saturating_add(pause(turn.failures).min(LONGEST_PAUSE));
        turn.failures = turn.failures.saturating_add(1);
        Some(turn.failures)
    }

    fn of(&self, group: &RepairGroup) -> RepairTurn {
        self.taken.get(&key_of(group)).copied().unwrap_or_default()
    }

    fn due(&self, group: &RepairGroup) -> Micros {
        group.due.max(self.of(group).until)
    }
}

fn key_of(group: &RepairGroup) -> GroupKey {
    (group.table.to_u32(), group.index_id)
}
