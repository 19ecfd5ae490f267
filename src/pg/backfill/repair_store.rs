//! Reads and writes the table of repairs: which are due, and what became of them.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::delivery::offending_record::object_id;
use crate::pg::capture::{RepairOutcome, SkippedChange};
use crate::pg::locks::try_lock_named;
use crate::pg::owner::{as_user, extension_objects};
use crate::pg::report::SqlResult;
use crate::pg::text_datum::{TextArray, TextBytes};
use crate::pg::worker::storable;
use crate::pg::xact;
use crate::record::Operation;
use crate::shared_state::Micros;

/// The repairs of one table for one index.
pub(super) struct RepairGroup {
    pub(super) table: pg_sys::Oid,
    pub(super) index_id: i32,
    /// When the first of them is due.
    pub(super) due: Micros,
    pub(super) source: i32,
    /// The table has been dropped.
    pub(super) is_gone: bool,
    /// Why they cannot be made yet.
    pub(super) obstacle: Option<String>,
}

/// A stored repair.
pub(super) struct Repair {
    pub(super) id: RepairId,
    pub(super) change: SkippedChange,
    error: String,
    enqueued_at: Option<TimestampWithTimeZone>,
}

/// Identifies a repair, with the number of attempts so far.
#[derive(Clone, Copy)]
pub(super) struct RepairId {
    number: i64,
    pub(super) attempts: i32,
}

/// What became of a repair.
pub(super) enum RepairStatus {
    /// It was made, or there was nothing to make.
    Done,
    /// Somebody is changing the row or delivering its former version: it is tried again soon.
    Busy,
    /// It failed, for this reason.
    Failed(Option<String>),
    /// It can no longer be made: the record that is left, and why.
    Unrepairable(String, &'static str),
}

impl RepairStatus {
    pub(super) fn of(made: RepairOutcome) -> RepairStatus {
        match made {
            RepairOutcome::Queued | RepairOutcome::NotWanted => RepairStatus::Done,
            RepairOutcome::Busy => RepairStatus::Busy,
            RepairOutcome::KeyOnly(record) => {
                RepairStatus::Unrepairable(record, "only the row's key is still known")
            }
            RepairOutcome::OtherKey(record) => {
                RepairStatus::Unrepairable(record, "its key is not the one by which the table is now watched")
            }
        }
    }
}

/// Locks all tables of the extension that a step uses, if that is possible without waiting.
pub(super) fn lock_tables() -> bool {
    let tables = [
        (c"repair", pg_sys::RowExclusiveLock),
        (c"source", pg_sys::AccessShareLock),
        (c"queue", pg_sys::RowExclusiveLock),
        (c"queue_block", pg_sys::RowExclusiveLock),
        (c"dead_letter", pg_sys::RowExclusiveLock),
    ];
    tables.into_iter().all(|(name, mode)| try_lock_named(name, mode).is_some())
}

/// The tables and indices that have repairs.
pub(super) fn groups() -> SqlResult<Vec<RepairGroup>> {
    Spi::connect_mut(|client| {
        let mut groups = Vec::new();
        // Not a read-only query, because it must see what has been committed meanwhile.
        for row in client.update(include_str!("../../../sql/backfill/repair_groups.sql"), None, &[])? {
            groups.push(RepairGroup {
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

/// Locks and returns the repairs that are due.
pub(super) fn due(group: &RepairGroup, now: Micros, limit: i64) -> SqlResult<Vec<Repair>> {
    Spi::connect_mut(|client| {
        let arguments = [group.table.into(), group.index_id.into(), time(now).into(), limit.into()];
        let mut due = Vec::new();
        for row in client.update(include_str!("../../../sql/backfill/due_repairs.sql"), None, &arguments)? {
            let names: Vec<Option<String>> = row.get(2)?.unwrap_or_default();
            let number = row.get(4)?.unwrap_or_default();
            due.push(Repair {
                id: RepairId { number, attempts: row.get(10)?.unwrap_or_default() },
                change: SkippedChange {
                    operation: row
                        .get::<String>(1)?
                        .and_then(|word| Operation::of(&word))
                        .unwrap_or(Operation::Insert),
                    key_columns: names.into_iter().flatten().collect(),
                    key: row.get(3)?.unwrap_or(TextArray(Vec::new())),
                    number,
                    changed_by: row.get::<TextBytes>(5)?,
                    changed_at: row.get::<TimestampWithTimeZone>(6)?.map(|time| time.into_inner()),
                    transaction_id: row.get(7)?,
                },
                error: row.get(8)?.unwrap_or_default(),
                enqueued_at: row.get(9)?,
            });
        }
        Ok(due)
    })
}

/// Stores what became of repairs. `when` says when a repair is tried again, given its attempts.
pub(super) fn settle(
    group: &RepairGroup,
    outcomes: Vec<(Repair, RepairStatus)>,
    mut when: impl FnMut(&RepairStatus, i32) -> Micros,
) -> SqlResult<()> {
    let (mut ended, mut lost) = (Vec::new(), Vec::new());
    let (mut numbers, mut errors, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for (repair, status) in outcomes {
        match status {
            RepairStatus::Done => ended.push(repair.id.number),
            RepairStatus::Unrepairable(record, why) => {
                ended.push(repair.id.number);
                lost.push((repair, record, why));
            }
            status => {
                numbers.push(repair.id.number);
                times.push(time(when(&status, repair.id.attempts)));
                errors.push(match status {
                    RepairStatus::Failed(why) => why,
                    _ => None,
                });
            }
        }
    }
    if !numbers.is_empty() {
        write_postponed(numbers, errors, times)?;
    }
    Spi::connect_mut(|client| -> SqlResult<()> {
        if !ended.is_empty() {
            xact::note_repairs(group.index_id, -(ended.len() as i64));
            client.update(include_str!("../../../sql/backfill/end_repairs.sql"), None, &[ended.into()])?;
        }
        for (repair, record, why) in &lost {
            let arguments = [
                group.index_id.into(),
                group.source.into(),
                repair.change.number.into(),
                repair.enqueued_at.into(),
                record.clone().into(),
                object_id(record).map(|id| storable(&id)).into(),
                repair.id.attempts.into(),
                format!("not captured: {}; {why}", repair.error).into(),
            ];
            client.update(include_str!("../../../sql/backfill/dead_letter_repair.sql"), None, &arguments)?;
        }
        if !lost.is_empty() {
            xact::note_dead(group.index_id, lost.len() as i64);
        }
        Ok(())
    })
}

/// Postpones a repair whose attempt has failed the whole step.
pub(super) fn postpone(id: RepairId, error: String, until: Micros) -> SqlResult<()> {
    if !lock_tables() {
        return Ok(());
    }
    as_user(extension_objects()?.owner, || {
        write_postponed(vec![id.number], vec![Some(error)], vec![time(until)])
    })
}

fn write_postponed(
    numbers: Vec<i64>,
    errors: Vec<Option<String>>,
    times: Vec<Option<TimestampWithTimeZone>>,
) -> SqlResult<()> {
    let arguments = [numbers.into(), errors.into(), times.into()];
    Ok(Spi::run_with_args(include_str!("../../../sql/backfill/postpone_repairs.sql"), &arguments)?)
}

fn time(micros: Micros) -> Option<TimestampWithTimeZone> {
    TimestampWithTimeZone::try_from(micros).ok()
}
