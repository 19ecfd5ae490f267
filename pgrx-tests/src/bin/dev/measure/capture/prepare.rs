//! Sets up the tables, triggers and queues that are compared, and empties them.

use anyhow::Result;

use super::super::report::Report;
use super::super::rows::POOL;
use super::super::setup::Setup;
use super::super::spread::short;
use super::super::testbed::Testbed;
use super::shape::Shape;
use super::variant::{Variant, VARIANTS};

/// The WAL of autovacuum must not be counted, and neither must full-page images after a checkpoint. So no checkpoint
/// occurs between one [`empty`] and the next.
pub(super) const SETTINGS: [(&str, &str); 2] = [("autovacuum", "off"), ("max_wal_size", "16GB")];

/// Sets up what the variants need. Returns those that exist, and whether pgcrypto is installed.
pub(super) fn prepare(
    setup: &Setup,
    testbed: &mut Testbed,
    report: &mut Report,
) -> Result<(Vec<Variant>, bool)> {
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

/// Empties tables and queues, so that each shape starts with new files. Otherwise rows would be inserted into pages
/// left by another shape or round, which would be written to the WAL as full-page images after the checkpoint. The disk
/// never holds more than one round of one shape.
pub(super) fn empty(testbed: &mut Testbed) -> Result<()> {
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

/// Reports how long the captured records are.
pub(super) fn note_length(testbed: &mut Testbed, shape: Shape, report: &mut Report) -> Result<()> {
    let length = testbed.db.query_one(
        "SELECT avg(length(record))::float8 FROM audit_algolia.queue AS q
         WHERE q.source = (SELECT s.id FROM audit_algolia.source AS s WHERE s.relation = $1::text::regclass)",
        &[&Variant::Ours.table(shape)],
    )?;
    report.note(format!("Records of {} have {} bytes.", shape.name(), short(length.get(0))));
    Ok(())
}
