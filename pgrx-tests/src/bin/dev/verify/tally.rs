//! Runs steps and tests, and counts how many have passed.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

/// How many tests have passed and failed so far, and how many could not be run. A step that is not a test counts as one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
    /// Why tests were skipped, in their own words.
    pub(super) reasons: BTreeSet<String>,
}

/// Announces a step.
pub(super) fn begin(name: &str) -> Instant {
    println!("== {name}");
    Instant::now()
}

impl Tally {
    /// Ends a step that counts as one.
    pub(super) fn step(&mut self, started: Instant, passed: bool) {
        self.passed += u64::from(passed);
        self.failed += u64::from(!passed);
        end(started, passed);
    }

    /// Runs a command that counts as one.
    pub(super) fn run(&mut self, name: &str, command: &mut Command) {
        let started = begin(name);
        let passed = match command.status() {
            Ok(status) => status.success(),
            Err(error) => {
                eprintln!("cargo could not be started: {error}");
                false
            }
        };
        self.step(started, passed);
    }

    /// Runs tests and counts each. A run that fails without a failed test, because it did not build or its process
    /// died, counts as one failure. Returns the counts of this run.
    pub(super) fn test(&mut self, name: &str, command: &mut Command) -> Tally {
        let started = begin(name);
        let mut seen = Tally::default();
        let succeeded = seen.watch(command).unwrap_or_else(|error| {
            eprintln!("{error:#}");
            false
        });
        if !succeeded && seen.failed == 0 {
            seen.failed = 1;
        }
        self.add(&seen);
        end(started, succeeded);
        seen
    }

    pub(super) fn add(&mut self, other: &Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.reasons.extend(other.reasons.iter().cloned());
    }

    /// Prints the last lines: why tests were skipped, and the counts.
    pub(super) fn print(&self) {
        self.reasons.iter().for_each(|reason| println!("{reason}"));
        print!("{} passed, {} failed", self.passed, self.failed);
        match self.skipped {
            0 => println!(),
            skipped => println!(", {skipped} skipped"),
        }
    }

    fn watch(&mut self, command: &mut Command) -> Result<bool> {
        let mut child = command.stdout(Stdio::piped()).spawn().context("cargo could not be started")?;
        let output = child.stdout.take().context("cargo has no output")?;
        let mut terminal = std::io::stdout();
        for line in BufReader::new(output).split(b'\n') {
            let line = line?;
            terminal.write_all(&line)?;
            terminal.write_all(b"\n")?;
            self.count(&String::from_utf8_lossy(&line));
        }
        Ok(child.wait()?.success())
    }

    /// Adds the counts of a line such as `test result: ok. 3 passed; 0 failed; …`, or the reason of one that begins with
    /// `skipped: `.
    fn count(&mut self, line: &str) {
        if line.starts_with("skipped: ") {
            self.reasons.insert(line.to_owned());
        }
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        let number = |what: &str| -> u64 {
            let part = result.split(['.', ';']).find_map(|part| part.trim().strip_suffix(what));
            part.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
        };
        self.passed += number(" passed");
        self.failed += number(" failed");
        self.skipped += number(" ignored");
    }
}

fn end(started: Instant, passed: bool) {
    let word = if passed { "ok" } else { "FAILED" };
    println!("   {word}, {:.1} s", started.elapsed().as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_result_lines_only() {
        let mut tally = Tally::default();
        for line in [
            "test one ... ok",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.18s",
            "skipped: the one; nobody knows why",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1.00s",
            "a test result: ok. 5 passed",
        ] {
            tally.count(line);
        }
        let reasons = BTreeSet::from(["skipped: the one; nobody knows why".to_owned()]);
        assert_eq!(tally, Tally { passed: 15, failed: 2, skipped: 1, reasons });
    }

    #[test]
    fn a_run_that_dies_is_one_failure() {
        let mut tally = Tally::default();
        tally.test("nothing", Command::new("sh").args(["-c", "exit 3"]));
        assert_eq!(tally, Tally { failed: 1, ..Tally::default() });
    }
}
