//! Copies the database during a chaos run: dumps and restores it with several processes, while everything else goes on.

use std::fs;

use anyhow::{ensure, Result};
use postgres::Client;

use super::tables::TABLES;
use crate::server::Cluster;
use crate::wait::PATIENCE;

/// The tables that must have as many rows in the copy.
const COUNTED: [&str; 2] = ["history", "audit_algolia.dead_letters"];

/// How many rows the queue holds up to an id, and how many after it that are not of partitioned tables. `pg_restore`
/// with several jobs creates the triggers of a partitioned table as soon as it has created the table. So rows of
/// partitions that are loaded later are captured again, with newer ids.
const QUEUED: &str = "
    select count(*) filter (where q.id <= $1), count(*) filter (where q.id > $1 and c.relkind <> 'p')
    from audit_algolia.queue as q
    join audit_algolia.source as s on s.id = q.source
    join pg_catalog.pg_class as c on c.oid = s.relation";

/// Dumps the database, restores it under another name, compares the copy with the dump's snapshot and drops it.
pub(super) fn restore(cluster: &Cluster) -> Result<()> {
    let mut db = cluster.session(PATIENCE)?;
    db.batch_execute("begin isolation level repeatable read")?;
    let snapshot: String = db.query_one("select pg_export_snapshot()", &[])?.get(0);
    let newest: i64 = db.query_one("select coalesce(max(id), 0) from audit_algolia.queue", &[])?.get(0);
    let expected = counts(&mut db, newest)?;
    let folder = cluster.socket_dir().join("dump");
    let path = folder.to_string_lossy().into_owned();
    cluster.run("pg_dump", &["-Fd", "-j", "2", "--snapshot", &snapshot, "-f", &path, "postgres"])?;
    db.batch_execute("commit")?;
    db.batch_execute("create database copy template template0")?;
    cluster.run("pg_restore", &["--exit-on-error", "-j", "4", "-d", "copy", &path])?;
    fs::remove_dir_all(&folder)?;
    let found = counts(&mut cluster.connect("copy", "postgres")?, newest)?;
    ensure!(found == expected, "the copy of the database holds {found:?}, not {expected:?}");
    Ok(db.batch_execute("drop database copy with (force)")?)
}

/// The number of rows of each table. For the queue, those up to the id `newest`, and those after it that should not be
/// there.
fn counts(db: &mut Client, newest: i64) -> Result<Vec<(String, i64)>> {
    let mut counts = Vec::new();
    for table in TABLES.iter().chain(&COUNTED) {
        let count = db.query_one(&format!("select count(*) from {table}"), &[])?.get(0);
        counts.push(((*table).to_owned(), count));
    }
    let queued = db.query_one(QUEUED, &[&newest])?;
    counts.push(("queued before".to_owned(), queued.get(0)));
    counts.push(("queued since".to_owned(), queued.get(1)));
    Ok(counts)
}
