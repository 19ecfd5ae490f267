//! A cluster that delivers to a stand-in, with which most integration tests begin.

use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use postgres::types::FromSql;
use postgres::Client;

use crate::server::{Builder, Cluster};
use crate::standin::{Standin, StandinConfig, ADMIN_KEY, APP_ID};
use crate::wait::wait_until;

/// The pseudonym key in tests. Logs are searched for it, so it must not occur by chance.
pub const PSEUDONYM_KEY: &str = "stage-pseudonym-key-5f3a";

/// How long a test waits for what should happen at once.
pub const SOON: Duration = Duration::from_secs(20);

/// The only value that a query returns.
#[track_caller]
#[allow(clippy::expect_used, reason = "a query that fails is a failed test")]
pub fn one<T: for<'a> FromSql<'a>>(db: &mut Client, query: &str) -> T {
    db.query_one(query, &[]).expect(query).get(0)
}

/// Says in the output, also that of a run that passes, that something is not tested on this PostgreSQL.
pub fn leave_out(what: &str) {
    // What tests print is shown only if they fail, unless it goes past the macros.
    let _ = writeln!(std::io::stderr(), "left out: {what}");
}

/// A server that delivers to a stand-in for Algolia.
pub struct Stage {
    pub cluster: Cluster,
    pub standin: Standin,
}

/// A stage that has not started yet, so that its settings can be changed.
pub type StageBuilder = Builder<StandinConfig>;

impl StageBuilder {
    /// Changes the stand-in's configuration.
    #[must_use]
    pub fn standin(mut self, change: impl FnOnce(&mut StandinConfig)) -> Self {
        change(&mut self.beside);
        self
    }

    /// Starts both, and creates the extension in the database `postgres`.
    ///
    /// # Errors
    /// If the server or the stand-in does not start.
    pub fn start(self) -> Result<Stage> {
        let standin = Standin::start(self.beside.clone())?;
        let cluster = self
            .setting("audit_algolia.application_id", APP_ID)
            .setting("audit_algolia.api_key", ADMIN_KEY)
            .setting("audit_algolia.pseudonym_key", PSEUDONYM_KEY)
            .setting("audit_algolia.hosts", standin.base_urls().join(","))
            .start_cluster()?;
        let stage = Stage { cluster, standin };
        stage.cluster.connect("postgres", "postgres")?.batch_execute("create extension audit_algolia")?;
        Ok(stage)
    }
}

impl Stage {
    /// A stage whose settings can still be changed.
    pub fn builder() -> StageBuilder {
        Builder::new(StandinConfig { max_record_bytes: 100_000, ..StandinConfig::default() })
    }

    /// A superuser's session in the database `postgres`.
    pub fn admin(&self) -> Client {
        self.cluster.client("postgres", "postgres")
    }

    /// The same, but waits while the server starts or recovers.
    #[track_caller]
    #[allow(clippy::panic, reason = "spares each test a Result that would only fail it")]
    pub fn session(&self) -> Client {
        match self.cluster.session(SOON) {
            Ok(client) => client,
            Err(error) => panic!("{error:#}"),
        }
    }

    /// Waits until an index of the stand-in holds this many records.
    #[track_caller]
    pub fn wait_for_records(&self, index: &str, records: usize) {
        wait_until(&format!("{records} records in index {index}"), SOON, || {
            self.standin.index(index).len() == records
        });
    }
}
