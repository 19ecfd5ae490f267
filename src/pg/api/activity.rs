//! `activity`: who did what within a period, counted in a watched table itself.

use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::arguments::text;
use super::{as_owner, caller, no_such_table, no_table, refuse_other_version};
use crate::pg::latest_snapshot::{first_row, ResultRow};
use crate::pg::report::{reported, sql_error, SqlError, SqlResult};
use crate::pg::rules::column_is_gone;
use crate::rules::check_column;

type Rows = Vec<(Option<String>, i64, i64)>;

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn activity(
    source: Option<pg_sys::Oid>,
    at: Option<TimestampWithTimeZone>,
    span: Option<Interval>,
    actor_column: Option<&str>,
    action_column: Option<&str>,
) -> Result<
    TableIterator<'static, (name!(action, Option<String>), name!(events, i64), name!(unique_actors, i64))>,
    ErrorReport,
> {
    refuse_other_version()?;
    let rows = Period::new(at, span).and_then(|window| {
        let (actor_column, action_column) =
            (text("actor_column", actor_column)?, text("action_column", action_column)?);
        let table = TimedTable::locked(source)?;
        let actor = table.column("actor_column", actor_column.as_deref())?;
        let action = table.column("action_column", action_column.as_deref())?;
        table.count(&window, actor, action)
    });
    reported(rows).map(TableIterator::new)
}

/// The moments after `from`, up to and including `to`.
struct Period {
    from: TimestampWithTimeZone,
    to: TimestampWithTimeZone,
}

impl Period {
    fn new(at: Option<TimestampWithTimeZone>, span: Option<Interval>) -> SqlResult<Period> {
        let (Some(at), Some(span)) = (at, span) else {
            return Err(sql_error(
                PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
                "at and span must not be null",
                "Pass, for instance, now() and interval '1 hour'.",
            ));
        };
        let (from, is_finite, is_forward) = Spi::connect(|client| -> SqlResult<_> {
            let rows = client.select(
                include_str!("../../../sql/api/window.sql"),
                Some(1),
                &[at.into(), span.into()],
            )?;
            let row = rows.first();
            Ok((row.get(1)?, row.get::<bool>(2)?, row.get::<bool>(3)?))
        })?;
        match (from, is_finite, is_forward) {
            (Some(from), Some(true), Some(true)) => Ok(Period { from, to: at }),
            (_, Some(true), _) => Err(sql_error(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                "span must be an interval of zero or more",
                "Pass the length of the window that ends at at, for instance interval '1 hour'.",
            )),
            _ => Err(sql_error(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                "at must be finite",
                "Pass the end of the window, for instance now().",
            )),
        }
    }
}

/// A watched table with a time column.
struct TimedTable {
    /// Quoted and qualified.
    name: String,
    columns: Vec<String>,
    /// Quoted.
    time_column: String,
    /// Writes a bound of the window in the type of the time column, given the parameter that holds it.
    bound: fn(&str) -> String,
}

impl TimedTable {
    /// Finds a table that the caller may read, and locks it, so that it keeps its name.
    fn locked(source: Option<pg_sys::Oid>) -> SqlResult<TimedTable> {
        TimedTable::of(source)?;
        let oid = source.ok_or_else(no_table)?;
        // SAFETY: the OID is that of a table that was just found. As with a query, the lock is held until the
        // transaction ends.
        unsafe { pg_sys::LockRelationOid(oid, pg_sys::AccessShareLock as i32) };
        // Another transaction, for which the lock was waited for, may have renamed or replaced the table.
        TimedTable::of(source)
    }

    fn of(source: Option<pg_sys::Oid>) -> SqlResult<TimedTable> {
        let oid = source.ok_or_else(no_table)?;
        let arguments = [(pg_sys::OIDOID, oid.into()), (pg_sys::OIDOID, caller().into())];
        let query = include_str!("../../../sql/api/find_time_column.sql");
        let found = as_owner(|| first_row(query, &arguments, TimedTable::read))?;
        found.ok_or_else(|| no_such_table(oid))
    }

    fn read(row: &ResultRow) -> SqlResult<TimedTable> {
        let text = |ordinal| row.get::<String>(ordinal).unwrap_or_default();
        let (schema, bare_name) = (text(2), text(3));
        let name = spi::quote_qualified_identifier(&schema, &bare_name);
        if row.get(1) != Some(true) {
            return Err(sql_error(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("permission denied for table {name}"),
                "The rows are counted with the caller's privileges: GRANT SELECT on the table.",
            ));
        }
        if row.get(4) != Some(true) {
            return Err(sql_error(
                PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
                format!("table {name} is not watched"),
                "SELECT source, index_name FROM audit_algolia.sources lists the watched tables.",
            ));
        }
        let Some(time_column) = row.get::<String>(5) else {
            return Err(sql_error(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("table {name} is watched without a time column"),
                "Call audit_algolia.unwatch() and then audit_algolia.watch() with time_column => '…'.",
            ));
        };
        let Some(kind) = row.get::<pg_sys::Oid>(6) else {
            return Err(column_is_gone(&time_column, &bare_name));
        };
        let columns = row.get::<Vec<Option<String>>>(7).unwrap_or_default();
        Ok(TimedTable {
            bound: bound(kind).ok_or_else(|| not_a_time(&time_column, &name))?,
            time_column: spi::quote_identifier(time_column),
            columns: columns.into_iter().flatten().collect(),
            name,
        })
    }

    /// Returns the column that an argument names. An error names the argument, for it may have been left out.
    fn column<'a>(&self, argument: &'static str, name: Option<&'a str>) -> SqlResult<&'a str> {
        check_column(argument, name, &self.columns).map_err(|error| {
            Box::<SqlError>::from(error).with_detail(format!(
                "It was passed to audit_algolia.activity() as {argument} for table {}.",
                self.name
            ))
        })
    }

    /// Counts the rows in the window. The query runs with the caller's rights, so that row security policies apply. It
    /// compares the time column itself with bounds that are constant at planning, so that partitions can be pruned and
    /// an index can be used.
    fn count(&self, window: &Period, actor: &str, action: &str) -> SqlResult<Rows> {
        let TimedTable { name, time_column, bound, .. } = self;
        let (actor, action) = (spi::quote_identifier(actor), spi::quote_identifier(action));
        // The names are quoted names from the catalogs. Values are compared as text, because every type can be cast to
        // text, and with the collation "C", because it is the fastest.
        let query = format!(
            "select v.action, pg_catalog.count(*), pg_catalog.count(distinct v.actor)
             from (
                 select t.{action}::pg_catalog.text collate \"C\", t.{actor}::pg_catalog.text collate \"C\"
                 from {name} as t
                 where t.{time_column} > {from} and t.{time_column} <= {to}
             ) as v (action, actor)
             group by grouping sets ((v.action), ())
             having v.action is not null or grouping(v.action) = 1
             order by grouping(v.action), 2 desc, 1",
            from = bound("$1"),
            to = bound("$2"),
        );
        Spi::connect(|client| {
            let mut counted = Rows::new();
            for row in client.select(query.as_str(), None, &[window.from.into(), window.to.into()])? {
                let (events, actors) = (row.get(2)?.unwrap_or_default(), row.get(3)?.unwrap_or_default());
                counted.push((row.get(1)?, events, actors));
            }
            Ok(counted)
        })
    }
}

/// Returns how a moment is written in a type of time or a domain over one; `None` for other types. Timestamps without a
/// time zone are read as UTC. A date counts as its midnight, so it is in the window if it is in the range between the
/// dates of the window's ends.
fn bound(kind: pg_sys::Oid) -> Option<fn(&str) -> String> {
    // SAFETY: a catalog lookup, for a type that was just found in the catalogs.
    match unsafe { pg_sys::getBaseType(kind) } {
        pg_sys::TIMESTAMPTZOID => Some(|moment| moment.to_owned()),
        pg_sys::TIMESTAMPOID => Some(|moment| format!("pg_catalog.timezone('UTC', {moment})")),
        pg_sys::DATEOID => Some(|moment| format!("pg_catalog.timezone('UTC', {moment})::pg_catalog.date")),
        _ => None,
    }
}

fn not_a_time(column: &str, table: &str) -> Box<SqlError> {
    sql_error(
        PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
        format!("time column \"{column}\" of table {table} is neither a timestamp nor a date"),
        "Watch the table with a time_column of type timestamptz, timestamp or date.",
    )
}
