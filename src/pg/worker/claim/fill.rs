//! The end of a claim: records are copied into the body of a request.

use super::claimed::{ClaimOrder, Claimed};
use super::entries::ClaimEntries;
use crate::delivery::batch::BatchBuilder;
use crate::id_ranges::Span;
use crate::pg::clock::now;
use crate::pg::worker::in_flight::{InFlight, Unsendable, UnsendableReason};
use crate::pg::worker::rows::QueuedRecord;
use crate::record::leading_object_id;
use crate::shared_state::{CrashRetry, FlushTarget, MAX_CRASHES};

/// The reason not to send a record: the server has crashed over it too often. A newer version of its object is another
/// record.
fn is_given_up(order: &ClaimOrder, id: i64) -> Option<UnsendableReason> {
    let CrashRetry { crashes, .. } = order.crash_retry?;
    let Span { lo, hi } = order.claimable.span;
    (crashes >= MAX_CRASHES && lo <= id && id <= hi).then_some(UnsendableReason::Crashes(crashes))
}

/// Copies the records into a batch, one after the other; `None` if memory is lacking.
pub(super) fn fill(
    order: &ClaimOrder,
    entered: &ClaimEntries,
    records: Vec<(i64, QueuedRecord<'_>)>,
    flight: usize,
    flush_target: FlushTarget,
) -> Option<Claimed> {
    let mut builder = BatchBuilder::with_room(records.len(), entered.bytes).ok()?;
    let mut ids = Vec::with_capacity(records.len());
    let mut objects = Vec::with_capacity(records.len());
    let mut unsent = Vec::new();
    let limit = order.limits.record_bytes;
    let given_up: Vec<Option<UnsendableReason>> =
        records.iter().map(|(id, _)| is_given_up(order, *id)).collect();
    for ((id, QueuedRecord { action, text, oversize, object, .. }), given_up) in
        records.into_iter().zip(given_up)
    {
        let reason = given_up.or(oversize.map(UnsendableReason::TooLarge));
        let mut object_id = None;
        let read = match reason {
            Some(_) => text.head().map(|head| {
                object_id = leading_object_id(&head);
                reason
            }),
            None => text.read(|text| match QueuedRecord::measure(text, limit) {
                Some(size) => {
                    object_id = leading_object_id(text);
                    Some(UnsendableReason::TooLarge(size))
                }
                None => {
                    let _taken = builder.push(action, text);
                    None
                }
            }),
        };
        let reason = read.unwrap_or_else(|damage| Some(UnsendableReason::Damaged(damage.cause())));
        if let Some(reason) = reason {
            unsent.push(Unsendable { id, object_id, object, reason });
        } else {
            ids.push(id);
            objects.push(object);
        }
    }
    let rows = InFlight {
        index_id: order.index_id,
        ids,
        objects,
        unsent,
        started_at: now(),
        held_back: order.claimable.held_back.is_some(),
        sink: order.sink.clone(),
    };
    Some(Claimed { flight, rows, body: builder.finish(), flush_target })
}
