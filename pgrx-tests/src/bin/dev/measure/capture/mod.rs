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
use super::turns::in_turn;
use super::world::{World, POOL};
use super::Site;
use crate::interrupt;

/// What autovacuum logs is nobody's cost here, and neither are the pages that are logged as a whole after a checkpoint:
/// there is none from one [`clear`] to the next.
const SETTINGS: [(&str, &str); 2] = [("autovacuum", "off"), ("max_wal_size", "16GB")];

/// What was inserted, and how.
type Case = (Shape, Manner, Variant);

/// What a row has cost in one repeat of a case.
struct Cost {
    micros: f64,
    /// Microseconds of the first writer's process: all there are, where it is the only one and seldom waits for a client.
    processor: f64,
    /// Bytes.
    wal: f64,
    /// Pages in the log as a whole.
    images: f64,
}

/// Of each case what each repeat has shown.
#[derive(Default)]
struct Costs(HashMap<Case, Vec<Cost>>);

pub(super) fn measure(site: &Site, report: &mut Report) -> Result<()> {
    let scale = &site.scale;
    let mut world = World::start_with(&site.installation, &SETTINGS)?;
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
        for shape in SHAPES {
            clear(&mut world)?;
            for manner in MANNERS {
                let rows = manner.rows(shape, scale);
                for variant in in_turn(&variants, round, scale.repeats) {
                    interrupt::check()?;
                    let cost = cost(&mut world, &mut writers, backend, (shape, manner, variant), rows)?;
                    costs.0.entry((shape, manner, variant)).or_default().push(cost);
                }
            }
            if round == 0 {
                note_length(&mut world, shape, report)?;
            }
        }
    }
    let settings = SETTINGS.map(|(name, value)| format!("{name} = {value}")).join(" and ");
    report.note(format!(
        "Capture is measured with {settings}; tables and queues are new for each shape of rows."
    ));
    tell::tell(&costs, scale, &variants, report);
    Ok(())
}

/// Inserts so many rows; `backend` is the first writer's.
fn cost(
    world: &mut World,
    writers: &mut Writers,
    backend: u32,
    (shape, manner, variant): Case,
    rows: u64,
) -> Result<Cost> {
    let images = writers.images()?;
    let (wal, processor) = (world.wal()?, fine_cpu_seconds(backend)?);
    let started = Instant::now();
    writers.insert(manner, shape, &variant.table(shape), rows)?;
    let micros = started.elapsed().as_secs_f64() * 1e6;
    let processor = (fine_cpu_seconds(backend)? - processor) * 1e6;
    let wal = world.wal()? - wal;
    let images = writers.images()? - images;
    let rows = rows as f64;
    Ok(Cost { micros: micros / rows, processor: processor / rows, wal: wal / rows, images: images / rows })
}

/// How long the records are that have been captured.
fn note_length(world: &mut World, shape: Shape, report: &mut Report) -> Result<()> {
    let length = world.db.query_one(
        "SELECT avg(length(record))::float8 FROM audit_algolia.queue AS q
         WHERE q.source = (SELECT s.id FROM audit_algolia.source AS s WHERE s.relation = $1::text::regclass)",
        &[&Variant::Ours.table(shape)],
    )?;
    report.note(format!("Records of {} have {} bytes.", shape.name(), short(length.get(0))));
    Ok(())
}

/// Empties tables and queues, ours once it is delivered, so that each shape starts with new files for all: no row comes
/// into pages that rows of the other shape, or a round before, have left and that the log would hold as a whole after
/// the checkpoint. The disk holds no more than one round of one shape.
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
    world.db.batch_execute("CHECKPOINT")?;
    // Or the pages that this has logged would be told in the middle of what follows.
    Ok(world.db.batch_execute("SELECT pg_stat_force_next_flush()")?)
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
