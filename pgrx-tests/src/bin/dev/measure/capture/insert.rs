//! The ways of inserting rows.

use std::io::{Read, Write};

use anyhow::Result;
use postgres::Client;

use super::super::scale::Scale;
use super::super::testbed::Testbed;
use super::shape::Shape;

/// How rows are inserted. Reports use the name of the variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::VariantArray)]
#[strum(const_into_str)]
pub(super) enum Method {
    #[strum(serialize = "bulk insert, one statement")]
    Bulk,
    /// From a client.
    #[strum(serialize = "COPY")]
    Copy,
    /// Each in a transaction of its own.
    #[strum(serialize = "statements of 100 rows")]
    Hundreds,
    #[strum(serialize = "single inserts, loop in the server")]
    Loop,
    /// With a prepared statement.
    #[strum(serialize = "single inserts, one client, one transaction")]
    Transaction,
}

impl Method {
    pub(super) fn name(self) -> &'static str {
        self.into_str()
    }

    /// How many rows are inserted; fewer if they are wide.
    pub(super) fn rows(self, shape: Shape, scale: &Scale) -> u64 {
        let rows = match self {
            Method::Bulk | Method::Copy => scale.bulk,
            Method::Hundreds => scale.hundreds,
            Method::Loop => scale.singles,
            Method::Transaction => scale.client,
        };
        match shape {
            Shape::Narrow => rows,
            Shape::Wide => (rows / 4000).max(1) * 100,
        }
    }
}

/// The session that inserts, and the input of COPY.
pub(super) struct Writer {
    pub(super) db: Client,
    copied: Vec<(Shape, Vec<u8>)>,
}

impl Writer {
    pub(super) fn new(testbed: &mut Testbed, shapes: &[Shape], scale: &Scale) -> Result<Writer> {
        let mut copied = Vec::new();
        for &shape in shapes {
            let rows = Method::Copy.rows(shape, scale);
            let rows = format!("SELECT {} FROM generate_series(1, {rows}) AS i", shape.values("i"));
            let mut data = Vec::new();
            testbed.db.copy_out(&format!("COPY ({rows}) TO STDOUT"))?.read_to_end(&mut data)?;
            copied.push((shape, data));
        }
        Ok(Writer { db: testbed.connect()?, copied })
    }

    /// How many full-page images the server has written to the WAL so far. Other processes report theirs about once a
    /// second; this session does it now.
    pub(super) fn images(&mut self) -> Result<f64> {
        self.db.batch_execute("SELECT pg_stat_force_next_flush()")?;
        Ok(self.db.query_one("SELECT wal_fpi::float8 FROM pg_stat_wal", &[])?.get(0))
    }

    pub(super) fn insert(&mut self, method: Method, shape: Shape, table: &str, rows: u64) -> Result<()> {
        let columns = shape.columns();
        let prepared = format!("INSERT INTO {table} ({columns}) VALUES ({})", shape.values("$1::bigint"));
        match method {
            Method::Bulk => self.db.batch_execute(&shape.insert(table, ("1", &rows.to_string())))?,
            Method::Copy => {
                let data = self.copied.iter().find(|(of, _)| *of == shape).map(|(_, data)| data.clone());
                let mut into = self.db.copy_in(&format!("COPY {table} ({columns}) FROM STDIN"))?;
                into.write_all(&data.unwrap_or_default())?;
                into.finish()?;
            }
            Method::Hundreds => {
                let statement = self.db.prepare(&shape.insert(table, ("$1::bigint", "$1::bigint + 99")))?;
                for start in (0..rows as i64).step_by(100) {
                    self.db.execute(&statement, &[&start])?;
                }
            }
            Method::Loop => self.db.batch_execute(&format!(
                "DO $$ BEGIN
                     FOR i IN 1..{rows} LOOP
                         INSERT INTO {table} ({columns}) VALUES ({});
                     END LOOP;
                 END $$",
                shape.values("i")
            ))?,
            Method::Transaction => {
                let mut transaction = self.db.transaction()?;
                let statement = transaction.prepare(&prepared)?;
                for i in 1..=rows as i64 {
                    transaction.execute(&statement, &[&i])?;
                }
                transaction.commit()?;
            }
        }
        Ok(())
    }
}
