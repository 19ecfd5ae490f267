//! A server that does not preload the library: everything is captured, nothing is delivered, and a warning says so.

use audit_algolia_tests::server::StopMode;
use audit_algolia_tests::stage::Stage;

use crate::play::{one, watch};

#[test]
fn rows_wait_until_the_library_is_preloaded() {
    let stage = Stage::builder().preload(false).start().unwrap();
    let statements = [
        "create table t (id int primary key, v text)",
        "create table u (id int primary key, v text)",
        "drop extension audit_algolia",
        "create extension audit_algolia",
        "select audit_algolia.watch('t', columns => '{v}')",
        "select audit_algolia.watch('u', columns => '{v}')",
        "insert into t values (1, 'a')",
        "insert into t select generate_series(2, 1000)",
    ];
    let arguments: Vec<&str> =
        ["-X", "postgres"].into_iter().chain(statements.iter().flat_map(|one| ["-c", *one])).collect();
    let output = stage.cluster.run("psql", &arguments).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.matches("WARNING").count(), 1, "{said}");
    assert!(said.contains("audit_algolia is not preloaded"), "{said}");
    assert!(said.contains("shared_preload_libraries"), "{said}");
    assert!(!said.contains("ERROR"), "{said}");
    let mut admin = stage.admin();
    admin.batch_execute("begin; insert into u values (1); rollback; begin; insert into u values (2); prepare transaction 'p'").unwrap();
    admin.batch_execute("commit prepared 'p'").unwrap();
    let stats = admin
        .query("select index_name, state, queued, in_flight, oldest_queued_at is null from audit_algolia.queue_stats() order by 1", &[])
        .unwrap();
    let shown: Vec<(String, String, i64, i64, bool)> =
        stats.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4))).collect();
    assert_eq!(
        shown,
        [
            ("t".to_owned(), "no worker".to_owned(), 1000, 0, false),
            ("u".to_owned(), "no worker".to_owned(), 1, 0, false)
        ]
    );
    for statement in [
        "select audit_algolia.pause()",
        "select audit_algolia.resume()",
        "select audit_algolia.reset_stats()",
        "select * from audit_algolia.worker_stats()",
        "select audit_algolia.preview('t')",
        "select audit_algolia.pseudonym('a')",
        "select audit_algolia.unwatch('u')",
    ] {
        admin.batch_execute(statement).unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
    assert!(!one::<bool>(&mut admin, "select audit_algolia.flush('10 ms')"));
    drop(admin);
    stage.cluster.stop(StopMode::Fast).unwrap();
    let conf = stage.cluster.data_dir().join("postgresql.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    std::fs::write(&conf, format!("{text}\nshared_preload_libraries = 'audit_algolia'\n")).unwrap();
    stage.cluster.start().unwrap();
    stage.wait_for_records("t", 1000);
    stage.wait_for_records("u", 1);
    let mut admin = stage.admin();
    watch(&mut admin, "u", "u", "columns => '{v}'");
    admin.batch_execute("insert into u values (3)").unwrap();
    stage.wait_for_records("u", 2);
}
