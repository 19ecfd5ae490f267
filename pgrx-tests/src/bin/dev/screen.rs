//! How the commands print: headings, tables and progress bars, on a terminal or into a log.
//!
//! A log gets no control characters and no line twice. In a log, a progress bar writes a new line at each tenth.

use std::io::{stdout, IsTerminal, Write};
use std::sync::mpsc::{channel, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// The maximum width of a line.
pub(crate) const WIDTH: usize = 100;

const BAR: usize = 40;

/// A heading with its number.
pub(crate) fn heading(number: usize, text: &str) {
    println!("\n{number}. {text}");
    println!("{}", "─".repeat(text.chars().count() + 3));
}

/// Runs something long. If it takes more than a second, shows that it is running: on a terminal in a line that counts
/// the seconds, otherwise once and then twice a minute.
pub(crate) fn while_waiting<T: Send>(what: &str, work: impl FnOnce() -> T + Send) -> T {
    let terminal = stdout().is_terminal();
    let started = Instant::now();
    thread::scope(|scope| {
        let (done, ended) = channel::<()>();
        scope.spawn(move || {
            let mut pause = Duration::from_secs(1);
            let mut shown = false;
            while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let seconds = started.elapsed().as_secs();
                shown = true;
                if terminal {
                    print!("\r{what} … {seconds} s");
                    flush();
                } else {
                    println!("{what} … {seconds} s");
                    pause = Duration::from_secs(30);
                }
            }
            if shown && terminal {
                print!("\r{}\r", " ".repeat(what.chars().count() + 12));
                flush();
            }
        });
        let result = work();
        drop(done);
        result
    })
}

/// A progress bar.
pub(crate) struct Bar {
    label: &'static str,
    total: u64,
    shown: Option<Instant>,
    tenth: u64,
    terminal: bool,
}

impl Bar {
    pub(crate) fn new(label: &'static str, total: u64) -> Bar {
        Bar { label, total, shown: None, tenth: 0, terminal: stdout().is_terminal() }
    }

    /// Shows the progress, with a remark: often on a terminal, otherwise at each tenth.
    pub(crate) fn show(&mut self, done: u64, remark: &str) {
        let tenth = done * 10 / self.total.max(1);
        let recent = self.shown.is_some_and(|at| at.elapsed() < Duration::from_millis(40));
        let wanted = if self.terminal { !recent || done >= self.total } else { tenth > self.tenth };
        if wanted {
            self.shown = Some(Instant::now());
            self.tenth = tenth;
            let line = bar(self.label, done, self.total, remark);
            if self.terminal {
                print!("\r{line:<width$}", width = WIDTH - 1);
                flush();
            } else {
                println!("{}", line.trim_end());
            }
        }
    }

    /// Ends the line, so that something else can be printed.
    pub(crate) fn rest(&mut self) {
        if self.terminal && self.shown.take().is_some() {
            println!();
        }
    }
}

fn bar(label: &str, done: u64, total: u64, remark: &str) -> String {
    let filled = (BAR as u64 * done.min(total) / total.max(1)) as usize;
    format!(
        "  {label} [{}{}] {} of {}  {remark}",
        "#".repeat(filled),
        ".".repeat(BAR - filled),
        grouped(done),
        grouped(total)
    )
}

/// A bar chart: for each line a name, a bar and a number.
pub(crate) fn chart<S: AsRef<str>>(rows: &[(S, u64)]) {
    let widest = rows.iter().map(|(name, _)| name.as_ref().chars().count()).max();
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    for (name, count) in rows {
        let length = (*count as usize * BAR).div_ceil(most as usize);
        let line = format!(
            "  {:<width$}  {:>8}  {}",
            name.as_ref(),
            grouped(*count),
            "▇".repeat(length),
            width = widest.unwrap_or(0)
        );
        println!("{}", line.trim_end());
    }
}

/// Prints a table. Columns that contain only numbers are aligned to the right.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) {
    print!("{}", table_text(head, rows));
}

fn table_text(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|&title| title.to_owned()).collect();
    let is_number = |text: &String| {
        text.starts_with(|first: char| first.is_ascii_digit())
            && text.chars().all(|one| one.is_ascii_digit() || ",.".contains(one))
    };
    let numbers = |column: usize| rows.iter().filter_map(|row| row.get(column)).all(is_number);
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(rows.iter().cloned()).collect();
    let mut lines = padded(&lines, numbers);
    let rules = lines[0].iter().map(|cell| "─".repeat(cell.chars().count())).collect();
    lines.insert(1, rules);
    lines.iter().map(|cells| format!("  {}\n", cells.join("  ").trim_end())).collect()
}

/// The cells of lines, padded to the width of their columns; some columns are aligned to the right.
pub(crate) fn padded(lines: &[Vec<String>], is_right: impl Fn(usize) -> bool) -> Vec<Vec<String>> {
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let pad = |(column, cell): (usize, &String)| match (width(column), is_right(column)) {
        (width, true) => format!("{cell:>width$}"),
        (width, false) => format!("{cell:<width$}"),
    };
    lines.iter().map(|line| line.iter().enumerate().map(pad).collect()).collect()
}

/// A number with grouped thousands.
pub(crate) fn grouped(number: u64) -> String {
    match number / 1000 {
        0 => number.to_string(),
        more => format!("{},{:03}", grouped(more), number % 1000),
    }
}

/// Wraps a text at spaces, so that each line fits with its indent.
pub(crate) fn wrapped(text: &str, indent: usize) -> String {
    let margin = " ".repeat(indent);
    let (mut out, mut used) = (margin.clone(), 0);
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > 0 && indent + used + 1 + length > WIDTH {
            out.push_str(&format!("\n{margin}"));
            used = 0;
        }
        let gap = if used > 0 { " " } else { "" };
        out.push_str(&format!("{gap}{word}"));
        used += gap.len() + length;
    }
    out
}

fn flush() {
    let _ = stdout().flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_thousands() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn aligns_numbers_to_the_right() {
        let rows = vec![vec!["a".to_owned(), "5".to_owned()], vec!["long".to_owned(), "1,000".to_owned()]];
        assert_eq!(
            table_text(&["name", "rows"], &rows),
            "  name   rows\n  ────  ─────\n  a         5\n  long  1,000\n"
        );
    }

    #[test]
    fn wraps_between_words() {
        let text = wrapped(&"word ".repeat(60), 4);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH && line.starts_with("    word")));
    }

    #[test]
    fn a_bar_fills_up() {
        assert_eq!(
            bar("queued", 5, 10, ""),
            format!("  queued [{}{}] 5 of 10  ", "#".repeat(20), ".".repeat(20))
        );
    }
}
