//! Changes in partitioned tables and inheritance trees, including trees that a watched table has joined later.

use crate::changes::{briefs, ALL};
use crate::play::{one, Play};

/// PostgreSQL performs such an update as a delete and an insert, and fires the row triggers for these.
#[test]
fn a_row_that_moves_between_partitions_is_told_as_deleted_and_inserted() {
    let mut play = Play::new(
        "moves",
        "create table t (id int, day date, v text, primary key (id, day)) partition by range (day);
         create table january partition of t for values from ('2026-01-01') to ('2026-02-01');
         create table february partition of t for values from ('2026-02-01') to ('2026-03-01')",
    );
    play.watch("t", &format!("columns => '{{v}}', {ALL}"));
    play.run("insert into t values (1, '2026-01-05', 'a')");
    play.run("update t set v = 'b'");
    play.run("update t set day = '2026-02-05'");
    play.run("update february set v = 'c'");
    play.run("delete from february");
    assert_eq!(
        briefs(&mut play),
        [
            "1:2026-01-05 insert a",
            "1:2026-01-05 update b a",
            "1:2026-01-05 delete b",
            "1:2026-02-05 insert b",
            "1:2026-02-05 update c b",
            "1:2026-02-05 delete c",
        ]
    );
}

#[test]
fn members_of_an_inheritance_tree_tell_of_their_own_rows_alone() {
    let mut play = Play::new(
        "tree",
        "create table parent (id int primary key, v text); create table child (more int, primary key (id)) inherits (parent);
         create table late (id int primary key, v text)",
    );
    play.watch("parent", &format!("columns => '{{v}}', {ALL}, object_prefix => 'parent:'"));
    play.watch("child", &format!("columns => '{{v}}', {ALL}, object_prefix => 'child:'"));
    play.watch("late", &format!("columns => '{{v}}', {ALL}, object_prefix => 'late:'"));
    play.run("insert into parent values (1, 'a'); insert into child values (2, 'b'); insert into late values (3, 'c')");
    play.run("update parent set v = v || '2'");
    play.owner.batch_execute("alter table late inherit parent").unwrap();
    play.run("update parent set v = v || '3'");
    play.run("delete from parent where v in ('a23', 'b23', 'c3')");
    let mut seen = briefs(&mut play);
    seen.sort();
    assert_eq!(
        seen,
        [
            "child:2 delete b23",
            "child:2 insert b",
            "child:2 update b2 b",
            "child:2 update b23 b2",
            "late:3 delete c3",
            "late:3 insert c",
            "late:3 update c3 c",
            "parent:1 delete a23",
            "parent:1 insert a",
            "parent:1 update a2 a",
            "parent:1 update a23 a2",
        ]
    );
}

#[test]
fn a_table_that_gets_a_child_does_not_tell_of_the_childs_rows() {
    let mut play = Play::new("grown", "create table t (id int primary key, v text)");
    play.watch("t", &format!("columns => '{{v}}', {ALL}"));
    play.run("insert into t values (1, 'a')");
    play.owner
        .batch_execute("create table child () inherits (t); insert into child values (2, 'b')")
        .unwrap();
    play.run("update t set v = v || '2'; delete from t");
    assert_eq!(briefs(&mut play), ["1 insert a", "1 update a2 a", "1 delete a2"]);
}

#[test]
fn a_watched_table_tells_of_changes_through_the_root_it_was_attached_to() {
    let mut play = Play::new(
        "joined",
        "create table t (id int primary key, v text) partition by range (id); create table leaf (id int primary key, v text)",
    );
    play.watch("leaf", &format!("columns => '{{v}}', {ALL}"));
    let id: i32 =
        one(&mut play.admin, "select id from audit_algolia.sources where source = 'leaf'::regclass");
    play.owner.batch_execute(&format!("alter table leaf disable trigger audit_algolia_{id}_delete")).unwrap();
    play.owner.batch_execute("alter table t attach partition leaf default").unwrap();
    play.run("insert into t values (1, 'a'); update t set v = 'b'; delete from t");
    assert_eq!(briefs(&mut play), ["1 insert a", "1 update b a"], "the disabled trigger stays so");
    let state: String =
        one(&mut play.admin, "select state from audit_algolia.sources where source = 'leaf'::regclass");
    assert_eq!(state, "trigger disabled");
    play.owner.batch_execute(&format!("alter table leaf enable trigger audit_algolia_{id}_delete")).unwrap();
    play.run("insert into t values (1, 'c'); delete from t");
    assert_eq!(briefs(&mut play)[2..], ["1 insert c", "1 delete c"]);
}
