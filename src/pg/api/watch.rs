//! `watch` and `unwatch`.

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::{as_owner, caller, my_database, no_such_index, warn_unless_preloaded, Table};
use crate::pg::report::{failure, reported, Outcome};
use crate::pg::rules::no_pseudonym_key;
use crate::pg::{guc, shmem, xact};
use crate::rules::{
    check_backfill, check_facets, check_filter, check_index_name, check_mode, check_object_id,
    check_operations, check_pseudonymize, check_time_column, parse_columns, Column, RuleError,
};

/// An array argument: null, or entries each of which may be null.
type List = Option<Vec<Option<String>>>;

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn watch(
    source: Option<pg_sys::Oid>,
    index_name: Option<String>,
    columns: List,
    pseudonymize: List,
    object_id: List,
    filter: Option<String>,
    operations: List,
    mode: Option<String>,
    time_column: Option<String>,
    facets: List,
    backfill: Option<bool>,
    object_prefix: Option<String>,
) -> Result<i32, ErrorReport> {
    let wish = Wish {
        index_name,
        columns,
        pseudonymize,
        object_id,
        filter,
        operations,
        mode,
        time_column,
        facets,
        backfill,
        object_prefix,
    };
    let caller = caller();
    reported(as_owner(|| {
        let mut table = Table::of(source, caller)?;
        let rules = wish.check(&table)?;
        table.lock()?;
        let id = rules.store(&table)?;
        create_trigger(&table.name, id, table.needs_row_trigger())?;
        allow_partitions(&table)?;
        xact::note_stale();
        warn_unless_preloaded();
        Ok(id)
    }))
}

/// The arguments of `watch`.
struct Wish {
    index_name: Option<String>,
    columns: List,
    pseudonymize: List,
    object_id: List,
    filter: Option<String>,
    operations: List,
    mode: Option<String>,
    time_column: Option<String>,
    facets: List,
    backfill: Option<bool>,
    object_prefix: Option<String>,
}

/// The arguments after all checks.
struct Rules {
    index_name: String,
    /// As given: `col` or `col AS attribute`.
    entries: Vec<String>,
    pseudonymize: Vec<String>,
    object_id: Vec<String>,
    object_prefix: String,
    time_column: Option<String>,
    facets: Vec<String>,
}

fn entries<'a>(list: &'a List, argument: &'static str) -> Result<Vec<Option<&'a str>>, RuleError> {
    match list {
        None => Err(RuleError::NullArgument { argument }),
        Some(list) => Ok(list.iter().map(Option::as_deref).collect()),
    }
}

impl Wish {
    fn check(self, table: &Table) -> Outcome<Rules> {
        check_table(table)?;
        check_filter(self.filter.as_deref())?;
        check_operations(&entries(&self.operations, "operations")?)?;
        check_mode(self.mode.as_deref())?;
        check_backfill(self.backfill.ok_or(RuleError::NullArgument { argument: "backfill" })?)?;
        let index_name = self.index_name.unwrap_or_else(|| table.bare_name.clone());
        check_index_name(&index_name)?;

        let known: Vec<&str> = table.columns.iter().map(String::as_str).collect();
        let allowed = match &self.columns {
            None => return Err(RuleError::NoColumns.into()),
            Some(list) => list.iter().map(Option::as_deref).collect::<Vec<_>>(),
        };
        let columns: Vec<Column> = parse_columns(&allowed, &known)?;
        let object_id = match &self.object_id {
            Some(_) => check_object_id(&entries(&self.object_id, "object_id")?, &known)?,
            None if table.primary_key.is_empty() => {
                return Err(failure(
                    PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!("table {} has no primary key to make objectIDs of", table.name),
                    "Add a primary key, or name columns that identify a row: object_id => '{…}'.",
                ))
            }
            None => table.primary_key.clone(),
        };
        let key: Vec<&str> = object_id.iter().map(String::as_str).collect();
        let pseudonymize =
            check_pseudonymize(&entries(&self.pseudonymize, "pseudonymize")?, &columns, &key, &known)?;
        if !pseudonymize.is_empty() && guc::pseudonym_key().is_none() {
            return Err(no_pseudonym_key());
        }
        let time_attribute = match &self.time_column {
            None => None,
            Some(name) => Some(check_time_column(name, &columns, &pseudonymize, &known)?),
        };
        Ok(Rules {
            facets: check_facets(&entries(&self.facets, "facets")?, &columns, time_attribute)?,
            time_column: time_attribute
                .and_then(|attribute| columns.iter().find(|column| column.attribute == attribute))
                .map(|column| column.name.clone()),
            entries: allowed.into_iter().flatten().map(str::to_owned).collect(),
            index_name,
            pseudonymize,
            object_id,
            object_prefix: self.object_prefix.ok_or(RuleError::NullArgument { argument: "object_prefix" })?,
        })
    }
}

/// Whether rows of the relation can be captured at all.
fn check_table(table: &Table) -> Outcome<()> {
    let wrong = |what: &str, hint: &str| {
        Err(failure(
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            format!("{} is {what}, which cannot be watched", table.name),
            hint,
        ))
    };
    match table.kind.as_str() {
        _ if table.oid.to_u32() < pg_sys::FirstNormalObjectId => {
            wrong("a system catalog", "Watch a table of your own that the changes are written to.")
        }
        _ if table.schema == "audit_algolia" => {
            wrong("a table of audit_algolia itself", "Name a table of your own.")
        }
        _ if table.is_temporary => {
            wrong("a temporary table", "Only this session sees its rows; watch an ordinary table.")
        }
        "r" | "p" => Ok(()),
        "v" => wrong("a view", "Watch the tables the view reads."),
        "m" => wrong("a materialized view", "Watch the tables the materialized view reads."),
        "f" => wrong("a foreign table", "Its rows are written elsewhere; watch the table there."),
        _ => wrong("not a table", "Name a table."),
    }
}

impl Rules {
    /// Stores the rules; returns the source's id.
    fn store(&self, table: &Table) -> Outcome<i32> {
        let index_id = Spi::connect_mut(|client| {
            let rows = client.update(
                include_str!("../../../sql/add_index.sql"),
                Some(1),
                &[self.index_name.clone().into()],
            )?;
            rows.first().get_one::<i32>()
        })?;
        let Some(index_id) = index_id else {
            return Err(no_such_index(&self.index_name));
        };
        self.check_room(index_id)?;
        self.check_prefix(table, index_id)?;
        let id = Spi::connect_mut(|client| {
            let rows = client.update(
                include_str!("../../../sql/add_source.sql"),
                Some(1),
                &[
                    table.oid.into(),
                    index_id.into(),
                    self.entries.clone().into(),
                    self.pseudonymize.clone().into(),
                    self.object_id.clone().into(),
                    self.object_prefix.clone().into(),
                    self.time_column.clone().into(),
                    self.facets.clone().into(),
                    vec!["insert".to_owned()].into(),
                    "append".into(),
                ],
            )?;
            if rows.is_empty() {
                Ok(None)
            } else {
                rows.first().get_one::<i32>()
            }
        })?;
        id.ok_or_else(|| {
            failure(
                PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
                format!("table {} is already watched for index \"{}\"", table.name, self.index_name),
                "To change its rules, call audit_algolia.unwatch() first; queued rows are still delivered.",
            )
        })
    }

    fn check_room(&self, index_id: i32) -> Outcome<()> {
        let full = shmem::ledger().is_some_and(|ledger| {
            ledger.find_lane(my_database(), index_id).is_none() && ledger.free_lanes() == 0
        });
        if full {
            return Err(failure(
                PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                format!("index \"{}\" is one more than this server can serve", self.index_name),
                "Let several tables share an index, with an object_prefix each.",
            )
            .with_detail(format!(
                "At most {} indices are served, over all databases.",
                crate::ledger::LANES
            )));
        }
        Ok(())
    }

    /// Two tables with the same prefix in one index would overwrite each other's records.
    fn check_prefix(&self, table: &Table, index_id: i32) -> Outcome<()> {
        let other: Option<String> = Spi::connect(|client| {
            let rows = client.select(
                include_str!("../../../sql/find_prefix_clash.sql"),
                Some(1),
                &[index_id.into(), self.object_prefix.clone().into(), table.oid.into()],
            )?;
            if rows.is_empty() {
                Ok(None)
            } else {
                rows.first().get_one()
            }
        })?;
        match other {
            None => Ok(()),
            Some(other) => Err(failure(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!(
                    "table {other} already delivers to index \"{}\" with object_prefix \"{}\"",
                    self.index_name, self.object_prefix
                ),
                "Tables that share an index need different object_prefix values, for instance the table's name and a colon.",
            )),
        }
    }
}

fn trigger_name(id: i32) -> String {
    format!("audit_algolia_{id}")
}

pub(super) fn create_trigger(table: &str, id: i32, for_rows: bool) -> Outcome<()> {
    let level = if for_rows {
        "for each row"
    } else {
        "referencing new table as audit_algolia_rows for each statement"
    };
    Spi::run(&format!(
        "create trigger {} after insert on {table} {level} execute function audit_algolia.capture('{id}')",
        trigger_name(id),
    ))?;
    Ok(())
}

pub(super) fn drop_trigger(table: &str, id: i32) -> Outcome<()> {
    Spi::run(&format!("drop trigger if exists {} on {table}", trigger_name(id)))?;
    Ok(())
}

/// Lets the owner of a partitioned table go on making partitions: each gets a copy of the trigger, which takes the right
/// to call its function. By itself that right is good for nothing: capture() looks whose trigger it is called by.
fn allow_partitions(table: &Table) -> Outcome<()> {
    if table.kind == "p" {
        Spi::run(&format!(
            "grant execute on function audit_algolia.capture() to {}",
            spi::quote_identifier(&table.owner)
        ))?;
    }
    Ok(())
}

#[pg_extern(sql = false)]
fn unwatch(source: Option<pg_sys::Oid>, index_name: Option<String>) -> Result<(), ErrorReport> {
    let caller = caller();
    reported(as_owner(|| end_watch(&Table::of(source, caller)?, index_name)))
}

fn end_watch(table: &Table, index_name: Option<String>) -> Outcome<()> {
    let sources = sources_of(table, index_name.as_deref())?;
    for (id, _) in sources {
        drop_trigger(&table.name, id)?;
        Spi::run_with_args(include_str!("../../../sql/remove_source.sql"), &[id.into()])?;
    }
    xact::note_stale();
    Ok(())
}

/// The sources of a table: id and index; an error when there are none.
pub(super) fn sources_of(table: &Table, index_name: Option<&str>) -> Outcome<Vec<(i32, String)>> {
    Spi::connect(|client| {
        let rows = client.select(
            include_str!("../../../sql/find_sources.sql"),
            None,
            &[table.oid.into(), index_name.into()],
        )?;
        let mut sources = Vec::new();
        for row in rows {
            if let (Some(id), Some(name)) = (row.get(1)?, row.get(2)?) {
                sources.push((id, name));
            }
        }
        if sources.is_empty() {
            let what = index_name.map(|name| format!(" for index \"{name}\"")).unwrap_or_default();
            return Err(failure(
                PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
                format!("table {} is not watched{what}", table.name),
                "SELECT source, index_name FROM audit_algolia.sources lists the watched tables.",
            ));
        }
        Ok(sources)
    })
}
