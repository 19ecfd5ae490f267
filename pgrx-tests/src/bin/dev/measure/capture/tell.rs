//! What capture's figures come to: the promised ratios, a table for each shape of rows, and bars.

use super::super::chart::Group;
use super::super::report::{Reach, Report, Row};
use super::super::scale::Scale;
use super::super::spread::{ratio, short, Spread};
use super::{Case, Cost, Costs, Manner, Shape, Variant, MANNERS, SHAPES};

/// What the contract promises of narrow rows.
const PROMISES: [(Manner, f64); 2] = [(Manner::Bulk, 2.2), (Manner::Loop, 1.7)];

pub(super) fn tell(costs: &Costs, scale: &Scale, variants: &[Variant], report: &mut Report) {
    for (manner, most) in PROMISES {
        let rows = manner.rows(Shape::Narrow, scale);
        let (ours, bare) = costs.beside(Shape::Narrow, manner, Variant::Ours);
        if let (Some(spread), Some(against)) = (Spread::of(&ours), Spread::of(&bare)) {
            let measured = format!("{spread} µs a row, no trigger {against}");
            report.add(
                Row::new(format!("capture, {}, {rows} rows: against no trigger", manner.name()), measured)
                    .ratio(ratio(&ours, &bare))
                    .reach(Reach::RatioAtMost(most)),
            );
        }
    }
    processor(costs, report);
    for shape in SHAPES {
        times(costs, shape, variants, report);
        log(costs, shape, variants, report);
    }
    bars(costs, variants, report);
}

impl Costs {
    /// One of the costs of a case, of each repeat.
    fn of(&self, case: Case, which: impl Fn(&Cost) -> f64) -> Vec<f64> {
        self.0.get(&case).into_iter().flatten().map(which).collect()
    }

    /// Microseconds of a variant and of no trigger.
    fn beside(&self, shape: Shape, manner: Manner, variant: Variant) -> (Vec<f64>, Vec<f64>) {
        let of = |variant| self.of((shape, manner, variant), |cost| cost.micros);
        (of(variant), of(Variant::Bare))
    }
}

/// By processor time, which another load on the machine changes less than the clock's.
fn processor(costs: &Costs, report: &mut Report) {
    for (manner, _) in PROMISES {
        let of = |variant| costs.of((Shape::Narrow, manner, variant), |cost| cost.processor);
        let (ours, bare) = (of(Variant::Ours), of(Variant::Bare));
        if let (Some(spread), Some(against)) = (Spread::of(&ours), Spread::of(&bare)) {
            let name = format!("capture, {}: processor time against no trigger", manner.name());
            report.keep(&name, "µs a row", &ours);
            let measured = format!("{spread} µs a row, no trigger {against}");
            report.add(Row::new(name, measured).ratio(ratio(&ours, &bare)));
        }
    }
}

fn head(first: &str, variants: &[Variant]) -> Vec<String> {
    std::iter::once(first).chain(variants.iter().map(|one| one.name())).map(str::to_owned).collect()
}

fn times(costs: &Costs, shape: Shape, variants: &[Variant], report: &mut Report) {
    let mut lines = vec![head("inserts", variants)];
    for manner in MANNERS {
        let mut line = vec![manner.name().to_owned()];
        for &variant in variants {
            let (micros, bare) = costs.beside(shape, manner, variant);
            report.keep(
                &format!("capture, {}, {}: {}", shape.name(), manner.name(), variant.name()),
                "µs a row",
                &micros,
            );
            line.push(match (ratio(&micros, &bare), Spread::of(&micros)) {
                (_, Some(spread)) if variant == Variant::Bare => format!("{spread} µs"),
                (Some(ratio), Some(spread)) => format!("{ratio} × · {} µs", short(spread.median)),
                _ => "–".to_owned(),
            });
        }
        lines.push(line);
    }
    report.table(
        format!("Capture of {}", shape.name()),
        "Microseconds a row and, first, their ratio to no trigger; delivery is paused.",
        lines,
    );
}

fn log(costs: &Costs, shape: Shape, variants: &[Variant], report: &mut Report) {
    let mut lines = vec![head("inserts", variants)];
    let mut most_images = 0.0_f64;
    for manner in MANNERS {
        let of = |variant| costs.of((shape, manner, variant), |cost| cost.wal);
        let bare = of(Variant::Bare);
        let mut line = vec![manner.name().to_owned()];
        for &variant in variants {
            let bytes = of(variant);
            report.keep(
                &format!("WAL of {}, {}: {}", shape.name(), manner.name(), variant.name()),
                "bytes a row",
                &bytes,
            );
            let images = costs.of((shape, manner, variant), |cost| cost.images);
            most_images = images.into_iter().fold(most_images, f64::max);
            let beyond: Vec<f64> = bytes.iter().zip(&bare).map(|(all, bare)| all - bare).collect();
            let told = if variant == Variant::Bare { Spread::of(&bytes) } else { Spread::of(&beyond) };
            line.push(match told {
                Some(told) if variant == Variant::Bare => short(told.median),
                Some(told) => format!("+{}", short(told.median)),
                None => "–".to_owned(),
            });
        }
        lines.push(line);
    }
    let legend = format!(
        "Bytes a row of the table itself, and what capture adds to them. Pages that were logged as a whole, as they are \
         after a checkpoint: at most {} a row.",
        short(most_images)
    );
    report.table(format!("WAL of {}", shape.name()), legend, lines);
}

fn bars(costs: &Costs, variants: &[Variant], report: &mut Report) {
    let cases = [
        (Shape::Narrow, Manner::Bulk, "Capture: bulk insert"),
        (Shape::Narrow, Manner::Loop, "Capture: single inserts"),
        (Shape::Wide, Manner::Bulk, "Capture: bulk insert of wide rows"),
    ];
    for (shape, manner, title) in cases {
        let mut group = Group::new(title, "time against no trigger; less is better");
        for &variant in variants.iter().filter(|one| **one != Variant::Bare) {
            let (micros, bare) = costs.beside(shape, manner, variant);
            let median = ratio(&micros, &bare).map(|ratio| ratio.median);
            group.bar(variant.name(), median, variant == Variant::Ours);
        }
        report.draw(group);
    }
}
