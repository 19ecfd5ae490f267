//! What administrators have done with the extension's objects outlasts an upgrade: rights they have granted, views of theirs.

use audit_algolia_tests::server::Cluster;
use audit_algolia_tests::stage::one;
use postgres::Client;

use crate::support::*;

/// A database with the extension in a version, and a session in it.
fn database(cluster: &Cluster, version: &str) -> (String, Client) {
    let name = format!("of_{}", version.replace('.', "_"));
    cluster.client("postgres", "postgres").batch_execute(&format!("create database {name}")).unwrap();
    let mut db = cluster.client(&name, "postgres");
    db.batch_execute(&format!("create extension audit_algolia version '{version}'")).unwrap();
    (name, db)
}

/// Who may call `watch`, besides its owner, and whether they may grant that.
fn grantees(db: &mut Client) -> String {
    one(
        db,
        "select coalesce(string_agg(format('%s by %s %s', a.grantee::regrole, a.grantor::regrole, a.is_grantable), ', '
             order by a.grantee::regrole::text), '')
         from pg_proc as p, aclexplode(p.proacl) as a
         where p.pronamespace = 'audit_algolia'::regnamespace and p.proname = 'watch' and a.grantee <> p.proowner",
    )
}

#[test]
fn rights_that_were_granted_outlast_a_step_and_a_dump() {
    let cluster = Cluster::builder().start().unwrap();
    for version in versions() {
        let (name, mut db) = database(&cluster, &version);
        db.batch_execute(
            "create role first; create role second;
             do $$ begin execute format('grant execute on function %s to first with grant option',
                 (select oid::regprocedure from pg_proc
                  where pronamespace = 'audit_algolia'::regnamespace and proname = 'watch')); end $$;
             grant usage on schema audit_algolia to first;
             set role first;
             do $$ begin execute format('grant execute on function %s to second',
                 (select oid::regprocedure from pg_proc
                  where pronamespace = 'audit_algolia'::regnamespace and proname = 'watch')); end $$;
             reset role;
             grant select on audit_algolia.dead_letters to second",
        )
        .unwrap();
        let granted = grantees(&mut db);
        assert_eq!(granted, "first by postgres t, second by first f");
        for to in [PRESENT, &version] {
            update(&mut db, to);
            assert_eq!(grantees(&mut db), granted, "{to}");
            assert!(one::<bool>(
                &mut db,
                "select has_table_privilege('second', 'audit_algolia.dead_letters', 'select')"
            ));
        }
        update(&mut db, PRESENT);
        let dump = cluster.run("pg_dump", &["--schema-only", &name]).unwrap().stdout;
        db.batch_execute("create database copy").unwrap();
        let mut copy = cluster.client("copy", "postgres");
        copy.batch_execute(&statements(&dump)).unwrap();
        assert_eq!(grantees(&mut copy), granted, "a copy of the database");
        drop(copy);
        db.batch_execute("drop database copy").unwrap();
        db.batch_execute("drop owned by first; drop role first; drop owned by second; drop role second")
            .unwrap();
    }
}

/// What `psql` sends of a dump of definitions.
fn statements(dump: &[u8]) -> String {
    let dump = String::from_utf8_lossy(dump);
    let lines = dump.lines().filter(|line| !line.starts_with('\\'));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn new_objects_belong_to_the_owner_of_the_extension() {
    let cluster = Cluster::builder().start().unwrap();
    for version in versions() {
        let (_, mut db) = database(&cluster, &version);
        db.batch_execute(&format!(
            "drop extension audit_algolia; create role keeper superuser; set role keeper;
             create extension audit_algolia version '{version}'; reset role"
        ))
        .unwrap();
        for to in [PRESENT, &version] {
            update(&mut db, to);
            let others: String = one(
                &mut db,
                "select coalesce(string_agg(m.object, ', '), '')
                 from (
                     select pg_describe_object(d.classid, d.objid, 0) as object, coalesce(c.relowner, p.proowner) as owner
                     from pg_depend as d
                     left join pg_class as c on d.classid = 'pg_class'::regclass and c.oid = d.objid
                     left join pg_proc as p on d.classid = 'pg_proc'::regclass and p.oid = d.objid
                     where d.deptype = 'e' and d.refobjid = (select oid from pg_extension where extname = 'audit_algolia')
                 ) as m
                 where m.owner <> 'keeper'::regrole",
            );
            assert_eq!(others, "", "{to}");
        }
        db.batch_execute("drop owned by keeper cascade; drop role keeper").unwrap();
    }
}

#[test]
fn views_on_the_extensions_views_outlast_a_step_and_stop_the_step_back_rather_than_being_dropped() {
    let cluster = Cluster::builder().start().unwrap();
    for version in versions() {
        let (_, mut db) = database(&cluster, &version);
        db.batch_execute("create view mine as select * from audit_algolia.sources").unwrap();
        update(&mut db, PRESENT);
        db.batch_execute("table mine").unwrap();
        let back = format!("alter extension audit_algolia update to '{version}'");
        if let Err(error) = db.batch_execute(&back) {
            assert_eq!(error.as_db_error().unwrap().code().code(), "2BP01", "{error}");
            assert_eq!(extension_version(&mut db), PRESENT);
            db.batch_execute("drop view mine").unwrap();
            db.batch_execute(&back).unwrap();
        }
    }
}

#[test]
fn the_step_back_to_a_version_without_alerts_refuses_while_a_source_alerts() {
    let cluster = Cluster::builder().start().unwrap();
    let mut db = cluster.client("postgres", "postgres");
    db.batch_execute(
        "create extension audit_algolia;
         create table log (id bigint primary key);
         select audit_algolia.watch('log', columns => '{id}', alert => 'id > 3')",
    )
    .unwrap();
    let back = "alter extension audit_algolia update to '0.1.0'";
    let error = db.batch_execute(back).unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.message(), "version 0.1.0 of audit_algolia cannot send the alerts of public.log");
    assert!(error.hint().unwrap().contains("audit_algolia.unwatch()"), "{error:?}");
    db.batch_execute("select audit_algolia.unwatch('log'), audit_algolia.watch('log', columns => '{id}')")
        .unwrap();
    db.batch_execute(back).unwrap();
    update(&mut db, PRESENT);
    assert_eq!(one::<Option<String>>(&mut db, "select alert from audit_algolia.sources"), None);
}
