//! Inserts rows in a transaction each, as fast as possible, with PostgreSQL's pgbench over the socket.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{ensure, Context, Result};

use super::rows::{values, COLUMNS};
use super::testbed::Testbed;
use crate::waiting::{self, OFTEN};

/// No run takes longer than this.
const PATIENCE: Duration = Duration::from_secs(120);

/// A run in progress.
pub(super) struct Pgbench(Child);

/// The results of a run.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) per_second: f64,
    pub(super) transactions: f64,
}

impl Pgbench {
    /// Starts so many clients, which insert into `table` with a prepared statement.
    pub(super) fn start(
        testbed: &Testbed,
        table: &str,
        (clients, synchronous_commit): (usize, &str),
        seconds: u64,
    ) -> Result<Pgbench> {
        let cluster = &testbed.cluster;
        let mut child = Command::new(cluster.bin("pgbench"))
            .env("PGOPTIONS", format!("-c synchronous_commit={synchronous_commit}"))
            .arg("-h")
            .arg(cluster.socket_dir())
            .args(["-p", &cluster.port().to_string(), "-U", "postgres", "--no-vacuum", "-M", "prepared"])
            .args(["-c", &clients.to_string(), "-j", &clients.min(2).to_string()])
            .args(["-T", &seconds.to_string(), "-f", "-", "postgres"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("pgbench could not be started")?;
        let mut script = child.stdin.take().context("pgbench has no input")?;
        let values = values(":n::bigint");
        write!(script, "\\set n random(1, 1000000)\nINSERT INTO {table} ({COLUMNS}) VALUES ({values});\n")?;
        Ok(Pgbench(child))
    }

    /// Waits for the end, and calls `meanwhile` every ten milliseconds.
    pub(super) fn finish(mut self, mut meanwhile: impl FnMut() -> Result<()>) -> Result<Run> {
        waiting::until("the end of pgbench", PATIENCE, OFTEN, || {
            meanwhile()?;
            Ok(self.0.try_wait()?.is_some())
        })?;
        let output = self.0.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "pgbench: {}", said.lines().last().unwrap_or_default());
        run(&String::from_utf8_lossy(&output.stdout)).context("pgbench has told no figures")
    }
}

/// Runs so many clients to the end.
pub(super) fn insert_singly(
    testbed: &Testbed,
    table: &str,
    writers: (usize, &str),
    seconds: u64,
) -> Result<Run> {
    Pgbench::start(testbed, table, writers, seconds)?.finish(|| Ok(()))
}

/// Parses the results.
fn run(output: &str) -> Option<Run> {
    let figure = |name: &str| {
        let rest = output.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_whitespace().next()?.parse().ok()
    };
    Some(Run {
        per_second: figure("tps = ")?,
        transactions: figure("number of transactions actually processed: ")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_pgbench_says() {
        let said = "query mode: prepared\nnumber of transactions actually processed: 7043\n\
                    latency average = 0.142 ms\ntps = 7045.918214 (without initial connection time)\n";
        let run = run(said).unwrap();
        assert_eq!((run.transactions, run.per_second), (7043.0, 7_045.918_214));
        assert!(super::run("tps = none").is_none());
    }
}
