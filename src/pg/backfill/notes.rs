//! The table of repairs: which are due, and what has become of them.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::book::lock_named;
use crate::delivery::culprit::object_id;
use crate::ledger::Micros;
use crate::pg::capture::{Made, Uncaptured};
use crate::pg::report::Outcome;
use crate::pg::texts::{Bytes, Texts};
use crate::pg::worker::storable;
use crate::pg::xact;
use crate::record::Operation;

/// Repairs of one table for one index.
pub(super) struct Group {
    pub(super) table: pg_sys::Oid,
    pub(super) index_id: i32,
    /// When the first of them is.
    pub(super) due: Micros,
    pub(super) source: i32,
    /// The table is no more.
    pub(super) is_gone: bool,
    /// Why they cannot be made yet.
    pub(super) obstacle: Option<String>,
}

/// A repair as it is noted.
pub(super) struct Noted {
    id: i64,
    pub(super) change: Uncaptured,
    error: String,
    enqueued_at: Option<TimestampWithTimeZone>,
    attempts: i32,
}

/// What became of a repair.
pub(super) enum Fate {
    /// It has been made, or there is nothing to make.
    Ended,
    /// It is tried again at once.
    Busy,
    /// It could not be made, for this reason.
    Failed(Option<String>),
    /// It cannot be made any more; the record that is left of it.
    Lost(String),
}

impl Fate {
    pub(super) fn of(made: Made) -> Fate {
        match made {
            Made::Queued | Made::LeftOut => Fate::Ended,
            Made::Busy => Fate::Busy,
            Made::Lost(record) => Fate::Lost(record),
        }
    }
}

/// Locks all of the extension's that a step takes, if that needs no waiting.
pub(super) fn lock_notes() -> bool {
    let tables = [
        (c"repair", pg_sys::RowExclusiveLock),
        (c"source", pg_sys::AccessShareLock),
        (c"queue", pg_sys::RowExclusiveLock),
        (c"queue_block", pg_sys::RowExclusiveLock),
        (c"dead_letter", pg_sys::RowExclusiveLock),
    ];
    tables.into_iter().all(|(name, mode)| lock_named(name, mode).is_some())
}

/// The tables and indices that have repairs.
pub(super) fn groups() -> Outcome<Vec<Group>> {
    Spi::connect_mut(|client| {
        let mut groups = Vec::new();
        // Not a read-only query: it is to see what has been committed meanwhile.
        for row in client.update(include_str!("../../../sql/repair_groups.sql"), None, &[])? {
            groups.push(Group {
                table: row.get(1)?.unwrap_or(pg_sys::InvalidOid),
                index_id: row.get(2)?.unwrap_or_default(),
                due: row.get::<TimestampWithTimeZone>(3)?.map_or(0, |time| time.into_inner()),
                source: row.get(4)?.unwrap_or_default(),
                is_gone: row.get(5)?.unwrap_or_default(),
                obstacle: row.get(6)?,
            });
        }
        Ok(groups)
    })
}

/// The repairs that are due, locked.
pub(super) fn due(group: &Group, now: Micros, limit: i64) -> Outcome<Vec<Noted>> {
    Spi::connect_mut(|client| {
        let arguments = [group.table.into(), group.index_id.into(), time(now).into(), limit.into()];
        let mut due = Vec::new();
        for row in client.update(include_str!("../../../sql/due_repairs.sql"), None, &arguments)? {
            let names: Vec<Option<String>> = row.get(3)?.unwrap_or_default();
            due.push(Noted {
                id: row.get(1)?.unwrap_or_default(),
                change: Uncaptured {
                    operation: row
                        .get::<String>(2)?
                        .and_then(|word| Operation::of(&word))
                        .unwrap_or(Operation::Insert),
                    key_columns: names.into_iter().flatten().collect(),
                    key: row.get(4)?.unwrap_or(Texts(Vec::new())),
                    number: row.get(5)?.unwrap_or_default(),
                    changed_by: row.get::<Bytes>(6)?,
                    changed_at: row.get::<TimestampWithTimeZone>(7)?.map(|time| time.into_inner()),
                    transaction_id: row.get(8)?,
                },
                error: row.get(9)?.unwrap_or_default(),
                enqueued_at: row.get(10)?,
                attempts: row.get(11)?.unwrap_or_default(),
            });
        }
        Ok(due)
    })
}

/// Writes down what has become of repairs; `when` tells when one is tried again that has been tried so often.
pub(super) fn settle(
    group: &Group,
    fates: Vec<(Noted, Fate)>,
    mut when: impl FnMut(&Fate, i32) -> Micros,
) -> Outcome<()> {
    let (mut ended, mut lost) = (Vec::new(), Vec::new());
    let (mut ids, mut errors, mut times, mut counts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (noted, fate) in fates {
        match fate {
            Fate::Ended => ended.push(noted.id),
            Fate::Lost(record) => {
                ended.push(noted.id);
                lost.push((noted, record));
            }
            fate => {
                ids.push(noted.id);
                times.push(time(when(&fate, noted.attempts)));
                counts.push(matches!(fate, Fate::Failed(_)));
                errors.push(match fate {
                    Fate::Failed(why) => why,
                    _ => None,
                });
            }
        }
    }
    Spi::connect_mut(|client| -> Outcome<()> {
        if !ids.is_empty() {
            let arguments = [ids.into(), errors.into(), times.into(), counts.into()];
            client.update(include_str!("../../../sql/postpone_repairs.sql"), None, &arguments)?;
        }
        if !ended.is_empty() {
            xact::note_repairs(group.index_id, -(ended.len() as i64));
            client.update(include_str!("../../../sql/end_repairs.sql"), None, &[ended.into()])?;
        }
        for (noted, record) in &lost {
            let arguments = [
                group.index_id.into(),
                group.source.into(),
                noted.change.number.into(),
                noted.enqueued_at.into(),
                record.clone().into(),
                object_id(record).map(|id| storable(&id)).into(),
                noted.attempts.into(),
                format!("not captured: {}; only the key is known of the row now", noted.error).into(),
            ];
            client.update(include_str!("../../../sql/bury_repair.sql"), None, &arguments)?;
        }
        if !lost.is_empty() {
            xact::note_dead(group.index_id, lost.len() as i64);
        }
        Ok(())
    })
}

fn time(micros: Micros) -> Option<TimestampWithTimeZone> {
    TimestampWithTimeZone::try_from(micros).ok()
}
