//! Chaos runs, for some minutes or of one seed.

use std::time::Duration;

use anyhow::Result;

use audit_algolia_tests::cargo::{self, Profile};
use audit_algolia_tests::chaos::{self, Chaos, Outcome};
use audit_algolia_tests::server::{Installation, PgConfig, INSTALLATION_VARIABLE};

use super::tally::{begin, Tally};

/// Performs chaos runs: those of a seed, or one after the other until the time is up or one has failed. Each counts as
/// a test.
pub(super) fn run(pg: &PgConfig, soak: Option<u64>, seed: Option<u64>, tally: &mut Tally) -> Result<()> {
    let started = begin("build the extension");
    let installation = Installation::prepare(pg, Profile::Dev)?;
    tally.step(started, true);
    std::env::set_var(INSTALLATION_VARIABLE, installation.root());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    let mut tell = |outcome: &Outcome| {
        println!(
            "   seed {}: {} transactions, {} rows",
            outcome.chaos.seed,
            outcome.transactions(),
            outcome.verdict.committed
        );
        tally.passed += u64::from(outcome.passed());
        tally.failed += u64::from(!outcome.passed());
    };
    let outcomes = if let Some(minutes) = soak {
        println!("== chaos for {minutes} minutes from seed {seed}");
        chaos::soak(seed, Duration::from_secs(minutes * 60), tell)
    } else {
        println!("== chaos of seed {seed}");
        [Chaos::short(seed), Chaos::long(seed)]
            .map(|chaos| chaos.run())
            .into_iter()
            .inspect(&mut tell)
            .collect()
    };
    let report = chaos::markdown(&outcomes);
    println!("\n{report}");
    let file = cargo::target_dir().join("chaos/report.md");
    std::fs::create_dir_all(cargo::target_dir().join("chaos"))?;
    std::fs::write(&file, report)?;
    println!("also in {}", file.display());
    Ok(())
}
