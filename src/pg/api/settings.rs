//! `index_settings` and `configure_index`: the settings an index needs so that its records can be searched, and sending
//! them. `page_config`: what the audit page needs to know.

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::AnyElement;

use super::arguments::{text, texts};
use super::preview::{c_string, jsonb};
use super::{as_owner, caller, no_such_index, refuse_other_version, refuse_read_only, warn_unless_preloaded};
use crate::index_settings::{SourceFacts, ValueKind};
use crate::pg::capture::next_id;
use crate::pg::guc;
use crate::pg::owner::extension_objects;
use crate::pg::report::{reported, sql_error, SqlResult};
use crate::pg::rules::rules_outdated;
use crate::pg::xact;
use crate::record::{escape_non_ascii, Operation};
use crate::rules::{are_changes, parse_columns, Mode};

#[pg_extern(sql = false)]
fn index_settings(index_name: Option<&str>) -> Result<Option<AnyElement>, ErrorReport> {
    refuse_other_version()?;
    let caller = caller();
    let settings = as_owner(|| wanted(index_name, caller).map(|(_, settings)| settings));
    reported(settings).map(|settings| element(&settings))
}

#[pg_extern(sql = false)]
fn page_config(indices: Option<Array<'_, &str>>) -> Result<Option<AnyElement>, ErrorReport> {
    refuse_other_version()?;
    let caller = caller();
    let config = as_owner(|| {
        let named = texts("indices", indices)?;
        let is_for_all = named.is_none();
        let mut found = Vec::new();
        for name in named.map_or_else(|| owned(caller), Ok)? {
            match sources_of(name.as_deref(), caller) {
                Ok((_, sources)) => found.push((name.unwrap_or_default(), sources)),
                // An index whose rules no longer fit its table is left out with a warning.
                Err(error) if is_for_all => error.warn(),
                Err(error) => return Err(error),
            }
        }
        Ok(crate::page_config::page_config(&guc::origin(), &found).to_string())
    });
    reported(config).map(|config| element(&config))
}

/// Parses a text as jsonb, in the current memory context.
fn element(text: &str) -> Option<AnyElement> {
    jsonb(c_string(text.as_bytes())).and_then(|value| {
        // SAFETY: the value is a jsonb in the current memory context.
        unsafe { AnyElement::from_polymorphic_datum(value, false, pg_sys::JSONBOID) }
    })
}

/// The indices whose sources all belong to the caller.
fn owned(caller: pg_sys::Oid) -> SqlResult<Vec<Option<String>>> {
    Spi::connect(|client| {
        let rows =
            client.select(include_str!("../../../sql/api/page_indices.sql"), None, &[caller.into()])?;
        let names = rows.map(|row| row.get(1)).collect::<Result<_, _>>();
        Ok(names?)
    })
}

#[pg_extern(sql = false)]
fn configure_index(index_name: Option<&str>) -> Result<(), ErrorReport> {
    refuse_read_only(c"audit_algolia.configure_index()");
    refuse_other_version()?;
    let caller = caller();
    reported(as_owner(|| {
        let (index, settings) = wanted(index_name, caller)?;
        // Settings are stored like records, in ASCII, which every database encoding can hold.
        want(
            include_str!("../../../sql/api/want_settings.sql"),
            index,
            &escape_non_ascii(&settings).unwrap_or_default(),
        )?;
        let superseded = Spi::connect_mut(|client| {
            client
                .update(include_str!("../../../sql/api/supersede_settings.sql"), None, &[index.into()])
                .map(|rows| rows.len())
        })?;
        if superseded > 0 {
            xact::note_dead(index, -(superseded as i64));
        }
        warn_unless_preloaded();
        Ok(())
    }))
}

/// Stores the settings that are to be sent to an index. The workers are told when the transaction commits.
pub(super) fn want(query: &str, index: i32, settings: &str) -> SqlResult<()> {
    let version = next_id(&extension_objects()?);
    Spi::run_with_args(query, &[index.into(), settings.into(), version.into()])?;
    xact::note_wanted_settings();
    Ok(())
}

/// An index and the settings it should have, as JSON.
fn wanted(index_name: Option<&str>, caller: pg_sys::Oid) -> SqlResult<(i32, String)> {
    let (index, sources) = sources_of(index_name, caller)?;
    Ok((index, crate::index_settings::index_settings(&sources).to_string()))
}

/// An index and the sources that deliver to it, all of which must belong to the caller.
fn sources_of(index_name: Option<&str>, caller: pg_sys::Oid) -> SqlResult<(i32, Vec<SourceFacts>)> {
    let Some(name) = &text("index_name", index_name)? else {
        return Err(sql_error(
            PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            "index_name must not be null",
            "SELECT index_name FROM audit_algolia.queue_stats() lists the indices.",
        ));
    };
    let (mut index, mut sources) = (None, Vec::new());
    Spi::connect(|client| -> SqlResult<()> {
        let arguments = [name.as_str().into(), caller.into()];
        for row in client.select(include_str!("../../../sql/api/index_sources.sql"), None, &arguments)? {
            index = row.get::<i32>(1)?;
            if let Some(table) = row.get::<String>(13)? {
                if row.get(3)? != Some(true) {
                    return Err(not_owner(&row.get::<String>(2)?.unwrap_or_default(), name));
                }
                sources.push(facts(&row, &table)?);
            }
        }
        Ok(())
    })?;
    match index {
        None => Err(no_such_index(name)),
        Some(_) if sources.is_empty() => Err(sql_error(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("no table is watched for index \"{name}\""),
            "The settings of an index follow from the rules of its tables. Call audit_algolia.watch() first.",
        )),
        Some(index) => Ok((index, sources)),
    }
}

fn not_owner(table: &str, index: &str) -> Box<crate::pg::report::SqlError> {
    sql_error(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!("must be owner of table {table}, which delivers to index \"{index}\""),
        "The function must be called by a superuser, or by the owner of all tables that deliver to the index.",
    )
}

/// Describes one source from a row of the query.
fn facts(row: &spi::SpiHeapTupleData<'_>, table: &str) -> SqlResult<SourceFacts> {
    let texts = |ordinal| -> SqlResult<Vec<String>> {
        Ok(row.get::<Vec<Option<String>>>(ordinal)?.unwrap_or_default().into_iter().flatten().collect())
    };
    let (entries, known) = (texts(4)?, texts(11)?);
    let entries: Vec<Option<&str>> = entries.iter().map(|entry| Some(entry.as_str())).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let kinds = known
        .iter()
        .zip(texts(12)?)
        .filter_map(|(name, word)| Some(((*name).to_owned(), ValueKind::of(&word)?)));
    let operations: Vec<Operation> = texts(9)?.iter().filter_map(|word| Operation::of(word)).collect();
    let mode = row.get::<String>(10)?.as_deref().and_then(Mode::of);
    Ok(SourceFacts {
        columns: parse_columns(&entries, &known).map_err(|error| rules_outdated(error, table))?,
        pseudonymize: texts(5)?,
        object_id: texts(6)?,
        time_column: row.get(7)?,
        facets: texts(8)?,
        are_changes: mode.is_some_and(|mode| are_changes(mode, &operations)),
        has_alert: row.get(14)?.unwrap_or_default(),
        is_mirror: mode == Some(Mode::Mirror),
        kinds: kinds.collect(),
    })
}
