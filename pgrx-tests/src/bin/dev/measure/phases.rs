//! How steady traffic fares while things go wrong around it, one phase after the other in the same database.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use postgres::Client;

use audit_algolia_tests::standin::id_hash;

use super::freshness::{write_evenly, Commit};
use super::report::{Reach, Report, Row};
use super::spread::{percentile, short};
use super::world::{values, World, COLUMNS, INDEX};
use super::Site;

/// Sessions that keep a transaction or a snapshot open.
const SESSIONS: usize = 4;
const WORKERS: usize = 2;
/// Rows a second.
const RATE: u64 = 1000;

/// What goes on beside the traffic.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Clean,
    /// Algolia takes fewer rows than are written.
    Overload,
    IdleInTransaction,
    PinnedSnapshots,
    /// As clean as the first.
    Recovery,
}

const PHASES: [Phase; 5] =
    [Phase::Clean, Phase::Overload, Phase::IdleInTransaction, Phase::PinnedSnapshots, Phase::Recovery];

/// What one phase showed.
struct Finding {
    committed: u64,
    lost: u64,
    /// Milliseconds from commit to arrival.
    delays: Vec<f64>,
    /// From the end of traffic and trouble until the queue was empty.
    empty_after: Duration,
    dead_tuples: i64,
    wal_per_row: f64,
}

pub(super) fn measure(site: &Site, report: &mut Report) -> Result<()> {
    let scale = &site.scale;
    let mut world = World::start(&site.installation)?;
    world.light.set_latency(20)?;
    world.set(&[("audit_algolia.workers", &WORKERS.to_string())], WORKERS)?;
    // The first requests open connections.
    world.load(2_000)?;
    world.wait_until_empty()?;

    let mut lost = 0;
    let mut table = vec![[
        "phase",
        "rows",
        "lost",
        "p50 ms",
        "p99 ms",
        "empty after ms",
        "dead tuples",
        "WAL bytes a row",
    ]
    .map(str::to_owned)
    .to_vec()];
    for phase in PHASES {
        let finding = phase.measure(&mut world, scale.phase)?;
        lost += finding.lost;
        report.keep(&format!("phase {}, commit to arrival", phase.name()), "ms", &finding.delays);
        table.push(finding.cells(phase));
    }
    report.add(Row::new("rows lost in all phases", lost.to_string()).reach(Reach::AtMost(
        0.0,
        "",
        lost as f64,
    )));
    report.table(
        format!("Phases of {} s at 1,000 inserts a second", scale.phase.as_secs()),
        "Delays count from commit to arrival; dead tuples of the queue are those at the end of the traffic; WAL is \
         that of table, queue and delivery.",
        table,
    );
    Ok(())
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Phase::Clean => "clean",
            Phase::Overload => "overload",
            Phase::IdleInTransaction => "idle in transaction",
            Phase::PinnedSnapshots => "pinned snapshots",
            Phase::Recovery => "recovery",
        }
    }

    fn measure(self, world: &mut World, length: Duration) -> Result<Finding> {
        world.light.reset()?;
        let wal = world.wal()?;
        let sessions = self.begin(world)?;
        let commits = write_evenly(world, RATE, length)?;
        let dead_tuples = dead_tuples(&mut world.db)?;
        self.end(world)?;
        drop(sessions);
        let empty_after = world.wait_until_empty()?;
        let wal = world.wal()? - wal;

        let mut arrived: HashMap<u64, i64> = HashMap::new();
        for (hash, at) in world.light.times(INDEX)? {
            let first = arrived.entry(hash).or_insert(at);
            *first = at.min(*first);
        }
        let delay = |commit: &Commit| {
            let at = arrived.get(&id_hash(&commit.id.to_string()))?;
            Some((at - commit.committed).max(0) as f64 / 1000.0)
        };
        let delays: Vec<f64> = commits.iter().filter_map(delay).collect();
        Ok(Finding {
            committed: commits.len() as u64,
            lost: (commits.len() - delays.len()) as u64,
            delays,
            empty_after,
            dead_tuples,
            wal_per_row: wal / commits.len().max(1) as f64,
        })
    }

    /// Starts what goes on beside the traffic; the sessions returned are part of it.
    fn begin(self, world: &mut World) -> Result<Vec<Client>> {
        let open = |statement: &str| -> Result<Vec<Client>> {
            let mut sessions = Vec::new();
            for _ in 0..SESSIONS {
                let mut db = world.cluster.connect("postgres", "postgres")?;
                db.batch_execute(statement)?;
                sessions.push(db);
            }
            Ok(sessions)
        };
        match self {
            Phase::Clean | Phase::Recovery => Ok(Vec::new()),
            Phase::Overload => {
                // Two workers with four requests of fifty rows in flight: four hundred rows a second.
                world.light.set_latency(1000)?;
                world.set(&[("audit_algolia.batch_rows", "50")], WORKERS)?;
                Ok(Vec::new())
            }
            Phase::IdleInTransaction => open(&format!(
                "BEGIN; INSERT INTO audit_log ({COLUMNS}) SELECT {} FROM generate_series(1, 100) AS i",
                values("i")
            )),
            Phase::PinnedSnapshots => {
                open("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM audit_log")
            }
        }
    }

    fn end(self, world: &mut World) -> Result<()> {
        if matches!(self, Phase::Overload) {
            world.light.set_latency(20)?;
            world.cluster.set(&[("audit_algolia.batch_rows", "1000")])?;
        }
        Ok(())
    }
}

impl Finding {
    fn cells(&self, phase: Phase) -> Vec<String> {
        let delay = |percent| percentile(&self.delays, percent).map_or_else(|| "–".to_owned(), short);
        vec![
            phase.name().to_owned(),
            self.committed.to_string(),
            self.lost.to_string(),
            delay(50.0),
            delay(99.0),
            short(self.empty_after.as_secs_f64() * 1000.0),
            self.dead_tuples.to_string(),
            short(self.wal_per_row),
        ]
    }
}

/// As the statistics tell, which processes pass on about once a second.
pub(super) fn dead_tuples(db: &mut Client) -> Result<i64> {
    let row = db.query_one(
        "SELECT n_dead_tup FROM pg_stat_all_tables WHERE relid = 'audit_algolia.queue'::regclass",
        &[],
    )?;
    Ok(row.get(0))
}
