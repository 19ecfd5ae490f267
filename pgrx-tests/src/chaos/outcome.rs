//! The outcome of chaos runs, and the report on it as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::check::Verdict;

/// The parameters of a run. The seed determines everything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chaos {
    pub seed: u64,
    pub writers: usize,
    /// Transactions of each writer.
    pub steps: usize,
}

/// The outcome of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub chaos: Chaos,
    pub broken_sessions: u64,
    pub troubles: BTreeMap<&'static str, u64>,
    pub took: Duration,
    /// The time from the end of all trouble until the queue was empty.
    pub recovery: Duration,
    pub verdict: Verdict,
}

impl Outcome {
    /// Whether nothing went wrong.
    pub fn passed(&self) -> bool {
        self.verdict.faults.is_empty()
    }

    /// How many transactions were tried.
    pub fn transactions(&self) -> u64 {
        (self.chaos.writers * self.chaos.steps) as u64
    }
}

/// A table with one line for each run, and totals.
pub fn markdown(outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "| seed | transactions | to be told | of them updates and deletions | of them poison | accepted by the index | of them again | broken sessions | recovery s | took s | result |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let mut troubles: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut rows, mut longest, mut took) = (0, Duration::ZERO, Duration::ZERO);
    for one in outcomes {
        let result = if one.passed() { "equal" } else { "**DIFFERENT**" };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {:.1} | {:.1} | {result} |",
            one.chaos.seed,
            one.transactions(),
            one.verdict.committed,
            one.verdict.changes,
            one.verdict.dead,
            one.verdict.arrived,
            one.verdict.repeated,
            one.broken_sessions,
            one.recovery.as_secs_f64(),
            one.took.as_secs_f64(),
        );
        for (kind, count) in &one.troubles {
            *troubles.entry(kind).or_default() += count;
        }
        rows += one.verdict.committed;
        took += one.took;
        longest = longest.max(one.recovery);
    }
    let made: Vec<String> = troubles.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    let _ = writeln!(
        text,
        "\n{} runs, {rows} rows, {:.0} s; longest recovery {:.1} s. Trouble: {}.",
        outcomes.len(),
        took.as_secs_f64(),
        longest.as_secs_f64(),
        made.join(", ")
    );
    for one in outcomes.iter().filter(|one| !one.passed()) {
        let _ = writeln!(text, "\nSeed {}:\n- {}", one.chaos.seed, one.verdict.faults.join("\n- "));
    }
    text
}
