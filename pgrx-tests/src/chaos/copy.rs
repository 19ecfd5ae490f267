//! Owns the copy of the database that a chaos run makes: dumped and restored by several processes at once, while
//! everybody else goes on.

use std::fs;

use anyhow::{ensure, Result};
use postgres::Client;

use super::tables::TABLES;
use crate::server::Cluster;
use crate::wait::PATIENCE;

/// The tables that have to hold as many rows in the copy.
const COUNTED: [&str; 3] = ["history", "audit_algolia.queue", "audit_algolia.dead_letters"];

/// Dumps the database, restores it under another name, compares it with the dump's snapshot and drops it.
pub(super) fn restore(cluster: &Cluster) -> Result<()> {
    let mut db = cluster.session(PATIENCE)?;
    db.batch_execute("begin isolation level repeatable read")?;
    let snapshot: String = db.query_one("select pg_export_snapshot()", &[])?.get(0);
    let expected = counts(&mut db)?;
    let folder = cluster.socket_dir().join("dump");
    let path = folder.to_string_lossy().into_owned();
    cluster.run("pg_dump", &["-Fd", "-j", "2", "--snapshot", &snapshot, "-f", &path, "postgres"])?;
    db.batch_execute("commit")?;
    db.batch_execute("create database copy template template0")?;
    cluster.run("pg_restore", &["--exit-on-error", "-j", "4", "-d", "copy", &path])?;
    fs::remove_dir_all(&folder)?;
    let found = counts(&mut cluster.connect("copy", "postgres")?)?;
    ensure!(found == expected, "the copy of the database holds {found:?}, not {expected:?}");
    Ok(db.batch_execute("drop database copy with (force)")?)
}

fn counts(db: &mut Client) -> Result<Vec<(String, i64)>> {
    let tables = TABLES.iter().chain(&COUNTED);
    tables
        .map(|table| {
            let count = db.query_one(&format!("select count(*) from {table}"), &[])?.get(0);
            Ok(((*table).to_owned(), count))
        })
        .collect()
}
