//! The CONTEXT of PostgreSQL's errors that pass through our functions.

use postgres::error::DbError;

use crate::play::{failure, Play};

const TABLE: &str = "
    create table t (id int primary key, v text);
    create function fails(n int) returns boolean language plpgsql immutable as
        $$ begin return 1 / (n - n) > 0; end $$";

/// The function is named with or without its schema, depending on the search_path.
const PLACE: &str = "fails(integer) line 1 at RETURN";

#[track_caller]
fn check(error: &DbError, message: &str, place: &str) {
    assert_eq!((error.code().code(), error.message()), ("22012", message));
    let context = error.where_().unwrap_or_default();
    assert_eq!(context.matches(place).count(), 1, "{context}");
}

#[test]
fn an_error_in_the_planning_of_a_filter_tells_where_it_was_raised() {
    let mut play = Play::new("context_planning", TABLE);
    let watch = "audit_algolia.watch('t', 'context_planning', columns => '{v}', filter => 'context_planning.fails(1)')";
    for statement in [format!("select {watch}"), format!("do $$ begin perform {watch}; end $$")] {
        let error = failure(&mut play.admin, &statement);
        check(&error, "invalid filter for table \"t\": division by zero", PLACE);
        let context = error.where_().unwrap();
        assert_eq!(context.contains("inline_code_block"), statement.starts_with("do"), "{context}");
    }
    // A writer's session plans it too.
    let sound = "create or replace function fails(n int) returns boolean language sql immutable return n > 0";
    let failing = TABLE.split_once(';').unwrap().1.replace("create function", "create or replace function");
    play.owner.batch_execute(sound).unwrap();
    play.admin.batch_execute(&format!("select {watch}")).unwrap();
    play.owner.batch_execute(&failing).unwrap();
    let error = failure(&mut play.app, "insert into t values (1, 'a')");
    let message = "the filter of watched table \"t\" no longer fits the table: division by zero";
    check(&error, message, PLACE);
    check(&error, message, "audit_algolia capture of table \"t\"");
}

#[test]
fn an_error_of_a_policy_that_preview_meets_tells_where_it_was_raised() {
    let mut play = Play::new("context_preview", TABLE);
    play.watch("t", "columns => '{v}'");
    play.run("insert into t values (1, 'a')");
    play.admin
        .batch_execute(
            "grant usage on schema audit_algolia to owner;
             grant execute on function audit_algolia.preview(regclass, integer) to owner",
        )
        .unwrap();
    play.owner
        .batch_execute(
            "alter table t enable row level security, force row level security;
             create policy failing on t using (context_preview.fails(id))",
        )
        .unwrap();
    let error = failure(&mut play.owner, "select audit_algolia.preview('t')");
    check(&error, "division by zero", PLACE);
}
