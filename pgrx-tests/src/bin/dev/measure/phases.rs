//! Measures steady traffic while things go wrong, one phase after the other in the same database.

use anyhow::Result;
use postgres::Client;

use super::commits::{write_evenly, Delays};
use super::report::Report;
use super::row::{Row, Target};
use super::rows::insert;
use super::setup::Setup;
use super::spread::{percentile, short};
use super::testbed::Testbed;

/// Sessions that keep a transaction or a snapshot open.
const SESSIONS: usize = 4;
const WORKERS: usize = 2;
/// Rows per second.
const RATE: u64 = 1000;

/// What happens during the traffic.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    /// Algolia accepts fewer rows than are written.
    Overload,
    IdleInTransaction,
    PinnedSnapshots,
}

const PHASES: [(&str, Beside); 5] = [
    ("clean", Beside::Nothing),
    ("overload", Beside::Overload),
    ("idle in transaction", Beside::IdleInTransaction),
    ("pinned snapshots", Beside::PinnedSnapshots),
    ("recovery", Beside::Nothing),
];

const HEAD: [&str; 8] =
    ["phase", "rows", "lost", "p50 ms", "p99 ms", "empty after ms", "dead tuples", "WAL bytes a row"];

pub(super) fn measure(setup: &Setup, report: &mut Report) -> Result<()> {
    let length = setup.scale.phase;
    let mut testbed = Testbed::start(&setup.installation, &[])?;
    testbed.warm_up(WORKERS)?;
    let (mut all_lost, mut lines) = (0, Vec::new());
    for (name, beside) in PHASES {
        testbed.standin.reset()?;
        let wal = testbed.wal()?;
        let sessions = beside.begin(&mut testbed)?;
        let commits = write_evenly(&testbed, RATE, length)?;
        let dead_rows = testbed.dead_rows()?;
        if beside == Beside::Overload {
            testbed.standin.set_latency(20)?;
            testbed.cluster.set(&[("audit_algolia.batch_rows", "1000")])?;
        }
        drop(sessions);
        let empty_after = testbed.wait_until_empty()?;
        let wal = testbed.wal()? - wal;
        let delays = Delays::until_now(&mut testbed, &commits)?.from_commit;
        let lost = commits.len() - delays.len();
        all_lost += lost;
        report.keep(&format!("phase {name}, commit to arrival"), "ms", &delays);
        let delay = |percent| percentile(&delays, percent).map_or_else(|| "–".to_owned(), short);
        lines.push(vec![
            name.to_owned(),
            commits.len().to_string(),
            lost.to_string(),
            delay(50.0),
            delay(99.0),
            short(empty_after.as_secs_f64() * 1000.0),
            dead_rows.to_string(),
            short(wal / commits.len().max(1) as f64),
        ]);
    }
    let row = Row::new("rows lost in all phases", all_lost.to_string());
    report.add(row.target(Target::AtMost(0.0, "", all_lost as f64)));
    report.table(
        format!("Phases of {} s at 1,000 inserts a second", length.as_secs()),
        "Delays count from commit to arrival; dead tuples \
         of the queue are those at the end of the traffic; WAL is that of table, queue and delivery.",
        &HEAD,
        lines,
    );
    Ok(())
}

impl Beside {
    /// Starts it. The returned sessions are part of it.
    fn begin(self, testbed: &mut Testbed) -> Result<Vec<Client>> {
        let open = |statement: &str| -> Result<Client> {
            let mut db = testbed.connect()?;
            db.batch_execute(statement)?;
            Ok(db)
        };
        let session = || match self {
            Beside::IdleInTransaction => open(&format!("BEGIN; {}", insert("audit_log", 100))),
            _ => testbed.pin_snapshot(),
        };
        match self {
            Beside::Nothing => Ok(Vec::new()),
            Beside::Overload => {
                // Two workers with four requests of fifty rows in flight each make four hundred rows per second.
                testbed.standin.set_latency(1000)?;
                testbed.set(&[("audit_algolia.batch_rows", "50")], WORKERS)?;
                Ok(Vec::new())
            }
            Beside::IdleInTransaction | Beside::PinnedSnapshots => (0..SESSIONS).map(|_| session()).collect(),
        }
    }
}
