//! What a backfill decides without a server: which rows the trigger has already captured, and how fast the backfill may
//! go.
//!
//! The *snapshot boundary* is the moment a table came under watch. Rows from before it are history, and the backfill
//! sends them. The trigger captures rows inserted since. The transaction that wrote a row tells which is which. If that
//! is unknown, the row is sent: its objectID derives from its key, so a resend changes nothing in the index.

#![forbid(unsafe_code)]

/// What is known of one version of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TupleVersion {
    /// The oid of the table or partition that holds it.
    pub relation: u32,
    /// The relfilenode of that table.
    pub file: u32,
    /// The transaction that wrote it: the 32 bits that the row stores.
    pub xmin: u32,
    /// Vacuum has frozen the row: its `xmin` may be from before a wraparound.
    pub frozen: bool,
    /// Written by an update, not by an insert.
    pub updated: bool,
    /// The command within its transaction that wrote it, if that is still known.
    pub command: Option<u32>,
}

/// Where a row that a backfill meets comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowOrigin {
    /// From before the snapshot boundary, or of unknown age: to be sent.
    History,
    /// Updated since the snapshot boundary. It may have been inserted before it.
    Changed,
    /// Inserted since the snapshot boundary, and captured then.
    Captured,
}

/// The moment a table came under watch, taken while nobody else could write to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotBoundary {
    /// The identifier of the cluster: after a restore elsewhere, the transaction numbers mean nothing.
    pub cluster: i64,
    /// The transaction that wrote the source's row of rules. A restore writes that row in another transaction, even
    /// into a copy of the cluster, which has the same identifier.
    pub rules: u32,
    /// The next transaction: this one and all later ones had not begun.
    pub next: i64,
    /// The transaction that called `watch`, and the number of that command, if it may have written to the table before.
    /// Rows that its later commands write are captured.
    pub own: Option<(i64, u32)>,
    /// Earlier transactions that were still running. None of them had written to the table.
    pub running: Vec<i64>,
    /// The table or its partitions, as pairs of oid and relfilenode. A table that is rewritten gets another
    /// relfilenode, and its rows get new transactions.
    pub files: Vec<(u32, u32)>,
}

impl SnapshotBoundary {
    /// Says where a row version comes from. `next` is the next transaction to begin.
    pub fn origin_of(&self, version: TupleVersion, next: i64) -> RowOrigin {
        let is_rewritten =
            self.files.iter().any(|(relation, file)| *relation == version.relation && *file != version.file);
        let xmin = widen(version.xmin, next);
        let is_own = self.own.is_some_and(|(own, watch)| {
            xmin == own && version.command.is_some_and(|command| command > watch)
        });
        let is_new = is_own || xmin >= self.next || self.running.contains(&xmin);
        if version.xmin < FIRST_NORMAL || !is_new {
            RowOrigin::History
        } else if version.updated {
            RowOrigin::Changed
        } else if is_rewritten || (version.frozen && next > i64::from(u32::MAX)) {
            // After a wraparound, a number may be older than it looks.
            RowOrigin::History
        } else {
            RowOrigin::Captured
        }
    }

    /// Whether it was taken after another of the same source, and therefore replaces it.
    pub fn succeeds(&self, other: &SnapshotBoundary) -> bool {
        (self.cluster, self.rules) == (other.cluster, other.rules) && self.next >= other.next
    }

    /// How far back, in transactions, a version can be anything but history. `next` is the next transaction to begin.
    pub fn relevant_age(&self, next: i64) -> i32 {
        let own = self.own.iter().map(|(own, _)| *own);
        let first = self.running.iter().copied().chain(own).fold(self.next, i64::min);
        i32::try_from(next.saturating_sub(first)).unwrap_or(i32::MAX)
    }

    /// The stored form: cluster, rules, next, own transaction (0: none) and command, the number of running
    /// transactions, the running transactions, and the files in pairs.
    pub fn to_numbers(&self) -> Vec<i64> {
        let (own, command) = self.own.unwrap_or_default();
        let (rules, running) = (i64::from(self.rules), self.running.len() as i64);
        let mut numbers = vec![self.cluster, rules, self.next, own, i64::from(command), running];
        numbers.extend(&self.running);
        numbers
            .extend(self.files.iter().flat_map(|(relation, file)| [i64::from(*relation), i64::from(*file)]));
        numbers
    }

    /// Reads the stored form; `None` if the numbers are not a snapshot boundary.
    pub fn from_numbers(numbers: &[i64]) -> Option<SnapshotBoundary> {
        let (&[cluster, rules, next, own, command, running], rest) = numbers.split_first_chunk()?;
        let (running, files) = rest.split_at_checked(usize::try_from(running).ok()?)?;
        let pairs = files.chunks(2).map(|pair| match pair {
            [relation, file] => Some((u32::try_from(*relation).ok()?, u32::try_from(*file).ok()?)),
            _ => None,
        });
        Some(SnapshotBoundary {
            cluster,
            rules: u32::try_from(rules).ok()?,
            next,
            own: if own == 0 { None } else { Some((own, u32::try_from(command).ok()?)) },
            running: running.to_vec(),
            files: pairs.collect::<Option<_>>()?,
        })
    }
}

/// Transactions before this one are special and always over.
const FIRST_NORMAL: u32 = 3;

/// The latest transaction before `next` whose number ends in these 32 bits.
fn widen(xid: u32, next: i64) -> i64 {
    const ROUND: i64 = 1 << 32;
    let candidate = (next & !(ROUND - 1)) | i64::from(xid);
    if candidate < next {
        candidate
    } else {
        candidate - ROUND
    }
}

/// Microseconds.
type Micros = i64;
const SECOND: f64 = 1e6;

/// Limits the rows per second. An allowance that is not used within a second expires.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    rows_per_second: f64,
    allowed: f64,
    at: Micros,
}

impl Pace {
    /// Starts with the allowance of a tenth of a second, and at least one row.
    pub fn new(rows_per_second: i32, now: Micros) -> Pace {
        let rows_per_second = f64::from(rows_per_second.max(1));
        Pace { rows_per_second, allowed: (rows_per_second / 10.0).max(1.0), at: now }
    }

    /// How many rows may be read now: either none, or at least a tenth of a second's worth.
    pub fn allowance(&mut self, now: Micros) -> i64 {
        let passed = now.saturating_sub(self.at).max(0) as f64 / SECOND;
        self.allowed = (self.allowed + passed * self.rows_per_second).min(self.rows_per_second.max(1.0));
        self.at = now;
        if self.allowed < self.portion() {
            0
        } else {
            self.allowed as i64
        }
    }

    /// Records that `rows` rows were read.
    pub fn spend(&mut self, rows: i64) {
        self.allowed -= rows as f64;
    }

    /// When there is an allowance again.
    pub fn opens_at(&self) -> Micros {
        let missing = (self.portion() - self.allowed).max(0.0);
        self.at.saturating_add((missing / self.rows_per_second * SECOND).ceil() as Micros)
    }

    /// The smallest allowance that is worth a transaction.
    fn portion(&self) -> f64 {
        (self.rows_per_second / 10.0).max(1.0)
    }
}

/// Rows per second, averaged over about ten seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    pub per_second: f64,
    /// When rows were last added; 0: never.
    pub at: Micros,
}

impl Rate {
    /// Adds `rows` rows that were processed up to `now`. In the first seconds the rate is the mean since `started_at`.
    pub fn add(&mut self, rows: i64, started_at: Micros, now: Micros) {
        const WINDOW: f64 = 10.0;
        let since = if self.at == 0 { started_at } else { self.at };
        let seconds = now.saturating_sub(since).max(1) as f64 / SECOND;
        let age = (now.saturating_sub(started_at) as f64 / SECOND).max(seconds);
        let weight = if age < WINDOW { seconds / age } else { 1.0 - (-seconds / WINDOW).exp() };
        self.per_second += weight * (rows as f64 / seconds - self.per_second);
        self.at = now;
    }
}

#[cfg(test)]
mod tests;
