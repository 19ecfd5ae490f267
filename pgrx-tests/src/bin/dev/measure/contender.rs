//! What can drain a queue: the extension, the services that one would use instead, and a bare loop in SQL.

use anyhow::{ensure, Result};

use super::peers::{Kind, Peers};
use super::process::seconds_of;
use super::rows::Records;
use super::testbed::{backend, Drained, Testbed};

/// What delivers the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Contender {
    /// The extension, with this many workers.
    Ours {
        workers: usize,
        in_flight: usize,
        compression: bool,
        tls: bool,
    },
    /// A loop in the server that deletes a thousand rows at a time and sends nothing.
    BareLoop,
    Peer(Kind),
}

impl Contender {
    /// The extension, with the defaults of its other settings.
    pub(super) const fn ours(workers: usize, compression: bool) -> Contender {
        Contender::Ours { workers, in_flight: 4, compression, tls: false }
    }

    pub(super) fn is_ours(self) -> bool {
        matches!(self, Contender::Ours { .. })
    }

    pub(super) fn name(self) -> String {
        match self {
            Contender::Ours { workers, compression, tls, .. } => {
                let plural = if workers == 1 { "" } else { "s" };
                let gzip = if compression { ", gzip" } else { "" };
                let tls = if tls { ", TLS" } else { "" };
                format!("audit_algolia, {workers} worker{plural}{gzip}{tls}")
            }
            Contender::BareLoop => "a bare loop in SQL that sends nothing".to_owned(),
            Contender::Peer(kind) => kind.name().to_owned(),
        }
    }

    /// Why it is not measured.
    pub(super) fn reason(self, peers: &Peers) -> Option<&str> {
        match self {
            Contender::Peer(kind) => peers.reason(kind),
            _ => None,
        }
    }

    /// Drains so many rows to a server with this latency in milliseconds. `None` if the contender is not installed.
    pub(super) fn drain(
        self,
        testbed: &mut Testbed,
        peers: &mut Peers,
        (records, rows): (Records, u64),
        latency: u64,
    ) -> Result<Option<Drained>> {
        match self {
            Contender::Ours { workers, in_flight, compression, tls } => {
                testbed.standin.set_latency(latency)?;
                let [hosts, authority] = testbed.hosts(tls)?;
                let settings = [
                    (hosts.0, &*hosts.1),
                    (authority.0, &*authority.1),
                    ("audit_algolia.workers", &*workers.to_string()),
                    ("audit_algolia.in_flight", &in_flight.to_string()),
                    ("audit_algolia.compression", if compression { "on" } else { "off" }),
                ];
                testbed.set(&settings, workers)?;
                testbed.drain(records, rows).map(Some)
            }
            Contender::BareLoop => bare_loop(testbed, rows).map(Some),
            Contender::Peer(kind) => peers.serve(kind, testbed, (records, rows), latency),
        }
    }
}

/// Newest first, a thousand at a time, as the extension claims them; but claimed and deleted in one statement.
const LOOP: &str = "
    DO $$
    DECLARE
        deleted bigint;
    BEGIN
        LOOP
            WITH gone AS (
                DELETE FROM bare_queue
                WHERE ctid = ANY (ARRAY(
                    SELECT ctid FROM bare_queue ORDER BY index_id DESC, id DESC LIMIT 1000 FOR UPDATE SKIP LOCKED
                ))
                RETURNING record
            )
            SELECT count(*) + 0 * coalesce(sum(length(record)), 0) INTO deleted FROM gone;
            COMMIT;
            EXIT WHEN deleted = 0;
        END LOOP;
    END $$";

/// Creates the queue of the bare loop.
pub(super) fn prepare_bare_loop(testbed: &mut Testbed) -> Result<()> {
    testbed.make_queue_alike("bare_queue")
}

fn bare_loop(testbed: &mut Testbed, rows: u64) -> Result<Drained> {
    let kept = Records::Small.kept();
    testbed.execute(&format!(
        "INSERT INTO bare_queue SELECT index_id, source, id, enqueued_at, action, record, object
         FROM {kept} WHERE n <= {rows}"
    ))?;
    let mut db = testbed.connect()?;
    db.batch_execute("SET synchronous_commit = off")?;
    let (elapsed, cpu) = seconds_of(backend(&mut db)?, || Ok(db.batch_execute(LOOP)?))?;
    let left: i64 = db.query_one("SELECT count(*) FROM bare_queue", &[])?.get(0);
    ensure!(left == 0, "the bare loop left {left} rows");
    db.batch_execute("TRUNCATE bare_queue")?;
    let rows = rows as f64;
    Ok(Drained { rate: rows / elapsed, processor: cpu * 1e6 / rows, ..Drained::default() })
}
