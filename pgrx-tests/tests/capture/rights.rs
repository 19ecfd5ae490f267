//! Rights: nobody may do anything that was not granted to them or is not the table owner's right.

use crate::play::{failure, one, Play};

/// A role with a session of its own.
fn role(play: &Play, role: &str) -> postgres::Client {
    play.stage.admin().batch_execute(&format!("create role {role} login")).unwrap();
    play.stage.cluster.client("postgres", role)
}

#[test]
fn a_writer_without_any_right_on_the_extension_is_captured() {
    let mut play = Play::new("rightless", "create table t (id int primary key, v text)");
    play.watch("t", "columns => '{v}'");
    let mut writer = role(&play, "writer");
    play.owner
        .batch_execute("grant usage on schema rightless to writer; grant insert on t to writer")
        .unwrap();
    writer
        .batch_execute("insert into rightless.t values (1, 'a'); insert into rightless.t select generate_series(2, 300), 'b'")
        .unwrap();
    for statement in [
        "select * from audit_algolia.queue",
        "select * from audit_algolia.source",
        "select * from audit_algolia.index",
        "select * from audit_algolia.sources",
        "insert into audit_algolia.queue values (1, 1, 1, now(), 'a', '{}')",
        "delete from audit_algolia.queue",
        "select nextval('audit_algolia.queue_block')",
        "select audit_algolia.watch('rightless.t', columns => '{v}')",
        "select audit_algolia.unwatch('rightless.t')",
        "select audit_algolia.preview('rightless.t')",
        "select audit_algolia.pseudonym('a')",
        "select audit_algolia.queue_stats()",
        "select audit_algolia.worker_stats()",
        "select audit_algolia.reset_stats()",
        "select audit_algolia.pause()",
        "select audit_algolia.resume()",
        "select audit_algolia.flush()",
        "create temp table x (id int); create trigger x after insert on x execute function audit_algolia.capture('1')",
        "show audit_algolia.api_key",
        "show audit_algolia.pseudonym_key",
    ] {
        assert_eq!(failure(&mut writer, statement).code().code(), "42501", "{statement}");
        writer.batch_execute("rollback").unwrap();
    }
    assert_eq!(play.records().len(), 300);
}

#[test]
fn nothing_is_granted_to_the_public() {
    let mut play = Play::new("public_grants", "");
    let open: Vec<String> = play
        .admin
        .query(
            "select format('%s on %s', a.privilege_type, o.name)
             from (
                 select oid, nspname::text, coalesce(nspacl, acldefault('n', nspowner)) from pg_namespace where nspname = 'audit_algolia'
                 union all
                 select oid, oid::regclass::text, coalesce(relacl, acldefault(case relkind when 'S' then 's' else 'r' end::\"char\", relowner))
                 from pg_class where relnamespace = 'audit_algolia'::regnamespace and relkind in ('r', 'v', 'S', 'm', 'p')
                 union all
                 select attrelid, attrelid::regclass || '.' || attname, attacl
                 from pg_attribute join pg_class c on c.oid = attrelid where c.relnamespace = 'audit_algolia'::regnamespace and attacl is not null
                 union all
                 select oid, oid::regprocedure::text, coalesce(proacl, acldefault('f', proowner))
                 from pg_proc where pronamespace = 'audit_algolia'::regnamespace
                 union all
                 -- Arrays have the rights of their elements.
                 select oid, oid::regtype::text, coalesce(typacl, acldefault('T', typowner))
                 from pg_type where typnamespace = 'audit_algolia'::regnamespace and typsubscript <> 'array_subscript_handler'::regproc
             ) as o (oid, name, acl), aclexplode(o.acl) as a
             where a.grantee = 0
             order by 1",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(open, Vec::<String>::new());
    // watch() and unwatch() need the caller's search_path and pin their own afterwards. So do trigger functions, once
    // they have something to do.
    let unpinned: i64 = one(
        &mut play.admin,
        "select count(*) from pg_proc where pronamespace = 'audit_algolia'::regnamespace
             and (proname not in ('watch', 'unwatch') and prorettype not in ('trigger'::regtype, 'event_trigger'::regtype) or prosecdef)
             and not coalesce('search_path=pg_catalog, pg_temp' = any (proconfig), false)",
    );
    assert_eq!(unpinned, 0);
    let definers: i64 = one(
        &mut play.admin,
        "select count(*) from pg_proc where pronamespace = 'audit_algolia'::regnamespace
             and prosecdef and proconfig is null",
    );
    assert_eq!(definers, 0);
    let kinds: Vec<String> = play
        .admin
        .query(
            "select distinct d.classid::regclass::text from pg_depend as d
             where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e' and d.classid <> 'pg_type'::regclass
                 and d.refobjid = (select oid from pg_extension where extname = 'audit_algolia') order by 1",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    // Row types are checked above. From PostgreSQL 17 on they belong to the extension by themselves. Another kind of
    // object needs a line in the query above.
    assert_eq!(kinds, ["pg_class", "pg_event_trigger", "pg_proc"]);
}

#[test]
fn everything_has_a_comment() {
    let mut play = Play::new("comments", "");
    let silent: Vec<String> = play
        .admin
        .query(
            "select pg_describe_object(d.classid, d.objid, 0)
             from pg_depend as d
             where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e'
                 and d.refobjid = (select oid from pg_extension where extname = 'audit_algolia')
                 and obj_description(d.objid, d.classid::regclass::name) is null
                 and not (d.classid = 'pg_class'::regclass
                     and exists (select from pg_depend as i where i.objid = d.objid and i.classid = d.classid and i.deptype = 'i'))
                 and not (d.classid = 'pg_type'::regclass)
             union all
             select a.attrelid::regclass || '.' || a.attname
             from pg_attribute as a join pg_class as c on c.oid = a.attrelid
             where c.relnamespace = 'audit_algolia'::regnamespace and c.relkind in ('r', 'v') and a.attnum > 0
                 and not a.attisdropped and col_description(a.attrelid, a.attnum) is null
             union all
             select 'extension' where not exists (
                 select from pg_extension where extname = 'audit_algolia' and obj_description(oid, 'pg_extension') <> '')
             order by 1",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(silent, Vec::<String>::new());
}

#[test]
fn monitors_may_read_statistics_and_nothing_else() {
    let mut play = Play::new("monitors", "create table t (id int primary key)");
    play.watch("t", "columns => '{id}'");
    let mut monitor = role(&play, "monitor");
    play.admin.batch_execute("grant pg_monitor to monitor").unwrap();
    let states = monitor.query("select index_name, state from audit_algolia.queue_stats()", &[]).unwrap();
    assert!(states.iter().any(|row| row.get::<_, String>(0) == "monitors"));
    assert!(!monitor.query("select pid from audit_algolia.worker_stats()", &[]).unwrap().is_empty());
    for statement in [
        "select audit_algolia.pseudonym('a')",
        "select audit_algolia.pause('monitors')",
        "select * from audit_algolia.queue",
        "select audit_algolia.preview('monitors.t')",
    ] {
        assert_eq!(failure(&mut monitor, statement).code().code(), "42501", "{statement}");
    }
}

#[test]
fn an_owner_who_was_let_in_watches_only_tables_of_their_own() {
    let mut play = Play::new("own_tables", "create table theirs (id int primary key, v text)");
    let mut holder = role(&play, "holder");
    play.admin
        .batch_execute(
            "create schema held authorization holder;
             create role team; grant team to holder;
             create table held.shared (id int primary key); alter table held.shared owner to team;
             grant usage on schema audit_algolia, own_tables to holder;
             grant all on own_tables.theirs to holder;
             grant execute on function audit_algolia.watch, audit_algolia.unwatch to holder",
        )
        .unwrap();
    holder
        .batch_execute(
            "create table held.mine (id int primary key, v text);
             select audit_algolia.watch('held.mine', index_name => 'own_tables', columns => '{v}', object_prefix => 'mine:');
             select audit_algolia.watch('held.shared', index_name => 'own_tables', columns => '{id}', object_prefix => 'shared:');
             insert into held.mine values (1, 'a')",
        )
        .unwrap();
    for call in [
        "audit_algolia.watch('own_tables.theirs', columns => '{v}')",
        "audit_algolia.unwatch('own_tables.theirs')",
        "audit_algolia.watch('pg_catalog.pg_authid', columns => '{rolname}')",
        "audit_algolia.watch('audit_algolia.queue', columns => '{record}')",
    ] {
        let error = failure(&mut holder, &format!("select {call}"));
        assert_eq!(error.code().code(), "42501", "{call}");
        assert!(error.message().starts_with("must be owner of table"), "{}", error.message());
        assert!(error.hint().is_some());
    }
    assert_eq!(play.ids(), ["mine:1"]);
    holder.batch_execute("select audit_algolia.unwatch('held.mine')").unwrap();
}

/// Owners of partitioned tables have the right to the trigger function. It must not let them pass off rows as those of
/// another table.
#[test]
fn a_trigger_made_by_hand_does_not_speak_for_another_table() {
    let mut play = Play::new("forged", "create table t (id int primary key)");
    let source: i32 =
        one(&mut play.admin, "select audit_algolia.watch('t', index_name => 'forged', columns => '{id}')");
    let mut forger = role(&play, "forger");
    play.admin
        .batch_execute(
            "create schema forgery authorization forger; grant usage on schema audit_algolia to forger;
             grant execute on function audit_algolia.capture to forger",
        )
        .unwrap();
    forger
        .batch_execute(&format!(
            "create table forgery.t (id int primary key);
             create trigger forged after insert on forgery.t for each row execute function audit_algolia.capture('{source}')"
        ))
        .unwrap();
    // The trigger belongs to no source of its table, so it captures nothing.
    forger.batch_execute("insert into forgery.t values (666)").unwrap();
    for trigger in [
        "after insert on forgery.t for each row execute function audit_algolia.capture('x')",
        "after insert on forgery.t for each row execute function audit_algolia.capture()",
        "before insert on forgery.t for each row execute function audit_algolia.capture('1')",
        "after insert on forgery.t for each statement execute function audit_algolia.capture('1')",
    ] {
        forger
            .batch_execute(&format!(
                "drop trigger forged on forgery.t; create trigger forged {trigger}; alter table forgery.t disable trigger all;
                 delete from forgery.t; insert into forgery.t values (1); alter table forgery.t enable trigger all"
            ))
            .unwrap();
        failure(&mut forger, "update forgery.t set id = 2; insert into forgery.t values (3)");
    }
    play.run("insert into t values (1)");
    assert_eq!(play.ids(), ["1"]);
}

/// A trigger of another kind on the watched table must not crash or queue anything wrong.
#[test]
fn capture_refuses_to_be_called_in_another_way() {
    let mut play = Play::new("miscast", "create table t (id int primary key, v text)");
    let source: i32 =
        one(&mut play.admin, "select audit_algolia.watch('t', index_name => 'miscast', columns => '{v}')");
    for (timing, statement) in [
        ("after update on t for each row", "update t set v = 'x'"),
        ("after update on t referencing new table as n for each statement", "update t set v = 'x'"),
        ("after delete on t for each row", "delete from t"),
        ("after delete on t for each statement", "delete from t"),
        ("after truncate on t for each statement", "truncate t"),
        ("before insert on t for each row", "insert into t values (2)"),
        ("before insert on t for each statement", "insert into t values (2)"),
        ("after insert on t for each statement", "insert into t values (2)"),
    ] {
        play.admin
            .batch_execute(&format!(
                "alter table t disable trigger user; insert into t values (1) on conflict do nothing; alter table t enable trigger user;
                 create trigger odd {timing} execute function audit_algolia.capture('{source}')"
            ))
            .unwrap();
        let error = failure(&mut play.admin, statement);
        assert_eq!(error.code().code(), "39P01", "{timing}: {}", error.message());
        assert!(error.hint().is_some());
        play.admin.batch_execute("drop trigger odd on t").unwrap();
    }
    assert_eq!(play.ids(), Vec::<String>::new());
}
