//! Measures what capture costs a writer: the same inserts without a trigger, with ours, and with other triggers.
//! Delivery is paused, so that only capture is measured.

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
use super::setup::Setup;
use super::spread::short;
use super::testbed::{backend, Testbed};

/// The WAL of autovacuum must not be counted, and neither must full-page images after a checkpoint. So no checkpoint
/// occurs between one [`empty`] and the next.
const SETTINGS: [(&str, &str); 2] = [("autovacuum", "off"), ("max_wal_size", "16GB")];

/// The cost of a row in one repeat.
struct Cost {
    micros: f64,
    /// Microseconds of processor time of the writer's process, or all its time where it seldom waits for its client.
    processor: f64,
    /// Bytes of WAL.
    wal: f64,
    /// Full-page images in the WAL.
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
            // Fills caches and makes plans.
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

/// The cost per row of inserting so many rows.
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

/// Reports how long the captured records are.
fn note_length(testbed: &mut Testbed, shape: Shape, report: &mut Report) -> Result<()> {
    let length = testbed.db.query_one(
        "SELECT avg(length(record))::float8 FROM audit_algolia.queue AS q
         WHERE q.source = (SELECT s.id FROM audit_algolia.source AS s WHERE s.relation = $1::text::regclass)",
        &[&Variant::Ours.table(shape)],
    )?;
    report.note(format!("Records of {} have {} bytes.", shape.name(), short(length.get(0))));
    Ok(())
}

/// Empties tables and queues once our own records are delivered.
fn clear(testbed: &mut Testbed) -> Result<()> {
    testbed.resume()?;
    testbed.wait_until_empty()?;
    testbed.pause()?;
    empty(testbed)
}

/// Empties tables and queues, so that each shape starts with new files. Otherwise rows would be inserted into pages
/// left by another shape or round, which would be written to the WAL as full-page images after the checkpoint. The disk
/// never holds more than one round of one shape.
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
    // Otherwise the images of this checkpoint would be reported later, during a measurement.
    testbed.execute("SELECT pg_stat_force_next_flush()")
}

/// Sets up what the variants need. Returns those that exist, and whether pgcrypto is installed.
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
