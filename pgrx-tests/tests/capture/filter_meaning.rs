//! What a filter means does not change with the session that writes: its names, its values and its rights.

use crate::filters::TABLE;
use crate::play::{failure, one, Play};

#[test]
fn names_in_a_filter_mean_what_they_meant_when_the_watch_began() {
    let mut play = Play::new(
        "filter_names",
        &format!(
            "{TABLE};
             create type mood as enum ('glad', 'sad');
             alter table t add m mood;
             create function is_fine(text) returns boolean language sql immutable as $$ select $1 = 'fine' $$;
             create function same(text, text) returns boolean language sql immutable as $$ select lower($1) = lower($2) $$;
             create operator === (function = same, leftarg = text, rightarg = text);
             create function asked(text) returns boolean language plpgsql stable set search_path = filter_names as $$
                 begin return exists (select from allowed where who = $1); end $$;
             create table allowed (who text); insert into allowed values ('ann')"
        ),
    );
    play.watch(
        "t",
        "columns => '{v}', filter => 'is_fine(v) or v === ''SHOUT'' or m = ''glad'' or asked(secret)'",
    );
    let kept: String =
        one(&mut play.admin, "select filter from audit_algolia.sources where source = 't'::regclass");
    assert_eq!(
        kept,
        "(filter_names.is_fine(v) OR (v OPERATOR(filter_names.===) 'SHOUT'::text) OR (m = 'glad'::filter_names.mood) OR filter_names.asked(secret))"
    );
    // A user's own functions, earlier in the path, are not called.
    play.app
        .batch_execute(
            "create function pg_temp.is_fine(text) returns boolean language sql as 'select true';
             set search_path = pg_temp, filter_names",
        )
        .unwrap();
    play.run("insert into t values (1, 'fine'), (2, 'not'), (3, 'shout')");
    play.run("insert into t (id, m, secret) values (4, 'glad', null), (5, 'sad', 'ann'), (6, null, 'bob')");
    assert_eq!(play.ids(), ["1", "3", "4", "5"]);
    // A changed function is used at once, even by sessions that have cached it.
    play.owner
        .batch_execute("create or replace function is_fine(text) returns boolean language sql immutable as $$ select $1 = 'finer' $$")
        .unwrap();
    play.run("insert into t values (7, 'fine'), (8, 'finer')");
    assert_eq!(play.ids(), ["1", "3", "4", "5", "8"]);
    play.owner.batch_execute("drop function is_fine").unwrap();
    let error = failure(&mut play.app, "insert into t values (9, 'finer')");
    assert_eq!(error.code().code(), "42883");
    assert!(error.message().starts_with("the filter of watched table \"t\" no longer fits the table"));
    assert!(error.hint().is_some());
}

#[test]
fn a_filter_does_not_depend_on_the_writers_session() {
    let mut play = Play::new("filter_sessions", TABLE);
    play.watch(
        "t",
        "columns => '{v}', filter => 'at::date = ''2026-01-01'' and at::text like ''2026-01-01 23:%'' and current_user = ''owner'''",
    );
    play.run(crate::records::ODD_SESSION);
    play.run("insert into t (id, at) values (1, '2026-01-01 23:30:00+00'), (2, '2026-01-02 00:30:00+00')");
    play.admin
        .batch_execute(
            "set timezone = 'Asia/Tokyo'; insert into t (id, at) values (3, '2026-01-01 23:30:00+00')",
        )
        .unwrap();
    assert_eq!(play.ids(), ["1", "3"]);
}

#[test]
fn a_filter_has_the_rights_of_the_tables_owner_and_no_others() {
    let mut play = Play::new(
        "filter_rights",
        &format!(
            "{TABLE};
             create table seen (who text, session text);
             create function spy(text) returns boolean language plpgsql stable as $$
                 begin
                     if current_user = 'postgres' then raise division_by_zero; end if;
                     if current_user <> 'owner' then raise exception 'run as %', current_user; end if;
                     perform set_config('role', 'postgres', true);
                     return true;
                 exception when insufficient_privilege or invalid_parameter_value then return true;
                 end $$;
             create function hidden(text) returns boolean language sql immutable as 'select true';
             revoke execute on function spy(text), hidden(text) from public"
        ),
    );
    // The superuser watches the owner's table and inserts into it. The application has no right to the function.
    play.watch("t", "columns => '{v}', filter => 'spy(v)'");
    play.run("insert into t values (1)");
    play.admin.batch_execute("insert into t values (2)").unwrap();
    play.owner.batch_execute("insert into t values (3)").unwrap();
    assert_eq!(play.ids(), ["1", "2", "3"]);
    assert_eq!(one::<String>(&mut play.admin, "select current_user::text"), "postgres");
    assert_eq!(play.admin.query("select audit_algolia.preview('t')", &[]).unwrap().len(), 3);

    // A filter may not call what the owner may not call, whoever calls watch().
    play.admin
        .batch_execute(
            "create schema vault; create function vault.secret(text) returns boolean language sql immutable as 'select true';
             revoke execute on function vault.secret from public; grant usage on schema vault to owner",
        )
        .unwrap();
    let error = failure(
        &mut play.admin,
        "select audit_algolia.watch('t', 'filter_rights_2', columns => '{v}', filter => 'vault.secret(v)')",
    );
    assert_eq!(error.code().code(), "42501");
    assert!(error.message().contains("permission denied for function secret"), "{}", error.message());
    play.admin
        .batch_execute(
            "grant execute on function vault.secret to owner;
             select audit_algolia.watch('t', 'filter_rights_2', columns => '{v}', filter => 'vault.secret(v)', object_prefix => 'x');
             revoke execute on function vault.secret from owner",
        )
        .unwrap();
    let error = failure(&mut play.app, "insert into t values (4)");
    assert_eq!(error.code().code(), "42501");
    play.admin.batch_execute("select audit_algolia.unwatch('t', 'filter_rights_2')").unwrap();
    // From then on, a new owner's rights count.
    play.admin.batch_execute("alter table t owner to postgres").unwrap();
    let error = failure(&mut play.admin, "insert into t values (5)");
    assert_eq!(error.code().code(), "22012", "{}", error.message());
}

#[test]
fn a_value_in_a_filter_means_what_it_meant_when_it_was_written() {
    let mut play = Play::new(
        "literals",
        "create table t (id bigint primary key, day date, span interval, at timestamptz, number double precision, list text[])",
    );
    play.admin
        .batch_execute(
            "set datestyle = 'SQL, DMY'; set intervalstyle = 'sql_standard'; set timezone = 'Asia/Kolkata';
             set extra_float_digits = -10",
        )
        .unwrap();
    // The first of February; a day and two hours ago; midnight in India.
    play.watch(
        "t",
        "columns => '{id}', filter => $$day >= '01/02/2026' and span <= '-1 2:00' and at >= '02/02/2026'
             and number > '0.123456789'::float8 and list = '{a,null}'$$",
    );
    play.run(
        "set timezone = 'UTC'; set datestyle = 'ISO, MDY'; set intervalstyle = 'postgres';
         set array_nulls = off;
         insert into t values
             (1, '2026-02-01', '-1 day -2 hours', '2026-02-01 18:30+00', 0.1234567891, array['a', null]),
             (2, '2026-01-31', '-1 day -2 hours', '2026-02-01 18:30+00', 0.1234567891, array['a', null]),
             (3, '2026-02-01', '-1 day -1 hours', '2026-02-01 18:30+00', 0.1234567891, array['a', null]),
             (4, '2026-02-01', '-1 day -2 hours', '2026-02-01 18:29+00', 0.1234567891, array['a', null]),
             (6, '2026-02-01', '-1 day -2 hours', '2026-02-01 18:30+00', 0.1234567891, array['a', 'null']),
             (5, '2026-02-01', '-1 day -2 hours', '2026-02-01 18:30+00', 0.123456788, array['a', null])",
    );
    let records = play.records();
    assert_eq!(records.keys().collect::<Vec<_>>(), ["1"]);
}

#[test]
fn a_backslash_in_a_filter_means_what_it_meant_when_it_was_written() {
    for (name, watched, written) in [("backslash_on", "on", "off"), ("backslash_off", "off", "on")] {
        let mut play = Play::new(name, "create table t (id bigint primary key, v text)");
        play.admin.batch_execute(&format!("set standard_conforming_strings = {watched}")).unwrap();
        play.watch("t", "columns => '{id}', filter => $$v = E'a\\\\b' or v = E'\\\\'$$");
        play.run(&format!(
            "set standard_conforming_strings = {written};
             insert into t values (1, E'a\\\\b'), (2, E'a\\\\\\\\b'), (3, E'a\\b'), (4, E'\\\\')"
        ));
        assert_eq!(play.ids(), ["1", "4"], "watched with {watched}, written with {written}");
        play.admin.batch_execute("select audit_algolia.unwatch('t')").unwrap();
    }
}
