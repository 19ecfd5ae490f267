//! In which order a backfill reads a table, newest first, by queries that need only the last row read.
//!
//! The order is by time, if an index leads with the time column; otherwise by key, if an index has exactly the key's
//! columns; otherwise by place, from the table's end. In the order of the key no row is missed. In the other orders an
//! update may move a row to where the backfill has already been. So rows that have changed are left to a last query
//! over all rows. A pseudonymized key is never used as an order, because the cursor is stored.

mod describe;

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::pg::latest_snapshot::first_row;
use crate::pg::partitions::leaves;
use crate::pg::report::SqlResult;

pub(super) use describe::{by_key, table_is_gone};

/// A pass over the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    Time,
    Key,
    /// In physical order: all rows, or those without a time.
    Physical,
    Untimed,
    /// Rows that the other passes may have missed, in one query.
    Rest,
}

impl Pass {
    const ALL: [(Pass, &'static str); 5] = [
        (Pass::Time, "time"),
        (Pass::Key, "key"),
        (Pass::Physical, "place"),
        (Pass::Untimed, "untimed"),
        (Pass::Rest, "rest"),
    ];

    /// Its stored name.
    pub(super) fn word(self) -> &'static str {
        Pass::ALL.iter().find(|(pass, _)| *pass == self).map_or("", |(_, word)| word)
    }

    pub(super) fn of(word: &str) -> Option<Pass> {
        Pass::ALL.iter().find(|(_, known)| *known == word).map(|(pass, _)| *pass)
    }

    /// Whether rows that have changed since the snapshot boundary are left to the last pass.
    pub(super) fn leaves_changed(self) -> bool {
        matches!(self, Pass::Time | Pass::Physical | Pass::Untimed)
    }
}

/// Which time bounds a backfill has.
#[derive(Clone, Copy)]
pub(in crate::pg) struct Bounds {
    pub(in crate::pg) since: bool,
    pub(in crate::pg) until: bool,
}

/// How a table is read.
pub(super) struct ReadOrder {
    table: pg_sys::Oid,
    /// The FROM clause.
    from: String,
    /// The passes, in order.
    passes: Vec<Pass>,
    /// The time column, quoted.
    time: Option<String>,
    /// The time column's base type. The cursor is cast to it, because only this type can represent all of its values.
    time_type: &'static str,
    keys: Vec<OrderColumn>,
    /// A condition that is true for rows without a key.
    keyless: String,
    /// The bounds, as conditions with $1 and $2.
    bounds: Vec<String>,
}

/// A column that rows are ordered by.
struct OrderColumn {
    name: String,
    of_type: String,
    before: String,
    up_to: String,
    same: String,
}

/// A table that is read in physical order: its oid, name, file and number of blocks.
type BlockRange = (u32, String, String, i64);

/// The query for a page of rows. Its first arguments are since, until, the cursor and the limit.
pub(super) struct PageQuery {
    pub(super) text: String,
    /// For physical order: the place down to which the page was to read, which a page that is not full has reached.
    pub(super) floor: Option<Vec<Option<String>>>,
}

impl ReadOrder {
    pub(super) fn first_pass(&self) -> Pass {
        self.passes.first().copied().unwrap_or(Pass::Rest)
    }

    /// Whether the table is still read in this pass: indexes are created and dropped.
    pub(super) fn has(&self, pass: Pass) -> bool {
        self.passes.contains(&pass)
    }

    pub(super) fn pass_after(&self, pass: Pass) -> Option<Pass> {
        let place = self.passes.iter().position(|known| *known == pass)?;
        self.passes.get(place + 1).copied()
    }

    /// The query for the next page of a pass; `None` if the pass is over.
    pub(super) fn page(
        &self,
        pass: Pass,
        cursor: &[Option<String>],
        blocks: i64,
    ) -> SqlResult<Option<PageQuery>> {
        match pass {
            Pass::Time => Ok(self.time_page(cursor)),
            Pass::Key => Ok(Some(self.key_page(cursor))),
            Pass::Physical => self.place_page(cursor, None, blocks),
            Pass::Untimed => self.place_page(cursor, self.time.as_deref(), blocks),
            Pass::Rest => Ok(None),
        }
    }

    fn time_page(&self, cursor: &[Option<String>]) -> Option<PageQuery> {
        let (time, of_type) = (self.time.as_ref()?, self.time_type);
        let mut conditions = self.bounds.clone();
        conditions.push(format!("{time} is not null"));
        if let [_, relation, file, _] = cursor {
            // A ctid means nothing in another file. Rows of the same time are then sent again.
            let is_there = match (relation, file) {
                (Some(relation), Some(file)) => is_file(relation, file),
                _ => false,
            };
            conditions.push(match is_there {
                true => {
                    format!("({time}, tableoid, ctid) < (($3)[1]::{of_type}, ($3)[2]::oid, ($3)[4]::tid)")
                }
                false => format!("{time} <= ($3)[1]::{of_type}"),
            });
        }
        let cursor = format!(
            "array[format('%s', {time}), tableoid::text, pg_relation_filenode(tableoid)::text, ctid::text]"
        );
        let order = format!("{time} desc, tableoid desc, ctid desc");
        Some(self.query(&self.from, &cursor, &conditions, &order))
    }

    fn key_page(&self, cursor: &[Option<String>]) -> PageQuery {
        let mut conditions = self.bounds.clone();
        conditions.extend(self.keys.iter().map(|key| format!("{} is not null", key.name)));
        if cursor.len() == self.keys.len() {
            conditions.push(self.below_cursor());
        }
        let texts: Vec<String> = self.keys.iter().map(|key| format!("format('%s', {})", key.name)).collect();
        let order: Vec<String> = self.keys.iter().map(|key| format!("{} desc", key.name)).collect();
        self.query(&self.from, &format!("array[{}]", texts.join(", ")), &conditions, &order.join(", "))
    }

    /// The condition that a row comes after the cursor's. It names the operators that order the columns, because with
    /// our search_path the server would not find those of other schemas.
    fn below_cursor(&self) -> String {
        let value = |place: usize, key: &OrderColumn| format!("($3)[{}]::{}", place + 1, key.of_type);
        let (Some(first), values) =
            (self.keys.first(), self.keys.iter().enumerate().map(|(p, k)| value(p, k)).collect::<Vec<_>>())
        else {
            return "false".to_owned();
        };
        if self.keys.iter().all(|key| key.before == first.before) {
            let names: Vec<&str> = self.keys.iter().map(|key| key.name.as_str()).collect();
            return format!("({}) operator({}) ({})", names.join(", "), first.before, values.join(", "));
        }
        let mut condition = "false".to_owned();
        for (key, value) in self.keys.iter().zip(&values).rev() {
            let OrderColumn { name, before, same, .. } = key;
            condition = format!(
                "({name} operator({before}) {value} or ({name} operator({same}) {value} and {condition}))"
            );
        }
        // This condition lets the index scan start at the cursor.
        format!("{} operator({}) {} and {condition}", first.name, first.up_to, value(0, first))
    }

    /// A range of blocks, from the cursor towards the beginning of the table.
    fn place_page(
        &self,
        cursor: &[Option<String>],
        untimed: Option<&str>,
        blocks: i64,
    ) -> SqlResult<Option<PageQuery>> {
        let cursor: Vec<&str> = cursor.iter().map(|text| text.as_deref().unwrap_or_default()).collect();
        let (mut leaf, mut from) = (None, None);
        if let [relation, file, place] = cursor[..] {
            leaf = relation.parse::<u32>().ok();
            from = Some((file.to_owned(), place.to_owned()));
        }
        loop {
            let Some((oid, name, file, size)) = self.leaf_from(leaf)? else { return Ok(None) };
            // A rewritten file is read from its end.
            let at = from.take().filter(|(of, _)| leaf == Some(oid) && *of == file).map(|(_, place)| place);
            let top = at.clone().unwrap_or_else(|| format!("({size},0)"));
            let top_block: i64 = top
                .trim_start_matches('(')
                .split(',')
                .next()
                .and_then(|block| block.parse().ok())
                .unwrap_or_default();
            let is_over = top == "(0,0)";
            if is_over {
                let Some(next) = oid.checked_sub(1) else { return Ok(None) };
                leaf = Some(next);
                continue;
            }
            let floor_block = (top_block - blocks.max(1)).max(0);
            let floor = format!("({floor_block},0)");
            let mut conditions = self.bounds.clone();
            conditions.push(format!("ctid >= '{floor}'::tid and ctid < '{top}'::tid"));
            conditions.extend(untimed.map(|time| format!("{time} is null")));
            let texts = format!("array['{oid}', '{file}', ctid::text]");
            let mut query = self.query(&format!("only {name}"), &texts, &conditions, "ctid desc");
            query.floor = Some(vec![Some(oid.to_string()), Some(file), Some(floor)]);
            return Ok(Some(query));
        }
    }

    fn leaf_from(&self, leaf: Option<u32>) -> SqlResult<Option<BlockRange>> {
        // The tables created last come first.
        let wanted =
            leaves(self.table)?.into_iter().filter(|oid| leaf.is_none_or(|leaf| oid.to_u32() <= leaf));
        let Some(oid) = wanted.max_by_key(|oid| oid.to_u32()) else { return Ok(None) };
        let query = include_str!("../../../sql/backfill/blocks_of.sql");
        first_row(query, &[(pg_sys::OIDOID, oid.into())], |row| {
            let text = |ordinal| row.get::<String>(ordinal).unwrap_or_default();
            let file: pg_sys::Oid = row.get(3).unwrap_or(pg_sys::InvalidOid);
            let name = spi::quote_qualified_identifier(text(1), text(2));
            Ok((oid.to_u32(), name, file.to_u32().to_string(), row.get(4).unwrap_or_default()))
        })
    }

    fn query(&self, from: &str, cursor: &str, conditions: &[String], order: &str) -> PageQuery {
        let conditions = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" and ") };
        PageQuery {
            // Every argument must have a type, even if the query does not use it.
            text: format!(
                "select tableoid, ctid, {cursor}::text[], false from {from} \
                 where {conditions} and ($1::timestamptz is null or true) and ($2::timestamptz is null or true) \
                 and ($3::text[] is null or true) order by {order} limit $4"
            ),
            floor: None,
        }
    }

    /// All rows that earlier passes may have missed or have left: rows without a key, or those that (by their age in
    /// transactions, $3) are not certainly from before the snapshot boundary.
    pub(super) fn rest_query(&self) -> String {
        let mut conditions = self.bounds.clone();
        conditions.push("($1::timestamptz is null or true) and ($2::timestamptz is null or true)".to_owned());
        let keyless = &self.keyless;
        conditions.push(match self.first_pass() {
            Pass::Key => format!("{keyless} and $3::integer is not null"),
            _ => format!("({keyless} or age(xmin) <= $3::integer)"),
        });
        format!(
            "select tableoid, ctid, null::text[], {keyless} from {} where {}",
            self.from,
            conditions.join(" and ")
        )
    }

    /// Counts all rows up to a limit ($3).
    pub(super) fn count_query(&self) -> String {
        format!("select pg_catalog.count(*) from ({} limit $3) as few", self.all())
    }

    /// A query whose plan estimates the number of all rows.
    pub(super) fn estimate_query(&self) -> String {
        format!("explain (costs on) {} and $3::bigint is not null", self.all())
    }

    fn all(&self) -> String {
        let mut conditions = self.bounds.clone();
        conditions.push("($1::timestamptz is null or true) and ($2::timestamptz is null or true)".to_owned());
        format!("select from {} where {}", self.from, conditions.join(" and "))
    }
}

/// Whether a relation still has the file that the cursor refers to.
fn is_file(relation: &str, file: &str) -> bool {
    let Ok(oid) = relation.parse::<u32>() else { return false };
    let now = crate::pg::capture::file_of(pg_sys::Oid::from(oid));
    now.is_ok_and(|now| now.to_string() == file)
}
