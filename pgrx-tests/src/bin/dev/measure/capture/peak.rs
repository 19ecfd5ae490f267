//! Measures the memory of a writer whose statement captures very many rows.

use anyhow::Result;
use audit_algolia_tests::memory::most_meanwhile;

use super::super::process::size;
use super::super::report::Report;
use super::super::setup::Setup;
use super::super::spread::short;
use super::super::testbed::{backend, Testbed};
use super::prepare::prepare;
use super::shape::Shape;
use super::variant::Variant;
use crate::interrupt;

/// The variants that differ in what a statement keeps until it ends.
const VARIANTS: [Variant; 5] =
    [Variant::Bare, Variant::Ours, Variant::Row, Variant::Statement, Variant::Json];

pub(in super::super) fn measure(setup: &Setup, report: &mut Report) -> Result<()> {
    let rows = setup.scale.writer;
    let mut testbed = Testbed::start(&setup.installation, &[])?;
    let (there, hmac) = prepare(setup, &mut testbed, report)?;
    let (mut lines, mut bare) = (Vec::new(), None);
    for variant in VARIANTS.into_iter().filter(|one| there.contains(one)) {
        interrupt::check()?;
        testbed.execute(&variant.set_up(Shape::Narrow, hmac))?;
        let table = variant.table(Shape::Narrow);
        let mut db = testbed.connect()?;
        let process = backend(&mut db)?;
        let insert = Shape::Narrow.insert(&table, ("1", &rows.to_string()));
        let look = || size(process).map_or(0.0, |size| size.anonymous);
        let ((), peak) = most_meanwhile(look, || Ok(db.batch_execute(&insert)?))?;
        testbed.execute(&format!("TRUNCATE {table}"))?;
        let beyond = peak - *bare.get_or_insert(peak);
        report.keep(&format!("peak memory of a writer: {}", variant.name()), "MB (RssAnon)", &[peak]);
        lines.push(vec![variant.name().to_owned(), short(peak), short(beyond)]);
    }
    report.table(
        format!("Peak memory of a writer that inserts {rows} narrow rows in one statement"),
        "The most the session's process had for itself (RssAnon, looked at every 2 ms).",
        &["one statement with", "peak MB", "MB beyond no trigger"],
        lines,
    );
    Ok(())
}
