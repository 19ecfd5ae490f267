//! Finds out how a table can be read: its indexes, and the operators that compare the columns of an order.

use std::cell::RefCell;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::{Bounds, OrderColumn, Pass, ReadOrder};
use crate::pg::backfill::qualified_name;
use crate::pg::encoding::is_utf8;
use crate::pg::hypertables::only;
use crate::pg::report::{sql_error, SqlError, SqlResult};
use crate::pg::rules::SourceRules;
use crate::rules::Mode;

/// What the catalogs say about the table to be read.
struct TableShape {
    /// The quoted and qualified name.
    name: String,
    is_partitioned: bool,
    has_nullable_key: bool,
    /// The base type of the time column.
    time_type: Option<pg_sys::Oid>,
    has_nullable_time: bool,
    /// Whether the time column is the first column of an index.
    has_time_index: bool,
    has_text_key: bool,
}

impl ReadOrder {
    /// Determines how to read the table of a source. Call it as the extension's owner.
    pub(in crate::pg::backfill) fn of(rules: &SourceRules, bounds: Bounds) -> SqlResult<ReadOrder> {
        let names = RefCell::new(Vec::new());
        let found = Spi::connect_mut(|client| -> SqlResult<_> {
            let rows = client.update(
                include_str!("../../../../sql/backfill/table_shape.sql"),
                Some(1),
                &[rules.relation.into(), rules.object_id.clone().into(), rules.time_column.clone().into()],
            )?;
            if rows.is_empty() {
                return Err(table_is_gone());
            }
            let row = rows.first();
            *names.borrow_mut() = row.get::<Vec<Option<String>>>(4)?.unwrap_or_default();
            let name = spi::quote_qualified_identifier(
                row.get::<String>(1)?.unwrap_or_default(),
                row.get::<String>(2)?.unwrap_or_default(),
            );
            let is_true = |ordinal| row.get::<bool>(ordinal).map(Option::unwrap_or_default);
            Ok(TableShape {
                name,
                is_partitioned: is_true(3)?,
                has_nullable_key: is_true(5)?,
                // SAFETY: a look-up of an existing type in the system caches.
                time_type: row.get::<pg_sys::Oid>(6)?.map(|of_type| unsafe { pg_sys::getBaseType(of_type) }),
                has_nullable_time: is_true(7)?,
                has_time_index: is_true(8)?,
                has_text_key: is_true(9)?,
            })
        })?;
        let TableShape {
            name,
            is_partitioned,
            has_nullable_key,
            time_type,
            has_nullable_time,
            has_time_index,
            has_text_key,
        } = found;
        let time = rules.time_column.as_ref().map(spi::quote_identifier);
        let bounds = conditions(rules, time.as_deref(), time_type, bounds)?;
        let keys: Vec<String> = names.into_inner().into_iter().flatten().collect();
        let is_hidden = keys.iter().any(|key| rules.pseudonymize.contains(key));
        // All rows of a day have the same date, so the key orders them better.
        let is_fine = time_type.is_some_and(|t| t == pg_sys::TIMESTAMPTZOID || t == pg_sys::TIMESTAMPOID);
        // Our own tables, which store the cursor, pass texts as UTF-8.
        let by_key = !keys.is_empty() && !is_hidden && (is_utf8() || !has_text_key);
        let by_time =
            has_time_index && (is_fine || (!by_key && bound_of(time_type.unwrap_or_default()).is_some()));
        let mut passes = match (by_time, by_key) {
            (true, _) if has_nullable_time && bounds.is_empty() => vec![Pass::Time, Pass::Untimed],
            (true, _) => vec![Pass::Time],
            (false, true) => vec![Pass::Key],
            (false, false) => vec![Pass::Physical],
        };
        // A mirrored table's triggers queue all changes meanwhile.
        let may_miss = passes.first() != Some(&Pass::Key) || has_nullable_key;
        if may_miss && rules.mode == Mode::Append {
            passes.push(Pass::Rest);
        }
        Ok(ReadOrder {
            table: rules.relation,
            from: format!("{}{name}", only(rules.relation, is_partitioned)?),
            passes,
            time,
            time_type: time_type.and_then(name_of_time).unwrap_or("timestamptz"),
            keys: match by_time {
                true => Vec::new(),
                false if by_key => {
                    keys.iter().map(|key| OrderColumn::of(rules.relation, key)).collect::<SqlResult<_>>()?
                }
                false => Vec::new(),
            },
            keyless: keyless(rules),
            bounds,
        })
    }

    /// How to read only a partition that has been attached to a mirrored table: in physical order, because its triggers
    /// queue all changes meanwhile.
    pub(in crate::pg::backfill) fn through(rules: &SourceRules, partition: pg_sys::Oid) -> ReadOrder {
        ReadOrder {
            table: partition,
            from: format!("only {}", qualified_name(partition)),
            passes: vec![Pass::Physical],
            time: None,
            time_type: "",
            keys: Vec::new(),
            keyless: keyless(rules),
            bounds: Vec::new(),
        }
    }
}

/// The condition that is true for rows without a key.
fn keyless(rules: &SourceRules) -> String {
    let columns = rules.object_id.iter().map(|name| format!("{} is null", spi::quote_identifier(name)));
    format!("({})", columns.collect::<Vec<_>>().join(" or "))
}

/// A query for the rows with a certain key, given as an array of texts. It returns at most two, which show that the key
/// is not unique. Call it as the extension's owner.
pub(in crate::pg::backfill) fn by_key(table: pg_sys::Oid, key: &[String]) -> SqlResult<String> {
    let from = Spi::connect(|client| -> SqlResult<Option<(bool, String)>> {
        let query = include_str!("../../../../sql/backfill/name_of_table.sql");
        let rows = client.select(query, Some(1), &[table.into()])?;
        if rows.is_empty() {
            return Ok(None);
        }
        let row = rows.first();
        let text = |place| -> SqlResult<String> { Ok(row.get::<String>(place)?.unwrap_or_default()) };
        let name = spi::quote_qualified_identifier(text(1)?, text(2)?);
        Ok(Some((row.get::<bool>(3)?.unwrap_or_default(), name)))
    })?;
    let (is_partitioned, name) = from.ok_or_else(table_is_gone)?;
    let only = only(table, is_partitioned)?;
    let mut conditions = Vec::new();
    for (place, name) in key.iter().enumerate() {
        let OrderColumn { name, of_type, same, .. } = OrderColumn::of(table, name)?;
        conditions.push(format!("{name} operator({same}) ($1)[{}]::{of_type}", place + 1));
    }
    Ok(format!(
        "select tableoid, ctid, null::text[], false from {only}{name} where {} limit 2",
        conditions.join(" and ")
    ))
}

/// The name of a time column's type, if rows can be read in its order.
fn name_of_time(of_type: pg_sys::Oid) -> Option<&'static str> {
    match of_type {
        pg_sys::TIMESTAMPTZOID => Some("timestamptz"),
        pg_sys::TIMESTAMPOID => Some("timestamp"),
        pg_sys::DATEOID => Some("date"),
        _ => None,
    }
}

/// What a time column of this type is compared with.
fn bound_of(of_type: pg_sys::Oid) -> Option<[&'static str; 2]> {
    match of_type {
        pg_sys::TIMESTAMPTZOID => Some(["$1", "$2"]),
        pg_sys::TIMESTAMPOID | pg_sys::DATEOID => {
            Some(["($1 at time zone 'UTC')", "($2 at time zone 'UTC')"])
        }
        _ => None,
    }
}

impl OrderColumn {
    fn of(table: pg_sys::Oid, name: &str) -> SqlResult<OrderColumn> {
        let unordered = || {
            sql_error(
                PgSqlErrorCode::ERRCODE_UNDEFINED_FUNCTION,
                format!("the type of column \"{name}\" has no ordering operator"),
                "Watch the table with object_id columns that can be compared.",
            )
        };
        let of_type = Spi::connect(|client| -> SqlResult<Option<pg_sys::Oid>> {
            let query = include_str!("../../../../sql/backfill/type_of_column.sql");
            let rows = client.select(query, Some(1), &[table.into(), name.into()])?;
            Ok(if rows.is_empty() { None } else { rows.first().get_one()? })
        })?;
        let flags = pg_sys::TYPECACHE_LT_OPR | pg_sys::TYPECACHE_EQ_OPR | pg_sys::TYPECACHE_BTREE_OPFAMILY;
        // SAFETY: the type is that of a column, and the cache never frees its entries. The base type is used for
        // values, because constraints of a domain may be younger than the row.
        let (of_type, before, same, up_to) = unsafe {
            let of_type = pg_sys::getBaseType(of_type.ok_or_else(unordered)?);
            let entry = &*pg_sys::lookup_type_cache(of_type, flags as i32);
            if entry.lt_opr == pg_sys::InvalidOid || entry.btree_opf == pg_sys::InvalidOid {
                return Err(unordered());
            }
            let ordered = entry.btree_opintype;
            let strategy = pg_sys::BTLessEqualStrategyNumber as i16;
            let up_to = pg_sys::get_opfamily_member(entry.btree_opf, ordered, ordered, strategy);
            (of_type, entry.lt_opr, entry.eq_opr, up_to)
        };
        let found = Spi::connect(|client| -> SqlResult<Option<OrderColumn>> {
            let rows = client.select(
                include_str!("../../../../sql/backfill/describe_order.sql"),
                Some(1),
                &[of_type.into(), before.into(), up_to.into(), same.into()],
            )?;
            if rows.is_empty() {
                return Ok(None);
            }
            let row = rows.first();
            let text = |place| -> SqlResult<String> { Ok(row.get::<String>(place)?.unwrap_or_default()) };
            Ok(Some(OrderColumn {
                name: spi::quote_identifier(name),
                of_type: text(1)?,
                before: text(2)?,
                up_to: text(3)?,
                same: text(4)?,
            }))
        })?;
        found.ok_or_else(unordered)
    }
}

/// The conditions for since and until.
fn conditions(
    rules: &SourceRules,
    time: Option<&str>,
    time_type: Option<pg_sys::Oid>,
    bounds: Bounds,
) -> SqlResult<Vec<String>> {
    if !bounds.since && !bounds.until {
        return Ok(Vec::new());
    }
    let Some((time, of_type)) = time.zip(time_type) else {
        return Err(match &rules.time_column {
            None => sql_error(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                "since and until need a time_column, but the table is watched without one",
                "Leave them out, or call audit_algolia.unwatch() and then audit_algolia.watch() with a time_column.",
            ),
            Some(column) => crate::pg::rules::column_is_gone(column, "of the backfill"),
        });
    };
    let Some([from, to]) = bound_of(of_type) else {
        return Err(sql_error(
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            format!(
                "since and until cannot be used, because time column {time} is neither a timestamp nor a date"
            ),
            "Leave them out.",
        ));
    };
    let mut conditions = Vec::new();
    if bounds.since {
        conditions.push(format!("{time} >= {from}"));
    }
    if bounds.until {
        conditions.push(format!("{time} < {to}"));
    }
    Ok(conditions)
}

/// The error of a dropped table.
pub(in crate::pg::backfill) fn table_is_gone() -> Box<SqlError> {
    sql_error(
        PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
        "the table has been dropped",
        "Call audit_algolia.unwatch() if its rules still exist.",
    )
}
