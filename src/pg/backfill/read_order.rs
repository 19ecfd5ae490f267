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

/// What is read at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    Time,
    Key,
    /// In the order of the blocks: all rows, or those without a time.
    Physical,
    Untimed,
    /// What the others cannot have seen, in one query.
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

    /// As it is stored.
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

/// Which bounds of time a backfill has been given.
#[derive(Clone, Copy)]
pub(in crate::pg) struct Bounds {
    pub(in crate::pg) since: bool,
    pub(in crate::pg) until: bool,
}

/// How a table is read.
pub(super) struct ReadOrder {
    table: pg_sys::Oid,
    /// What to select from.
    from: String,
    /// The passes, one after the other.
    passes: Vec<Pass>,
    /// The time column, quoted.
    time: Option<String>,
    /// Its type below its domains, as which the cursor has its values: no other holds all of them.
    time_type: &'static str,
    keys: Vec<OrderColumn>,
    /// A condition that is true of rows without a key.
    keyless: String,
    /// The bounds, as conditions over $1 and $2.
    bounds: Vec<String>,
}

/// A column rows are ordered by.
struct OrderColumn {
    name: String,
    of_type: String,
    before: String,
    up_to: String,
    same: String,
}

/// A table to be read by place: its oid, name, file and blocks.
type BlockRange = (u32, String, String, i64);

/// A query for a page of rows. Its first arguments are since, until, the cursor and the limit.
pub(super) struct PageQuery {
    pub(super) text: String,
    /// Where a page that is not full has come to: the place it was to read down to.
    pub(super) floor: Option<Vec<Option<String>>>,
}

impl ReadOrder {
    pub(super) fn first_pass(&self) -> Pass {
        self.passes.first().copied().unwrap_or(Pass::Rest)
    }

    /// Whether this is how the table is read: indexes come and go.
    pub(super) fn has(&self, pass: Pass) -> bool {
        self.passes.contains(&pass)
    }

    pub(super) fn pass_after(&self, pass: Pass) -> Option<Pass> {
        let place = self.passes.iter().position(|known| *known == pass)?;
        self.passes.get(place + 1).copied()
    }

    /// The query for the next page of a pass; nothing when the pass is over.
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
            // Places within a file that is no more mean nothing: rows of the same time are sent again.
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

    /// That a row comes after the cursor's, by the operators that order its columns: under our search_path the server
    /// would not find those of types from elsewhere, and take others.
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
        // For the index to begin with.
        format!("{} operator({}) {} and {condition}", first.name, first.up_to, value(0, first))
    }

    /// A stretch of blocks, from where the cursor is towards the table's beginning.
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
            // A file that was rewritten is read from its end.
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
        // Those made last come first.
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
            // The arguments that a query has no use for must have a type all the same.
            text: format!(
                "select tableoid, ctid, {cursor}::text[], false from {from} \
                 where {conditions} and ($1::timestamptz is null or true) and ($2::timestamptz is null or true) \
                 and ($3::text[] is null or true) order by {order} limit $4"
            ),
            floor: None,
        }
    }

    /// All rows that the passes before cannot have seen, or have left: without a key, or (by their age in transactions,
    /// $3) not surely from before the snapshot boundary.
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

    /// A query for the rows there are in all, at most so many ($3).
    pub(super) fn count_query(&self) -> String {
        format!("select pg_catalog.count(*) from ({} limit $3) as few", self.all())
    }

    /// A query whose plan tells how many rows there may be in all.
    pub(super) fn estimate_query(&self) -> String {
        format!("explain (costs on) {} and $3::bigint is not null", self.all())
    }

    fn all(&self) -> String {
        let mut conditions = self.bounds.clone();
        conditions.push("($1::timestamptz is null or true) and ($2::timestamptz is null or true)".to_owned());
        format!("select from {} where {}", self.from, conditions.join(" and "))
    }
}

/// Whether a relation still has the file a cursor is about.
fn is_file(relation: &str, file: &str) -> bool {
    let Ok(oid) = relation.parse::<u32>() else { return false };
    let now = crate::pg::capture::file_of(pg_sys::Oid::from(oid));
    now.is_ok_and(|now| now.to_string() == file)
}
