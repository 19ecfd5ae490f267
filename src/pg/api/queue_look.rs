//! What the queue itself tells of an index, where shared state does not know it.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use crate::id_ranges::Span;
use crate::pg::report::SqlResult;
use crate::pg::subtransaction::unless_unreadable;
use crate::shared_state::Lane;

/// What is copied out of shared state for one index, so that it is not held while tables are read.
pub(super) struct LaneSnapshot {
    pub(super) lane: Lane,
    pub(super) held_back_rows: i64,
    pub(super) live: Option<Span>,
    pub(super) history: Option<Span>,
}

/// What was found.
pub(super) struct Found {
    /// Rows that wait, dead letters and repairs.
    pub(super) counts: (i64, i64, i64),
    pub(super) oldest: Option<TimestampWithTimeZone>,
    pub(super) newest: Option<TimestampWithTimeZone>,
    /// Why less is known of the index.
    pub(super) damage: Option<String>,
}

/// Looks at the rows of an index. If what was to be read is damaged, other indices are told of all the same, and of this one
/// what shared state knows.
pub(super) fn look(index: i32, snapshot: &LaneSnapshot) -> SqlResult<Found> {
    match unless_unreadable(|| look_at_rows(index, snapshot)) {
        Ok(found) => found,
        Err(damage) => {
            let Lane { queued, dead, repairs, .. } = snapshot.lane;
            let damage = Some(damage.cause());
            Ok(Found { counts: (queued, dead, repairs), oldest: None, newest: None, damage })
        }
    }
}

fn look_at_rows(index: i32, LaneSnapshot { lane, live, history, .. }: &LaneSnapshot) -> SqlResult<Found> {
    // Until the tables have been counted since the server started, the exact number takes a look at them.
    let (counts, live, history) = match lane.counted {
        true => ((lane.queued, lane.dead, lane.repairs), *live, *history),
        false => (
            (
                count(include_str!("../../../sql/counts/count_index.sql"), index)?,
                count(include_str!("../../../sql/counts/count_dead_of_index.sql"), index)?,
                count(include_str!("../../../sql/counts/count_repairs_of_index.sql"), index)?,
            ),
            Some(Span { lo: 0, hi: i64::MAX }),
            Some(Span { lo: i64::MIN, hi: -1 }),
        ),
    };
    // Of history the rows queued first have the highest ids.
    let oldest = [at_end(LOWEST, index, live)?, at_end(HIGHEST, index, history)?];
    let newest = [at_end(HIGHEST, index, live)?, at_end(LOWEST, index, history)?];
    let (oldest, newest) = (oldest.into_iter().flatten().min(), newest.into_iter().flatten().max());
    Ok(Found { counts, oldest, newest, damage: None })
}

fn count(query: &str, index: i32) -> SqlResult<i64> {
    // Not by `Spi::get_one_with_args`, which takes a transaction id: there is none to be had on a standby.
    Spi::connect(|client| {
        let rows = client.select(query, Some(1), &[index.into()])?;
        Ok(rows.first().get_one()?.unwrap_or_default())
    })
}

const LOWEST: &str = include_str!("../../../sql/counts/queued_lowest.sql");
const HIGHEST: &str = include_str!("../../../sql/counts/queued_highest.sql");

/// The time of the row at one end of a span, which excludes rows long gone.
fn at_end(query: &str, index: i32, span: Option<Span>) -> SqlResult<Option<TimestampWithTimeZone>> {
    let Some(Span { lo, hi }) = span else { return Ok(None) };
    Spi::connect(|client| {
        let rows = client.select(query, Some(1), &[index.into(), lo.into(), hi.into()])?;
        if rows.is_empty() {
            return Ok(None);
        }
        Ok(rows.first().get_one()?)
    })
}
