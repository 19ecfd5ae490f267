//! Measures what capture costs a writer: the same inserts without a trigger, with ours, and with other triggers.
//! Delivery is paused, so that only capture is measured.

mod cost;
mod insert;
pub(super) mod peak;
mod prepare;
mod report;
mod shape;
mod variant;
pub(super) mod writers;

use anyhow::Result;
use strum::VariantArray;

use self::cost::{Cost, Costs};
use self::insert::{Method, Writer};
use self::prepare::{empty, note_length, prepare, SETTINGS};
use self::shape::SHAPES;
use super::process::seconds_of;
use super::report::Report;
use super::setup::Setup;
use super::testbed::{backend, Testbed};

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

/// Empties tables and queues once our own records are delivered.
fn clear(testbed: &mut Testbed) -> Result<()> {
    testbed.resume()?;
    testbed.wait_until_empty()?;
    testbed.pause()?;
    empty(testbed)
}
