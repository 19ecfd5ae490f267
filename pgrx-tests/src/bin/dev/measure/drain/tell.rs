//! What the drains come to: the promised ratios, and bars.

use super::super::chart::Group;
use super::super::peers::{Kind, Peers, Served};
use super::super::report::{Reach, Report, Row};
use super::super::spread::{ratio, short, Spread};
use super::{Drain, Found};

/// Requests in flight at 20 ms.
const FAR: f64 = 16.0 * 1000.0 / 0.020;

pub(super) fn tell(report: &mut Report, rows: u64, found: &Found, peers: &Peers) {
    let Found { one, two, far, .. } = found;
    compare(report, found, peers);
    let cases = [
        ("20 ms, one worker, in_flight 16: against the lesser of the bound and no latency", rates(far), true),
        ("no latency, one worker", rates(one), false),
        ("no latency, two workers", rates(two), false),
    ];
    for (name, values, is_bounded) in cases {
        let name = format!("drain of {rows} rows, {name}");
        report.keep(&name, "rows/s", &values);
        let Some(spread) = Spread::of(&values) else {
            continue;
        };
        let measured = format!("{spread} rows/s");
        // Where the processor is the limit, latency must not make it any slower.
        let reachable: Vec<f64> = one.iter().map(|near| near.rate.min(FAR)).collect();
        report.add(match Spread::of(&reachable) {
            Some(against) if is_bounded => Row::new(name, format!("{measured}, the lesser {against} rows/s"))
                .ratio(ratio(&values, &reachable))
                .reach(Reach::RatioAtLeast(0.8)),
            _ => Row::new(name, measured),
        });
    }
    report.note(
        "At 20 ms the bound is 16 × 1,000 rows / 20 ms = 800,000 rows/s; where the processor is the limit, the drain \
         without latency is less.",
    );
    for (name, drains) in [("no latency", one), ("20 ms", far)] {
        let values: Vec<f64> = drains.iter().map(|one| one.processor).collect();
        if let Some(spread) = Spread::of(&values) {
            let name = format!("processor time of the worker, {name}");
            report.keep(&name, "s per million rows", &values);
            report.add(Row::new(name, format!("{spread} s per million rows")));
        }
    }
    let wal: Vec<f64> = one.iter().map(|one| one.wal).collect();
    if let Some(spread) = Spread::of(&wal) {
        report.keep("WAL of delivery", "bytes a row", &wal);
        report.add(
            Row::new("WAL of delivery, beyond the insert", format!("{spread} bytes a row"))
                .reach(Reach::AtMost(130.0, "bytes a row", spread.median)),
        );
    }
    memory(report, one);
}

/// A worker keeps what it needed with sixteen requests in flight: only the first drain is one with defaults alone.
fn memory(report: &mut Report, one: &[Drain]) {
    let (Some(first), Some(last)) = (one.first(), one.last()) else {
        return;
    };
    for (name, value) in
        [("private and dirty", first.beyond.private_dirty), ("anonymous", first.beyond.anonymous)]
    {
        let name = format!("worker's memory beyond a plain backend, {name}");
        report.keep(&name, "MB", &[value]);
        let row = Row::new(name, format!("{} MB", short(value)));
        report.add(row.reach(Reach::AtMost(16.0, "MB", value)));
    }
    let text = format!("{} MB", short(last.beyond.anonymous));
    report.add(Row::new("the same once it had 16 requests in flight, anonymous", text));
}

fn rates(drains: &[Drain]) -> Vec<f64> {
    drains.iter().map(|one| one.rate).collect()
}

fn compare(report: &mut Report, found: &Found, peers: &Peers) {
    let own = rates(&found.one);
    let processor: Vec<f64> = found.one.iter().map(|one| one.processor).collect();
    let bare: Vec<f64> = found.bare.iter().map(|one| one.rate).collect();
    let bare_processor: Vec<f64> = found.bare.iter().map(|one| one.processor).collect();
    report.keep("drain", "rows/s", &own);
    report.keep("bare loop", "rows/s", &bare);
    let mut speed =
        Group::new("Drain without latency, one worker", "rows/s against the service; more is better");
    let mut cost = Group::new("Processor time of that drain", "against the service; less is better");
    let services = [
        (Kind::JavaScript, "Algolia's JavaScript client", &found.javascript, true),
        (Kind::Python, "Algolia's Python client", &found.python, false),
    ];
    for (kind, client, served, is_promised) in services {
        let rate = format!("drain against a polling service on {client}");
        let time = format!("processor time against the service on {client} and its backend");
        let (mut rate, mut time) = match (Spread::of(&speeds(served)), Spread::of(&costs(served))) {
            (Some(speed), Some(cost)) => {
                report.keep(kind.name(), "rows/s", &speeds(served));
                report.keep(kind.name(), "s per million rows", &costs(served));
                (
                    Row::new(rate, format!("the service: {speed} rows/s"))
                        .ratio(ratio(&own, &speeds(served))),
                    Row::new(time, format!("the service: {cost} s per million rows"))
                        .ratio(ratio(&processor, &costs(served))),
                )
            }
            _ => {
                let reason = peers.reason(kind).unwrap_or("no run");
                (Row::not_measured(rate, reason), Row::not_measured(time, reason))
            }
        };
        if is_promised {
            (rate, time) = (rate.reach(Reach::RatioAtLeast(4.0)), time.reach(Reach::RatioAtMost(0.3)));
        }
        report.add(rate);
        report.add(time);
    }
    if let (Some(rate), Some(time)) = (Spread::of(&bare), Spread::of(&bare_processor)) {
        report.add(
            Row::new("drain against a bare DELETE … RETURNING loop", format!("the loop: {rate} rows/s"))
                .ratio(ratio(&own, &bare))
                .reach(Reach::RatioAtLeast(1.2)),
        );
        let what = "processor time of the worker against the bare loop";
        let row = Row::new(what, format!("the loop: {time} s per million rows"));
        report.add(row.ratio(ratio(&processor, &bare_processor)));
    }
    let median = |values: &[f64], against: &[f64]| ratio(values, against).map(|ratio| ratio.median);
    let (base, base_cost) = (speeds(&found.javascript), costs(&found.javascript));
    speed.bar("audit_algolia", median(&own, &base), true);
    speed.bar("a bare loop in SQL that sends nothing", median(&bare, &base), false);
    speed.bar("polling, JavaScript client", median(&base, &base), false);
    speed.bar("polling, Python client", median(&speeds(&found.python), &base), false);
    cost.bar("audit_algolia", median(&processor, &base_cost), true);
    cost.bar("polling, JavaScript client", median(&base_cost, &base_cost), false);
    cost.bar("polling, Python client", median(&costs(&found.python), &base_cost), false);
    report.draw(speed);
    report.draw(cost);
}

fn speeds(served: &[Served]) -> Vec<f64> {
    served.iter().map(|one| one.rate).collect()
}

fn costs(served: &[Served]) -> Vec<f64> {
    served.iter().map(|one| one.processor).collect()
}

/// A rate as a text.
pub(in super::super) fn rows_per_second(rate: f64) -> String {
    format!("{} rows/s", short(rate))
}
