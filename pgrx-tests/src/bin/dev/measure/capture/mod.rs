//! What capture costs a writer: the same inserts with no trigger, with ours, and with other people's triggers.
//! Delivery is paused, so that nothing else is measured.

mod insert;
pub(super) mod peak;
mod report;
mod shape;
mod variant;
pub(super) mod writers;

use anyhow::Result;
use strum::VariantArray;

use self::insert::{Method, Writer};
use self::shape::{Shape, SHAPES};
use self::variant::{Variant, VARIANTS};
use super::process::seconds_of;
use super::report::Report;
use super::rows::POOL;
use super::samples::Samples;
use super::spread::short;
use super::testbed::{backend, Testbed};
use super::Setup;

/// What autovacuum logs is nobody's cost here, and neither are the pages that are logged as a whole after a checkpoint:
/// there is none from one [`empty`] to the next.
const SETTINGS: [(&str, &str); 2] = [("autovacuum", "off"), ("max_wal_size", "16GB")];

/// What a row has cost in one repeat.
struct Cost {
    micros: f64,
    /// Microseconds of the writer's process: all there are, where it seldom waits for its client.
    processor: f64,
    /// Bytes.
    wal: f64,
    /// Pages in the log as a whole.
    images: f64,
}

type Costs = Samples<(Shape, Method, Variant), Cost>;

pub(super) fn measure(setup: &Setup, report: &mut Report) -> Result<()> {
    let scale = &setup.scale;
    let mut testbed = Testbed::start(&setup.installation, &SETTINGS)?;
    let (variants, hmac) = prepare(setup, &mut testbed, report)?;
    let mut writer = Writer::new(&mut testbed, &SHAPES, scale)?;
    for shape in SHAPES {
        for variant in &variants {
            testbed.execute(&variant.set_up(shape, hmac))?;
            // Caches are filled, plans are made.
            writer.insert(Method::Loop, shape, &variant.table(shape), 500)?;
        }
    }
    let mut costs = Costs::new();
    for round in 0..scale.repeats {
        for shape in SHAPES {
            clear(&mut testbed)?;
            for &method in Method::VARIANTS {
                let rows = method.rows(shape, scale);
                let cases: Vec<_> = variants.iter().map(|&variant| (shape, method, variant)).collect();
                costs.round(&cases, (round, scale.repeats), |(_, _, variant)| {
                    let table = variant.table(shape);
                    cost(&mut testbed, &mut writer, rows, |writer| writer.insert(method, shape, &table, rows))
                        .map(Some)
                })?;
            }
            if round == 0 {
                note_length(&mut testbed, shape, report)?;
            }
        }
    }
    let settings = SETTINGS.map(|(name, value)| format!("{name} = {value}")).join(" and ");
    report.note(format!(
        "Capture is measured with {settings}; tables and queues are new for each shape of rows."
    ));
    report::tell(&costs, scale, &variants, report);
    Ok(())
}

/// What it costs, by the row, to insert so many rows.
fn cost(
    testbed: &mut Testbed,
    writer: &mut Writer,
    rows: u64,
    insert: impl FnOnce(&mut Writer) -> Result<()>,
) -> Result<Cost> {
    let (images, wal) = (writer.images()?, testbed.wal()?);
    let (elapsed, cpu) = seconds_of(backend(&mut writer.db)?, || insert(writer))?;
    let (wal, images) = (testbed.wal()? - wal, writer.images()? - images);
    let rows = rows as f64;
    Ok(Cost {
        micros: elapsed * 1e6 / rows,
        processor: cpu * 1e6 / rows,
        wal: wal / rows,
        images: images / rows,
    })
}

/// How long the records are that have been captured.
fn note_length(testbed: &mut Testbed, shape: Shape, report: &mut Report) -> Result<()> {
    let length = testbed.db.query_one(
        "SELECT avg(length(record))::float8 FROM audit_algolia.queue AS q
         WHERE q.source = (SELECT s.id FROM audit_algolia.source AS s WHERE s.relation = $1::text::regclass)",
        &[&Variant::Ours.table(shape)],
    )?;
    report.note(format!("Records of {} have {} bytes.", shape.name(), short(length.get(0))));
    Ok(())
}

/// Empties tables and queues once ours is delivered.
fn clear(testbed: &mut Testbed) -> Result<()> {
    testbed.resume()?;
    testbed.wait_until_empty()?;
    testbed.pause()?;
    empty(testbed)
}

/// Empties tables and queues, so that each shape starts with new files for all: no row comes
/// into pages that rows of the other shape, or a round before, have left and that the log would hold as a whole after
/// the checkpoint. The disk holds no more than one round of one shape.
fn empty(testbed: &mut Testbed) -> Result<()> {
    let filled = testbed.db.query_one(
        "SELECT string_agg(format('%I.%I', n.nspname, c.relname), ', ')
         FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE c.relkind = 'r' AND (n.nspname = 'public' AND c.relname NOT IN ('pool', 'bound_row')
                OR n.nspname = 'pgq' AND c.relname ~ '^event_[0-9]+_[0-9]+$')",
        &[],
    )?;
    testbed.execute(&format!("TRUNCATE audit_algolia.queue, {}", filled.get::<_, String>(0)))?;
    testbed.execute("CHECKPOINT")?;
    // Or the pages that this has logged would be told in the middle of what follows.
    testbed.execute("SELECT pg_stat_force_next_flush()")
}

/// What the variants need. Tells which there are, and whether pgcrypto is there.
fn prepare(setup: &Setup, testbed: &mut Testbed, report: &mut Report) -> Result<(Vec<Variant>, bool)> {
    testbed.pause()?;
    testbed.execute(POOL)?;
    let hmac = testbed.execute("CREATE EXTENSION pgcrypto").is_ok();
    report.note(if hmac {
        "The PL/pgSQL triggers make their pseudonyms with pgcrypto's hmac."
    } else {
        "pgcrypto is missing here: the PL/pgSQL triggers make their pseudonyms with a plain sha256."
    });
    let pgq = match &setup.packages.pgq {
        Ok(_) => testbed.execute("CREATE EXTENSION pgq").map_err(|error| error.to_string()),
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
