//! The table of drains: who, over latencies, with short records and long ones, compressed and not.

use std::collections::HashMap;

use anyhow::Result;

use super::super::chart::Group;
use super::super::peers::{Kind, Peers, WARM_UP};
use super::super::report::Report;
use super::super::scale::Scale;
use super::super::spread::{ratio, short, Spread};
use super::super::turns::in_turn;
use super::super::world::{Records, World};
use super::super::Site;
use super::drain_as;
use crate::interrupt;

/// Who drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    /// The extension, with so many workers.
    Ours {
        workers: usize,
        compression: bool,
    },
    Peer(Kind),
}

const OURS: [(usize, bool); 6] = [(1, true), (1, false), (2, true), (2, false), (4, true), (4, false)];
const PEERS: [Kind; 5] = [Kind::JavaScript, Kind::JavaScriptGzip, Kind::Python, Kind::Pgq, Kind::Wal2json];
/// What all others are compared with.
const BASE: Who = Who::Peer(Kind::JavaScript);

/// A field of the table.
type Field = (Records, u64, Who);

/// What the repeats have shown of a field.
#[derive(Default)]
struct Shown {
    rate: Vec<f64>,
    processor: Vec<f64>,
    memory: Vec<f64>,
}

pub(in super::super) fn measure(site: &Site, report: &mut Report) -> Result<()> {
    let scale = &site.scale;
    let mut world = World::start(&site.installation)?;
    let sizes = scale.records.iter().copied();
    let most: Vec<(Records, u64)> =
        sizes.clone().map(|records| (records, for_peers(records, 0, scale).max(WARM_UP))).collect();
    for &(records, rows) in &most {
        world.keep_records(records, rows)?;
    }
    let mut peers = Peers::all(site, &mut world, &most, report)?;
    let mut shown: HashMap<Field, Shown> = HashMap::new();
    let all: Vec<Who> = Who::all().collect();
    for round in 0..scale.fields {
        let fields = sizes.clone().flat_map(|records| scale.latencies.iter().map(move |one| (records, *one)));
        for (records, latency) in fields {
            world.begin_round()?;
            for who in in_turn(&all, round, scale.fields) {
                interrupt::check()?;
                let (rate, processor, memory) = match who {
                    Who::Peer(kind) => {
                        let rows = for_peers(records, latency, scale);
                        let Some(served) = peers.serve(kind, &mut world, (records, rows), latency)? else {
                            continue;
                        };
                        (served.rate, served.processor, served.memory)
                    }
                    Who::Ours { workers, compression } => {
                        world.light.set_latency(latency)?;
                        let (number, switch) = (workers.to_string(), if compression { "on" } else { "off" });
                        let settings =
                            [("audit_algolia.workers", &*number), ("audit_algolia.compression", switch)];
                        world.set(&settings, workers)?;
                        let drain = drain_as(&mut world, records, for_ours(records, latency, scale))?;
                        (drain.rate, drain.processor, drain.memory)
                    }
                };
                shown.entry((records, latency, who)).or_default().push(rate, processor, memory);
            }
        }
    }
    for records in sizes {
        tell(records, &shown, &peers, scale, report);
    }
    bars(&shown, scale, report);
    for kind in PEERS {
        if let Some(reason) = peers.reason(kind) {
            report.missing(kind.name(), reason);
        }
    }
    Ok(())
}

/// Latency takes its time whatever is sent, and long records take long to make.
fn for_ours(records: Records, latency: u64, scale: &Scale) -> u64 {
    let rows = match latency {
        0 => scale.field,
        1..100 => scale.field / 2,
        _ => scale.field / 4,
    };
    thousands(if records == Records::Large { rows / 5 } else { rows })
}

/// The services send one request after the other.
fn for_peers(records: Records, latency: u64, scale: &Scale) -> u64 {
    let rows = match latency {
        0 => scale.polled / 2,
        1..100 => scale.polled / 5,
        _ => scale.polled / 10,
    };
    thousands(if records == Records::Large { rows / 2 } else { rows })
}

fn thousands(rows: u64) -> u64 {
    (rows / 1000).max(2) * 1000
}

impl Shown {
    fn push(&mut self, rate: f64, processor: f64, memory: f64) {
        self.rate.push(rate);
        self.processor.push(processor);
        self.memory.push(memory);
    }
}

impl Who {
    fn all() -> impl Iterator<Item = Who> {
        let ours = OURS.map(|(workers, compression)| Who::Ours { workers, compression });
        ours.into_iter().chain(PEERS.map(Who::Peer))
    }

    fn name(self) -> String {
        match self {
            Who::Ours { workers, compression } => {
                let workers = if workers == 1 { "1 worker".to_owned() } else { format!("{workers} workers") };
                format!("audit_algolia, {workers}{}", if compression { ", gzip" } else { "" })
            }
            Who::Peer(kind) => kind.name().to_owned(),
        }
    }
}

fn tell(records: Records, shown: &HashMap<Field, Shown>, peers: &Peers, scale: &Scale, report: &mut Report) {
    let mut head = vec!["who".to_owned()];
    head.extend(scale.latencies.iter().map(|latency| format!("{latency} ms, rows/s")));
    head.extend(["CPU s per million rows", "memory MB"].map(str::to_owned));
    let mut lines = vec![head];
    for who in Who::all() {
        let mut line = vec![who.name()];
        if matches!(who, Who::Peer(kind) if peers.reason(kind).is_some()) {
            line.resize(scale.latencies.len() + 3, "not measured".to_owned());
            lines.push(line);
            continue;
        }
        for &latency in scale.latencies {
            let of = |who| shown.get(&(records, latency, who)).map_or(&[][..], |one| one.rate.as_slice());
            report.keep(
                &format!("drain, records of {}, {latency} ms: {}", records.name(), who.name()),
                "rows/s",
                of(who),
            );
            let spread = Spread::of(of(who)).map_or_else(|| "–".to_owned(), |spread| spread.to_string());
            line.push(match ratio(of(who), of(BASE)) {
                Some(ratio) => format!("{} × · {spread}", short(ratio.median)),
                None => spread,
            });
        }
        let nearest = scale.latencies.first().copied().unwrap_or_default();
        let near = |who| shown.get(&(records, nearest, who));
        let processor = near(who).and_then(|one| Spread::of(&one.processor));
        let against =
            near(who).zip(near(BASE)).and_then(|(one, base)| ratio(&one.processor, &base.processor));
        line.push(match (processor, against) {
            (Some(spread), Some(ratio)) => format!("{} × · {}", short(ratio.median), short(spread.median)),
            (Some(spread), None) => short(spread.median),
            _ => "–".to_owned(),
        });
        let memory = near(who).and_then(|one| Spread::of(&one.memory));
        line.push(memory.map_or_else(|| "–".to_owned(), |spread| short(spread.median)));
        lines.push(line);
    }
    report.table(
        format!("Drain, records of {}", records.name()),
        "Ratios, which come first, are against the polling service on the JavaScript client at the same latency. The \
         services send one request at a time, a worker of ours four: the more latency, the more that tells. CPU and \
         memory are those of the drain without latency: of the workers with all their threads; of a service, its \
         backend and what else works for it. Memory is RssAnon at the end, summed up.",
        lines,
    );
}

/// The most that latency shows, and the processor time without it.
fn bars(shown: &HashMap<Field, Shown>, scale: &Scale, report: &mut Report) {
    let latency = scale.latencies.iter().copied().find(|&one| one > 0).unwrap_or_default();
    let of = |who| shown.get(&(Records::Small, latency, who)).map_or(&[][..], |one| one.rate.as_slice());
    let mut group = Group::new(
        format!("Drain at {latency} ms of latency"),
        "rows/s against the service on the JavaScript client; more is better",
    );
    let gzip = |workers| Who::Ours { workers, compression: true };
    for who in [gzip(1), gzip(2), gzip(4)].into_iter().chain(PEERS.map(Who::Peer)) {
        let median = ratio(of(who), of(BASE)).map(|ratio| ratio.median);
        group.bar(who.name(), median, matches!(who, Who::Ours { .. }));
    }
    report.draw(group);
}
