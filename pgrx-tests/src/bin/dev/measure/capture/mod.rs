//! What capture costs a writer: the same inserts with no trigger, with ours, and with other people's triggers.
//! Delivery is paused, so that nothing else is measured.

mod manner;
pub(super) mod peak;
mod shape;
mod tell;
mod variant;

use std::collections::HashMap;
use std::time::Instant;

use anyhow::Result;

use self::manner::{Manner, Writers, MANNERS};
use self::shape::{Shape, SHAPES};
use self::variant::{Variant, VARIANTS};
use super::process::fine_cpu_seconds;
use super::report::Report;
use super::spread::short;
use super::world::{World, POOL};
use super::Site;
use crate::interrupt;

/// What was inserted, and how.
type Case = (Shape, Manner, Variant);

/// Of each case what each repeat has shown, a row.
#[derive(Default)]
struct Costs {
    micros: HashMap<Case, Vec<f64>>,
    /// Of the writer's process; of Bulk and Loop only.
    processor: HashMap<Case, Vec<f64>>,
    wal: HashMap<Case, Vec<f64>>,
}

pub(super) fn measure(site: &Site, report: &mut Report) -> Result<()> {
    let scale = &site.scale;
    let mut world = World::start(&site.installation)?;
    let (variants, hmac) = prepare(site, &mut world, report)?;
    let mut writers = Writers::new(&mut world, &SHAPES, scale)?;
    let backend = World::backend(writers.first()?)?;
    for shape in SHAPES {
        for variant in &variants {
            world.db.batch_execute(&variant.set_up(shape, hmac))?;
            // Caches are filled, plans are made.
            writers.insert(Manner::Loop, shape, &variant.table(shape), 500)?;
        }
    }
    let mut costs = Costs::default();
    for round in 0..scale.repeats {
        clear(&mut world)?;
        for (shape, manner) in SHAPES.into_iter().flat_map(|shape| MANNERS.map(|manner| (shape, manner))) {
            for place in 0..variants.len() {
                interrupt::check()?;
                // Each variant comes first in its turn.
                let Some(&variant) = variants.get((place + round) % variants.len()) else {
                    continue;
                };
                let rows = manner.rows(shape, scale);
                let (before, cpu) = (world.wal()?, fine_cpu_seconds(backend)?);
                let started = Instant::now();
                writers.insert(manner, shape, &variant.table(shape), rows)?;
                let micros = started.elapsed().as_secs_f64() * 1e6;
                let cpu = (fine_cpu_seconds(backend)? - cpu) * 1e6;
                let case = (shape, manner, variant);
                costs.micros.entry(case).or_default().push(micros / rows as f64);
                costs.wal.entry(case).or_default().push((world.wal()? - before) / rows as f64);
                if matches!(manner, Manner::Bulk | Manner::Loop) {
                    costs.processor.entry(case).or_default().push(cpu / rows as f64);
                }
            }
        }
    }
    tell::tell(&costs, scale, &variants, report);
    for shape in SHAPES {
        let length = world.db.query_one(
            "SELECT avg(length(record))::float8 FROM audit_algolia.queue AS q
             WHERE q.source = (SELECT s.id FROM audit_algolia.source AS s WHERE s.relation = $1::text::regclass)",
            &[&Variant::Ours.table(shape)],
        )?;
        report.note(format!("Records of {} have {} bytes.", shape.name(), short(length.get(0))));
    }
    Ok(())
}

/// Empties tables and queues, ours once it is delivered, so that each round starts with new files: pages that are used
/// again would go into the log as a whole after the checkpoint, and the disk holds no more than one round.
fn clear(world: &mut World) -> Result<()> {
    world.resume()?;
    world.wait_until_empty()?;
    world.pause()?;
    let filled = world.db.query_one(
        "SELECT string_agg(format('%I.%I', n.nspname, c.relname), ', ')
         FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE c.relkind = 'r' AND (n.nspname = 'public' AND c.relname <> 'pool'
                OR n.nspname = 'pgq' AND c.relname ~ '^event_[0-9]+_[0-9]+$')",
        &[],
    )?;
    world.db.batch_execute(&format!("TRUNCATE audit_algolia.queue, {}", filled.get::<_, String>(0)))?;
    Ok(world.db.batch_execute("CHECKPOINT")?)
}

/// What the variants need. Tells which there are, and whether pgcrypto is there.
fn prepare(site: &Site, world: &mut World, report: &mut Report) -> Result<(Vec<Variant>, bool)> {
    world.pause()?;
    world.db.batch_execute(POOL)?;
    let hmac = world.db.batch_execute("CREATE EXTENSION pgcrypto").is_ok();
    report.note(if hmac {
        "The PL/pgSQL triggers make their pseudonyms with pgcrypto's hmac."
    } else {
        "pgcrypto is missing here: the PL/pgSQL triggers make their pseudonyms with a plain sha256."
    });
    let pgq = match &site.packages.pgq {
        Ok(_) => world.db.batch_execute("CREATE EXTENSION pgq").map_err(|error| error.to_string()),
        Err(reason) => Err(reason.clone()),
    };
    match &pgq {
        Ok(()) => report.note(
            "PgQ's triggers know neither pseudonyms nor time buckets: they write the captured columns as they are.",
        ),
        Err(reason) => report.missing("PgQ's triggers", reason),
    }
    let variants = VARIANTS.into_iter().filter(|variant| pgq.is_ok() || !variant.is_pgq());
    Ok((variants.collect(), hmac))
}
