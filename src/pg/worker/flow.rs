//! The round a worker makes: settle what has returned, claim what there is room for, wait.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::claim::{claim, settle, Catch, Limits, Statements};
use crate::delivery::couriers::{Couriers, Errand, Return};
use crate::delivery::http::HttpClient;
use crate::delivery::outcome::Outcome;
use crate::delivery::settings::Settings;
use crate::delivery::sink::Sink;
use crate::ledger::{Micros, Next, Setback};
use crate::pg::process::{self, in_transaction};
use crate::pg::{guc, shmem};

/// How long an idle worker sleeps when nobody wakes it. Commits do; this is the net under them.
const NAP_MS: i64 = 60_000;
/// Every so many naps the whole queue is looked through, for rows nobody has published.
const NAPS_PER_SWEEP: u32 = 10;
/// How long nothing is tried after a fault of our own, such as no thread to be had.
const PAUSE: Micros = 1_000_000;
/// How soon to look again when all workers together hold as many rows as can be kept track of.
const CROWDED: Micros = 20_000;
/// The server takes statistics of tables once a second at most: the last ones are told when so much time has passed.
const TELL_AFTER_MS: i64 = 1_100;
/// An index's troubles are logged this often at most.
const LOG_EVERY: Micros = 60_000_000;

/// What is known of one index.
struct Index {
    name: Arc<str>,
    /// When its troubles were last logged.
    logged_at: Micros,
    in_trouble: bool,
}

/// A batch that is on its way.
struct Cargo {
    index_id: i32,
    lane: usize,
    ids: Vec<i64>,
    started_at: Micros,
    /// By whom it was sent: what an old sink has to say means nothing for a new one.
    sink: Arc<Sink<HttpClient>>,
}

/// A worker's state between two rounds.
pub(super) struct Flow {
    slot: usize,
    database: u32,
    couriers: Option<Couriers<HttpClient>>,
    sink: Option<Arc<Sink<HttpClient>>>,
    settings: Option<Settings>,
    statements: Option<Statements>,
    indices: HashMap<i32, Index>,
    cargo: HashMap<usize, Cargo>,
    naps: u32,
    /// The queue has vanished under our hands.
    gone: bool,
    /// Statistics of tables have not been told since the last transaction.
    untold: bool,
    dice: fastrand::Rng,
}

impl Flow {
    pub(super) fn new(slot: usize, database: u32) -> Flow {
        Flow {
            slot,
            database,
            couriers: None,
            sink: None,
            settings: None,
            statements: None,
            indices: HashMap::new(),
            cargo: HashMap::new(),
            naps: 0,
            gone: false,
            untold: true,
            dice: fastrand::Rng::new(),
        }
    }

    /// Works until it is asked to leave.
    pub(super) fn run(mut self) {
        let mut fresh_settings = true;
        self.read_indices();
        loop {
            let orders = self.orders();
            if orders.leave {
                return;
            }
            if process::reload_if_asked() || fresh_settings {
                fresh_settings = false;
                self.read_settings();
            }
            if orders.stale || std::mem::take(&mut self.gone) {
                if !super::is_on_duty(self.slot) {
                    return;
                }
                self.read_indices();
            }
            let wake_at = process::in_scratch_memory(|| self.round());
            self.rest(wake_at);
        }
    }

    /// One round; returns when there is something to do again, if that is known.
    fn round(&mut self) -> Option<Micros> {
        self.settle_returns();
        let wake_at = self.claim_all();
        self.report_activity();
        wake_at
    }

    /// What is on its way is shown, not what was done last.
    fn report_activity(&self) {
        let mut rows: HashMap<i32, usize> = HashMap::new();
        for cargo in self.cargo.values() {
            *rows.entry(cargo.index_id).or_default() += cargo.ids.len();
        }
        let name = |index: &i32| self.indices.get(index).map_or("", |known| &*known.name);
        match rows.iter().next() {
            None => process::report_activity(false, "waiting for rows"),
            Some((index, count)) if rows.len() == 1 => {
                let text = format!("delivering {count} rows to index \"{}\"", name(index));
                process::report_activity(true, &text);
            }
            Some(_) => {
                let count: usize = rows.values().sum();
                let text = format!("delivering {count} rows to {} indices", rows.len());
                process::report_activity(true, &text);
            }
        }
    }

    fn rest(&mut self, wake_at: Option<Micros>) {
        if self.gone {
            return;
        }
        let mut timeout = wake_at.map_or(NAP_MS, |at| {
            (at.saturating_sub(now()) / 1000)
                .saturating_add(1)
                .clamp(0, NAP_MS)
        });
        if self.untold {
            timeout = timeout.min(TELL_AFTER_MS);
        }
        let slept = process::wait(self.couriers.as_ref().map(Couriers::bell), timeout);
        if slept && self.untold {
            self.untold = false;
            process::report_statistics();
        }
        if slept && timeout == NAP_MS && self.cargo.is_empty() {
            self.naps += 1;
            let everything = self.naps % NAPS_PER_SWEEP == 0;
            let wakes = shmem::ledger().map(|mut ledger| ledger.sweep(self.database, everything));
            shmem::wake(wakes.unwrap_or_default());
        }
    }

    fn orders(&mut self) -> Orders {
        let Some(mut ledger) = shmem::ledger() else {
            return Orders {
                leave: true,
                stale: false,
            };
        };
        match ledger.workers.get_mut(self.slot) {
            None => Orders {
                leave: true,
                stale: false,
            },
            Some(me) => Orders {
                leave: me.leave,
                stale: me.stale,
            },
        }
    }

    /// Builds a new sink when a setting of delivery has changed. Batches under way keep the old one.
    fn read_settings(&mut self) {
        let settings = guc::delivery();
        if self.settings.as_ref() == Some(&settings) {
            return;
        }
        let leaves_host = self
            .settings
            .as_ref()
            .is_some_and(|old| old.hosts != settings.hosts);
        if let (Some(old), true) = (self.sink.take(), leaves_host) {
            // Whoever names other hosts does not want to wait for the old ones.
            old.shutdown();
        }
        if guc::is_configured() {
            let made = HttpClient::new(guc::in_flight(), settings.ca_pem.as_deref())
                .map_err(|error| error.to_string())
                .and_then(|client| {
                    Sink::new(settings.clone(), client, self.dice.u64(..)).map_err(|error| error.to_string())
                });
            match made {
                Ok(sink) => self.sink = Some(Arc::new(sink)),
                Err(reason) => ereport!(
                    PgLogLevel::WARNING,
                    PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR,
                    format!("audit_algolia cannot deliver with these settings: {reason}")
                ),
            }
            // A mended key or host is tried at once.
            if self.settings.is_some() {
                if let Some(mut ledger) = shmem::ledger() {
                    ledger.retry_all(self.database);
                }
            }
        }
        self.settings = Some(settings);
    }

    /// Reads which indices there are, and opens their lanes.
    fn read_indices(&mut self) {
        let statements = &mut self.statements;
        let rows = in_transaction(|| -> spi::Result<Vec<(i32, String, bool)>> {
            if statements.is_none() {
                *statements = Some(Statements::prepare()?);
            }
            Spi::connect(|client| {
                let mut rows = Vec::new();
                for row in client.select(include_str!("../../../sql/indices.sql"), None, &[])? {
                    if let (Some(id), Some(name)) = (row.get(1)?, row.get(2)?) {
                        rows.push((id, name, row.get(3)?.unwrap_or_default()));
                    }
                }
                Ok(rows)
            })
        });
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => {
                complain("audit_algolia could not read its tables", &error.to_string());
                return;
            }
        };
        let now = now();
        let mut overflow = None;
        if let Some(mut ledger) = shmem::ledger() {
            for (id, name, paused) in &rows {
                if !ledger.open_lane(self.database, *id, *paused, now) {
                    overflow = Some(name.clone());
                }
            }
        }
        if let Some(name) = overflow {
            complain(
                "audit_algolia serves as many indices as it can",
                &format!("\"{name}\" is one too many and stays undelivered"),
            );
        }
        let mut known = std::mem::take(&mut self.indices);
        self.indices = rows
            .into_iter()
            .map(|(id, name, _)| {
                let old = known.remove(&id);
                let index = Index {
                    name: name.into(),
                    logged_at: old.as_ref().map_or(0, |old| old.logged_at),
                    in_trouble: old.is_some_and(|old| old.in_trouble),
                };
                (id, index)
            })
            .collect();
        let wakes = shmem::ledger().map(|mut ledger| ledger.request_count_if_needed(self.database));
        shmem::wake(wakes.unwrap_or_default());
    }

    fn settle_returns(&mut self) {
        let returns = self.couriers.as_mut().map(Couriers::collect).unwrap_or_default();
        if returns.is_empty() {
            return;
        }
        let mut delivered = Vec::new();
        for Return { flight, report } in returns {
            let Some(cargo) = self.cargo.remove(&flight) else {
                continue;
            };
            let arrived = matches!(report.outcome, Outcome::Delivered { .. });
            self.note_batch(&report.host, cargo.ids.len(), arrived);
            let outdated = !self
                .sink
                .as_ref()
                .is_some_and(|sink| Arc::ptr_eq(sink, &cargo.sink));
            if outdated && !arrived {
                if let Some(mut ledger) = shmem::ledger() {
                    ledger.released(self.slot, flight, &cargo.ids);
                }
                continue;
            }
            match report.outcome {
                Outcome::Delivered { .. } => delivered.push((flight, cargo)),
                Outcome::Retry { reason, not_before } => {
                    self.set_back(
                        flight,
                        &cargo,
                        Setback::Retry,
                        &reason,
                        not_before.unwrap_or_default(),
                    );
                }
                Outcome::Rejected { reason, .. } => {
                    self.set_back(flight, &cargo, Setback::Retry, &reason, Duration::ZERO);
                }
                Outcome::Blocked { reason, hint, .. } => {
                    let reason = format!("{reason}; {hint}");
                    self.set_back(flight, &cargo, Setback::Blocked, &reason, guc::backoff().max);
                }
            }
        }
        self.settle(delivered);
    }

    /// Deletes what has arrived. A failure here ends the process; the rows are then sent again.
    fn settle(&mut self, delivered: Vec<(usize, Cargo)>) {
        let (Some(statements), false) = (&self.statements, delivered.is_empty()) else {
            return;
        };
        process::report_activity(true, "deleting delivered rows");
        self.untold = true;
        let mut places = Vec::new();
        let mut rows = Vec::new();
        for (flight, cargo) in delivered {
            places.push(flight);
            rows.push((cargo.index_id, cargo.ids));
        }
        let outcome = settle(statements, &rows);
        self.gone |= matches!(outcome, Ok(false));
        if let Err(error) = &outcome {
            complain(
                "audit_algolia could not delete delivered rows and sends them again",
                &error.to_string(),
            );
        }
        let now = now();
        for (flight, (index_id, ids)) in places.into_iter().zip(rows) {
            if let Some(mut ledger) = shmem::ledger() {
                match outcome {
                    Ok(true) => ledger.settled(self.slot, flight, &ids, now),
                    Ok(false) | Err(_) => ledger.released(self.slot, flight, &ids),
                }
            }
            if let Some(index) = self.indices.get_mut(&index_id).filter(|index| index.in_trouble) {
                index.in_trouble = false;
                log!("audit_algolia delivers to index \"{}\" again", index.name);
            }
        }
    }

    fn set_back(&mut self, flight: usize, cargo: &Cargo, setback: Setback, reason: &str, at_least: Duration) {
        let now = now();
        let dice = self.dice.f64();
        if let Some(mut ledger) = shmem::ledger() {
            ledger.released(self.slot, flight, &cargo.ids);
            if let Some(lane) = ledger.lane_at(cargo.lane) {
                // What was under way together with an attempt that has failed already has no say in the pause.
                let backoff = if lane.knew_of(cargo.started_at) {
                    Duration::ZERO
                } else {
                    guc::backoff().delay(lane.failures, dice)
                };
                let delay = backoff.max(at_least);
                let retry_at = now.saturating_add(i64::try_from(delay.as_micros()).unwrap_or(i64::MAX));
                let times = (cargo.started_at, retry_at);
                lane.set_back(setback, cargo.ids.len() as i64, reason, times, now);
            }
            if let Some(me) = ledger.workers.get_mut(self.slot) {
                me.last_error.set(reason);
            }
        }
        if let Some(index) = self.indices.get_mut(&cargo.index_id) {
            index.in_trouble = true;
            if now.saturating_sub(index.logged_at) >= LOG_EVERY || index.logged_at == 0 {
                index.logged_at = now;
                log!(
                    "audit_algolia cannot deliver to index \"{}\" and tries again: {reason}",
                    index.name
                );
            }
        }
    }

    fn note_batch(&self, host: &str, rows: usize, arrived: bool) {
        if let Some(mut ledger) = shmem::ledger() {
            if let Some(me) = ledger.workers.get_mut(self.slot) {
                me.host.set(host);
                me.batches_total += 1;
                if arrived {
                    me.rows_total += rows as i64;
                } else {
                    me.errors_total += 1;
                }
            }
        }
    }

    /// Claims and sends batches while there is room; returns when to look again.
    fn claim_all(&mut self) -> Option<Micros> {
        if self.sink.is_none() || !guc::is_enabled() {
            return None;
        }
        loop {
            let busy = self.couriers.as_ref().map_or(0, Couriers::under_way);
            let next = shmem::ledger().map(|mut ledger| ledger.next(self.slot, guc::appetite(busy), now()));
            let (lane, index_id, claimable) = match next {
                Some(Next::Claim {
                    lane,
                    index_id,
                    claimable,
                }) => (lane, index_id, claimable),
                Some(Next::Wait { until, wakes }) => {
                    shmem::wake(wakes);
                    return until;
                }
                None => return None,
            };
            if !self.indices.contains_key(&index_id) {
                self.read_indices();
            }
            let (Some(name), Some(statements), Some(sink)) = (
                self.indices.get(&index_id).map(|index| index.name.clone()),
                &self.statements,
                &self.sink,
            ) else {
                // Rows of an index that is not in the table: nothing can be sent, nothing is lost.
                if let Some(mut ledger) = shmem::ledger() {
                    ledger.claimed(self.slot, Some(claimable.span), None);
                    if let Some(lane) = ledger.lane_at(lane) {
                        lane.retry_at = now().saturating_add(60 * PAUSE);
                    }
                }
                continue;
            };
            let sink = sink.clone();
            let limits = Limits {
                rows: guc::appetite(0).batch_rows,
                bytes: guc::batch_bytes(),
            };
            process::report_activity(true, "claiming rows");
            self.untold = true;
            match claim(self.slot, lane, index_id, claimable, statements, limits) {
                Ok(Catch::Nothing) => (),
                Ok(Catch::Gone) => {
                    self.gone = true;
                    return None;
                }
                Ok(Catch::Crowded) => return Some(now().saturating_add(CROWDED)),
                Ok(Catch::Batch(claimed)) => {
                    self.cargo.insert(
                        claimed.flight,
                        Cargo {
                            index_id,
                            lane,
                            ids: claimed.ids,
                            started_at: now(),
                            sink: sink.clone(),
                        },
                    );
                    let errand = Errand {
                        flight: claimed.flight,
                        index_name: name,
                        batch: claimed.batch,
                        sink,
                    };
                    if let Err(error) = self.send(errand) {
                        self.give_up(claimed.flight, &format!("no thread to send with: {error}"));
                        return Some(now().saturating_add(PAUSE));
                    }
                }
                Err(error) => {
                    if let Some(mut ledger) = shmem::ledger() {
                        ledger.claimed(self.slot, Some(claimable.span), None);
                    }
                    complain("audit_algolia could not claim rows", &error.to_string());
                    return Some(now().saturating_add(PAUSE));
                }
            }
        }
    }

    fn send(&mut self, errand: Errand<HttpClient>) -> std::io::Result<()> {
        if self.couriers.is_none() {
            self.couriers = Some(Couriers::new()?);
        }
        match &mut self.couriers {
            Some(couriers) => couriers.send(errand),
            None => Err(std::io::ErrorKind::NotFound.into()),
        }
    }

    fn give_up(&mut self, flight: usize, reason: &str) {
        if let Some(cargo) = self.cargo.remove(&flight) {
            self.set_back(flight, &cargo, Setback::Retry, reason, Duration::from_secs(1));
        }
    }
}

struct Orders {
    leave: bool,
    stale: bool,
}

fn now() -> Micros {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

fn complain(what: &str, why: &str) {
    ereport!(
        PgLogLevel::WARNING,
        PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
        format!("{what}: {why}")
    );
}
