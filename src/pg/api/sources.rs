//! The stored rules of `watch`: storing them, and finding them by their table.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::{as_owner, my_database, no_such_index, Table};
use crate::backfill::SnapshotBoundary;
use crate::pg::latest_snapshot::first_row;
use crate::pg::report::{sql_error, SqlError, SqlResult};
use crate::pg::rules::SourceRules;
use crate::pg::worker::unused::close_unused_lanes;
use crate::pg::{shmem, xact};
use crate::record::Operation;
use crate::rules::Mode;

/// A source to be stored: the arguments of `watch`, after all checks.
pub(super) struct NewSource {
    pub(super) index_name: String,
    /// As passed: `col` or `col AS attribute`.
    pub(super) entries: Vec<String>,
    pub(super) pseudonymize: Vec<String>,
    pub(super) object_id: Vec<String>,
    pub(super) object_prefix: String,
    pub(super) time_column: Option<String>,
    pub(super) facets: Vec<String>,
    pub(super) filter: Option<String>,
    pub(super) alert: Option<String>,
    pub(super) operations: Vec<Operation>,
    pub(super) mode: Mode,
    pub(super) backfill: bool,
}

impl NewSource {
    /// Deletes repairs whose stored keys must become pseudonyms. Writers, who could add more of them, are locked out of
    /// the table.
    fn give_up_secrets(&self, table: &Table, index_id: i32) -> SqlResult<()> {
        let given_up = Spi::connect_mut(|client| -> SqlResult<usize> {
            let arguments = [table.oid.into(), index_id.into(), self.pseudonymize.clone().into()];
            Ok(client.update(include_str!("../../../sql/api/forget_repairs.sql"), None, &arguments)?.len())
        })?;
        if given_up > 0 {
            xact::note_repairs(index_id, -(given_up as i64));
            sql_error(
                PgSqlErrorCode::ERRCODE_WARNING,
                format!(
                    "repairs of table {} were dropped, because their keys are now to be pseudonymized: {given_up}",
                    table.name
                ),
                "Call audit_algolia.backfill() to send all rows, including those that were to be repaired.",
            )
            .warn();
        }
        Ok(())
    }

    /// Stores the rules and returns the id of the source.
    pub(super) fn store(&self, table: &Table, snapshot_boundary: &SnapshotBoundary) -> SqlResult<i32> {
        let index_id = Spi::connect_mut(|client| {
            let rows = client.update(
                include_str!("../../../sql/api/add_index.sql"),
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
        self.give_up_secrets(table, index_id)?;
        let id = Spi::connect_mut(|client| {
            let rows = client.update(
                include_str!("../../../sql/api/add_source.sql"),
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
                    self.filter.clone().into(),
                    self.operations.iter().map(|o| o.word().to_owned()).collect::<Vec<_>>().into(),
                    self.mode.word().into(),
                    snapshot_boundary.to_numbers().into(),
                    self.alert.clone().into(),
                ],
            )?;
            if rows.is_empty() {
                Ok(None)
            } else {
                rows.first().get_one::<i32>()
            }
        })?;
        id.ok_or_else(|| {
            sql_error(
                PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
                format!("table {} is already watched for index \"{}\"", table.name, self.index_name),
                "To change its rules, call audit_algolia.unwatch() first; queued rows are still delivered.",
            )
        })
    }

    fn check_room(&self, index_id: i32) -> SqlResult<()> {
        let is_full = || {
            shmem::shared_state().is_some_and(|shared_state| {
                shared_state.find_lane(my_database(), index_id).is_none() && shared_state.free_lanes() == 0
            })
        };
        if is_full() {
            close_unused_lanes(my_database())?;
        }
        if is_full() {
            return Err(sql_error(
                PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                format!(
                    "cannot add index \"{}\", because the server has reached its limit of indices",
                    self.index_name
                ),
                "Several tables can share an index if each has its own object_prefix.",
            )
            .with_detail(format!(
                "The limit is {} indices in all databases together.",
                crate::shared_state::LANES
            )));
        }
        Ok(())
    }

    /// Tables that share a prefix and an index would overwrite each other's records.
    fn check_prefix(&self, table: &Table, index_id: i32) -> SqlResult<()> {
        let other: Option<String> = Spi::connect(|client| {
            let rows = client.select(
                include_str!("../../../sql/api/find_prefix_clash.sql"),
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
            Some(other) => Err(sql_error(
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

/// The ids and operations of a table's sources. It is an error if there are none.
pub(super) fn sources_of(table: &Table, index_name: Option<&str>) -> SqlResult<Vec<(i32, Vec<Operation>)>> {
    Spi::connect(|client| {
        let rows = client.select(
            include_str!("../../../sql/api/find_sources.sql"),
            None,
            &[table.oid.into(), index_name.into()],
        )?;
        let mut sources = Vec::new();
        for row in rows {
            if let (Some(id), Some(words)) = (row.get(1)?, row.get::<Vec<Option<String>>>(2)?) {
                sources.push((id, words.iter().flatten().filter_map(|word| Operation::of(word)).collect()));
            }
        }
        if sources.is_empty() {
            let what = index_name.map(|name| format!(" for index \"{name}\"")).unwrap_or_default();
            return Err(sql_error(
                PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
                format!("table {} is not watched{what}", table.name),
                "SELECT source, index_name FROM audit_algolia.sources lists the watched tables.",
            ));
        }
        Ok(sources)
    })
}

/// A watched table that `caller` owns, locked for reading, and the ids and rules of its sources.
pub(super) fn watched(
    source: Option<pg_sys::Oid>,
    caller: pg_sys::Oid,
) -> SqlResult<(Table, Vec<(i32, SourceRules)>)> {
    as_owner(|| {
        let table = Table::to_read(source, caller)?;
        let rules = rules_of(&table)?;
        Ok((table, rules))
    })
}

/// Those of a table's sources that have no obstacle. A NOTICE gives the obstacle of each of the others. If none is
/// left, the first obstacle is the error.
pub(super) fn fitting(
    sources: Vec<(i32, SourceRules)>,
    obstacle: impl Fn(&SourceRules) -> Option<Box<SqlError>>,
) -> SqlResult<Vec<(i32, SourceRules)>> {
    let (mut fitting, mut unfit) = (Vec::new(), Vec::new());
    for (id, rules) in sources {
        match obstacle(&rules) {
            None => fitting.push((id, rules)),
            Some(obstacle) => unfit.push((rules.index_id, obstacle)),
        }
    }
    if fitting.is_empty() {
        return unfit.into_iter().next().map_or(Ok(fitting), |(_, obstacle)| Err(obstacle));
    }
    for (index_id, obstacle) in unfit {
        let query = include_str!("../../../sql/reconcile/name_of_index.sql");
        let name = first_row(query, &[(pg_sys::INT4OID, index_id.into())], |row| Ok(row.get::<String>(1)))?;
        ereport!(
            PgLogLevel::NOTICE,
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            format!("skipping index \"{}\": {}", name.flatten().unwrap_or_default(), obstacle.message())
        );
    }
    Ok(fitting)
}

pub(super) fn rules_of(table: &Table) -> SqlResult<Vec<(i32, SourceRules)>> {
    let mut sources = Vec::new();
    for (id, _) in sources_of(table, None)? {
        sources.extend(load_rules(id, table)?.map(|rules| (id, rules)));
    }
    Ok(sources)
}

pub(super) fn load_rules(id: i32, table: &Table) -> SqlResult<Option<SourceRules>> {
    let names: Vec<&str> = table.columns.iter().map(String::as_str).collect();
    SourceRules::load(id, table.oid, &table.bare_name, &names)
}

/// The snapshot boundary of a source, if there is one, and the transaction that has stored its rules. A session that
/// attaches partitions may have begun earlier.
pub(super) fn snapshot_boundary_of(id: i32) -> SqlResult<(Option<SnapshotBoundary>, u32)> {
    let query = include_str!("../../../sql/backfill/snapshot_boundary_of.sql");
    let found = first_row(query, &[(pg_sys::INT4OID, id.into())], |row| {
        let numbers: Option<Vec<Option<i64>>> = row.get(1);
        let numbers: Option<Vec<i64>> = numbers.and_then(|numbers| numbers.into_iter().collect());
        let writer = row.get::<i64>(2).and_then(|writer| u32::try_from(writer).ok()).unwrap_or_default();
        Ok((numbers.and_then(|numbers| SnapshotBoundary::from_numbers(&numbers)), writer))
    })?;
    Ok(found.unwrap_or_default())
}
