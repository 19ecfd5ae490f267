//! The table of drains: contenders by latency, with short and long records, with and without compression.

use anyhow::Result;

use super::chart::Group;
use super::contender::Contender;
use super::peers::{Kind, Peers, WARM_UP};
use super::report::Report;
use super::rows::Records;
use super::samples::Samples;
use super::scale::Scale;
use super::setup::Setup;
use super::spread::{compared, middle, ratio};
use super::testbed::{Drained, Testbed};

const CONTENDERS: [Contender; 11] = [
    Contender::ours(1, true),
    Contender::ours(1, false),
    Contender::ours(2, true),
    Contender::ours(2, false),
    Contender::ours(4, true),
    Contender::ours(4, false),
    BASE,
    Contender::Peer(Kind::JavaScriptGzip),
    Contender::Peer(Kind::Python),
    Contender::Peer(Kind::Pgq),
    Contender::Peer(Kind::Wal2json),
];
/// What the others are compared with.
const BASE: Contender = Contender::Peer(Kind::JavaScript);

/// A field of the table.
type Field = (Records, u64, Contender);

type Fields = Samples<Field, Drained>;

pub(super) fn measure(setup: &Setup, report: &mut Report) -> Result<()> {
    let scale = &setup.scale;
    let mut testbed = Testbed::start(&setup.installation, &[])?;
    let most = |&records: &Records| (records, rows_for(BASE, records, 0, scale).max(WARM_UP));
    let most: Vec<(Records, u64)> = scale.records.iter().map(most).collect();
    for &(records, rows) in &most {
        testbed.keep_records(records, rows)?;
    }
    let mut peers = Peers::all(setup, &mut testbed, &most, report)?;
    let mut fields = Samples::new();
    for round in 0..scale.fields {
        let pairs = scale.records.iter().flat_map(|&one| scale.latencies.iter().map(move |&ms| (one, ms)));
        for (records, latency) in pairs {
            testbed.begin_round()?;
            let cases = CONTENDERS.map(|who| (records, latency, who));
            fields.round(&cases, (round, scale.fields), |(_, _, who): Field| {
                let rows = rows_for(who, records, latency, scale);
                who.drain(&mut testbed, &mut peers, (records, rows), latency)
            })?;
        }
    }
    for &records in scale.records {
        tell(records, &fields, &peers, scale, report);
    }
    bars(&fields, scale, report);
    for who in CONTENDERS {
        if let Some(reason) = who.reason(&peers) {
            report.missing(&who.name(), reason);
        }
    }
    Ok(())
}

/// Fewer rows where latency is high, because the services send one request at a time, and where records are long,
/// because it takes long to make them.
fn rows_for(who: Contender, records: Records, latency: u64, scale: &Scale) -> u64 {
    let (rows, parts, fewer_large) = match who {
        Contender::Peer(_) => (scale.polled, [2, 5, 10], 2),
        _ => (scale.field, [1, 2, 4], 5),
    };
    let [none, some, much] = parts;
    let rows = rows
        / match latency {
            0 => none,
            1..100 => some,
            _ => much,
        };
    let rows = if records == Records::Large { rows / fewer_large } else { rows };
    (rows / 1000).max(2) * 1000
}

fn tell(records: Records, fields: &Fields, peers: &Peers, scale: &Scale, report: &mut Report) {
    let mut head = vec!["who".to_owned()];
    head.extend(scale.latencies.iter().map(|latency| format!("{latency} ms, rows/s")));
    head.extend(["CPU s per million rows", "memory MB"].map(str::to_owned));
    let nearest = scale.latencies.first().copied().unwrap_or_default();
    let mut lines = Vec::new();
    for who in CONTENDERS {
        let mut line = vec![who.name()];
        for &latency in scale.latencies {
            let rates = |who| fields.of((records, latency, who), |one| one.rate);
            let name = format!("drain, records of {}, {latency} ms: {}", records.name(), who.name());
            report.keep(&name, "rows/s", &rates(who));
            line.push(compared(&rates(who), &rates(BASE)));
        }
        let processor = |who| fields.of((records, nearest, who), |one| one.processor);
        line.push(compared(&processor(who), &processor(BASE)));
        line.push(middle(&fields.of((records, nearest, who), |one| one.memory)));
        if who.reason(peers).is_some() {
            line[1..].fill("not measured".to_owned());
        }
        lines.push(line);
    }
    report.table(
        format!("Drain, records of {}", records.name()),
        "Ratios, which come first, are against the polling service on the JavaScript client at the same latency. The \
         services send one request at a time, a worker of ours four: the more latency, the more that tells. CPU and \
         memory are those of the drain without latency: of the workers with all their threads; of a service, its \
         backend and what else works for it. Memory is RssAnon at the end, summed up.",
        &head.iter().map(String::as_str).collect::<Vec<_>>(),
        lines,
    );
}

/// Bars for the highest latency.
fn bars(fields: &Fields, scale: &Scale, report: &mut Report) {
    let latency = scale.latencies.iter().copied().find(|&one| one > 0).unwrap_or_default();
    let rates = |who| fields.of((Records::Small, latency, who), |one| one.rate);
    let mut group = Group::new(
        format!("Drain at {latency} ms of latency"),
        "rows/s against the service on the JavaScript client; more is better",
    );
    let is_shown = |who: &Contender| !matches!(who, Contender::Ours { compression: false, .. });
    for who in CONTENDERS.into_iter().filter(is_shown) {
        let median = ratio(&rates(who), &rates(BASE)).map(|ratio| ratio.median);
        group.bar(who.name(), median, who.is_ours());
    }
    report.draw(group);
}
