//! `backfill` and `cancel_backfill`.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::attached_partitions::restart;
use super::sources::{self, fitting, snapshot_boundary_of, sources_of};
use super::{as_owner, caller, refuse_other_version, refuse_read_only, warn_unless_preloaded, Table};
use crate::backfill::SnapshotBoundary;
use crate::pg::backfill::{check, lock_against_writers, take, Bounds, OwnRows};
use crate::pg::report::{reported, sql_error, SqlError, SqlResult};
use crate::pg::rules::SourceRules;
use crate::pg::xact;
use crate::rules::{check_backfill, check_rows_per_second, Mode};

/// The rows that a backfill is to send, and how fast.
#[derive(Clone, Copy, Default)]
pub(super) struct HistoryRange {
    since: Option<TimestampWithTimeZone>,
    until: Option<TimestampWithTimeZone>,
    rows_per_second: Option<i32>,
}

#[pg_extern(sql = false)]
fn backfill(
    source: Option<pg_sys::Oid>,
    since: Option<TimestampWithTimeZone>,
    until: Option<TimestampWithTimeZone>,
    rows_per_second: Option<i32>,
) -> Result<(), ErrorReport> {
    let caller = caller();
    refuse_read_only(c"audit_algolia.backfill()");
    refuse_other_version()?;
    let range = HistoryRange { since, until, rows_per_second };
    reported(as_owner(|| {
        range.check()?;
        let mut table = Table::of(source, caller)?;
        let is_mirrored = |rules: &SourceRules| rules.mode == Mode::Mirror;
        if sources::rules_of(&table)?.iter().any(|(_, rules)| is_mirrored(rules)) {
            lock_against_writers(table.oid)?;
            // Another transaction, for which the lock was waited for, may have changed the table's owner.
            table = Table::of(source, caller)?;
        }
        let sources = fitting(sources::rules_of(&table)?, |rules| range.obstacle(rules))?;
        for (id, rules) in sources {
            let is_mirrored = is_mirrored(&rules);
            // A range of time is sent even if it was sent before. A mirrored table is sent as it is now, for not every
            // change since the watch began has been recorded.
            let (snapshot_boundary, writer) = snapshot_boundary_of(id)?;
            let snapshot_boundary = match is_mirrored || range.since.is_some() || range.until.is_some() {
                true => Some(take(table.oid, writer, OwnRows::since(writer))?),
                false => snapshot_boundary,
            };
            start(id, &table, range, snapshot_boundary.as_ref())?;
            if is_mirrored {
                restart(id, table.oid, |partition, snapshot_boundary| {
                    ask(id, partition, HistoryRange::default(), Some(snapshot_boundary), true).map(drop)
                })?;
            }
        }
        xact::note_stale();
        warn_unless_preloaded();
        Ok(())
    }))
}

impl HistoryRange {
    /// Why such a backfill of a source is impossible, if it is.
    fn obstacle(&self, rules: &SourceRules) -> Option<Box<SqlError>> {
        if let Err(error) = check_backfill(&rules.operations) {
            return Some(error.into());
        }
        check(rules, self.bounds()).err()
    }

    fn bounds(&self) -> Bounds {
        Bounds { since: self.since.is_some(), until: self.until.is_some() }
    }

    fn check(&self) -> SqlResult<()> {
        check_rows_per_second(self.rows_per_second)?;
        let is_empty = self.since.zip(self.until).is_some_and(|(since, until)| since >= until);
        match is_empty {
            false => Ok(()),
            true => Err(sql_error(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                "since must be before until",
                "A backfill sends the rows from since on and before until.",
            )),
        }
    }
}

/// Starts the backfill of a source.
pub(super) fn start(
    id: i32,
    table: &Table,
    range: HistoryRange,
    snapshot_boundary: Option<&SnapshotBoundary>,
) -> SqlResult<()> {
    let rules = sources::load_rules(id, table)?;
    if let Some(rules) = &rules {
        check(rules, range.bounds())?;
    }
    let is_mirrored = rules.is_some_and(|rules| rules.mode == Mode::Mirror);
    match ask(id, table.oid, range, snapshot_boundary, is_mirrored)? {
        true => Ok(()),
        false => Err(sql_error(
            PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
            format!("a backfill of table {} with another range is under way", table.name),
            "Wait until it has finished, or call audit_algolia.cancel_backfill() first.",
        )),
    }
}

/// Starts to read a table or a partition of a source. Returns `false` if it is already being read with another range.
fn ask(
    id: i32,
    relation: pg_sys::Oid,
    range: HistoryRange,
    snapshot_boundary: Option<&SnapshotBoundary>,
    is_mirrored: bool,
) -> SqlResult<bool> {
    Spi::connect_mut(|client| {
        let rows = client.update(
            include_str!("../../../sql/backfill/start_backfill.sql"),
            Some(1),
            &[
                id.into(),
                range.since.into(),
                range.until.into(),
                range.rows_per_second.into(),
                snapshot_boundary.map(SnapshotBoundary::to_numbers).into(),
                is_mirrored.into(),
                relation.into(),
            ],
        )?;
        Ok(!rows.is_empty())
    })
}

#[pg_extern(sql = false)]
fn cancel_backfill(source: Option<pg_sys::Oid>) -> Result<(), ErrorReport> {
    let caller = caller();
    refuse_read_only(c"audit_algolia.cancel_backfill()");
    refuse_other_version()?;
    reported(as_owner(|| {
        let table = Table::of(source, caller)?;
        for (id, _) in sources_of(&table, None)? {
            Spi::run_with_args(include_str!("../../../sql/backfill/cancel_backfill.sql"), &[id.into()])?;
        }
        xact::note_stale();
        Ok(())
    }))
}
