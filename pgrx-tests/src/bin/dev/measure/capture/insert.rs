//! How rows are inserted.

use std::io::{Read, Write};
use std::thread;

use anyhow::{anyhow, Result};
use postgres::Client;

use super::super::scale::Scale;
use super::super::testbed::Testbed;
use super::shape::Shape;

/// How rows are inserted, by the name that the report has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::VariantArray)]
#[strum(const_into_str)]
pub(super) enum Method {
    #[strum(serialize = "bulk insert, one statement")]
    Bulk,
    /// From a client.
    #[strum(serialize = "COPY")]
    Copy,
    /// Each a transaction.
    #[strum(serialize = "statements of 100 rows")]
    Hundreds,
    #[strum(serialize = "single inserts, loop in the server")]
    Loop,
    /// With a prepared statement, as the two that follow.
    #[strum(serialize = "single inserts, one client, one transaction")]
    Transaction,
    #[strum(serialize = "single inserts, one client, a commit each")]
    One,
    #[strum(serialize = "single inserts, 4 clients, a commit each")]
    Four,
}

impl Method {
    pub(super) fn name(self) -> &'static str {
        self.into_str()
    }

    /// How many rows it inserts: fewer of the wide ones.
    pub(super) fn rows(self, shape: Shape, scale: &Scale) -> u64 {
        let rows = match self {
            Method::Bulk | Method::Copy => scale.bulk,
            Method::Hundreds => scale.hundreds,
            Method::Loop => scale.singles,
            Method::Transaction => scale.client,
            Method::One => scale.commits,
            Method::Four => scale.commits * CLIENTS as u64,
        };
        match (shape, self) {
            (Shape::Narrow, _) | (_, Method::One | Method::Four) => rows,
            (Shape::Wide, _) => (rows / 4000).max(1) * 100,
        }
    }
}

const CLIENTS: usize = 4;

/// The sessions that insert, and what COPY is given.
pub(super) struct Writers {
    clients: Vec<Client>,
    copied: Vec<(Shape, Vec<u8>)>,
}

impl Writers {
    pub(super) fn new(testbed: &mut Testbed, shapes: &[Shape], scale: &Scale) -> Result<Writers> {
        let clients: Result<Vec<Client>> = (0..CLIENTS).map(|_| testbed.connect()).collect();
        let mut copied = Vec::new();
        for &shape in shapes {
            let rows = Method::Copy.rows(shape, scale);
            let rows = format!("SELECT {} FROM generate_series(1, {rows}) AS i", shape.values("i"));
            let mut data = Vec::new();
            testbed.db.copy_out(&format!("COPY ({rows}) TO STDOUT"))?.read_to_end(&mut data)?;
            copied.push((shape, data));
        }
        Ok(Writers { clients: clients?, copied })
    }

    /// The session that does all but what takes several.
    pub(super) fn first(&mut self) -> Result<&mut Client> {
        self.clients.first_mut().ok_or_else(|| anyhow!("no session"))
    }

    /// How many pages the server has logged as a whole so far. Its processes tell that about once a second; these sessions
    /// do it now.
    pub(super) fn images(&mut self) -> Result<f64> {
        for db in &mut self.clients {
            db.batch_execute("SELECT pg_stat_force_next_flush()")?;
        }
        Ok(self.first()?.query_one("SELECT wal_fpi::float8 FROM pg_stat_wal", &[])?.get(0))
    }

    pub(super) fn insert(&mut self, method: Method, shape: Shape, table: &str, rows: u64) -> Result<()> {
        let columns = shape.columns();
        let prepared = format!("INSERT INTO {table} ({columns}) VALUES ({})", shape.values("$1::bigint"));
        match method {
            Method::Bulk => self.first()?.batch_execute(&shape.insert(table, ("1", &rows.to_string())))?,
            Method::Copy => {
                let data = self.copied.iter().find(|(of, _)| *of == shape).map(|(_, data)| data.clone());
                let mut into = self.first()?.copy_in(&format!("COPY {table} ({columns}) FROM STDIN"))?;
                into.write_all(&data.unwrap_or_default())?;
                into.finish()?;
            }
            Method::Hundreds => {
                let db = self.first()?;
                let statement = db.prepare(&shape.insert(table, ("$1::bigint", "$1::bigint + 99")))?;
                for start in (0..rows as i64).step_by(100) {
                    db.execute(&statement, &[&start])?;
                }
            }
            Method::Loop => self.first()?.batch_execute(&format!(
                "DO $$ BEGIN
                     FOR i IN 1..{rows} LOOP
                         INSERT INTO {table} ({columns}) VALUES ({});
                     END LOOP;
                 END $$",
                shape.values("i")
            ))?,
            Method::Transaction => {
                let mut transaction = self.first()?.transaction()?;
                let statement = transaction.prepare(&prepared)?;
                for i in 1..=rows as i64 {
                    transaction.execute(&statement, &[&i])?;
                }
                transaction.commit()?;
            }
            Method::One => commit_each(self.first()?, &prepared, rows)?,
            Method::Four => thread::scope(|scope| {
                let (prepared, each) = (prepared.as_str(), rows / CLIENTS as u64);
                let threads: Vec<_> = self
                    .clients
                    .iter_mut()
                    .map(|db| scope.spawn(move || commit_each(db, prepared, each)))
                    .collect();
                let mut results = threads.into_iter().map(|thread| thread.join());
                results.try_for_each(|result| result.map_err(|_| anyhow!("a writer has failed"))?)
            })?,
        }
        Ok(())
    }
}

fn commit_each(db: &mut Client, statement: &str, rows: u64) -> Result<()> {
    let statement = db.prepare(statement)?;
    for i in 1..=rows as i64 {
        db.execute(&statement, &[&i])?;
    }
    Ok(())
}
