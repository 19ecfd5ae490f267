//! Reports the cost of capture: the promised ratios, a table for each shape of rows, and bars.

use strum::VariantArray;

use super::super::chart::Group;
use super::super::report::Report;
use super::super::row::{Row, Target};
use super::super::scale::Scale;
use super::super::spread::{middle, pairwise, ratio, short, Spread};
use super::cost::Costs;
use super::insert::Method;
use super::shape::{Shape, SHAPES};
use super::variant::Variant;

/// The limits that are promised for narrow rows.
const PROMISES: [(Method, f64); 2] = [(Method::Bulk, 2.2), (Method::Loop, 1.8)];

pub(super) fn tell(costs: &Costs, scale: &Scale, variants: &[Variant], report: &mut Report) {
    for (method, most) in PROMISES {
        let rows = method.rows(Shape::Narrow, scale);
        let of = |variant| costs.of((Shape::Narrow, method, variant), |cost| cost.micros);
        let name = format!("capture, {}, {rows} rows: against no trigger", method.name());
        let row = Row::of(name, "µs a row", &of(Variant::Ours)).against("no trigger", &of(Variant::Bare));
        report.add(row.target(Target::RatioAtMost(most)));
    }
    // Processor time is used, because other load on the machine affects it less than elapsed time.
    for (method, _) in PROMISES {
        let of = |variant| costs.of((Shape::Narrow, method, variant), |cost| cost.processor);
        let name = format!("capture, {}: processor time against no trigger", method.name());
        report.add(Row::of(name, "µs a row", &of(Variant::Ours)).against("no trigger", &of(Variant::Bare)));
    }
    for shape in SHAPES {
        times(costs, shape, variants, report);
        log(costs, shape, variants, report);
    }
    bars(costs, variants, report);
}

/// A line for each method with a field for each variant, and the headings of the columns.
fn fields(
    variants: &[Variant],
    mut field: impl FnMut(Method, Variant) -> String,
) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let head = std::iter::once("inserts").chain(variants.iter().map(|one| one.name())).collect();
    let mut line = |&method: &Method| {
        let fields = variants.iter().map(|&variant| field(method, variant));
        std::iter::once(method.name().to_owned()).chain(fields).collect()
    };
    (head, Method::VARIANTS.iter().map(&mut line).collect())
}

fn times(costs: &Costs, shape: Shape, variants: &[Variant], report: &mut Report) {
    let (head, lines) = fields(variants, |method, variant| {
        let of = |variant| costs.of((shape, method, variant), |cost| cost.micros);
        let (micros, bare) = (of(variant), of(Variant::Bare));
        let name = format!("capture, {}, {}: {}", shape.name(), method.name(), variant.name());
        report.keep(&name, "µs a row", &micros);
        match (ratio(&micros, &bare), Spread::of(&micros)) {
            (_, Some(spread)) if variant == Variant::Bare => format!("{spread} µs"),
            (Some(ratio), Some(spread)) => format!("{ratio} × · {} µs", short(spread.median)),
            _ => "–".to_owned(),
        }
    });
    report.table(
        format!("Capture of {}", shape.name()),
        "Microseconds a row and, first, their ratio to no trigger; delivery is paused.",
        &head,
        lines,
    );
}

fn log(costs: &Costs, shape: Shape, variants: &[Variant], report: &mut Report) {
    let mut most_images = 0.0_f64;
    let (head, lines) = fields(variants, |method, variant| {
        let of = |variant| costs.of((shape, method, variant), |cost| cost.wal);
        let (bytes, bare) = (of(variant), of(Variant::Bare));
        let name = format!("WAL of {}, {}: {}", shape.name(), method.name(), variant.name());
        report.keep(&name, "bytes a row", &bytes);
        let images = costs.of((shape, method, variant), |cost| cost.images);
        most_images = images.into_iter().fold(most_images, f64::max);
        match variant {
            Variant::Bare => middle(&bytes),
            _ if bytes.is_empty() => middle(&bytes),
            _ => format!("+{}", middle(&pairwise(&bytes, &bare, |all, bare| all - bare))),
        }
    });
    let legend = format!(
        "Bytes a row of the table itself, and what capture adds to them. Pages that were logged as a whole, as they are \
         after a checkpoint: at most {} a row.",
        short(most_images)
    );
    report.table(format!("WAL of {}", shape.name()), legend, &head, lines);
}

fn bars(costs: &Costs, variants: &[Variant], report: &mut Report) {
    let cases = [
        (Shape::Narrow, Method::Bulk, "Capture: bulk insert"),
        (Shape::Narrow, Method::Loop, "Capture: single inserts"),
        (Shape::Wide, Method::Bulk, "Capture: bulk insert of wide rows"),
    ];
    for (shape, method, title) in cases {
        let mut group = Group::new(title, "time against no trigger; less is better");
        for &variant in variants.iter().filter(|one| **one != Variant::Bare) {
            let of = |variant| costs.of((shape, method, variant), |cost| cost.micros);
            let median = ratio(&of(variant), &of(Variant::Bare)).map(|ratio| ratio.median);
            group.bar(variant.name(), median, variant == Variant::Ours);
        }
        report.draw(group);
    }
}
