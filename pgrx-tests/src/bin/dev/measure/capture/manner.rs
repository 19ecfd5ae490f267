//! How rows are inserted.

use std::io::{Read, Write};
use std::thread;

use anyhow::{anyhow, Result};
use postgres::Client;

use super::super::scale::Scale;
use super::super::world::World;
use super::shape::Shape;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Manner {
    /// One statement.
    Bulk,
    /// COPY from a client.
    Copy,
    /// Statements of a hundred rows, each a transaction.
    Hundreds,
    /// A loop in the server.
    Loop,
    /// One client, one transaction, a prepared statement.
    Transaction,
    /// One client, each row a transaction.
    One,
    /// Four clients, each row a transaction.
    Four,
}

pub(super) const MANNERS: [Manner; 7] = [
    Manner::Bulk,
    Manner::Copy,
    Manner::Hundreds,
    Manner::Loop,
    Manner::Transaction,
    Manner::One,
    Manner::Four,
];

impl Manner {
    pub(super) fn name(self) -> &'static str {
        match self {
            Manner::Bulk => "bulk insert, one statement",
            Manner::Copy => "COPY",
            Manner::Hundreds => "statements of 100 rows",
            Manner::Loop => "single inserts, loop in the server",
            Manner::Transaction => "single inserts, one client, one transaction",
            Manner::One => "single inserts, one client, a commit each",
            Manner::Four => "single inserts, 4 clients, a commit each",
        }
    }

    /// How many rows it inserts: fewer of the wide ones.
    pub(super) fn rows(self, shape: Shape, scale: &Scale) -> u64 {
        let rows = match self {
            Manner::Bulk | Manner::Copy => scale.bulk,
            Manner::Hundreds => scale.hundreds,
            Manner::Loop => scale.singles,
            Manner::Transaction => scale.client,
            Manner::One => scale.commits,
            Manner::Four => scale.commits * CLIENTS as u64,
        };
        match (shape, self) {
            (Shape::Narrow, _) | (_, Manner::One | Manner::Four) => rows,
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
    pub(super) fn new(world: &mut World, shapes: &[Shape], scale: &Scale) -> Result<Writers> {
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(world.cluster.connect("postgres", "postgres")?);
        }
        let mut copied = Vec::new();
        for &shape in shapes {
            let rows = Manner::Copy.rows(shape, scale);
            let rows = format!("SELECT {} FROM generate_series(1, {rows}) AS i", shape.values("i"));
            let mut data = Vec::new();
            world.db.copy_out(&format!("COPY ({rows}) TO STDOUT"))?.read_to_end(&mut data)?;
            copied.push((shape, data));
        }
        Ok(Writers { clients, copied })
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

    pub(super) fn insert(&mut self, manner: Manner, shape: Shape, table: &str, rows: u64) -> Result<()> {
        let (columns, values) = (shape.columns(), shape.values("i"));
        let prepared = format!("INSERT INTO {table} ({columns}) VALUES ({})", shape.values("$1::bigint"));
        let several = |from: &str, to: &str| {
            format!("INSERT INTO {table} ({columns}) SELECT {values} FROM generate_series({from}, {to}) AS i")
        };
        match manner {
            Manner::Bulk => self.first()?.batch_execute(&several("1", &rows.to_string()))?,
            Manner::Copy => {
                let data = self.copied.iter().find(|(of, _)| *of == shape).map(|(_, data)| data.clone());
                let mut into = self.first()?.copy_in(&format!("COPY {table} ({columns}) FROM STDIN"))?;
                into.write_all(&data.unwrap_or_default())?;
                into.finish()?;
            }
            Manner::Hundreds => {
                let db = self.first()?;
                let statement = db.prepare(&several("$1::bigint", "$1::bigint + 99"))?;
                for start in (0..rows as i64).step_by(100) {
                    db.execute(&statement, &[&start])?;
                }
            }
            Manner::Loop => self.first()?.batch_execute(&format!(
                "DO $$ BEGIN
                     FOR i IN 1..{rows} LOOP
                         INSERT INTO {table} ({columns}) VALUES ({values});
                     END LOOP;
                 END $$"
            ))?,
            Manner::Transaction => {
                let mut transaction = self.first()?.transaction()?;
                let statement = transaction.prepare(&prepared)?;
                for i in 1..=rows as i64 {
                    transaction.execute(&statement, &[&i])?;
                }
                transaction.commit()?;
            }
            Manner::One => commit_each(self.first()?, &prepared, rows)?,
            Manner::Four => thread::scope(|scope| {
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
