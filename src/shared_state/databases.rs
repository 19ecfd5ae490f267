//! The list of databases: which have the extension, and which are vacated for a statement.
#![forbid(unsafe_code)]

use super::{Database, Extension, LatchSet, Micros, SharedState, SlotState};

impl SharedState {
    /// The entry of a database, created if necessary. `None` if all entries are taken by databases that have the
    /// extension, or may have it.
    pub fn database_mut(&mut self, oid: u32) -> Option<&mut Database> {
        let known = self.databases.iter().position(|entry| entry.oid == oid);
        let place = known
            .or_else(|| self.databases.iter().position(|entry| entry.oid == 0))
            .or_else(|| self.databases.iter().position(|entry| self.is_needless(entry)))?;
        let entry = self.databases.get_mut(place)?;
        if known.is_none() {
            *entry = Database { oid, ..Database::EMPTY };
        }
        Some(entry)
    }

    /// Whether an entry only says that its database has no extension.
    fn is_needless(&self, entry: &Database) -> bool {
        let is_somebody_there = self
            .workers
            .iter()
            .any(|worker| worker.slot_state != SlotState::Free && worker.database == entry.oid);
        entry.extension == Extension::Absent
            && entry.vacating_statements == 0
            && entry.counter == 0
            && !is_somebody_there
    }

    /// Whether a database has an entry.
    pub fn knows(&self, oid: u32) -> bool {
        self.databases.iter().any(|entry| entry.oid == oid)
    }

    /// Whether every entry belongs to a database that has the extension.
    pub fn database_list_is_full(&self) -> bool {
        self.databases.iter().all(|entry| entry.oid != 0 && entry.extension == Extension::Present)
    }

    /// The databases that are known to have no extension.
    pub fn without_extension(&self) -> impl Iterator<Item = u32> + '_ {
        self.databases
            .iter()
            .filter(|entry| entry.oid != 0 && entry.extension == Extension::Absent)
            .map(|entry| entry.oid)
    }

    /// Records why workers of a database cannot work.
    pub fn note_trouble(&mut self, database: u32, trouble: &str, now: Micros) {
        if let Some(entry) = self.database_mut(database) {
            entry.trouble.set(trouble);
            entry.trouble_at = now;
        }
    }

    /// A worker of a database works, so the reason is forgotten.
    pub fn forget_trouble(&mut self, database: u32) {
        if let Some(entry) = self.databases.iter_mut().find(|entry| entry.oid == database) {
            entry.trouble.clear();
            entry.trouble_at = 0;
        }
    }

    /// Why workers of a database cannot work, and since when; `None` if one has worked since.
    pub fn trouble(&self, database: u32) -> Option<(&str, Micros)> {
        let entry = self.databases.iter().find(|entry| entry.oid == database)?;
        Some((entry.trouble.get()?, entry.trouble_at))
    }

    /// Asks all processes to leave a database, and keeps new ones away until `until`.
    pub fn vacate_database(&mut self, database: u32, until: Micros) -> LatchSet {
        if let Some(entry) = self.database_mut(database) {
            entry.vacating_statements = entry.vacating_statements.saturating_add(1);
            entry.vacated_until = until;
        }
        let mut latches = LatchSet::default();
        latches.add(self.backfiller(database).latch);
        for worker in self.workers_of(database) {
            worker.leave = true;
            latches.add(worker.latch);
        }
        latches
    }

    /// Whether a statement needs the database for itself.
    pub fn is_vacated(&self, database: u32, now: Micros) -> bool {
        self.databases.iter().any(|entry| entry.oid == database && entry.is_vacated(now))
    }

    /// Whether a process of ours is in a database, or being started there.
    pub fn is_occupied(&mut self, database: u32) -> bool {
        self.workers_of(database).next().is_some()
            || self
                .databases
                .iter()
                .any(|entry| entry.oid == database && (entry.counter != 0 || entry.backfiller.pid != 0))
    }

    /// Lets workers into a database again.
    pub fn readmit_workers(&mut self, database: u32) -> LatchSet {
        if let Some(entry) = self.database_mut(database) {
            entry.vacating_statements = entry.vacating_statements.saturating_sub(1);
        }
        self.wake_launcher()
    }
}
