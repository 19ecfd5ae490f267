//! What the queue itself tells of an index, where shared state does not know it.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use crate::id_ranges::Span;
use crate::pg::report::SqlResult;
use crate::pg::subtransaction::unless_unreadable;
use crate::shared_state::Lane;

/// What is copied from the shared state for one index, so that its lock is not held while tables are read.
pub(super) struct LaneSnapshot {
    pub(super) lane: Lane,
    pub(super) held_back_rows: i64,
    pub(super) live: Option<Span>,
    pub(super) history: Option<Span>,
}

/// What was found about an index.
pub(super) struct Found {
    /// How many rows wait, and how many dead letters and repairs there are.
    pub(super) counts: (i64, i64, i64),
    pub(super) oldest: Option<TimestampWithTimeZone>,
    pub(super) newest: Option<TimestampWithTimeZone>,
    /// What could not be read, so that only the shared state's figures are known.
    pub(super) damage: Option<String>,
}

/// Looks at the rows of an index. If these cannot be read because they are damaged, returns what the shared state
/// knows, so that the other indices are shown all the same.
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
    // The shared state has no exact numbers until the tables have been counted after a server start.
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
    // Among the rows of a backfill, the first to be queued have the highest ids.
    let oldest = [at_end(LOWEST, index, live)?, at_end(HIGHEST, index, history)?];
    let newest = [at_end(HIGHEST, index, live)?, at_end(LOWEST, index, history)?];
    let (oldest, newest) = (oldest.into_iter().flatten().min(), newest.into_iter().flatten().max());
    Ok(Found { counts, oldest, newest, damage: None })
}

fn count(query: &str, index: i32) -> SqlResult<i64> {
    // `Spi::get_one_with_args` would assign a transaction id, which is impossible on a standby.
    Spi::connect(|client| {
        let rows = client.select(query, Some(1), &[index.into()])?;
        Ok(rows.first().get_one()?.unwrap_or_default())
    })
}

const LOWEST: &str = include_str!("../../../sql/counts/queued_lowest.sql");
const HIGHEST: &str = include_str!("../../../sql/counts/queued_highest.sql");

/// When the row at one end of a range was queued. The range excludes ids of rows that are long gone.
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
