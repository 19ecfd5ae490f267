//! Decides which table's repairs are made next.

use std::collections::HashMap;

use super::repair_store::RepairGroup;
use crate::pg::clock::now;
use crate::shared_state::Micros;

/// How long the repairs of a table wait at most when nothing came of a turn.
const LONGEST_PAUSE: Micros = 10_000_000;

/// A table and an index.
type GroupKey = (u32, i32);

/// Whose turn it is, by table and index: whoever had none for longest. Where nothing comes of a turn, the cause is likely
/// one for all repairs of the group, and they are not tried again at once. It is known here alone: what a step writes down
/// is undone when it fails.
#[derive(Default)]
pub(super) struct RepairTurns {
    count: u64,
    taken: HashMap<GroupKey, RepairTurn>,
    /// Who has it.
    current: Option<GroupKey>,
}

#[derive(Clone, Copy, Default)]
struct RepairTurn {
    last: u64,
    /// Turns in a row of which nothing came.
    vain: u32,
    /// No step before this time.
    until: Micros,
}

impl RepairTurns {
    /// Nobody has it, until the next is asked for.
    pub(super) fn end(&mut self) {
        self.current = None;
    }

    /// Gives the turn to the next that is due, whatever comes of it.
    pub(super) fn next<'g>(&mut self, groups: &'g [RepairGroup], now: Micros) -> Option<&'g RepairGroup> {
        let due = groups.iter().filter(|group| self.due(group) <= now);
        let group = due.min_by_key(|group| self.of(group).last)?;
        let key = key_of(group);
        self.count += 1;
        self.taken.entry(key).or_default().last = self.count;
        self.current = Some(key);
        Some(group)
    }

    /// When the next is due.
    pub(super) fn first(&self, groups: &[RepairGroup]) -> Option<Micros> {
        groups.iter().map(|group| self.due(group)).min()
    }

    /// Something has come of the turn.
    pub(super) fn succeed(&mut self) {
        if let Some(turn) = self.current.and_then(|key| self.taken.get_mut(&key)) {
            *turn = RepairTurn { last: turn.last, ..RepairTurn::default() };
        }
    }

    /// Nothing has come of the turn: the next is after a pause, which may depend on how often it was so before. Returns how
    /// often it has been so by now; nothing when nobody had a turn.
    pub(super) fn fail(&mut self, pause: impl FnOnce(u32) -> Micros) -> Option<u32> {
        let turn = self.taken.get_mut(&self.current?)?;
        turn.until = now().saturating_add(pause(turn.vain).min(LONGEST_PAUSE));
        turn.vain = turn.vain.saturating_add(1);
        Some(turn.vain)
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
