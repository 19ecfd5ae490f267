//! The results of each suite on each version, as a table.

use std::time::Duration;

use super::tally::Tally;

/// The cells with their version and suite, in the order in which they were added.
#[derive(Default)]
pub(super) struct Matrix(Vec<(String, String, Cell)>);

/// The results of one suite on one version.
#[derive(Clone)]
pub(super) struct Cell {
    pub(super) seen: Tally,
    pub(super) took: Duration,
}

impl Matrix {
    pub(super) fn add(&mut self, version: &str, suite: &str, cell: Cell) {
        self.0.push((version.to_owned(), suite.to_owned(), cell));
    }

    /// A row for each suite, a column for each version, and a row of sums.
    pub(super) fn markdown(&self) -> String {
        let versions = distinct(self.0.iter().map(|(version, ..)| version.as_str()));
        let suites = distinct(self.0.iter().map(|(_, suite, _)| suite.as_str()));
        let mut text =
            format!("| suite | {} |\n|---|{}\n", versions.join(" | "), "---|".repeat(versions.len()));
        for suite in suites {
            let cells = versions.iter().map(|version| {
                let of = self.0.iter().find(|(v, s, _)| v == version && s == suite);
                of.map_or_else(|| "–".to_owned(), |(.., cell)| cell.text())
            });
            text.push_str(&format!("| {suite} | {} |\n", cells.collect::<Vec<_>>().join(" | ")));
        }
        let sums = versions.iter().map(|version| {
            let mut sum = Cell { seen: Tally::default(), took: Duration::ZERO };
            for (_, _, cell) in self.0.iter().filter(|(v, ..)| v == version) {
                sum.seen.add(&cell.seen);
                sum.took += cell.took;
            }
            sum.text()
        });
        text.push_str(&format!("| all | {} |\n", sums.collect::<Vec<_>>().join(" | ")));
        text
    }
}

impl Cell {
    fn text(&self) -> String {
        let failed = match self.seen.failed {
            0 => String::new(),
            failed => format!(", **{failed} failed**"),
        };
        format!("{} passed{failed}, {:.1} min", self.seen.passed, self.took.as_secs_f64() / 60.0)
    }
}

fn distinct<'a>(all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for one in all {
        if !seen.contains(&one) {
            seen.push(one);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_lines_and_versions_are_columns() {
        let cell = |passed, failed, seconds| Cell {
            seen: Tally { passed, failed, ..Tally::default() },
            took: Duration::from_secs(seconds),
        };
        let mut matrix = Matrix::default();
        matrix.add("15.8", "tidy", cell(20, 0, 6));
        matrix.add("15.8", "capture", cell(200, 0, 60));
        matrix.add("18.6", "capture", cell(204, 1, 120));
        assert_eq!(
            matrix.markdown(),
            "| suite | 15.8 | 18.6 |\n|---|---|---|\n\
             | tidy | 20 passed, 0.1 min | – |\n\
             | capture | 200 passed, 1.0 min | 204 passed, **1 failed**, 2.0 min |\n\
             | all | 220 passed, 1.1 min | 204 passed, **1 failed**, 2.0 min |\n"
        );
    }
}
