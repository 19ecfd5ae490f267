//! What capture costs a writer: the same inserts with no trigger, with ours, and with triggers in PL/pgSQL.
//! Delivery is paused, so that nothing else is measured.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use postgres::Client;

use audit_algolia_tests::server::Installation;

use super::capture_sql::{Variant, VARIANTS};
use super::process::fine_cpu_seconds;
use super::report::{Reach, Report, Row};
use super::spread::{ratio, short, Spread};
use super::world::{values, wal, World, COLUMNS};
use super::Scale;
use crate::interrupt;

/// How rows are inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Manner {
    Bulk,
    Loop,
    Client,
}

/// Microseconds and bytes of log a row, by manner and variant.
#[derive(Default)]
struct Costs {
    micros: HashMap<(Manner, &'static str), Vec<f64>>,
    processor: HashMap<(Manner, &'static str), Vec<f64>>,
    wal: HashMap<(Manner, &'static str), Vec<f64>>,
}

pub(super) fn measure(installation: &Arc<Installation>, scale: &Scale, report: &mut Report) -> Result<()> {
    let mut world = World::start(installation)?;
    world.pause()?;
    let db = &mut world.db;
    let hmac = db.batch_execute("CREATE EXTENSION pgcrypto").is_ok();
    for variant in VARIANTS {
        db.batch_execute(&variant.set_up(hmac))?;
        // Caches are filled, plans are made.
        insert(db, Manner::Loop, variant, 500)?;
    }
    let backend = World::backend(db)?;
    let mut costs = Costs::default();
    for round in 0..scale.repeats {
        for manner in [Manner::Bulk, Manner::Loop, Manner::Client] {
            for place in 0..VARIANTS.len() {
                interrupt::check()?;
                // Each variant comes first in its turn.
                let variant = VARIANTS[(place + round) % VARIANTS.len()];
                let rows = match manner {
                    Manner::Bulk => scale.bulk,
                    Manner::Loop => scale.singles,
                    Manner::Client => scale.client,
                };
                let (before, cpu) = (wal(db)?, fine_cpu_seconds(backend)?);
                let started = Instant::now();
                insert(db, manner, variant, rows)?;
                let micros = started.elapsed().as_secs_f64() * 1e6;
                let cpu = (fine_cpu_seconds(backend)? - cpu) * 1e6;
                let key = (manner, variant.table());
                costs.processor.entry(key).or_default().push(cpu / rows as f64);
                costs.micros.entry(key).or_default().push(micros / rows as f64);
                costs.wal.entry(key).or_default().push((wal(db)? - before) / rows as f64);
            }
        }
    }
    tell(&costs, scale, hmac, report);
    let row = db.query_one("SELECT avg(length(record))::float8 FROM audit_algolia.queue", &[])?;
    report.note(format!("Records have {} bytes.", short(row.get(0))));
    Ok(())
}

fn insert(db: &mut Client, manner: Manner, variant: Variant, rows: u64) -> Result<()> {
    let table = variant.table();
    match manner {
        Manner::Bulk => db.batch_execute(&format!(
            "INSERT INTO {table} ({COLUMNS}) SELECT {} FROM generate_series(1, {rows}) AS i",
            values("i")
        ))?,
        Manner::Loop => db.batch_execute(&format!(
            "DO $$ BEGIN
                 FOR i IN 1..{rows} LOOP
                     INSERT INTO {table} ({COLUMNS}) VALUES ({});
                 END LOOP;
             END $$",
            values("i")
        ))?,
        Manner::Client => {
            let mut transaction = db.transaction()?;
            let statement = transaction
                .prepare(&format!("INSERT INTO {table} ({COLUMNS}) VALUES ({})", values("$1::bigint")))?;
            for i in 1..=rows as i64 {
                transaction.execute(&statement, &[&i])?;
            }
            transaction.commit()?;
        }
    }
    Ok(())
}

fn tell(costs: &Costs, scale: &Scale, hmac: bool, report: &mut Report) {
    let manners = [
        (Manner::Bulk, format!("bulk insert, {} rows", scale.bulk), Some(2.2)),
        (Manner::Loop, "single inserts, loop in the server".to_owned(), Some(1.7)),
        (Manner::Client, "single inserts, from a client, one transaction".to_owned(), None),
    ];
    for (manner, what, reach) in manners {
        let of = |variant: Variant| costs.micros.get(&(manner, variant.table())).cloned().unwrap_or_default();
        let bare = of(Variant::Bare);
        for variant in VARIANTS {
            let micros = of(variant);
            let Some(spread) = Spread::of(&micros) else {
                continue;
            };
            let name = format!("{what}: {}", variant.name());
            report.keep(&name, "µs a row", &micros);
            let mut row = Row::new(name, format!("{spread} µs a row"));
            if variant != Variant::Bare {
                row = row.ratio(ratio(&micros, &bare));
            }
            if let (Variant::Ours, Some(reach)) = (variant, reach) {
                row = row.reach(Reach::RatioAtMost(reach));
            }
            report.add(row);
        }
    }
    processor(costs, report);
    for manner in [Manner::Bulk, Manner::Loop] {
        let of = |variant: Variant| costs.wal.get(&(manner, variant.table())).cloned().unwrap_or_default();
        let bare = of(Variant::Bare);
        for variant in [Variant::Ours, Variant::Row, Variant::Statement] {
            let beyond: Vec<f64> = of(variant).iter().zip(&bare).map(|(all, bare)| all - bare).collect();
            let Some(spread) = Spread::of(&beyond) else {
                continue;
            };
            let how = if manner == Manner::Bulk { "bulk" } else { "single" };
            let name = format!("WAL of capture, {how}: {}", variant.name());
            report.keep(&name, "bytes a row", &beyond);
            report.add(Row::new(name, format!("{spread} bytes a row")));
        }
    }
    report.note(if hmac {
        "The PL/pgSQL triggers make their pseudonyms with pgcrypto's hmac."
    } else {
        "pgcrypto is missing here: the PL/pgSQL triggers make their pseudonyms with a plain sha256."
    });
}

/// The same by processor time, which another load on the machine changes less than the clock's.
fn processor(costs: &Costs, report: &mut Report) {
    let of = |manner, variant: Variant| {
        let found = costs.processor.get(&(manner, variant.table()));
        found.cloned().unwrap_or_default()
    };
    for (manner, how) in [(Manner::Bulk, "bulk insert"), (Manner::Loop, "single inserts in a loop")] {
        let (ours, bare) = (of(manner, Variant::Ours), of(manner, Variant::Bare));
        if let (Some(spread), Some(against)) = (Spread::of(&ours), Spread::of(&bare)) {
            let name = format!("{how}: audit_algolia, processor time");
            report.keep(&name, "µs a row", &ours);
            let measured = format!("{spread} µs a row, no trigger {against}");
            report.add(Row::new(name, measured).ratio(ratio(&ours, &bare)));
        }
    }
}
