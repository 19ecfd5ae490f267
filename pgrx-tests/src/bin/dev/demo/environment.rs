//! The cluster and the stand-in of the demo, and hints for using them afterwards.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use postgres::Client;

use audit_algolia_tests::cargo::Profile;
use audit_algolia_tests::server::{Cluster, Installation, INSTALLATION_VARIABLE};
use audit_algolia_tests::stage::Stage;
use audit_algolia_tests::standin::{ApiKey, Standin, APP_ID};
use audit_algolia_tests::workload::{self, TABLE, WATCH};

use super::search::{Search, PARENT_KEY, SEARCH_KEY};
use crate::provision::{provision, Purpose};
use crate::screen::while_waiting;
use crate::waiting::{self, OFTEN};
use crate::{interrupt, screen};

/// The latency of writes at the stand-in: about that of a service in the same region.
const LATENCY: Duration = Duration::from_millis(20);

/// The cluster is dropped first, while the stand-in still accepts records.
pub(super) struct Environment {
    pub(super) db: Client,
    pub(super) cluster: Cluster,
    pub(super) standin: Standin,
}

impl Environment {
    /// Installs, builds and starts everything needed, and watches the table.
    pub(super) fn open(rows: usize) -> Result<Environment> {
        let installation = installation()?;
        ensure!(installation.has_install_script(), "the extension has no install script");
        interrupt::watch()?;
        let started = Instant::now();
        // Small batches, so that the drain takes long enough to be watched. The default is 1,000 rows.
        let batch_rows = (rows / 600).clamp(5, 200);
        let builder = Stage::builder()
            .standin(|standin| {
                standin.keys.push(ApiKey::new(SEARCH_KEY, &["search"]).on(&[TABLE]));
                standin.keys.push(ApiKey::new(PARENT_KEY, &["search"]));
                standin.latency = LATENCY;
            })
            .installation(Arc::new(installation))
            .setting("audit_algolia.batch_rows", batch_rows);
        let Stage { cluster, standin } = while_waiting("starting PostgreSQL", || builder.start())?;
        println!(
            "PostgreSQL {} runs with audit_algolia preloaded, started in {} ms",
            cluster.installation().version(),
            started.elapsed().as_millis()
        );
        println!(
            "a stand-in for Algolia answers at {}, writes after {} ms",
            standin.base_urls().join(" "),
            LATENCY.as_millis()
        );
        println!("all settings have their defaults, but for batches of {batch_rows} rows");
        let mut db = cluster.connect("postgres", "postgres")?;
        workload::create_table(&mut db)?;
        db.batch_execute(WATCH).context("the table could not be watched")?;
        let mut env = Environment { db, cluster, standin };
        env.configure_index()?;
        Ok(env)
    }

    /// A client with the search key.
    pub(super) fn search(&self) -> Result<Search> {
        Search::at(&self.url()?)
    }

    /// The end of the server's log.
    pub(super) fn log_tail(&self) -> String {
        // A crash is logged by another process, a moment after the connection breaks.
        let told = || !self.db.is_closed() || self.cluster.log().contains("terminated by signal");
        let _ = waiting::until("the server's last words", Duration::from_secs(5), OFTEN, || Ok(told()));
        self.cluster.log_end(12)
    }

    fn url(&self) -> Result<String> {
        let urls = self.standin.base_urls();
        urls.into_iter().next().context("the stand-in has no address")
    }

    /// Lets the extension configure the index, so that it has its facets.
    fn configure_index(&mut self) -> Result<()> {
        self.db.execute("SELECT audit_algolia.configure_index($1)", &[&TABLE])?;
        let arrived = || Ok(self.standin.settings(TABLE).is_some());
        waiting::until("arrival of the index's settings", Duration::from_secs(30), OFTEN, arrived)?;
        Ok(())
    }

    /// Keeps everything running until Ctrl-C.
    pub(super) fn stay(&self) -> Result<()> {
        let url = self.url()?;
        let curl = |call: &str, body: &str| {
            println!("curl -s '{url}/1/indexes/{call}' \\");
            println!("     -H 'x-algolia-application-id: {APP_ID}' -H 'x-algolia-api-key: {SEARCH_KEY}' \\");
            println!("     -d '{body}'");
        };
        screen::heading(8, "Go on yourself");
        println!("{}\n", self.cluster.psql("postgres"));
        println!("  SELECT * FROM audit_algolia.queue_stats() \\gx");
        println!("  SELECT * FROM audit_algolia.preview('document_changes', 3);");
        println!("  INSERT INTO document_changes (package, version, author, changed_at, urgency, summary)");
        println!("  VALUES ('mine', '1.0', 'me', now(), 'low', 'seen only here');\n");
        curl(&format!("{TABLE}/query"), r#"{"query": "mine"}"#);
        curl(&format!("{TABLE}/query"), r#"{"hitsPerPage": 0, "facets": ["changed_at_weekday"]}"#);
        curl(&format!("{TABLE}/query"), r#"{"hitsPerPage": 3, "filters": "urgency:critical"}"#);
        println!("\nCtrl-C here, or kill {}, ends and removes all of it.", std::process::id());
        while waiting::pass(Duration::from_secs(60)).is_ok() {}
        println!("\nended");
        Ok(())
    }
}

/// The installation that a parent process has prepared, or else a new one.
fn installation() -> Result<Installation> {
    if std::env::var_os(INSTALLATION_VARIABLE).is_some() {
        return Installation::current();
    }
    let pg = provision(Purpose::Serve)?;
    while_waiting("building the extension (minutes only the first time)", || {
        Installation::prepare(&pg, Profile::Dev)
    })
}
