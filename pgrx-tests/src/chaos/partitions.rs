//! Changes partitions during a chaos run, while their tables are written to.
//!
//! Each script can be repeated after a session has broken, whether or not it was executed. The indices of these tables
//! keep what was delivered, so a partition that is detached and attached again changes nothing. Rows that were in a
//! table before it was attached were never written to a watched table, so they are not delivered.

use crate::partition_sql::{attach, block, detach};

/// What is done to a partition while its table is written to. Reports use the name of the variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::VariantArray)]
#[strum(const_into_str, serialize_all = "title_case", prefix = "Partition: ")]
pub enum Ddl {
    Detach,
    /// All detached ones are attached.
    Attach,
    /// Detached and attached in one transaction.
    Reattach,
    /// Another partition is attached with rows in it.
    Fill,
    /// Another partition is created empty and dropped.
    Drop,
    /// The partition is moved below a partition that is itself partitioned, or back.
    Move,
}

/// A partition that exists from the beginning.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) root: &'static str,
    key: &'static str,
    name: &'static str,
    bounds: &'static str,
}

/// While all of these are attached, every row of the writers has a place in one of them.
pub(super) const HOMES: [Home; 4] = [
    home("gamma", "at", "gamma_early", "from (minvalue) to ('1970-01-02 12:00+00')"),
    home("gamma", "at", "gamma_late", "from ('1970-01-02 12:00+00') to ('1970-01-10 00:00+00')"),
    home("epsilon", "id", "epsilon_low", "from (0) to (2500000000)"),
    home("epsilon", "id", "epsilon_high", "from (2500000000) to (maxvalue)"),
];

const fn home(root: &'static str, key: &'static str, name: &'static str, bounds: &'static str) -> Home {
    Home { root, key, name, bounds }
}

/// Selects the rows that were written to a watched table.
pub(super) const WRITTEN: &str = "note not like 'filled %'";

/// Creates the partitions.
pub(super) fn set_up() -> String {
    HOMES
        .iter()
        .map(|Home { root, name, bounds, .. }| {
            format!("create table {name} partition of {root} for values {bounds};")
        })
        .collect()
}

/// Attaches all detached partitions.
pub(super) fn attach_all() -> String {
    block(&HOMES.iter().map(attach_home).collect::<String>())
}

/// The script for a change of a partition. `number` is different each time.
pub(super) fn script(ddl: Ddl, home: &Home, number: u64) -> String {
    match ddl {
        Ddl::Detach => block(&detach(home.name)),
        Ddl::Attach => attach_all(),
        Ddl::Reattach => block(&(detach(home.name) + &attach_home(home))),
        Ddl::Fill => fill(home, number),
        Ddl::Drop => {
            let Home { root, name, .. } = home;
            let (empty, bounds) = (format!("{name}_empty_{number}"), bounds(home, number));
            format!(
                "create table if not exists {empty} partition of {root} for values {bounds};
                 drop table {empty}"
            )
        }
        Ddl::Move => block(&moving(home)),
    }
}

fn attach_home(Home { root, name, bounds, .. }: &Home) -> String {
    attach(root, name, bounds)
}

/// Moves a partition into a box between it and the root, or out of it.
fn moving(home: &Home) -> String {
    let Home { root, key, name, bounds } = home;
    format!(
        "{}
         if to_regclass('{name}_box') is null then
             create table {name}_box (like {root} including all) partition by range ({key});
             alter table {name}_box attach partition {name} for values {bounds};
             alter table {root} attach partition {name}_box for values {bounds};
         else
             alter table {root} detach partition {name}_box;
             drop table {name}_box;
             alter table {root} attach partition {name} for values {bounds};
         end if;",
        detach(name)
    )
}

/// One row is written to the partition after it was attached, so it must be delivered.
fn fill(home: &Home, number: u64) -> String {
    let Home { root, name, .. } = home;
    let (table, place) = (format!("{name}_filled_{number}"), place(number));
    let values = |text: &str| format!("select {place} + i, {}, '{text} ' || i", moment(number));
    block(&format!(
        "if to_regclass('{table}') is null then
             create table {table} (like {root} including all);
             insert into {table} (id, at, note) {} from generate_series(1, 50) as i;
             alter table {root} attach partition {table} for values {};
             insert into {root} (id, at, note) {} from generate_series(100, 100) as i;
         end if;",
        values("filled"),
        bounds(home, number),
        values("note")
    ))
}

/// Bounds outside all partitions that exist from the beginning.
fn bounds(home: &Home, number: u64) -> String {
    if home.key == "at" {
        format!("from ({}) to ({})", moment(number), moment(number + 1))
    } else {
        let first = place(number);
        format!("from ({first}) to ({})", first + 1000)
    }
}

/// Ids of writers are positive.
fn place(number: u64) -> i64 {
    -1000 * (number as i64 + 1)
}

fn moment(number: u64) -> String {
    format!("to_timestamp({})", 86_400 * (100 + number))
}
