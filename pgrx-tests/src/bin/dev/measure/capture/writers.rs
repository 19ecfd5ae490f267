//! Measures what capture costs writers that commit each row, while no worker runs. Compares it with other triggers and
//! with a lower bound for any trigger.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use audit_algolia_tests::cargo;
use audit_algolia_tests::server::PgConfig;

use super::super::chart::Group;
use super::super::pgbench::{insert_singly, Pgbench};
use super::super::report::Report;
use super::super::row::{Row, Target};
use super::super::samples::Samples;
use super::super::setup::Setup;
use super::super::spread::{compared, pairwise, ratio};
use super::super::testbed::Testbed;
use super::prepare::{empty, note_length, prepare, SETTINGS};
use super::shape::Shape;
use super::variant::Variant;
use crate::package::quietly;

/// The numbers of clients, and the share of the throughput without a trigger that is promised for each, with each of
/// [`COMMITS`].
const PROMISES: [(usize, [f64; 2]); 3] = [(1, [0.82, 0.93]), (4, [0.80, 0.93]), (16, [0.75, 0.85])];
/// Values of `synchronous_commit`.
const COMMITS: [&str; 2] = ["off", "on"];
const VARIANTS: [Variant; 5] = [Variant::Bare, Variant::Ours, Variant::Row, Variant::Json, Variant::Bound];
/// The number of clients for which waits are sampled.
const MANY: usize = 16;

/// Active writers, and how many of them wait for a lock of the extension: that of its shared memory, or the one under
/// which it reserves ids.
const WAITS: &str = "
    SELECT count(*), count(*) FILTER (WHERE wait_event_type = 'LWLock' AND wait_event LIKE 'audit_algolia%'
        OR wait_event_type = 'Lock' AND wait_event = 'object')
    FROM pg_stat_activity WHERE application_name = 'pgbench' AND state = 'active'";

type Case = (usize, &'static str, Variant);

/// Transactions per second, and bytes of WAL per transaction.
type Cost = (f64, f64);

pub(in super::super) fn measure(setup: &Setup, report: &mut Report) -> Result<()> {
    let (rounds, seconds) = setup.scale.writing;
    let mut testbed =
        Testbed::start(&setup.installation, &[SETTINGS[0], SETTINGS[1], ("audit_algolia.workers", "0")])?;
    let (mut variants, hmac) = prepare(setup, &mut testbed, report)?;
    variants.retain(|one| VARIANTS.contains(one));
    for variant in &variants {
        testbed.execute(&variant.set_up(Shape::Narrow, hmac))?;
    }
    match prepare_bound(&mut testbed) {
        Ok(()) => variants.push(Variant::Bound),
        Err(reason) => report.missing(Variant::Bound.name(), &format!("{reason:#}")),
    }
    let (mut costs, mut waits) = (Samples::new(), Samples::new());
    for round in 0..rounds {
        for (clients, commit) in PROMISES.iter().flat_map(|(clients, _)| COMMITS.map(|one| (*clients, one))) {
            empty(&mut testbed)?;
            let cases: Vec<Case> = variants.iter().map(|&variant| (clients, commit, variant)).collect();
            costs.round(&cases, (round, rounds), |(clients, commit, variant): Case| {
                let wal = testbed.wal()?;
                let table = variant.table(Shape::Narrow);
                let run = insert_singly(&testbed, &table, (clients, commit), seconds)?;
                Ok(Some((run.per_second, (testbed.wal()? - wal) / run.transactions)))
            })?;
            if clients == MANY {
                waits.push(commit, share_of_waits(&mut testbed, commit, seconds)?);
            }
        }
    }
    note_length(&mut testbed, Shape::Narrow, report)?;
    tell(&costs, &variants, report);
    for commit in COMMITS {
        let name = format!("waits for locks of ours, {MANY} clients, synchronous_commit {commit}");
        report.add(Row::of(name, "% of looks at active writers", waits.all(commit)).at_most(1.0));
    }
    Ok(())
}

/// Measured in a run of its own, so that sampling does not slow the others down.
fn share_of_waits(testbed: &mut Testbed, commit: &str, seconds: u64) -> Result<f64> {
    let table = Variant::Ours.table(Shape::Narrow);
    let pgbench = Pgbench::start(testbed, &table, (MANY, commit), seconds)?;
    let (mut all, mut waiting) = (0, 0);
    pgbench.finish(|| {
        let look = testbed.db.query_one(WAITS, &[])?;
        (all, waiting) = (all + look.get::<_, i64>(0), waiting + look.get::<_, i64>(1));
        Ok(())
    })?;
    Ok(100.0 * waiting as f64 / all.max(1) as f64)
}

/// Builds the trigger of `bound.c` with PGXS, and creates its queue, which has only a primary key, and the row that it
/// copies, which is one of ours.
fn prepare_bound(testbed: &mut Testbed) -> Result<()> {
    let folder = cargo::target_dir().join("measure/bound");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("bound.c"), include_str!("bound.c"))?;
    fs::write(
        folder.join("Makefile"),
        "MODULES = bound\nPGXS := $(shell $(PG_CONFIG) --pgxs)\ninclude $(PGXS)\n",
    )?;
    let mut make = Command::new("make");
    make.arg("-C").arg(&folder).arg(format!("PG_CONFIG={}", PgConfig::find()?.path().display()));
    quietly(make.arg("with_llvm=no")).context("make and a C compiler do not build the trigger")?;
    // The server's user may not be able to enter the target folder.
    let module = testbed.cluster.data_dir().join("bound.so");
    fs::copy(folder.join("bound.so"), &module)?;
    testbed.make_queue_alike("bound_queue")?;
    testbed.execute(&format!(
        "DO $$ DECLARE other regclass; BEGIN
             FOR other IN SELECT indexrelid FROM pg_index
                 WHERE indrelid = 'bound_queue'::regclass AND NOT indisprimary LOOP
                 EXECUTE format('DROP INDEX %s', other);
             END LOOP;
         END $$;
         {};
         CREATE TABLE bound_row AS SELECT * FROM audit_algolia.queue LIMIT 1;
         CREATE FUNCTION insert_alike() RETURNS trigger LANGUAGE c AS '{}';
         {}",
        Shape::Narrow.insert(&Variant::Ours.table(Shape::Narrow), ("1", "1")),
        module.display(),
        Variant::Bound.set_up(Shape::Narrow, false),
    ))
}

fn tell(costs: &Samples<Case, Cost>, variants: &[Variant], report: &mut Report) {
    let head: Vec<&str> = std::iter::once("writers").chain(variants.iter().map(|one| one.name())).collect();
    let mut lines = Vec::new();
    for (clients, promised) in PROMISES {
        for (commit, least) in COMMITS.into_iter().zip(promised) {
            let of = |variant| costs.of((clients, commit, variant), |cost| cost.0);
            let plural = if clients == 1 { "" } else { "s" };
            let case = format!("{clients} client{plural}, synchronous_commit {commit}");
            let name = format!("single-row transactions, {case}: against no trigger");
            let row =
                Row::of(name, "transactions/s", &of(Variant::Ours)).against("no trigger", &of(Variant::Bare));
            report.add(row.target(Target::RatioAtLeast(least)));
            for variant in variants {
                let name = format!("single-row transactions, {case}: {}", variant.name());
                report.keep(&name, "transactions/s", &of(*variant));
            }
            let fields = variants.iter().map(|&variant| compared(&of(variant), &of(Variant::Bare)));
            lines.push(std::iter::once(case).chain(fields).collect());
        }
    }
    report.table(
        "Single-row transactions",
        "Transactions a second of pgbench over a socket, with prepared statements, and first their ratio to no trigger; no \
         worker runs. The C trigger does nothing but insert a row of the same bytes into a queue with one index: no trigger \
         that captures costs less.",
        &head,
        lines,
    );
    let wal = |variant| costs.of((1, "off", variant), |cost| cost.1);
    let beyond = pairwise(&wal(Variant::Ours), &wal(Variant::Bare), |ours, bare| ours - bare);
    let name = "WAL of a captured row beyond the bare insert, a transaction each";
    report.add(Row::of(name, "bytes", &beyond).beside("bare insert", &wal(Variant::Bare)).at_most(330.0));
    let mut group = Group::new(
        format!("Single-row transactions, {MANY} clients"),
        "transactions/s against no trigger; more is better",
    );
    for &variant in variants.iter().filter(|one| **one != Variant::Bare) {
        let of = |variant| costs.of((MANY, "off", variant), |cost| cost.0);
        let median = ratio(&of(variant), &of(Variant::Bare)).map(|one| one.median);
        group.bar(variant.name(), median, variant == Variant::Ours);
    }
    report.draw(group);
}
