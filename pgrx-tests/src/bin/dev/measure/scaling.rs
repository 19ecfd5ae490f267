//! How figures grow with workers, indices, watched tables and the rows of a request.

use std::time::Instant;

use anyhow::Result;

use super::drain::{drain, drain_queue};
use super::report::Report;
use super::spread::{ratio, short, Spread};
use super::world::{table, values, watch, World, COLUMNS, INDEX};
use super::Site;
use crate::interrupt;

const WORKERS: [u64; 4] = [1, 2, 4, 8];
const INDICES: [u64; 4] = [1, 5, 20, 50];
const TABLES: [u64; 4] = [1, 10, 40, 100];
const BATCHES: [u64; 5] = [1, 10, 100, 1_000, 10_000];

/// What grows with it: a name, and what was measured at each step, smallest first.
struct Growth {
    name: &'static str,
    unit: &'static str,
    steps: Vec<(u64, Vec<f64>)>,
}

impl Growth {
    fn new(name: &'static str, unit: &'static str, steps: &[u64]) -> Growth {
        Growth { name, unit, steps: steps.iter().map(|&step| (step, Vec::new())).collect() }
    }

    fn push(&mut self, step: u64, value: f64) {
        if let Some((_, values)) = self.steps.iter_mut().find(|(one, _)| *one == step) {
            values.push(value);
        }
    }
}

pub(super) fn measure(site: &Site, report: &mut Report) -> Result<()> {
    let rows = site.scale.grown;
    let repeats = site.scale.fields;
    workers(
        &mut World::start_with(&site.installation, &[("max_worker_processes", "32")])?,
        rows,
        repeats,
        report,
    )?;
    batches(&mut World::start(&site.installation)?, rows, repeats, report)?;
    spread_over(Over::Indices, &mut World::start(&site.installation)?, rows, repeats, report)?;
    spread_over(Over::Tables, &mut World::start(&site.installation)?, rows, repeats, report)
}

fn workers(world: &mut World, rows: u64, repeats: usize, report: &mut Report) -> Result<()> {
    let mut near = Growth::new("drain, no latency", "rows/s", &WORKERS);
    let mut far = Growth::new("drain at 50 ms", "rows/s", &WORKERS);
    let mut processor = Growth::new("CPU, no latency", "s per million rows", &WORKERS);
    let mut memory = Growth::new("memory of all (RssAnon)", "MB", &WORKERS);
    for _ in 0..repeats {
        for step in WORKERS {
            interrupt::check()?;
            world.set(&[("audit_algolia.workers", &step.to_string())], step as usize)?;
            world.light.set_latency(0)?;
            let drained = drain(world, rows)?;
            near.push(step, drained.rate);
            processor.push(step, drained.processor);
            memory.push(step, drained.memory);
            world.light.set_latency(50)?;
            far.push(step, drain(world, rows)?.rate);
        }
    }
    tell(report, "workers", rows, &[near, far, processor, memory]);
    Ok(())
}

fn batches(world: &mut World, rows: u64, repeats: usize, report: &mut Report) -> Result<()> {
    let mut near = Growth::new("drain, no latency", "rows/s", &BATCHES);
    let mut processor = Growth::new("CPU, no latency", "s per million rows", &BATCHES);
    let mut memory = Growth::new("memory of the worker (RssAnon)", "MB", &BATCHES);
    for _ in 0..repeats {
        // The largest last: a worker keeps some of the memory it once needed.
        for step in BATCHES {
            interrupt::check()?;
            world.set(&[("audit_algolia.batch_rows", &step.to_string())], 1)?;
            let drained = drain(world, rows.min(step * 2_000))?;
            near.push(step, drained.rate);
            processor.push(step, drained.processor);
            memory.push(step, drained.memory);
        }
    }
    tell(report, "rows of a request (batch_rows)", rows, &[near, processor, memory]);
    Ok(())
}

/// What the rows are spread over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Indices,
    Tables,
}

/// Captures and drains the same number of rows over more and more indices or tables, a statement for each.
fn spread_over(over: Over, world: &mut World, rows: u64, repeats: usize, report: &mut Report) -> Result<()> {
    let steps = if over == Over::Indices { INDICES } else { TABLES };
    let mut capture = Growth::new("capture", "µs a row", &steps);
    let mut drained = Growth::new("drain, no latency", "rows/s", &steps);
    let mut processor = Growth::new("CPU, no latency", "s per million rows", &steps);
    let mut made = 0;
    for step in steps {
        for number in made..step {
            let name = format!("spread_{number}");
            let index = if over == Over::Indices { name.clone() } else { INDEX.to_owned() };
            let watch = watch(&name)
                .replace(INDEX, &index)
                .replace("facets", &format!("object_prefix => '{number}:', facets"));
            world.db.batch_execute(&format!("{}; {watch}", table(&name)))?;
        }
        made = step;
        for _ in 0..repeats {
            interrupt::check()?;
            world.pause()?;
            let started = Instant::now();
            for number in 0..step {
                world.db.batch_execute(&format!(
                    "INSERT INTO spread_{number} ({COLUMNS}) SELECT {} FROM generate_series(1, {}) AS i",
                    values("i"),
                    rows / step
                ))?;
            }
            let captured = rows / step * step;
            capture.push(step, started.elapsed().as_secs_f64() * 1e6 / captured as f64);
            let indices: Vec<String> = match over {
                Over::Indices => (0..step).map(|number| format!("spread_{number}")).collect(),
                Over::Tables => vec![INDEX.to_owned()],
            };
            let found = drain_queue(world, captured, &indices)?;
            drained.push(step, found.rate);
            processor.push(step, found.processor);
        }
    }
    let what = if over == Over::Indices { "indices" } else { "watched tables" };
    tell(report, what, rows, &[capture, drained, processor]);
    Ok(())
}

fn tell(report: &mut Report, what: &str, rows: u64, growths: &[Growth]) {
    let mut head = vec![what.to_owned()];
    head.extend(growths.iter().map(|growth| format!("{}, {}", growth.name, growth.unit)));
    let mut lines = vec![head];
    let steps: Vec<u64> =
        growths.iter().take(1).flat_map(|one| one.steps.iter().map(|(step, _)| *step)).collect();
    for step in steps {
        let mut line = vec![step.to_string()];
        for growth in growths {
            let of =
                |step| growth.steps.iter().find(|(one, _)| *one == step).map(|(_, values)| values.as_slice());
            let values = of(step).unwrap_or_default();
            let base = growth.steps.first().map(|(_, values)| values.as_slice()).unwrap_or_default();
            report.keep(&format!("{} over {step} {what}", growth.name), growth.unit, values);
            line.push(match (ratio(values, base), Spread::of(values)) {
                (Some(ratio), Some(spread)) => format!("{} × · {spread}", short(ratio.median)),
                _ => "–".to_owned(),
            });
        }
        lines.push(line);
    }
    let legend = format!("{rows} rows at each step; ratios are against the first line.");
    report.table(format!("Growth with {what}"), legend, lines);
}
