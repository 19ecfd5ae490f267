//! What a worker claims, and sends.

use super::{complain, now, Cargo, Flow, CROWDED, PAUSE};
use crate::delivery::couriers::{Couriers, Errand};
use crate::delivery::http::HttpClient;
use crate::ledger::{Micros, Next, Wakes};
use crate::pg::worker::claim::{claim, Catch, Limits};
use crate::pg::{failpoint, guc, process, shmem};

impl Flow {
    /// Claims and sends batches while there is room; returns when to look again.
    pub(super) fn claim_all(&mut self) -> Option<Micros> {
        if self.sink.is_none() || self.foreign.is_some() || !guc::is_enabled() {
            return None;
        }
        loop {
            let next = shmem::ledger().map(|mut ledger| ledger.next(self.slot, guc::appetite(), now()));
            let (lane, index_id, claimable) = match next {
                Some(Next::Claim { lane, index_id, claimable }) => (lane, index_id, claimable),
                Some(Next::Wait { until, wake }) => {
                    shmem::wake(Wakes::of(wake));
                    return until;
                }
                None => return None,
            };
            if !self.indices.contains_key(&index_id) {
                self.read_indices();
            }
            let (Some(name), Some(statements), Some(sink)) =
                (self.indices.get(&index_id).map(|index| index.name.clone()), &self.statements, &self.sink)
            else {
                // Rows of an index that is not in the table: nothing can be sent, nothing is lost.
                if let Some(mut ledger) = shmem::ledger() {
                    ledger.claim_ended(self.slot);
                    if let (Some(lane), false) = (ledger.lane_at(lane), self.gone) {
                        lane.retry_at = now().saturating_add(60 * PAUSE);
                    }
                }
                if self.gone {
                    return None;
                }
                continue;
            };
            let sink = sink.clone();
            let limits = Limits {
                rows: guc::appetite().batch_rows,
                bytes: guc::batch_bytes(),
                record_bytes: guc::max_record_bytes(),
            };
            process::report_activity(true, "claiming rows");
            self.untold = true;
            let caught = claim(self.slot, lane, index_id, claimable, statements, limits);
            // An error has undone the claim, and the whole span waits again.
            if let Some(mut ledger) = shmem::ledger() {
                ledger.claim_ended(self.slot);
            }
            match caught {
                Ok(Catch::Nothing) => (),
                Ok(Catch::Gone) => {
                    self.gone = true;
                    return None;
                }
                Ok(Catch::Crowded) => return Some(now().saturating_add(CROWDED)),
                Ok(Catch::Batch(claimed)) => {
                    claimed.make_durable();
                    self.cargo.insert(
                        claimed.flight,
                        Cargo {
                            index_id,
                            ids: claimed.ids,
                            objects: claimed.objects,
                            oversized: claimed.oversized,
                            started_at: now(),
                            sink: sink.clone(),
                        },
                    );
                    let errand =
                        Errand { flight: claimed.flight, index_name: name, batch: claimed.batch, sink };
                    let sent = self.send(errand);
                    failpoint::reach("after sending");
                    if let Err(error) = sent {
                        self.give_up(claimed.flight, &format!("no thread to send with: {error}"));
                        return Some(now().saturating_add(PAUSE));
                    }
                }
                Err(error) => {
                    complain("audit_algolia could not claim rows", &error.to_string());
                    return Some(now().saturating_add(PAUSE));
                }
            }
        }
    }

    pub(super) fn send(&mut self, errand: Errand<HttpClient>) -> std::io::Result<()> {
        if self.couriers.is_none() {
            self.couriers = Some(Couriers::new()?);
        }
        match &mut self.couriers {
            Some(couriers) => couriers.send(errand),
            None => Err(std::io::ErrorKind::NotFound.into()),
        }
    }
}
