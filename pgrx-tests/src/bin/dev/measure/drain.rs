//! Measures how fast a backlog drains: with one worker, with two, with latency, and over TLS. Compares it with a bare
//! loop in SQL and with polling services.

use anyhow::Result;

use super::chart::Group;
use super::contender::{prepare_bare_loop, Contender};
use super::peers::{Kind, Peers};
use super::process::Memory;
use super::report::Report;
use super::row::{Row, Target};
use super::rows::Records;
use super::samples::Samples;
use super::setup::Setup;
use super::spread::{ratio, short};
use super::testbed::{Drained, Testbed};

const ONE: Case = (Contender::ours(1, true), 0);
const TWO: Case = (Contender::ours(2, true), 0);
const FAR: Case = (Contender::Ours { workers: 1, in_flight: 16, compression: true, tls: false }, 20);
const TLS: Case = (Contender::Ours { workers: 1, in_flight: 4, compression: true, tls: true }, 0);
const BARE: Case = (Contender::BareLoop, 0);
const JAVASCRIPT: Case = (Contender::Peer(Kind::JavaScript), 0);
const PYTHON: Case = (Contender::Peer(Kind::Python), 0);

/// The contender, and the server's latency in milliseconds.
type Case = (Contender, u64);

/// The first drain of all runs with defaults only.
const CASES: [Case; 7] = [ONE, BARE, JAVASCRIPT, PYTHON, TLS, TWO, FAR];

/// Rows per second that the requests in flight allow at 20 ms.
const BOUND: f64 = 16.0 * 1000.0 / 0.020;

pub(super) fn measure(setup: &Setup, report: &mut Report) -> Result<()> {
    let scale = &setup.scale;
    let mut testbed = Testbed::start(&setup.installation, &[])?;
    let mut peers = Peers::polling(&mut testbed, report)?;
    // The first drain creates memory and files, so it does not count.
    testbed.keep_records(Records::Small, scale.drain)?;
    prepare_bare_loop(&mut testbed)?;
    let found = Samples::alternate(&CASES, scale.repeats, |(who, latency): Case| {
        testbed.begin_round()?;
        testbed.standin.set_latency(latency)?;
        let rows = if matches!(who, Contender::Peer(_)) { scale.polled } else { scale.drain };
        who.drain(&mut testbed, &mut peers, (Records::Small, rows), latency)
    })?;
    compare(report, &found, &peers);
    alone(report, &found, scale.drain);
    memory(report, found.all(ONE));
    Ok(())
}

/// Compared with the services and the bare loop.
fn compare(report: &mut Report, found: &Samples<Case, Drained>, peers: &Peers) {
    let rate = |case| found.of(case, |one| one.rate);
    let processor = |case| found.of(case, |one| one.processor);
    let (own, own_processor) = (rate(ONE), processor(ONE));
    for (case, what, also, whom, targets) in [
        (
            JAVASCRIPT,
            "polling service on Algolia's JavaScript client",
            " and its backend",
            "the service",
            (Some(5.0), Some(0.3)),
        ),
        (
            PYTHON,
            "polling service on Algolia's Python client",
            " and its backend",
            "the service",
            (None, None),
        ),
        (BARE, "bare DELETE … RETURNING loop", "", "the loop", (Some(2.0), None)),
    ] {
        let reason = case.0.reason(peers);
        let (rates, costs) = (rate(case), processor(case));
        report.keep(&case.0.name(), "rows/s", &rates);
        report.keep(&case.0.name(), "s per million rows", &costs);
        let mut speed = Row::of(format!("drain against a {what}"), "rows/s", &own).against(whom, &rates);
        let time = format!("processor time of a drain against a {what}{also}");
        let mut time = Row::of(time, "s per million rows", &own_processor).against(whom, &costs);
        if let Some(least) = targets.0 {
            speed = speed.target(Target::RatioAtLeast(least));
        }
        if let Some(most) = targets.1 {
            time = time.target(Target::RatioAtMost(most));
        }
        report.add(speed.unless(reason));
        report.add(time.unless(reason));
    }
    let bars = |title: &str, hint, cases: &[Case], figure: fn(&Drained) -> f64| {
        let mut group = Group::new(title, hint);
        for &case in cases {
            let median = ratio(&found.of(case, figure), &found.of(JAVASCRIPT, figure)).map(|one| one.median);
            let name = if case == ONE { "audit_algolia".to_owned() } else { case.0.name() };
            group.bar(name, median, case == ONE);
        }
        group
    };
    report.draw(bars(
        "Drain without latency, one worker",
        "rows/s against the service; more is better",
        &[ONE, BARE, JAVASCRIPT, PYTHON],
        |one| one.rate,
    ));
    report.draw(bars(
        "Processor time of that drain",
        "against the service; less is better",
        &[ONE, JAVASCRIPT, PYTHON],
        |one| one.processor,
    ));
}

/// The figures of the workers themselves.
fn alone(report: &mut Report, found: &Samples<Case, Drained>, rows: u64) {
    let rate = |case| found.of(case, |one| one.rate);
    // Where the processor is the limit, latency must not make it slower.
    let reachable: Vec<f64> = rate(ONE).into_iter().map(|near| near.min(BOUND)).collect();
    let name = format!("drain of {rows} rows");
    let far =
        format!("{name}, 20 ms, one worker, in_flight 16: against the lesser of the bound and no latency");
    report.add(
        Row::of(far, "rows/s", &rate(FAR))
            .against("the lesser", &reachable)
            .target(Target::RatioAtLeast(0.8)),
    );
    let tls = Row::of(format!("{name} over TLS, one worker: against without"), "rows/s", &rate(TLS));
    report.add(tls.against("without", &rate(ONE)).target(Target::RatioAtLeast(0.8)));
    report.add(Row::of(format!("{name}, no latency, one worker"), "rows/s", &rate(ONE)));
    report.add(Row::of(format!("{name}, no latency, two workers"), "rows/s", &rate(TWO)));
    report.note(
        "At 20 ms the bound is 16 × 1,000 rows / 20 ms = 800,000 rows/s; where the processor is the limit, the drain \
         without latency is less.",
    );
    let processor = |case| found.of(case, |one| one.processor);
    let unit = "s per million rows";
    report.add(Row::of("processor time of the worker, no latency", unit, &processor(ONE)).at_most(2.5));
    report.add(Row::of("processor time of the worker, 20 ms", unit, &processor(FAR)));
    let tls = Row::of("processor time of the worker over TLS: against without", unit, &processor(TLS));
    report.add(tls.against("without", &processor(ONE)));
    let wal = found.of(ONE, |one| one.wal);
    report.add(Row::of("WAL of delivery, beyond the insert", "bytes a row", &wal).at_most(130.0));
}

/// A worker keeps the memory that sixteen requests in flight needed, so only the first drain shows the defaults.
fn memory(report: &mut Report, drains: &[Drained]) {
    let (Some(first), Some(last)) = (drains.first(), drains.last()) else {
        return;
    };
    tell_beyond(report, "", first.beyond, Some(16.0));
    let text = format!("{} MB", short(last.beyond.anonymous));
    report.add(Row::new("the same once it had 16 requests in flight, anonymous", text));
}

/// A worker's memory in excess of a plain backend's.
pub(super) fn tell_beyond(report: &mut Report, when: &str, beyond: Memory, most: Option<f64>) {
    for (name, value) in [("private and dirty", beyond.private_dirty), ("anonymous", beyond.anonymous)] {
        let name = format!("worker's memory beyond a plain backend{when}, {name}");
        let row = Row::of(name, "MB", &[value]);
        report.add(most.map_or(row.clone(), |most| row.at_most(most)));
    }
}
