//! Which extension a database has. Lanes and claims belong to that extension.
//!
//! An extension that is dropped and created again hands out the same ids again. So no worker may go on with what it
//! knows of the old one.
#![forbid(unsafe_code)]

use super::{Extension, LatchSet, Micros, SharedState};

/// What a worker does after it has looked for the extension in its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtensionCheck {
    /// Something changed while it looked.
    LookAgain,
    Serve,
    Leave,
}

impl SharedState {
    /// The extension may have been created or dropped in a database: launcher and workers have to look. Both are told
    /// under the same lock. If a worker looked in between, the launcher would wait for an answer that was already
    /// given.
    pub fn extension_changed(&mut self, oid: u32) -> LatchSet {
        match self.database_mut(oid) {
            Some(database) => {
                database.extension = Extension::Unknown;
                database.crashes = 0;
                database.trouble.clear();
                database.restart_at = 0;
            }
            None => self.unlisted_database = oid,
        }
        self.mark_stale(oid).and(self.wake_launcher())
    }

    /// Tells all workers of a database that its indices, their names or its extension may have changed.
    pub fn mark_stale(&mut self, database: u32) -> LatchSet {
        let mut latches = LatchSet::default();
        for worker in self.workers_of(database) {
            worker.stale = true;
            latches.add(worker.latch);
        }
        latches
    }

    /// A worker is about to look for the extension. Changes from now on are noticed.
    pub fn begin_extension_check(&mut self, slot: usize) {
        if let Some(me) = self.workers.get_mut(slot) {
            me.stale = false;
        }
    }

    /// A worker has looked. `found` is the extension's oid; 0: there is none. If the extension was dropped, its lanes
    /// are closed and the workers that served it leave, because its row ids will be used again.
    pub fn finish_extension_check(&mut self, slot: usize, found: u32) -> (ExtensionCheck, LatchSet) {
        let mut latches = LatchSet::default();
        let Some((database, served)) =
            self.workers.get(slot).filter(|me| !me.stale).map(|me| (me.database, me.extension))
        else {
            return (ExtensionCheck::LookAgain, latches);
        };
        let outdated = served != 0 && served != found;
        let launcher = self.launcher_latch;
        let Some(entry) = self.database_mut(database) else {
            return (ExtensionCheck::Leave, latches);
        };
        let extension = if found == 0 { Extension::Absent } else { Extension::Present };
        let known = std::mem::replace(&mut entry.extension_oid, found);
        let is_news = std::mem::replace(&mut entry.extension, extension) != extension;
        if is_news {
            self.launcher_called = true;
            latches.add(launcher);
        }
        if known != found && (known != 0 || found == 0) {
            self.close_lanes(database);
        }
        if let Some(me) = self.workers.get_mut(slot) {
            me.extension = found;
        }
        if found == 0 || outdated {
            (ExtensionCheck::Leave, latches)
        } else {
            (ExtensionCheck::Serve, latches)
        }
    }

    /// Records that an index was paused or resumed.
    pub fn set_paused(&mut self, database: u32, index_id: i32, paused: bool) {
        if let Some(lane) = self.lane_mut(database, index_id) {
            lane.paused = paused;
        }
    }

    /// Opens the lane of an index. A new lane must read the whole key range, because rows may be left from before the
    /// server started. `false` if no lane is free.
    pub fn open_lane(&mut self, database: u32, index_id: i32, paused: bool, now: Micros) -> bool {
        let Some(lane) = self.lane_mut(database, index_id) else {
            return false;
        };
        lane.paused = paused;
        // The lane waits without a failure: rows were claimed before the index was visible in its table.
        if lane.failures == 0 {
            lane.retry_at = 0;
        }
        if lane.stats_reset == 0 {
            lane.stats_reset = now;
        }
        if !lane.swept {
            lane.sweep();
        }
        true
    }
}
