//! The table of what was measured, as Markdown and as JSON.

use std::time::Duration;

use serde_json::{json, Value};

use super::chart::{svg, Group};
use super::machine::Machine;
use super::spread::{ratio, short, Spread};
use crate::screen::padded;

/// One line of the table.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    what: String,
    measured: String,
    target: Option<Target>,
    ratio: Option<Spread>,
    reason: Option<String>,
    /// What the figure was computed from, and its unit.
    values: Option<(&'static str, Vec<f64>)>,
}

/// What the contract promises of a figure.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// The ratio must not be greater.
    RatioAtMost(f64),
    /// The ratio must not be less.
    RatioAtLeast(f64),
    /// The figure itself, in the unit given, must not be greater.
    AtMost(f64, &'static str, f64),
}

impl Row {
    /// A figure that is told, and not judged.
    pub(super) fn new(what: impl Into<String>, measured: impl Into<String>) -> Row {
        Row { what: what.into(), measured: measured.into(), ..Row::default() }
    }

    /// Something that could not be measured, and why.
    pub(super) fn not_measured(what: impl Into<String>, reason: &str) -> Row {
        Row { reason: Some(one_line(reason)), ..Row::new(what, "") }
    }

    /// The middle and the range of what repeats have shown.
    pub(super) fn of(what: impl Into<String>, unit: &'static str, values: &[f64]) -> Row {
        let Some(spread) = Spread::of(values) else {
            return Row::not_measured(what, "no run");
        };
        Row { values: Some((unit, values.to_vec())), ..Row::new(what, format!("{spread} {unit}")) }
    }

    /// Beside what somebody else has shown; if that is nothing, there is nothing to tell.
    #[must_use]
    pub(super) fn beside(self, whom: &str, others: &[f64]) -> Row {
        match Spread::of(others).filter(|_| self.reason.is_none()) {
            Some(spread) => Row { measured: format!("{}, {whom} {spread}", self.measured), ..self },
            None => Row::not_measured(self.what, self.reason.as_deref().unwrap_or("no run")),
        }
    }

    /// The same, with the ratio of each pair.
    #[must_use]
    pub(super) fn against(self, whom: &str, others: &[f64]) -> Row {
        let ratio = self.values.as_ref().and_then(|(_, values)| ratio(values, others));
        Row { ratio, ..self.beside(whom, others) }
    }

    /// Against what it was compared with.
    #[must_use]
    pub(super) fn ratio(self, ratio: Option<Spread>) -> Row {
        Row { ratio, ..self }
    }

    #[must_use]
    pub(super) fn target(self, target: Target) -> Row {
        Row { target: Some(target), ..self }
    }

    /// Names what keeps it from being measured, if anything does.
    #[must_use]
    pub(super) fn unless(self, reason: Option<&str>) -> Row {
        match reason {
            Some(reason) => Row { target: self.target, ..Row::not_measured(self.what, reason) },
            None => self,
        }
    }

    /// Whether it keeps the promise, where there is one.
    fn is_kept(&self) -> Option<bool> {
        let ratio = self.ratio.map(|ratio| ratio.median);
        match self.target? {
            Target::RatioAtMost(most) => ratio.map(|ratio| ratio <= most),
            Target::RatioAtLeast(least) => ratio.map(|ratio| ratio >= least),
            Target::AtMost(most, _, value) => Some(value <= most),
        }
    }

    fn verdict(&self) -> String {
        match (&self.reason, self.is_kept()) {
            (Some(reason), _) => format!("not measured: {reason}"),
            (None, Some(true)) => "ok".to_owned(),
            (None, Some(false)) => "**not**".to_owned(),
            (None, None) => String::new(),
        }
    }

    fn promise(&self) -> String {
        match self.target {
            None => String::new(),
            Some(Target::RatioAtMost(most)) => format!("≤ {most} ×"),
            Some(Target::RatioAtLeast(least)) => format!("≥ {least} ×"),
            Some(Target::AtMost(most, unit, _)) => format!("≤ {most} {unit}"),
        }
    }

    fn cells(&self) -> [String; 5] {
        [
            self.what.clone(),
            self.ratio.map(|ratio| format!("{ratio} ×")).unwrap_or_default(),
            self.promise(),
            self.verdict(),
            self.measured.clone(),
        ]
    }

    /// Of a line that nothing is promised of.
    fn plain_cells(&self) -> Vec<String> {
        let [what, ratio, _, verdict, measured] = self.cells();
        vec![what, ratio, if measured.is_empty() { verdict } else { measured }]
    }
}

/// All lines, and where they come from.
#[derive(Default)]
pub(super) struct Report {
    machine: Machine,
    scale: &'static str,
    notes: Vec<String>,
    rows: Vec<Row>,
    tables: Vec<Table>,
    groups: Vec<Group>,
    data: Vec<Value>,
    seconds: f64,
}

/// A table of its own, its first line the heads of the columns.
struct Table {
    title: String,
    legend: String,
    lines: Vec<Vec<String>>,
}

impl Report {
    pub(super) fn new(machine: Machine, scale: &'static str) -> Report {
        Report { machine, scale, ..Report::default() }
    }

    /// Adds a line, and prints it so that one sees how it goes.
    pub(super) fn add(&mut self, row: Row) {
        let [what, ratio, promise, verdict, measured] = row.cells();
        let parts: Vec<String> =
            [ratio, promise, verdict, measured].into_iter().filter(|part| !part.is_empty()).collect();
        println!("  {what}: {}", parts.join(", "));
        if let Some((unit, values)) = &row.values {
            self.keep(&what, unit, values);
        }
        self.rows.push(row);
    }

    /// Says what could not be measured, below the tables.
    pub(super) fn missing(&mut self, what: &str, reason: &str) {
        self.note(format!("Not measured: {what}: {}.", one_line(reason)));
    }

    /// Keeps what a figure was computed from.
    pub(super) fn keep(&mut self, name: &str, unit: &str, values: &[f64]) {
        self.data.push(json!({"name": name, "unit": unit, "values": values}));
    }

    /// Adds a table of its own, for figures that are compared with each other.
    pub(super) fn table(
        &mut self,
        title: impl Into<String>,
        legend: impl Into<String>,
        head: &[&str],
        lines: Vec<Vec<String>>,
    ) {
        let (title, legend) = (title.into(), legend.into());
        let lines = with_head(head, lines);
        println!("{title}\n\n{}", markdown_table(&lines));
        self.tables.push(Table { title, legend, lines });
    }

    /// Adds a group of bars to the chart.
    pub(super) fn draw(&mut self, group: Group) {
        self.groups.push(group);
    }

    /// Adds a sentence below the table.
    pub(super) fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    pub(super) fn took(&mut self, time: Duration) {
        self.seconds = time.as_secs_f64();
    }

    /// What is promised first, then what else there is, then the tables, then how it was measured.
    pub(super) fn markdown(&self) -> String {
        let (promised, others): (Vec<&Row>, Vec<&Row>) =
            self.rows.iter().partition(|row| row.target.is_some());
        let mut text =
            format!("# Measured ({}, {} s)\n\n{}\n", self.scale, short(self.seconds), self.machine);
        if !promised.is_empty() {
            let lines = promised.iter().map(|row| row.cells().to_vec()).collect();
            let lines = with_head(&["what", "ratio", "reach", "ok", "measured"], lines);
            text.push_str(&format!("\n{}", markdown_table(&lines)));
        }
        if !others.is_empty() {
            let lines = others.iter().map(|row| row.plain_cells()).collect();
            let lines = with_head(&["what", "ratio", "measured"], lines);
            text.push_str(&format!("\n## Further figures\n\n{}", markdown_table(&lines)));
        }
        for Table { title, legend, lines } in &self.tables {
            text.push_str(&format!("\n## {title}\n\n{}\n{legend}\n", markdown_table(lines)));
        }
        text.push_str("\n## How it was measured\n\n- Figures are medians, with the range in parentheses.\n");
        for note in &self.notes {
            text.push_str(&format!("- {note}\n"));
        }
        text
    }

    pub(super) fn chart(&self) -> String {
        svg("audit_algolia and alternatives, side by side", &self.machine.in_short(), &self.groups)
    }

    pub(super) fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "what": row.what, "reach": row.promise(), "measured": row.measured,
                    "ratio": row.ratio.map(|ratio| json!({
                        "median": ratio.median, "least": ratio.least, "greatest": ratio.greatest,
                    })),
                    "ok": row.is_kept(), "not_measured": row.reason,
                })
            })
            .collect();
        json!({
            "machine": self.machine.json(), "scale": self.scale, "seconds": self.seconds, "rows": rows,
            "notes": self.notes, "data": self.data,
            "tables": self.tables.iter().map(|one| json!({"title": one.title, "lines": one.lines})).collect::<Vec<_>>(),
        })
    }
}

/// The first line of an error, without what would break a table.
fn one_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().replace('|', "/");
    line.trim_end_matches('.').chars().take(160).collect()
}

fn with_head(head: &[&str], mut lines: Vec<Vec<String>>) -> Vec<Vec<String>> {
    lines.insert(0, head.iter().map(|&name| name.to_owned()).collect());
    lines
}

/// A table in Markdown with its columns aligned. The first line has the heads.
fn markdown_table(lines: &[Vec<String>]) -> String {
    let mut lines = padded(lines, |_| false);
    if let Some(head) = lines.first() {
        let rules = head.iter().map(|cell| "-".repeat(cell.chars().count())).collect();
        lines.insert(1, rules);
    }
    lines.iter().map(|cells| format!("| {} |\n", cells.join(" | "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(value: f64) -> Option<Spread> {
        Spread::of(&[value])
    }

    #[test]
    fn promises_are_judged_by_the_median() {
        let most = Row::new("a", "1").ratio(spread(2.1)).target(Target::RatioAtMost(2.2));
        let least = Row::new("a", "1").ratio(spread(0.7)).target(Target::RatioAtLeast(0.8));
        let figure = Row::new("a", "3").target(Target::AtMost(2.0, "ms", 3.0));
        assert_eq!([&most, &least, &figure].map(Row::is_kept), [Some(true), Some(false), Some(false)]);
        assert_eq!(Row::new("a", "1").is_kept(), None);
    }

    #[test]
    fn the_table_is_markdown() {
        let mut report = Report::new(Machine::default(), "quick");
        report.add(Row::new("bulk", "3.3 µs").ratio(spread(2.0)).target(Target::RatioAtMost(2.2)));
        report.add(Row::not_measured("polling", "no pip"));
        let text = report.markdown();
        let table: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(
            table,
            [
                "| what | ratio  | reach   | ok | measured |",
                "| ---- | ------ | ------- | -- | -------- |",
                "| bulk | 2.00 × | ≤ 2.2 × | ok | 3.3 µs   |",
                "| what    | ratio | measured             |",
                "| ------- | ----- | -------------------- |",
                "| polling |       | not measured: no pip |",
            ]
        );
    }

    #[test]
    fn what_was_not_measured_is_neither_kept_nor_missed() {
        let mut report = Report::new(Machine::default(), "quick");
        report.add(Row::not_measured("polling", "no pip"));
        let row = &report.json()["rows"][0];
        assert_eq!((&row["ok"], &row["not_measured"]), (&Value::Null, &json!("no pip")));
    }
}
