//! The steps from version to version make what a fresh install makes.

use audit_algolia_tests::server::Cluster;
use audit_algolia_tests::stage::one;

use crate::support::*;

/// The definition of everything in a database, the members of extensions included, without numbers that differ from
/// database to database.
pub(crate) fn definition(cluster: &Cluster, database: &str) -> String {
    // Only a dump for pg_upgrade has the members of an extension, with comments, rights and membership.
    let dump = cluster.run("pg_dump", &["--schema-only", "--binary-upgrade", database]).unwrap();
    let dump = String::from_utf8(dump.stdout).unwrap();
    let mut definition = String::new();
    for part in dump.split("\n\n") {
        // These are about the numbers of this database, and about columns that were dropped.
        let is_storage = part.trim_start().strip_prefix("-- For binary upgrade, ").is_some_and(|rest| {
            ["must preserve", "recreate dropped column", "set heap's", "set toast's"]
                .iter()
                .any(|start| rest.starts_with(start))
        });
        if is_storage {
            continue;
        }
        // So are the values of sequences; and each dump has a key of its own for psql.
        let differs = |line: &str| {
            ["pg.dropped", "pg_catalog.setval(", "\\restrict", "\\unrestrict"]
                .iter()
                .any(|part| line.contains(part))
        };
        for line in part.lines().filter(|line| !["", "--"].contains(line) && !differs(line)) {
            // The oids of the tables whose data are dumped; their names follow below.
            let line = match line.contains("binary_upgrade_create_empty_extension(") {
                true => line.split("'{").next().unwrap_or_default(),
                // A dropped column is the last or not.
                false => line.trim_end_matches(','),
            };
            definition.push_str(line);
            definition.push('\n');
        }
    }
    let mut db = cluster.client(database, "postgres");
    let dumped: String = one(
        &mut db,
        "select string_agg(format('%s dumps its data %s', t.oid::regclass, t.condition), e'\\n' order by t.oid::regclass::text)
         from pg_extension as e, unnest(e.extconfig, e.extcondition) as t (oid, condition)
         where e.extname = 'audit_algolia'",
    );
    definition + &dumped
}

/// Asserts that a database that was updated is defined like one in which the version was installed.
#[track_caller]
pub(crate) fn assert_same_definition(updated: &str, fresh: &str, from: &str, to: &str) {
    let only = |one: &str, other: &str| -> String {
        let others: Vec<&str> = other.lines().collect();
        one.lines().filter(|line| !others.contains(line)).collect::<Vec<_>>().join("\n")
    };
    assert!(
        updated == fresh,
        "ALTER EXTENSION … UPDATE from {from} to {to} does not make what a fresh install makes.\n\
         Change the steps in sql, audit_algolia--…--{to}.sql first (CONTRIBUTING.md, \"A change of objects\").\n\
         Only a fresh install makes these lines, so a step must create it:\n{}\n\
         Only the update makes these lines, so a step must drop or change it:\n{}\n\
         If there are none, the order differs.",
        only(fresh, updated),
        only(updated, fresh)
    );
}

#[test]
fn a_step_makes_what_a_fresh_install_makes_and_the_step_back_undoes_it() {
    let cluster = Cluster::builder().start().unwrap();
    let mut db = cluster.client("postgres", "postgres");
    db.batch_execute("create database fresh").unwrap();
    cluster.client("fresh", "postgres").batch_execute("create extension audit_algolia").unwrap();
    let fresh = definition(&cluster, "fresh");
    assert!(fresh.contains("COMMENT ON COLUMN audit_algolia.queue.id") && fresh.contains("TO pg_monitor"));
    for version in versions() {
        let name = format!("of_{}", version.replace('.', "_"));
        db.batch_execute(&format!("create database {name}")).unwrap();
        let mut db = cluster.client(&name, "postgres");
        db.batch_execute(&format!("create extension audit_algolia version '{version}'")).unwrap();
        let old = definition(&cluster, &name);
        // Twice: the second time there are columns that the step back has dropped.
        for _ in 0..2 {
            update(&mut db, PRESENT);
            assert_same_definition(&definition(&cluster, &name), &fresh, &version, PRESENT);
            update(&mut db, &version);
            assert_same_definition(&definition(&cluster, &name), &old, PRESENT, &version);
        }
    }
}
