//! The server that is measured, durable and preloaded, and the process that it delivers to.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use postgres::Client;

use audit_algolia_tests::server::{Builder, Cluster, Installation};
use audit_algolia_tests::standin::{ADMIN_KEY, APP_ID};

use super::process::{cpu_seconds, main_sleeps, memory, own_memory, Memory};
use super::rows::{self, Records, INDEX, POOL, PSEUDONYM_KEY};
use super::standin_process::StandinProcess;
use crate::interrupt;
use crate::waiting::{self, OFTEN};

/// The settings that differ from the defaults, besides the addresses.
pub(super) const SETTINGS: [(&str, &str); 4] = [
    ("shared_buffers", "1GB"),
    ("max_wal_size", "4GB"),
    ("checkpoint_timeout", "1h"),
    ("synchronous_commit", "on"),
];

/// Nothing takes longer than this.
const DEADLINE: Duration = Duration::from_secs(600);

/// How often a worker's memory is measured.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A cluster with a session, and the stand-in that it delivers to.
pub(super) struct Testbed {
    pub(super) db: Client,
    pub(super) cluster: Cluster,
    pub(super) standin: StandinProcess,
}

/// The results of one drain.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Drained {
    /// Rows per second.
    pub(super) rate: f64,
    /// Processor seconds per million rows, of all processes that did the work.
    pub(super) processor: f64,
    /// Private memory of these processes at the end, in megabytes (RssAnon).
    pub(super) memory: f64,
    /// Bytes of WAL per row; only for drains by workers.
    pub(super) wal: f64,
    /// The maximum of the first worker's memory in excess of a plain session's.
    pub(super) beyond: Memory,
}

/// A cluster with the settings that all measurements share.
pub(super) fn cluster(installation: &Arc<Installation>) -> Builder {
    let builder = Cluster::builder().installation(Arc::clone(installation)).durable(true);
    SETTINGS.into_iter().fold(builder, |builder, (name, value)| builder.setting(name, value))
}

impl Testbed {
    /// Starts both, with one worker and more settings, and watches the table `audit_log`.
    pub(super) fn start(installation: &Arc<Installation>, further: &[(&str, &str)]) -> Result<Testbed> {
        let standin = StandinProcess::start()?;
        let builder = cluster(installation)
            .setting("audit_algolia.application_id", APP_ID)
            .setting("audit_algolia.api_key", ADMIN_KEY)
            .setting("audit_algolia.pseudonym_key", PSEUDONYM_KEY)
            .setting("audit_algolia.hosts", &standin.url)
            .setting("audit_algolia.workers", 1);
        let cluster =
            further.iter().fold(builder, |builder, (name, value)| builder.setting(name, value)).start()?;
        let mut db = cluster.connect("postgres", "postgres")?;
        let (table, watch) = (rows::table("audit_log"), rows::watch("audit_log"));
        db.batch_execute(&format!("CREATE EXTENSION audit_algolia; {table}; {watch}"))?;
        Ok(Testbed { db, cluster, standin })
    }

    /// Another session.
    pub(super) fn connect(&self) -> Result<Client> {
        self.cluster.connect("postgres", "postgres")
    }

    /// A session that holds a snapshot, as a long report would.
    pub(super) fn pin_snapshot(&self) -> Result<Client> {
        let mut db = self.connect()?;
        db.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")?;
        Ok(db)
    }

    pub(super) fn execute(&mut self, statements: &str) -> Result<()> {
        Ok(self.db.batch_execute(statements)?)
    }

    pub(super) fn pause(&mut self) -> Result<()> {
        self.execute("SELECT audit_algolia.pause()")
    }

    pub(super) fn resume(&mut self) -> Result<()> {
        self.execute("SELECT audit_algolia.resume()")
    }

    /// Inserts rows in statements of a hundred thousand.
    pub(super) fn load(&mut self, records: Records, rows: u64) -> Result<()> {
        let mut left = rows;
        while left > 0 {
            interrupt::check()?;
            let now = left.min(100_000);
            self.execute(&records.insert(now))?;
            left -= now;
        }
        Ok(())
    }

    /// Before a round of measurements: deletes the rows of earlier ones and writes everything else to disk.
    pub(super) fn begin_round(&mut self) -> Result<()> {
        for name in [Records::Small, Records::Large].map(Records::table) {
            if self.db.query_one("SELECT to_regclass($1) IS NOT NULL", &[&name])?.get(0) {
                self.execute(&format!("TRUNCATE {name}"))?;
            }
        }
        self.execute("CHECKPOINT")
    }

    /// Keeps finished records in a table of their own, numbered from 1, for others to send the same.
    pub(super) fn keep_records(&mut self, records: Records, rows: u64) -> Result<()> {
        if records == Records::Large {
            let name = records.table();
            let watch = rows::watch_as(name, INDEX, "object_prefix => 'l',");
            self.execute(&format!("{POOL}; {}; {watch}", rows::table(name)))?;
        }
        let kept = records.kept();
        self.pause()?;
        self.load(records, rows)?;
        self.execute(&format!(
            "CREATE TABLE {kept} AS SELECT row_number() OVER (ORDER BY id) AS n, * FROM audit_algolia.queue;
             ALTER TABLE {kept} ADD PRIMARY KEY (n)"
        ))?;
        self.execute(&format!("VACUUM (ANALYZE) {kept}"))?;
        self.resume()?;
        self.wait_until_empty()?;
        self.standin.reset()
    }

    /// Creates a queue that only we use, with the same indexes and the same vacuum settings, which `LIKE` does not
    /// copy.
    pub(super) fn make_queue_alike(&mut self, name: &str) -> Result<()> {
        self.execute(&format!("CREATE TABLE {name} (LIKE audit_algolia.queue INCLUDING ALL)"))?;
        let options =
            "SELECT array_to_string(reloptions, ', ') FROM pg_class WHERE oid = 'audit_algolia.queue'::regclass";
        let options: String = self.db.query_one(options, &[])?.get(0);
        self.execute(&format!("ALTER TABLE {name} SET ({options})"))
    }

    /// Rows that are queued or in flight.
    pub(super) fn queued(&mut self) -> Result<u64> {
        let query = "SELECT sum(queued + in_flight)::bigint FROM audit_algolia.queue_stats()";
        Ok(u64::try_from(self.db.query_one(query, &[])?.get::<_, i64>(0)).unwrap_or(0))
    }

    /// Waits until nothing is queued, and returns how long that took.
    pub(super) fn wait_until_empty(&mut self) -> Result<Duration> {
        waiting::until("an empty queue", DEADLINE, Duration::from_millis(3), || Ok(self.queued()? == 0))
    }

    /// Changes settings, and waits until the intended number of workers run and those that ran before have read the
    /// settings.
    pub(super) fn set(&mut self, changes: &[(&str, &str)], workers: usize) -> Result<()> {
        let before: Vec<(u32, u64)> =
            self.workers()?.into_iter().filter_map(|pid| Some((pid, main_sleeps(pid).ok()?))).collect();
        self.cluster.set(changes)?;
        let limit = Duration::from_secs(20);
        waiting::until(&format!("{workers} workers with new settings"), limit, OFTEN, || {
            let now = self.workers()?;
            // A worker that is woken by the signal reads the settings before it sleeps again.
            let has_read = |&(pid, count): &(u32, u64)| main_sleeps(pid).map_or(true, |now| now > count);
            Ok(now.len() == workers && before.iter().filter(|(pid, _)| now.contains(pid)).all(has_read))
        })?;
        Ok(())
    }

    /// Changes the number of workers, and waits for them.
    pub(super) fn set_workers(&mut self, workers: usize) -> Result<()> {
        self.set(&[("audit_algolia.workers", &workers.to_string())], workers)
    }

    /// Sets a latency of 20 ms and delivers once, so that connections are open.
    pub(super) fn warm_up(&mut self, workers: usize) -> Result<()> {
        self.standin.set_latency(20)?;
        self.set_workers(workers)?;
        self.load(Records::Small, 2_000)?;
        self.wait_until_empty().map(drop)
    }

    /// The process ids of the workers.
    pub(super) fn workers(&mut self) -> Result<Vec<u32>> {
        let rows = self.db.query("SELECT pid FROM audit_algolia.worker_stats()", &[])?;
        Ok(rows.iter().filter_map(|row| u32::try_from(row.get::<_, i32>(0)).ok()).collect())
    }

    /// The first of them.
    pub(super) fn worker(&mut self) -> Result<u32> {
        self.workers()?.first().copied().context("no worker")
    }

    /// The current WAL position in bytes.
    pub(super) fn wal(&mut self) -> Result<f64> {
        let query = "SELECT (pg_current_wal_insert_lsn() - '0/0')::float8";
        Ok(self.db.query_one(query, &[])?.get(0))
    }

    /// Dead rows of the queue according to the statistics, which processes report about once a second.
    pub(super) fn dead_rows(&mut self) -> Result<i64> {
        let query = "SELECT n_dead_tup FROM pg_stat_all_tables WHERE relid = 'audit_algolia.queue'::regclass";
        Ok(self.db.query_one(query, &[])?.get(0))
    }

    /// Queues rows while delivery is paused, resumes, and waits until all have arrived.
    pub(super) fn drain(&mut self, records: Records, rows: u64) -> Result<Drained> {
        self.pause()?;
        self.load(records, rows)?;
        self.drain_queue(rows, &[INDEX.to_owned()])
    }

    /// Drains rows that were queued while delivery was paused, to these indices.
    pub(super) fn drain_queue(&mut self, rows: u64, indices: &[String]) -> Result<Drained> {
        self.standin.reset()?;
        let workers = self.workers()?;
        let (cpu_before, wal_before) = (cpu_seconds(&workers)?, self.wal()?);
        let (mut watched, mut looked) = (Memory::default(), None);
        let started = Instant::now();
        self.resume()?;
        waiting::until("the end of the drain", DEADLINE, OFTEN, || {
            // To measure memory, the kernel visits all pages of a process, including shared buffers, and blocks the
            // process meanwhile.
            if looked.is_none_or(|at: Instant| at.elapsed() >= LOOK_EVERY) {
                looked = Some(Instant::now());
                if let Some(Ok(now)) = workers.first().map(|&pid| memory(pid)) {
                    watched.private_dirty = watched.private_dirty.max(now.private_dirty);
                    watched.anonymous = watched.anonymous.max(now.anonymous);
                }
            }
            Ok(self.queued()? == 0)
        })?;
        let seconds = started.elapsed().as_secs_f64();
        let arrived: Result<Vec<u64>> = indices.iter().map(|index| self.standin.count(index)).collect();
        let arrived: u64 = arrived?.iter().sum();
        ensure!(arrived == rows, "{arrived} of {rows} rows arrived");
        Ok(Drained {
            rate: rows as f64 / seconds,
            processor: (cpu_seconds(&workers)? - cpu_before) * 1e6 / rows as f64,
            memory: own_memory(&workers)?,
            wal: (self.wal()? - wal_before) / rows as f64,
            beyond: self.beyond_plain(watched)?,
        })
    }

    /// The difference from a session that has just run a query.
    pub(super) fn beyond_plain(&self, memory: Memory) -> Result<Memory> {
        let plain = self::memory(backend(&mut self.connect()?)?)?;
        Ok(Memory {
            private_dirty: memory.private_dirty - plain.private_dirty,
            anonymous: memory.anonymous - plain.anonymous,
        })
    }

    /// The settings for delivery to the stand-in with or without TLS.
    pub(super) fn hosts(&self, tls: bool) -> Result<[(&'static str, String); 2]> {
        let (url, authority) = if tls {
            let file = self.cluster.data_dir().join("authority.pem");
            fs::write(&file, &self.standin.authority)?;
            (&self.standin.https_url, file.display().to_string())
        } else {
            (&self.standin.url, String::new())
        };
        Ok([("audit_algolia.hosts", url.clone()), ("audit_algolia.ca_file", authority)])
    }
}

/// The process that serves a session.
pub(super) fn backend(db: &mut Client) -> Result<u32> {
    let pid: i32 = db.query_one("SELECT pg_backend_pid()", &[])?.get(0);
    u32::try_from(pid).context("not a process")
}
