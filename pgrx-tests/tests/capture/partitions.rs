//! Partitioned tables: a row is captured however it is inserted into its partition.

use std::io::Write;

use crate::play::{failure, texts, Play};

const TABLES: &str = "
    create table t (id bigint, day date, v text, primary key (id, day)) partition by range (day);
    create table january partition of t for values from ('2026-01-01') to ('2026-02-01');
    create table february (gone int, v text, day date not null, more int, id bigint not null, primary key (id, day));
    alter table february drop column gone, drop column more;
    alter table t attach partition february for values from ('2026-02-01') to ('2026-03-01')";

#[test]
fn rows_arrive_through_the_root_and_straight_into_a_partition() {
    let mut play = Play::new("partitions", TABLES);
    play.watch("t", "columns => '{v}'");
    play.run("insert into t values (1, '2026-01-05', 'a'), (2, '2026-02-05', 'b')");
    play.run("insert into january values (3, '2026-01-06', 'c')");
    play.run("insert into february (id, day, v) values (4, '2026-02-06', 'd')");
    let mut writer = play.app.copy_in("copy t from stdin").unwrap();
    writeln!(writer, "5\t2026-01-07\te\n6\t2026-02-07\tf").unwrap();
    writer.finish().unwrap();
    play.owner
        .batch_execute(
            "create table march partition of t for values from ('2026-03-01') to ('2026-04-01');
             create table april (v text, id bigint not null, day date not null, primary key (id, day));
             insert into april values ('before', 7, '2026-04-01');
             alter table t attach partition april for values from ('2026-04-01') to ('2026-05-01')",
        )
        .unwrap();
    play.run("insert into t values (8, '2026-03-05', 'h'), (9, '2026-04-05', 'i')");
    play.run(
        "insert into march values (10, '2026-03-06', 'j'); insert into april values ('k', 11, '2026-04-06')",
    );
    let records = play.records();
    let shown: Vec<String> =
        records.iter().map(|(id, record)| format!("{id} {}", record["v"].as_str().unwrap())).collect();
    let expected = [
        "10:2026-03-06 j",
        "11:2026-04-06 k",
        "1:2026-01-05 a",
        "2:2026-02-05 b",
        "3:2026-01-06 c",
        "4:2026-02-06 d",
        "5:2026-01-07 e",
        "6:2026-02-07 f",
        "8:2026-03-05 h",
        "9:2026-04-05 i",
    ];
    assert_eq!(texts(shown), texts(expected));
    assert_eq!(play.arrivals(), 10);
}

#[test]
fn a_partition_watched_itself_is_captured_whichever_way_rows_come() {
    let mut play = Play::new("leaf", TABLES);
    play.watch("february", "columns => '{v}'");
    play.run("insert into t values (1, '2026-01-05', 'a'), (2, '2026-02-05', 'b')");
    play.run("insert into february (id, day, v) values (3, '2026-02-06', 'c')");
    assert_eq!(play.ids(), ["2:2026-02-05", "3:2026-02-06"]);
    play.owner.batch_execute("alter table t detach partition february").unwrap();
    play.run("insert into february (id, day, v) values (4, '2026-02-06', 'd')");
    assert_eq!(play.ids(), ["2:2026-02-05", "3:2026-02-06", "4:2026-02-06"]);
}

#[test]
fn a_watched_table_is_still_captured_after_it_became_a_partition() {
    let mut play = Play::new(
        "attached",
        "create table t (id bigint, day date, v text, primary key (id, day)) partition by range (day);
         create table may (id bigint, day date, v text, primary key (id, day))",
    );
    play.watch("may", "columns => '{v}'");
    play.run("insert into may values (1, '2026-05-01', 'before')");
    play.owner
        .batch_execute("alter table t attach partition may for values from ('2026-05-01') to ('2026-06-01')")
        .unwrap();
    play.run("insert into t values (2, '2026-05-02', 'through the root')");
    play.run("insert into may values (3, '2026-05-03', 'straight')");
    assert_eq!(play.ids(), ["1:2026-05-01", "2:2026-05-02", "3:2026-05-03"]);
}

/// PostgreSQL performs such an update as a delete and an insert, and fires the row triggers for insert.
#[test]
fn a_row_that_moves_between_partitions_counts_as_inserted() {
    let mut play = Play::new("moved", TABLES);
    play.watch("t", "columns => '{day, v}', object_id => '{id}'");
    play.run("insert into t values (1, '2026-01-05', 'a')");
    play.run("update t set v = 'b'");
    play.run("update t set day = '2026-02-05'");
    assert_eq!(play.ids(), ["1"]);
    assert_eq!(play.arrivals(), 2);
}

#[test]
fn partitions_of_partitions_are_captured() {
    let mut play = Play::new(
        "layers",
        "create table t (id bigint primary key, v text) partition by range (id);
         create table low partition of t for values from (0) to (100) partition by range (id);
         create table lower partition of low for values from (0) to (50);
         create table rest partition of t default",
    );
    play.watch("t", "columns => '{id, v}'");
    play.run("insert into t select i from generate_series(0, 49) as i; insert into t values (100), (5000)");
    play.run("insert into rest values (6000)");
    play.run("delete from lower where id = 1; insert into lower values (1, 'again'); delete from low where id = 2; insert into low values (2, 'again')");
    assert_eq!(play.ids(), texts((0..50).chain([100, 5000, 6000])));
    assert_eq!(play.arrivals(), 55);
    let error = failure(
        &mut play.admin,
        "select audit_algolia.watch('lower', index_name => 'layers', columns => '{id}')",
    );
    assert!(error.message().contains("object_prefix"), "{}", error.message());
}

#[test]
fn inheritance_children_are_watched_on_their_own() {
    let mut play = Play::new(
        "heirs",
        "create table t (id bigint primary key, v text); create table child (more int, primary key (id)) inherits (t)",
    );
    play.watch("child", "columns => '{id, v, more}'");
    play.run("insert into t values (1, 'a'); insert into child values (2, 'b', 3)");
    assert_eq!(play.ids(), ["2"]);
}

/// An update that moves a row fires the triggers for delete and insert, which must exist to capture it.
#[test]
fn whoever_watches_updates_of_a_partitioned_table_alone_is_warned() {
    let play = Play::new("half_moved", TABLES);
    let warnings = |operations: &str| {
        let watch = format!(
            "select audit_algolia.watch('half_moved.t', 'half_moved', columns => '{{v}}', operations => '{operations}')"
        );
        let unwatch = "select audit_algolia.unwatch('half_moved.t')";
        let output =
            play.stage.cluster.run("psql", &["-X", "postgres", "-c", &watch, "-c", unwatch]).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(said.contains("Add insert and delete to operations"), said.contains("WARNING"), "{said}");
        said.matches("updates that move rows between partitions").count()
    };
    assert_eq!(warnings("{update}"), 1);
    assert_eq!(warnings("{insert, update}"), 1);
    assert_eq!(warnings("{insert, delete}"), 0);
    assert_eq!(warnings("{insert, update, delete}"), 0);
}

/// A user who creates a partition needs the right to create its triggers.
#[test]
fn another_owner_can_go_on_making_partitions() {
    let mut play = Play::new("inherited", TABLES);
    play.watch("t", "columns => '{v}'");
    play.admin
        .batch_execute(
            "create role partition_heir login; grant usage, create on schema inherited to partition_heir; alter table t owner to partition_heir",
        )
        .unwrap();
    let mut heir = play.stage.cluster.client("postgres", "partition_heir");
    heir.batch_execute(
        "set search_path = inherited;
         create table march partition of t for values from ('2026-03-01') to ('2026-04-01')",
    )
    .unwrap();
    play.run("insert into t values (1, '2026-03-05', 'a')");
    assert_eq!(play.ids(), ["1:2026-03-05"]);
}
