//! Measures how figures grow with workers, indices, watched tables and the rows of a request.

use std::time::Instant;

use anyhow::Result;

use super::report::Report;
use super::rows::{insert, table, watch_as, Records, INDEX};
use super::samples::Samples;
use super::setup::Setup;
use super::spread::compared;
use super::testbed::{Drained, Testbed};
use crate::interrupt;

const WORKERS: [u64; 4] = [1, 2, 4, 8];
const INDICES: [u64; 4] = [1, 5, 20, 50];
const TABLES: [u64; 4] = [1, 10, 40, 100];
const BATCHES: [u64; 5] = [1, 10, 100, 1_000, 10_000];

/// A column of a table: its heading, its unit, and how it is computed from a sample.
type Column<S> = (&'static str, &'static str, fn(&S) -> f64);

/// What is measured at each step, the smallest first.
struct Growth<'a, S> {
    of: &'static str,
    steps: &'a [u64],
    columns: &'a [Column<S>],
    /// Whether the state that a step creates remains. If so, all repeats of a step are made before the next one;
    /// otherwise each round has all steps.
    stays: bool,
}

const RATE: Column<Drained> = ("drain, no latency", "rows/s", |one| one.rate);
const PROCESSOR: Column<Drained> = ("CPU, no latency", "s per million rows", |one| one.processor);
const MEMORY: Column<Drained> = ("memory of all workers (RssAnon)", "MB", |one| one.memory);

pub(super) fn measure(setup: &Setup, report: &mut Report) -> Result<()> {
    workers(setup, report)?;
    batches(setup, report)?;
    spread_over("indices", &INDICES, setup, report)?;
    spread_over("watched tables", &TABLES, setup, report)
}

fn workers(setup: &Setup, report: &mut Report) -> Result<()> {
    let mut testbed = Testbed::start(&setup.installation, &[("max_worker_processes", "32")])?;
    type Pair = (Drained, Drained);
    let columns: [Column<Pair>; 4] = [
        (RATE.0, RATE.1, |(near, _)| near.rate),
        ("drain at 50 ms", "rows/s", |(_, far)| far.rate),
        (PROCESSOR.0, PROCESSOR.1, |(near, _)| near.processor),
        (MEMORY.0, MEMORY.1, |(near, _)| near.memory),
    ];
    Growth { of: "workers", steps: &WORKERS, columns: &columns, stays: false }.measure(
        setup,
        report,
        |step, rows| {
            testbed.set_workers(step as usize)?;
            testbed.standin.set_latency(0)?;
            let near = testbed.drain(Records::Small, rows)?;
            testbed.standin.set_latency(50)?;
            Ok((near, testbed.drain(Records::Small, rows)?))
        },
    )
}

fn batches(setup: &Setup, report: &mut Report) -> Result<()> {
    let mut testbed = Testbed::start(&setup.installation, &[])?;
    let columns = [RATE, PROCESSOR, MEMORY];
    let growth =
        Growth { of: "rows of a request (batch_rows)", steps: &BATCHES, columns: &columns, stays: false };
    // The largest last, because a worker keeps some of the memory that it once needed.
    growth.measure(setup, report, |step, rows| {
        testbed.set(&[("audit_algolia.batch_rows", &step.to_string())], 1)?;
        testbed.drain(Records::Small, rows.min(step * 2_000))
    })
}

/// Captures and drains the same number of rows, spread over more and more indices or tables, with a statement for each.
fn spread_over(of: &'static str, steps: &[u64], setup: &Setup, report: &mut Report) -> Result<()> {
    let mut testbed = Testbed::start(&setup.installation, &[])?;
    let own_index = of == "indices";
    let name = |number: u64| format!("spread_{number}");
    let index = |number| if own_index { name(number) } else { INDEX.to_owned() };
    let columns: [Column<(f64, Drained)>; 3] = [
        ("capture", "µs a row", |(micros, _)| *micros),
        (RATE.0, RATE.1, |(_, drained)| drained.rate),
        (PROCESSOR.0, PROCESSOR.1, |(_, drained)| drained.processor),
    ];
    let mut made = 0;
    Growth { of, steps, columns: &columns, stays: true }.measure(setup, report, |step, rows| {
        for number in made..step {
            let prefix = format!("object_prefix => '{number}:',");
            let watch = watch_as(&name(number), &index(number), &prefix);
            testbed.execute(&format!("{}; {watch}", table(&name(number))))?;
        }
        made = made.max(step);
        testbed.pause()?;
        let started = Instant::now();
        for number in 0..step {
            testbed.execute(&insert(&name(number), rows / step))?;
        }
        let captured = rows / step * step;
        let micros = started.elapsed().as_secs_f64() * 1e6 / captured as f64;
        let indices: Vec<String> = (0..if own_index { step } else { 1 }).map(index).collect();
        Ok((micros, testbed.drain_queue(captured, &indices)?))
    })
}

impl<S> Growth<'_, S> {
    /// Measures each step so many times, and reports each column compared with the first step.
    fn measure(
        self,
        setup: &Setup,
        report: &mut Report,
        mut sample: impl FnMut(u64, u64) -> Result<S>,
    ) -> Result<()> {
        let Growth { of, steps, columns, stays } = self;
        let (rows, rounds, mut samples) = (setup.scale.grown, setup.scale.fields, Samples::new());
        let mut order = steps.repeat(rounds);
        if stays {
            order.sort_unstable();
        }
        for step in order {
            interrupt::check()?;
            samples.push(step, sample(step, rows)?);
        }
        let head: Vec<String> = columns.iter().map(|(name, unit, _)| format!("{name}, {unit}")).collect();
        let head: Vec<&str> = std::iter::once(of).chain(head.iter().map(String::as_str)).collect();
        let mut lines = Vec::new();
        for &step in steps {
            let mut line = vec![step.to_string()];
            for (name, unit, figure) in columns {
                let values = samples.of(step, figure);
                report.keep(&format!("{name} over {step} {of}"), unit, &values);
                line.push(compared(&values, &samples.of(steps[0], figure)));
            }
            lines.push(line);
        }
        let legend = format!("{rows} rows at each step; ratios are against the first line.");
        report.table(format!("Growth with {of}"), legend, &head, lines);
        Ok(())
    }
}
