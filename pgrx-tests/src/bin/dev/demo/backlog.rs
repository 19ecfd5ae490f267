//! Queues the history as a backlog, and drains it while new rows are committed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{bail, ensure, Context, Result};

use audit_algolia_tests::history::Change;
use audit_algolia_tests::standin::Arrival;
use audit_algolia_tests::workload::{self, TABLE};

use super::environment::Environment;
use super::status;
use crate::screen::{grouped, table, Bar};
use crate::waiting;

/// After which percentages of the backlog a row is committed.
const LIVE_AT: [u64; 4] = [10, 30, 50, 70];
/// How long the demo waits for the next record before it gives up.
const STALLED: Duration = Duration::from_secs(30);
/// Even if records keep arriving, the drain is watched no longer than this.
const LONGEST: Duration = Duration::from_secs(3600);

/// A row committed during the drain.
struct Live {
    id: String,
    committed: Instant,
}

/// Pauses delivery and loads the history, oldest first.
pub(super) fn load(env: &mut Environment, changes: &[Change]) -> Result<()> {
    let (Some(first), Some(last)) = (changes.first(), changes.last()) else {
        bail!("this machine remembers no changes");
    };
    println!(
        "{} changes in {} years, from the changelogs and logs of this machine's packages, oldest first\n",
        grouped(changes.len() as u64),
        (last.changed_at - first.changed_at) / (365 * 86_400)
    );
    env.db.execute("SELECT audit_algolia.pause($1)", &[&TABLE])?;
    let started = Instant::now();
    let mut bar = Bar::new("loaded", changes.len() as u64);
    let count = workload::copy(&mut env.db, changes, |done| bar.show(done as u64, ""))?;
    bar.rest();
    let queue = status::queue(&mut env.db)?;
    println!(
        "{} rows inserted and {} records queued in one transaction, {:.1} s",
        grouped(count),
        grouped(queue.queued),
        started.elapsed().as_secs_f64()
    );
    status::show_queue(&mut env.db)?;
    ensure!(queue.queued == count, "{count} rows were inserted, but {} records are queued", queue.queued);
    Ok(())
}

/// Resumes delivery, commits a few rows meanwhile, and reports when each of them arrived.
pub(super) fn drain(env: &mut Environment, total: u64) -> Result<()> {
    let mut writer = env.cluster.connect("postgres", "postgres")?;
    let mut bar = Bar::new("delivered", total + LIVE_AT.len() as u64);
    let (mut live, mut workers) = (Vec::new(), Vec::new());
    let started = Instant::now();
    let mut progress = (0, Instant::now());
    env.db.execute("SELECT audit_algolia.resume($1)", &[&TABLE])?;
    println!("SELECT audit_algolia.resume('{TABLE}');");
    waiting::until("the end of the drain", LONGEST, Duration::from_millis(5), || {
        let queue = status::queue(&mut env.db)?;
        if let Some(percent) = LIVE_AT.get(live.len()) {
            if queue.delivered * 100 >= total * percent {
                workload::insert(&mut writer, &live_change(live.len()))?;
                let committed = Instant::now();
                let id: i64 = writer.query_one("SELECT max(id) FROM document_changes", &[])?.get(0);
                live.push(Live { id: id.to_string(), committed });
            }
        }
        if workers.is_empty() && queue.delivered * 2 >= total {
            workers = status::workers(&mut env.db)?;
        }
        let rate = queue.delivered as f64 / started.elapsed().as_secs_f64();
        bar.show(queue.delivered, &format!("{} rows/s", grouped(rate as u64)));
        if queue.delivered > progress.0 {
            progress = (queue.delivered, Instant::now());
        }
        let is_done = live.len() == LIVE_AT.len() && queue.queued == 0 && queue.in_flight == 0;
        let is_stalled = !is_done && progress.1.elapsed() >= STALLED;
        ensure!(!is_stalled, "nothing has been delivered for {STALLED:?}: {queue:?}");
        Ok(is_done)
    })?;
    bar.rest();
    let seconds = started.elapsed().as_secs_f64();
    tell(env, &live, total)?;
    println!("\nthe workers, half-way:");
    status::show_workers(&workers);
    println!("\nand the queue at the end, after {seconds:.1} s:");
    status::show_queue(&mut env.db)?;
    Ok(())
}

/// Prints when the live rows arrived, measured in batches and in older rows that they overtook.
fn tell(env: &Environment, live: &[Live], total: u64) -> Result<()> {
    let arrivals = env.standin.arrivals();
    let mut rows = Vec::new();
    let mut worst = 0;
    for one in live {
        let place = arrivals
            .iter()
            .position(|arrival| arrival.object_id == one.id)
            .with_context(|| format!("the row {} committed during the drain did not arrive", one.id))?;
        let (before, mine) = (&arrivals[..place], &arrivals[place]);
        let batches = batches_between(before, one.committed, mine.request);
        let waiting = waiting_after(before, total, live);
        worst = worst.max(batches);
        let latency = mine.at.saturating_duration_since(one.committed);
        println!(
            "  row {} committed during the drain arrived after {batches} batches, {} older rows still waiting",
            one.id,
            grouped(waiting)
        );
        rows.push(vec![
            one.id.clone(),
            format!("{:.1}", latency.as_secs_f64() * 1000.0),
            batches.to_string(),
            grouped(place as u64 + 1),
            grouped(waiting),
        ]);
    }
    println!();
    table(
        &[
            "row",
            "ms from commit to arrival",
            "batches before it",
            "place among arrivals",
            "older rows waiting",
        ],
        &rows,
    );
    // A row cannot overtake requests that are already being sent, and every tenth batch takes the oldest rows.
    ensure!(worst <= 40, "a row committed during the drain arrived only after {worst} batches");
    Ok(())
}

/// Batches accepted after the commit and before the row's own.
fn batches_between(before: &[Arrival], committed: Instant, own: usize) -> usize {
    let between: BTreeSet<usize> = before
        .iter()
        .rev()
        .take_while(|arrival| arrival.at > committed)
        .map(|arrival| arrival.request)
        .filter(|request| *request != own)
        .collect();
    between.len()
}

/// Rows of the backlog that had not arrived yet.
fn waiting_after(before: &[Arrival], total: u64, live: &[Live]) -> u64 {
    let old = before.iter().filter(|arrival| live.iter().all(|one| one.id != arrival.object_id)).count();
    total.saturating_sub(old as u64)
}

/// A change such as an application would insert now.
fn live_change(number: usize) -> Change {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    Change {
        package: "audit-algolia-demo".to_owned(),
        version: format!("1.{number}"),
        author: "Ada Lovelace".to_owned(),
        email: Some("ada@example.org".to_owned()),
        changed_at: now,
        urgency: "critical".to_owned(),
        summary: "committed during the drain".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(seq: u64, at: Instant, request: usize) -> Arrival {
        Arrival {
            seq,
            at,
            unix_micros: 0,
            index: TABLE.to_owned(),
            object_id: seq.to_string(),
            action: "addObject",
            request,
        }
    }

    #[test]
    fn counts_the_batches_after_the_commit_only() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let before = [
            arrival(0, after(0), 0),
            arrival(1, after(2), 1),
            arrival(2, after(2), 1),
            arrival(3, after(3), 2),
            arrival(4, after(4), 3),
        ];
        assert_eq!(batches_between(&before, after(1), 3), 2);
        let live = [Live { id: "4".to_owned(), committed: start }];
        assert_eq!(waiting_after(&before, 10, &live), 6);
    }
}
