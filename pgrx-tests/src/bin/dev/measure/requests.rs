//! Measures what a trickle of rows costs: how many requests it becomes, how long rows wait, what a request costs the
//! worker, and what delivery costs concurrent writers.

use std::time::Duration;

use anyhow::Result;

use super::freshness::{idle, stream, BETWEEN_WITHOUT_LATENCY};
use super::pgbench::insert_singly;
use super::process::fine_cpu_seconds;
use super::report::Report;
use super::row::{Row, Target};
use super::rows::Records;
use super::samples::Samples;
use super::setup::Setup;
use super::spread::{short, Spread};
use super::testbed::{backend, Testbed};
use crate::waiting::pass;

/// Rows per second.
const RATES: [u64; 3] = [10, 100, 1000];
const WORKERS: [usize; 2] = [1, 2];
/// The server's latency in milliseconds.
const LATENCY: u64 = 50;
/// The promised time from a commit to the answer, as percentiles and multiples of the latency.
const PROMISES: [(f64, f64); 2] = [(50.0, 1.6), (99.0, 2.2)];

/// Requests of one row each.
const SINGLE: usize = 500;
/// A table like the queue.
const QUEUE: &str = "single_queue";
/// Clients that write while a worker delivers.
const WRITERS: usize = 4;

const HEAD: [&str; 8] = [
    "traffic",
    "rows",
    "requests",
    "requests a round trip",
    "rows a request",
    "p50 to the answer",
    "p99 to the answer",
    "max",
];

pub(super) fn measure(setup: &Setup, report: &mut Report) -> Result<()> {
    let mut testbed = Testbed::start(&setup.installation, &[])?;
    trickles(&mut testbed, setup.scale.stream, report)?;
    single(&mut testbed, setup.scale.repeats, report)?;
    writers(&mut testbed, setup, report)
}

fn trickles(testbed: &mut Testbed, length: Duration, report: &mut Report) -> Result<()> {
    let mut lines = Vec::new();
    for workers in WORKERS {
        testbed.warm_up(workers)?;
        testbed.standin.set_latency(LATENCY)?;
        for rate in RATES {
            let delays = stream(testbed, rate, length)?;
            let requests = testbed.standin.requests()? as f64;
            let name = format!("{rate} rows a second, {LATENCY} ms, workers = {workers}");
            let per_trip = per_round_trip(requests, length);
            // The answer comes this much later than the row.
            let to_answer: Vec<f64> = delays.from_commit.iter().map(|delay| delay + LATENCY as f64).collect();
            report.keep(&format!("{name}: from commit to the answer"), "ms", &to_answer);
            let at = |percent| delays.at(percent) + LATENCY as f64;
            // At a low rate, each row is a request of its own.
            if rate > 10 {
                let figure = Row::of(format!("requests a round trip, {name}"), "requests", &[per_trip]);
                report.add(figure.at_most(1.2));
                for (percent, most) in PROMISES {
                    let times = Spread::of(&[at(percent) / LATENCY as f64]);
                    let measured = format!("{} ms from commit to the answer", short(at(percent)));
                    let row =
                        Row::new(format!("freshness against the latency, {name}, p{percent}"), measured);
                    report.add(row.ratio(times).target(Target::RatioAtMost(most)));
                }
            }
            let rows = to_answer.len() as f64;
            let figures = [rows, requests, per_trip, rows / requests, at(50.0), at(99.0), at(100.0)];
            lines.push(std::iter::once(name).chain(figures.map(short)).collect());
        }
    }
    report.table(
        format!("Requests of a trickle of rows to one index, {} s each", length.as_secs()),
        "Four sessions write in turn, a commit a row. A round trip takes as long as the latency. Times are milliseconds from \
         the moment at which the commit had returned to the writer to the server's answer.",
        &HEAD,
        lines,
    );
    Ok(())
}

/// The average number of requests per round trip.
fn per_round_trip(requests: f64, length: Duration) -> f64 {
    requests * LATENCY as f64 / 1000.0 / length.as_secs_f64()
}

/// What a worker needs for a request with one row, from claim to settlement, including senders and wake-ups.
fn single(testbed: &mut Testbed, repeats: usize, report: &mut Report) -> Result<()> {
    testbed.set_workers(1)?;
    testbed.standin.set_latency(0)?;
    let (worker, mut costs, mut all) = (testbed.worker()?, Vec::new(), 0);
    testbed.make_queue_alike(QUEUE)?;
    let mut least = Vec::new();
    for _ in 0..repeats {
        least.push(claim_and_delete(testbed)?);
        let before = fine_cpu_seconds(worker)?;
        idle(testbed, SINGLE, BETWEEN_WITHOUT_LATENCY)?;
        let cpu = fine_cpu_seconds(worker)? - before;
        let requests = testbed.standin.requests()?;
        all += requests;
        costs.push(cpu * 1000.0 / requests as f64);
    }
    report.note(format!("Of {} rows to be sent one by one there were {all} requests.", repeats * SINGLE));
    let name = "processor time of a request with one row, claim to settlement";
    let whom = "a session that claims and deletes it in two transactions, and sends nothing";
    report.add(Row::of(name, "ms", &costs).against(whom, &least).at_most(0.2));
    Ok(())
}

/// Milliseconds of processor time that a session uses for the two transactions of one row: the least that any worker could.
fn claim_and_delete(testbed: &mut Testbed) -> Result<f64> {
    let rows = format!("INSERT INTO {QUEUE} SELECT * FROM audit_algolia.queue");
    testbed.pause()?;
    testbed.load(Records::Small, SINGLE as u64)?;
    testbed.execute(&rows)?;
    testbed.resume()?;
    testbed.wait_until_empty()?;
    let mut db = testbed.connect()?;
    let claim = db.prepare(&format!(
        "SELECT index_id, id, action, record, object FROM {QUEUE}
         ORDER BY index_id DESC, id DESC LIMIT 1 FOR UPDATE SKIP LOCKED"
    ))?;
    let delete = db.prepare(&format!("DELETE FROM {QUEUE} WHERE index_id = $1 AND id = $2"))?;
    let session = backend(&mut db)?;
    let before = fine_cpu_seconds(session)?;
    for _ in 0..SINGLE {
        let row = db.query_one(&claim, &[])?;
        db.execute(&delete, &[&row.get::<_, i32>("index_id"), &row.get::<_, i64>("id")])?;
        pass(BETWEEN_WITHOUT_LATENCY)?;
    }
    Ok((fine_cpu_seconds(session)? - before) * 1000.0 / SINGLE as f64)
}

/// The throughput of writers while a worker delivers, compared with that while delivery is paused.
fn writers(testbed: &mut Testbed, setup: &Setup, report: &mut Report) -> Result<()> {
    testbed.warm_up(1)?;
    let commits = ["off", "on"];
    let cases: Vec<(&str, bool)> = commits.into_iter().flat_map(|one| [(one, false), (one, true)]).collect();
    let (rounds, seconds) = setup.scale.writing;
    let found = Samples::alternate(&cases, rounds, |(commit, delivers): (&str, bool)| {
        testbed.begin_round()?;
        if !delivers {
            testbed.pause()?;
        }
        let run = insert_singly(testbed, "audit_log", (WRITERS, commit), seconds)?;
        testbed.resume()?;
        testbed.wait_until_empty()?;
        Ok(Some(run.per_second))
    })?;
    for commit in commits {
        let name = format!(
            "{WRITERS} writers while a worker delivers, 20 ms, synchronous_commit {commit}: against delivery paused"
        );
        let (beside, paused) = (found.all((commit, true)), found.all((commit, false)));
        let row = Row::of(name, "transactions/s", beside).against("paused", paused);
        report.add(row.target(Target::RatioAtLeast(0.9)));
    }
    report.note("Writers, worker and the server that is delivered to share the machine's cores.");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_after_the_other_is_one_a_round_trip() {
        assert_eq!(per_round_trip(200.0, Duration::from_secs(10)), 1.0);
        assert_eq!(per_round_trip(100.0, Duration::from_secs(10)), 0.5);
    }
}
