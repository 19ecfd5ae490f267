//! The application's state: indices, the queue of tasks, and the ids that were assigned.
//!
//! Tasks are applied lazily, in queue order: each access to the indices, and each new task, first publishes the tasks that
//! are due.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use serde_json::Map;

use super::apply::{apply, Change};
use super::clock::iso_now;
use super::index::{Index, Indices};
use super::journal::Journal;
use super::light::LightState;
use super::reply::Refusal;

struct Pending {
    task: i64,
    due: Instant,
    changes: Vec<Change>,
}

/// Everything that requests change, under one lock so that the journal and the queue agree on the order.
#[derive(Default)]
pub(super) struct Engine {
    published: Indices,
    queue: VecDeque<Pending>,
    last_task: i64,
    pub(super) journal: Journal,
    pub(super) light: LightState,
}

impl Engine {
    /// Queues changes as one task and returns its id.
    pub(super) fn enqueue(&mut self, changes: Vec<Change>, delay: Duration) -> i64 {
        // A search should not have to publish all that was ever written.
        self.indices();
        self.last_task += 1;
        let task = self.last_task;
        // A task never overtakes an earlier one, even if the delay has been shortened meanwhile.
        let due = (Instant::now() + delay).max(self.queue.back().map_or_else(Instant::now, |last| last.due));
        self.queue.push_back(Pending { task, due, changes });
        task
    }

    /// The indices as searches see them now.
    pub(super) fn indices(&mut self) -> &Indices {
        let now = Instant::now();
        while self.queue.front().is_some_and(|first| first.due <= now) {
            let Some(first) = self.queue.pop_front() else {
                break;
            };
            let stamp = iso_now();
            for change in first.changes {
                apply(&mut self.published, change, &stamp);
            }
        }
        &self.published
    }

    pub(super) fn index(&mut self, name: &str) -> Option<&Index> {
        self.indices().get(name)
    }

    /// The index, or a refusal.
    pub(super) fn existing(&mut self, name: &str) -> Result<&Index, Refusal> {
        self.index(name).ok_or_else(|| Refusal::no_index(name))
    }

    /// Whether a task has been published. Task 0 is the one of an empty batch.
    pub(super) fn is_published(&mut self, task: i64) -> bool {
        self.indices();
        task <= self.last_task && self.queue.iter().all(|pending| pending.task != task)
    }

    pub(super) fn pending(&mut self) -> usize {
        self.indices();
        self.queue.len()
    }

    pub(super) fn next_task(&mut self) -> i64 {
        self.last_task += 1;
        self.last_task
    }

    /// Forgets everything but the task ids, which stay monotonic.
    pub(super) fn reset(&mut self) {
        self.published = BTreeMap::new();
        self.queue.clear();
        self.journal.reset();
        self.light = LightState::default();
    }

    pub(super) fn settings(&mut self, name: &str) -> Option<Map<String, serde_json::Value>> {
        self.index(name).map(|index| index.settings.clone())
    }
}
