//! The table of what was measured, as Markdown and as JSON.

use std::time::Duration;

use serde_json::{json, Value};

use super::chart::{svg, Group};
use super::machine::Machine;
use super::row::{one_line, Row};
use super::spread::short;
use crate::screen::padded;

/// All lines, and where they were measured.
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

/// A separate table. Its first line holds the headings.
struct Table {
    title: String,
    legend: String,
    lines: Vec<Vec<String>>,
}

impl Report {
    pub(super) fn new(machine: Machine, scale: &'static str) -> Report {
        Report { machine, scale, ..Report::default() }
    }

    /// Adds a line and prints it, to show progress.
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

    /// Says, below the tables, what could not be measured.
    pub(super) fn missing(&mut self, what: &str, reason: &str) {
        self.note(format!("Not measured: {what}: {}.", one_line(reason)));
    }

    /// Keeps the values from which a figure was computed.
    pub(super) fn keep(&mut self, name: &str, unit: &str, values: &[f64]) {
        self.data.push(json!({"name": name, "unit": unit, "values": values}));
    }

    /// Adds a separate table, for figures that are compared with each other.
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

    /// First what is promised, then the other figures, the separate tables, and how everything was measured.
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

fn with_head(head: &[&str], mut lines: Vec<Vec<String>>) -> Vec<Vec<String>> {
    lines.insert(0, head.iter().map(|&name| name.to_owned()).collect());
    lines
}

/// A Markdown table with aligned columns. The first line holds the headings.
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
    use super::super::row::Target;
    use super::super::spread::Spread;
    use super::*;

    #[test]
    fn the_table_is_markdown() {
        let mut report = Report::new(Machine::default(), "quick");
        report.add(Row::new("bulk", "3.3 µs").ratio(Spread::of(&[2.0])).target(Target::RatioAtMost(2.2)));
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
