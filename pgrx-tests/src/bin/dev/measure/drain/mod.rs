//! How quickly a backlog drains: one worker, two, behind latency; beside a bare loop in SQL and polling services.

mod bare;
pub(super) mod matrix;
mod tell;

use std::time::{Duration, Instant};

use anyhow::{ensure, Result};

use super::peers::{Kind, Peers, Served};
use super::process::{cpu_seconds, memory, size, Memory};
use super::report::Report;
use super::turns::in_turn;
use super::world::{Records, World, INDEX};
use super::Site;
use crate::interrupt;
use crate::waiting::{self, OFTEN};

pub(super) use self::tell::rows_per_second;

/// How often the worker's memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What one drain showed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Drain {
    /// Rows a second.
    pub(super) rate: f64,
    /// Processor seconds of the workers for a million rows.
    pub(super) processor: f64,
    /// Bytes of log a row.
    wal: f64,
    /// The first worker's memory beyond a plain session's, at most.
    beyond: Memory,
    /// Memory of all workers at the end, in megabytes: what is theirs alone (RssAnon).
    pub(super) memory: f64,
}

/// Who drains. The first drain of all is one with defaults alone.
#[derive(Clone, Copy)]
enum Who {
    /// One worker.
    One,
    /// The bare loop.
    Bare,
    JavaScript,
    Python,
    /// Two workers.
    Two,
    /// One worker, a server 20 ms away.
    Far,
}

const ALL: [Who; 6] = [Who::One, Who::Bare, Who::JavaScript, Who::Python, Who::Two, Who::Far];

/// What the repeats have shown.
#[derive(Default)]
struct Found {
    one: Vec<Drain>,
    two: Vec<Drain>,
    far: Vec<Drain>,
    bare: Vec<bare::Bare>,
    javascript: Vec<Served>,
    python: Vec<Served>,
}

pub(super) fn measure(site: &Site, report: &mut Report) -> Result<()> {
    let scale = &site.scale;
    let mut world = World::start(&site.installation)?;
    let (rows, polled) = (scale.drain, (Records::Small, scale.polled));
    let mut peers = Peers::polling(&mut world, report)?;
    // The first time, memory and files are made; that is nobody's rate.
    world.keep_records(Records::Small, rows)?;
    bare::prepare(&mut world)?;
    let mut found = Found::default();
    for round in 0..scale.repeats {
        for who in in_turn(&ALL, round, scale.repeats) {
            interrupt::check()?;
            world.begin_round()?;
            let latency = if matches!(who, Who::Far) { 20 } else { 0 };
            world.light.set_latency(latency)?;
            let mut drain = |workers: usize, in_flight: &str| {
                let (world, number) = (&mut world, workers.to_string());
                let settings = [("audit_algolia.workers", &*number), ("audit_algolia.in_flight", in_flight)];
                world.set(&settings, workers)?;
                drain(world, rows)
            };
            match who {
                Who::One => found.one.push(drain(1, "4")?),
                Who::Two => found.two.push(drain(2, "4")?),
                Who::Far => found.far.push(drain(1, "16")?),
                Who::Bare => found.bare.push(bare::run(&mut world, rows)?),
                Who::JavaScript => {
                    found.javascript.extend(peers.serve(Kind::JavaScript, &mut world, polled, 0)?)
                }
                Who::Python => found.python.extend(peers.serve(Kind::Python, &mut world, polled, 0)?),
            }
        }
    }
    tell::tell(report, rows, &found, &peers);
    Ok(())
}

/// Queues rows while paused, resumes, and waits until all have arrived.
pub(super) fn drain(world: &mut World, rows: u64) -> Result<Drain> {
    drain_as(world, Records::Small, rows)
}

/// The same with records of one or the other length.
pub(super) fn drain_as(world: &mut World, records: Records, rows: u64) -> Result<Drain> {
    world.pause()?;
    world.load_as(records, rows)?;
    drain_queue(world, rows, &[INDEX.to_owned()])
}

/// Drains so many rows that have been queued while paused, to these indices.
pub(super) fn drain_queue(world: &mut World, rows: u64, indices: &[String]) -> Result<Drain> {
    world.light.reset()?;
    let workers = world.workers()?;
    let cpu = |workers: &[u32]| workers.iter().map(|&pid| cpu_seconds(pid)).sum::<Result<f64>>();
    let (cpu_before, wal_before) = (cpu(&workers)?, world.wal()?);
    let (mut watched, mut looked) = (Memory::default(), None);
    let started = Instant::now();
    world.resume()?;
    waiting::until("the end of the drain", Duration::from_secs(600), OFTEN, || {
        // The kernel walks all of a process's pages to tell, shared buffers too, and holds the process up meanwhile.
        if looked.is_none_or(|at: Instant| at.elapsed() >= LOOK_EVERY) {
            looked = Some(Instant::now());
            if let Some(Ok(now)) = workers.first().map(|&pid| memory(pid)) {
                watched.private_dirty = watched.private_dirty.max(now.private_dirty);
                watched.anonymous = watched.anonymous.max(now.anonymous);
            }
        }
        Ok(world.queued()? == 0)
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let arrived: Result<Vec<u64>> = indices.iter().map(|index| world.light.count(index)).collect();
    let arrived: u64 = arrived?.iter().sum();
    ensure!(arrived == rows, "{arrived} of {rows} rows arrived");
    let plain = plain_session(world)?;
    let sizes: Result<Vec<f64>> = workers.iter().map(|&pid| Ok(size(pid)?.anonymous)).collect();
    Ok(Drain {
        rate: rows as f64 / seconds,
        processor: (cpu(&workers)? - cpu_before) * 1e6 / rows as f64,
        wal: (world.wal()? - wal_before) / rows as f64,
        beyond: Memory {
            private_dirty: watched.private_dirty - plain.private_dirty,
            anonymous: watched.anonymous - plain.anonymous,
        },
        memory: sizes?.iter().sum(),
    })
}

/// The memory of a session that has just asked something.
fn plain_session(world: &World) -> Result<Memory> {
    let mut db = world.cluster.connect("postgres", "postgres")?;
    let pid = World::backend(&mut db)?;
    memory(pid)
}
