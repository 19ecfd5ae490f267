//! Changes the partitions of a table during a mirror run, while it is written to.

use fastrand::Rng;

use super::plan::KEYS;
use crate::partition_sql::{attach, block, detach};

/// The partitions that exist at the beginning and at the end, with their bounds.
const PARTITIONS: [(&str, &str); 2] = [("low", "from (minvalue) to (4)"), ("high", "from (4) to (maxvalue)")];

/// What follows the columns of a partitioned table.
pub(super) fn create(table: &str) -> String {
    let parts = PARTITIONS.iter().map(|(name, bounds)| {
        format!("; create table {table}_{name} partition of {table} for values {bounds}")
    });
    format!(" partition by range (id){}", parts.collect::<String>())
}

/// A change of a partition, as statements for one transaction each. Some of them fail, because a partition may be
/// detached.
pub(super) fn change(table: &str, dice: &mut Rng) -> Vec<String> {
    let (name, bounds) = PARTITIONS[dice.usize(0..PARTITIONS.len())];
    let part = format!("{table}_{name}");
    let detach = block(&detach(&part));
    let attach = bring_back(table, name, bounds);
    let (key, value) = (dice.i32(1..=KEYS), dice.i32(0..1_000_000));
    let statements = match dice.u8(0..8) {
        0 => vec![format!("truncate {part}")],
        1 => vec![detach, attach],
        2 => vec![detach, format!("delete from {part}"), attach],
        // Rows written while the table is not a partition are found when it is attached again.
        3 => vec![
            detach,
            format!("update {part} set v = v + 1, shown = not shown where id <> {key}"),
            format!("insert into {part} (id, v, shown, note) values ({}, {value}, true, '')", if name == "low" { 2 } else { 5 }),
            attach,
        ],
        4 => vec![detach, format!("drop table {part}"), attach],
        5 => vec![format!("drop table {part}"), attach],
        6 => vec![
            detach,
            format!("drop table {part}"),
            format!("create table {part} (note text not null, v int not null, id int primary key, shown bool not null)"),
            format!("insert into {part} (id, v, shown, note) select i, {value}, i <> {key}, '' from generate_series({}) i",
                if name == "low" { "1, 3" } else { "4, 6" }),
            attach,
        ],
        _ => vec![detach, boxed(table, name, bounds), attach],
    };
    if dice.bool() {
        statements
    } else {
        vec![format!("begin; {}; commit", statements.join("; "))]
    }
}

/// Brings all partitions back.
pub(super) fn complete(table: &str) -> String {
    let parts: Vec<String> =
        PARTITIONS.iter().map(|(name, bounds)| bring_back(table, name, bounds)).collect();
    parts.join("; ")
}

/// Attaches a partition, or creates it if it does not exist.
fn bring_back(table: &str, name: &str, bounds: &str) -> String {
    let part = format!("{table}_{name}");
    block(&format!(
        "if to_regclass('{part}') is null then
             above := coalesce(to_regclass('{part}_box')::text, '{table}');
             execute 'create table {part} partition of ' || above || ' for values {bounds}';
         else {} end if;",
        attach(table, &part, bounds)
    ))
}

/// Puts an empty box in the place of a partition, or removes it.
fn boxed(table: &str, name: &str, bounds: &str) -> String {
    let the_box = format!("{table}_{name}_box");
    block(&format!(
        "if to_regclass('{the_box}') is null then
             create table {the_box} (like {table} including all) partition by range (id);
             alter table {table} attach partition {the_box} for values {bounds};
         else
             drop table {the_box};
         end if;"
    ))
}
