//! The database that is measured: durable, preloaded, and with the table that everything is measured on.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use postgres::Client;

use audit_algolia_tests::server::{Cluster, Installation};
use audit_algolia_tests::standin::{ADMIN_KEY, APP_ID};

use super::process::main_sleeps;
use super::standin::Light;
use crate::interrupt;
use crate::waiting::{self, OFTEN};

/// What differs from the defaults, besides the addresses.
pub(super) const SETTINGS: [(&str, &str); 4] = [
    ("shared_buffers", "1GB"),
    ("max_wal_size", "4GB"),
    ("checkpoint_timeout", "1h"),
    ("synchronous_commit", "on"),
];

/// The index everything goes to.
pub(super) const INDEX: &str = "audit_log";

/// The pseudonyms' key, here and in what it is compared with.
pub(super) const PSEUDONYM_KEY: &str = "a key for measuring";

/// Nothing takes longer than this.
const DEADLINE: Duration = Duration::from_secs(600);

/// The columns of a table that is measured: seven, five of which are captured.
pub(super) fn table(name: &str) -> String {
    format!(
        "CREATE TABLE {name} (
             id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
             user_id text NOT NULL,
             report_id integer NOT NULL,
             event text NOT NULL,
             at timestamptz NOT NULL,
             detail text,
             secret text
         )"
    )
}

/// The columns that [`values`] fills.
pub(super) const COLUMNS: &str = "user_id, report_id, event, at, detail, secret";

/// One row's values, as an expression of its number.
pub(super) fn values(number: &str) -> String {
    format!(
        "'user-' || {number} % 5000, ({number} % 300)::integer, 'view',
         timestamptz '2026-01-01 00:00:00+00' + {number} * interval '1 second',
         'opened from the dashboard', 'never captured'"
    )
}

/// Texts of 4.7 kB that do not compress well, to be taken by their number.
pub(super) const POOL: &str = "
    CREATE TABLE pool AS
        SELECT n, (SELECT string_agg(md5((n * 1000 + i)::text), ' ') FROM generate_series(1, 144) AS i) AS text
        FROM generate_series(0, 63) AS n;
    ALTER TABLE pool ADD PRIMARY KEY (n)";

/// How long the records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Records {
    /// Some 300 bytes.
    Small,
    /// Some 5 kB.
    Large,
}

impl Records {
    pub(super) fn name(self) -> &'static str {
        match self {
            Records::Small => "300 bytes",
            Records::Large => "5 KB",
        }
    }

    pub(super) fn table(self) -> &'static str {
        match self {
            Records::Small => "audit_log",
            Records::Large => "audit_large",
        }
    }

    /// The table in which [`World::keep_records`] keeps them.
    pub(super) fn kept(self) -> &'static str {
        match self {
            Records::Small => "kept_small",
            Records::Large => "kept_large",
        }
    }

    fn values(self, number: &str) -> String {
        match self {
            Records::Small => values(number),
            Records::Large => {
                let text = format!("(SELECT text FROM pool WHERE n = {number} % 64)");
                values(number).replace("'opened from the dashboard'", &text)
            }
        }
    }
}

/// The call that puts a table under watch.
pub(super) fn watch(name: &str) -> String {
    format!(
        "SELECT audit_algolia.watch('{name}', '{INDEX}',
             columns => '{{user_id, report_id, event, at, detail}}', pseudonymize => '{{user_id}}',
             time_column => 'at', facets => '{{event, report_id, user_id}}')"
    )
}

/// A cluster with a session, and the stand-in it delivers to.
pub(super) struct World {
    pub(super) db: Client,
    pub(super) cluster: Cluster,
    pub(super) light: Light,
}

impl World {
    /// Starts both, with one worker, and watches the table `audit_log`.
    pub(super) fn start(installation: &Arc<Installation>) -> Result<World> {
        World::start_with(installation, &[])
    }

    /// The same with more settings.
    pub(super) fn start_with(installation: &Arc<Installation>, more: &[(&str, &str)]) -> Result<World> {
        let light = Light::start()?;
        let mut builder = Cluster::builder()
            .installation(Arc::clone(installation))
            .durable(true)
            .setting("audit_algolia.application_id", APP_ID)
            .setting("audit_algolia.api_key", ADMIN_KEY)
            .setting("audit_algolia.pseudonym_key", PSEUDONYM_KEY)
            .setting("audit_algolia.hosts", &light.url)
            .setting("audit_algolia.workers", 1);
        for (name, value) in SETTINGS.iter().chain(more) {
            builder = builder.setting(name, value);
        }
        let cluster = builder.start()?;
        let mut db = cluster.connect("postgres", "postgres")?;
        db.batch_execute(&format!(
            "CREATE EXTENSION audit_algolia; {}; {}",
            table("audit_log"),
            watch("audit_log")
        ))?;
        Ok(World { db, cluster, light })
    }

    pub(super) fn pause(&mut self) -> Result<()> {
        Ok(self.db.batch_execute("SELECT audit_algolia.pause()")?)
    }

    pub(super) fn resume(&mut self) -> Result<()> {
        Ok(self.db.batch_execute("SELECT audit_algolia.resume()")?)
    }

    /// Inserts rows in statements of a hundred thousand.
    pub(super) fn load(&mut self, rows: u64) -> Result<()> {
        self.load_as(Records::Small, rows)
    }

    /// The same with records of one or the other length.
    pub(super) fn load_as(&mut self, records: Records, rows: u64) -> Result<()> {
        let mut left = rows;
        while left > 0 {
            interrupt::check()?;
            let now = left.min(100_000);
            let (table, values) = (records.table(), records.values("i"));
            self.db.batch_execute(&format!(
                "INSERT INTO {table} ({COLUMNS}) SELECT {values} FROM generate_series(1, {now}) AS i"
            ))?;
            left -= now;
        }
        Ok(())
    }

    /// Before a round of measurements: drops what earlier ones have inserted, and writes all else to the disk.
    pub(super) fn begin_round(&mut self) -> Result<()> {
        for records in [Records::Small, Records::Large] {
            let name = records.table();
            let there = "SELECT to_regclass($1) IS NOT NULL";
            if self.db.query_one(there, &[&name])?.get(0) {
                self.db.batch_execute(&format!("TRUNCATE {name}"))?;
            }
        }
        Ok(self.db.batch_execute("CHECKPOINT")?)
    }

    /// Makes the table of long records, and watches it.
    pub(super) fn watch_large(&mut self) -> Result<()> {
        let name = Records::Large.table();
        let watch = watch(name).replace("facets", "object_prefix => 'l', facets");
        Ok(self.db.batch_execute(&format!("{POOL}; {}; {watch}", table(name)))?)
    }

    /// Keeps finished records in a table of their own, numbered from 1, for those who are to send the same.
    pub(super) fn keep_records(&mut self, records: Records, rows: u64) -> Result<()> {
        if records == Records::Large {
            self.watch_large()?;
        }
        let kept = records.kept();
        self.pause()?;
        self.load_as(records, rows)?;
        self.db.batch_execute(&format!(
            "CREATE TABLE {kept} AS SELECT row_number() OVER (ORDER BY id) AS n, * FROM audit_algolia.queue;
             ALTER TABLE {kept} ADD PRIMARY KEY (n)"
        ))?;
        self.db.batch_execute(&format!("VACUUM (ANALYZE) {kept}"))?;
        self.resume()?;
        self.wait_until_empty()?;
        self.light.reset()
    }

    /// Rows queued and on their way.
    pub(super) fn queued(&mut self) -> Result<u64> {
        let row = self
            .db
            .query_one("SELECT sum(queued + in_flight)::bigint FROM audit_algolia.queue_stats()", &[])?;
        Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
    }

    /// Waits until nothing is queued; tells how long that took.
    pub(super) fn wait_until_empty(&mut self) -> Result<Duration> {
        waiting::until("an empty queue", DEADLINE, Duration::from_millis(3), || Ok(self.queued()? == 0))
    }

    /// Changes settings, and waits until as many workers run as there are to be, and those that did before have read them.
    pub(super) fn set(&mut self, changes: &[(&str, &str)], workers: usize) -> Result<()> {
        let before: Vec<(u32, u64)> =
            self.workers()?.into_iter().filter_map(|pid| Some((pid, main_sleeps(pid).ok()?))).collect();
        self.cluster.set(changes)?;
        let limit = Duration::from_secs(20);
        waiting::until(&format!("{workers} workers with new settings"), limit, OFTEN, || {
            let now = self.workers()?;
            // Woken by the signal, a worker reads the settings and only then sleeps again.
            let has_read = |&(pid, count): &(u32, u64)| main_sleeps(pid).map_or(true, |now| now > count);
            Ok(now.len() == workers && before.iter().filter(|(pid, _)| now.contains(pid)).all(has_read))
        })?;
        Ok(())
    }

    /// The workers' process ids.
    pub(super) fn workers(&mut self) -> Result<Vec<u32>> {
        let rows = self.db.query("SELECT pid FROM audit_algolia.worker_stats()", &[])?;
        Ok(rows.iter().filter_map(|row| u32::try_from(row.get::<_, i32>(0)).ok()).collect())
    }

    /// Where the write-ahead log is, in bytes.
    pub(super) fn wal(&mut self) -> Result<f64> {
        wal(&mut self.db)
    }

    /// The process that serves a session.
    pub(super) fn backend(db: &mut Client) -> Result<u32> {
        let pid: i32 = db.query_one("SELECT pg_backend_pid()", &[])?.get(0);
        u32::try_from(pid).context("not a process")
    }
}

/// Where the write-ahead log is, in bytes.
pub(super) fn wal(db: &mut Client) -> Result<f64> {
    let row = db.query_one("SELECT (pg_current_wal_insert_lsn() - '0/0')::float8", &[])?;
    Ok(row.get(0))
}
