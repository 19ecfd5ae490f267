//! `reconcile`: compares what an index holds with what it should hold, and queues corrections like any other work.
//!
//! The session reads the table and the queue, and asks Algolia what the index has; a thread of its own waits for the
//! network. It keeps one page of rows and a bounded number of mismatches in memory, and checks for interrupts
//! throughout.
//!
//! Meanwhile rows are written, queued, delivered and indexed. So a first look only finds possible mismatches, and only
//! confirmed ones are counted (`mismatches.rs`). A mismatch is confirmed if nothing of its object waited in the queue,
//! everything delivered had been indexed, and the row was the same before and after Algolia was asked.

mod compare_rows;
mod comparison;
mod corrections;
mod index_client;
mod mismatches;
mod orphans;

use std::rc::Rc;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::sources::{fitting, watched};
use super::{as_owner, caller, refuse_other_version, refuse_read_only, Table};
use crate::pg::capture::{OpenTables, QueueWriter};
use crate::pg::error_context::with_error_context;
use crate::pg::latest_snapshot::first_row;
use crate::pg::owner::{as_user, pin_output_settings, set_locally};
use crate::pg::report::{reported, sql_error, SqlError, SqlResult};
use crate::pg::rules::SourceRules;
use crate::record::Operation;
use crate::rules::Mode;
use comparison::{Comparison, Tally, TimeRange};
use corrections::{Corrections, PendingCorrections};
use index_client::{AlgoliaClient, IndexClient};

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "pgrx reads the columns' names off the type")]
fn reconcile(
    source: Option<pg_sys::Oid>,
    since: Option<TimestampWithTimeZone>,
    until: Option<TimestampWithTimeZone>,
    repair: Option<bool>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(checked, i64),
            name!(missing, i64),
            name!(different, i64),
            name!(orphaned, i64),
            name!(repaired, i64),
        ),
    >,
    ErrorReport,
> {
    refuse_other_version()?;
    let repair = repair.unwrap_or(false);
    if repair {
        refuse_read_only(c"audit_algolia.reconcile(repair => true)");
    }
    let window = TimeRange { since: finite(since), until: finite(until) };
    reported(with_error_context(|| compare(source, window, repair))).map(|found| {
        let Tally { checked, missing, different, orphaned, repaired } = found;
        TableIterator::once((checked, missing, different, orphaned, repaired))
    })
}

/// Infinity counts as no bound.
fn finite(moment: Option<TimestampWithTimeZone>) -> Option<i64> {
    moment.map(i64::from).filter(|micros| *micros != i64::MIN && *micros != i64::MAX)
}

fn compare(source: Option<pg_sys::Oid>, window: TimeRange, repair: bool) -> SqlResult<Tally> {
    if let (Some(since), Some(until)) = (window.since, window.until) {
        if since > until {
            return Err(sql_error(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                "since must not be later than until",
                "Rows are compared from since on and before until.",
            ));
        }
    }
    let caller = caller();
    let (table, sources) = watched(source, caller)?;
    let sources = as_owner(|| {
        fitting(sources, |rules| {
            if rules.are_changes() {
                return Some(changes_are_not_compared(&table, &rules.operations));
            }
            (window.is_bounded() && rules.time_column.is_none()).then(|| no_time_column(&table))
        })
    })?;
    let algolia = Rc::new(AlgoliaClient::open()?);
    let (mut total, mut corrections) = (Tally::default(), Vec::new());
    for (id, rules) in sources {
        let (found, pending_corrections) =
            compare_source(&table, caller, (id, rules), &algolia, window, repair)?;
        total.checked += found.checked;
        total.missing += found.missing;
        total.different += found.different;
        total.orphaned += found.orphaned;
        total.repaired += found.repaired;
        corrections.extend(pending_corrections);
    }
    total.repaired += corrections::make(corrections, caller)?;
    Ok(total)
}

fn no_time_column(table: &Table) -> Box<SqlError> {
    sql_error(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        format!("since and until need a time_column, but table {} is watched without one", table.name),
        "Leave since and until out, or watch the table with a time_column.",
    )
}

fn changes_are_not_compared(table: &Table, operations: &[Operation]) -> Box<SqlError> {
    let words: Vec<&str> = operations.iter().map(|operation| operation.word()).collect();
    sql_error(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        format!(
            "the records of table {} are change records, which cannot be compared with its rows",
            table.name
        ),
        "Only mirrored tables, and tables of which only inserts are watched, can be compared.",
    )
    .with_detail(format!("It is watched in append mode for {}.", words.join(", ")))
}

/// Rows that a backfill has not reached yet count as missing. The backfill sends them after live rows, but a repair
/// would send them too early.
fn check_backfill_under_way(table: &Table, source: i32, repair: bool) -> SqlResult<()> {
    let arguments = [(pg_sys::INT4OID, source.into())];
    let query = include_str!("../../../../sql/reconcile/is_backfilled.sql");
    if first_row(query, &arguments, |row| Ok(row.get::<bool>(1)))?.flatten() != Some(true) {
        return Ok(());
    }
    let message = format!("a backfill of table {} is under way", table.name);
    if repair {
        return Err(sql_error(
            PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
            message,
            "Wait until audit_algolia.backfill_progress shows it as finished, or stop it with audit_algolia.cancel_backfill().",
        ));
    }
    ereport!(
        PgLogLevel::NOTICE,
        PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
        message,
        "Rows that it has not reached yet count as missing."
    );
    Ok(())
}

/// Nothing is in the queue for changes that could not be captured.
fn warn_of_repairs(index_id: i32) -> SqlResult<()> {
    let query = include_str!("../../../../sql/counts/count_repairs_of_index.sql");
    let count = first_row(query, &[(pg_sys::INT4OID, index_id.into())], |row| Ok(row.get::<i64>(1)))?;
    let count = count.flatten().unwrap_or_default();
    if count > 0 {
        ereport!(
            PgLogLevel::NOTICE,
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            format!("{count} changes for the index could not be captured and are still to be repaired"),
            "Their records may count as missing, different or orphaned."
        );
    }
    Ok(())
}

fn compare_source(
    table: &Table,
    caller: pg_sys::Oid,
    (id, rules): (i32, SourceRules),
    algolia: &Rc<AlgoliaClient>,
    window: TimeRange,
    repair: bool,
) -> SqlResult<(Tally, Option<Corrections>)> {
    let (index_client, neighbours) = as_owner(|| {
        check_backfill_under_way(table, id, repair)?;
        warn_of_repairs(rules.index_id)?;
        let index = index_client::index_name(rules.index_id)?;
        let index_client = IndexClient::new(algolia.clone(), rules.index_id, index);
        Ok((index_client, orphans::neighbours(rules.index_id, id)?))
    })?;
    let rules = Rc::new(rules);
    // Runs with the caller's rights. Rows hidden by row security would look as if they were deleted, so with
    // row_security off that is an error.
    as_user(caller, || {
        pin_output_settings();
        set_locally(c"row_security", c"off");
        let present = match rules.mode {
            Mode::Append => None,
            Mode::Mirror => Some(OpenTables::open(rules.clone(), table.kind == "p")?),
        };
        let is_mirrored = present.is_some();
        let writer =
            if repair && !is_mirrored { Some(QueueWriter::open_for_many(rules.index_id, id)?) } else { None };
        let pending_corrections = (repair && is_mirrored).then(PendingCorrections::default);
        let tally = Tally::default();
        let mut comparison = Comparison {
            table,
            id,
            rules,
            index_client,
            window,
            present,
            backlog: None,
            writer,
            pending_corrections,
            tally,
        };
        comparison.compare_rows()?;
        if is_mirrored {
            comparison.find_orphans(&neighbours)?;
        }
        if let Some(writer) = comparison.writer.take() {
            writer.close();
        }
        let Comparison { rules, present, pending_corrections, tally, .. } = comparison;
        let corrections =
            present.zip(pending_corrections).map(|(present, pending_corrections)| Corrections {
                source: id,
                index_id: rules.index_id,
                table: table.name.clone(),
                present,
                pending_corrections,
            });
        Ok((tally, corrections))
    })
}
