//! Sends the alerts of prepared transactions that have been committed.

use pgrx::prelude::*;

use super::statements::lock;
use crate::pg::owner::table;
use crate::pg::process::in_transaction;
use crate::pg::{alerts, xact};

/// The most alerts that one transaction sends.
const BATCH: i32 = 100;

/// Sends the stored alerts. They stay stored while the notification queue is too full.
pub(super) fn send_prepared_alerts() -> spi::Result<()> {
    // The end of each transaction sends its alerts.
    xact::register();
    while in_transaction(send_some)? == BATCH as usize {}
    Ok(())
}

/// Takes some of the stored alerts. Returns how many.
fn send_some() -> spi::Result<usize> {
    if !lock(table(c"prepared_alert")) || !alerts::has_room(&[]) {
        return Ok(0);
    }
    let query = include_str!("../../../sql/worker/take_prepared_alerts.sql");
    let payloads = Spi::connect_mut(|client| {
        let rows = client.update(query, None, &[BATCH.into()])?;
        rows.filter_map(|row| row.get::<String>(1).transpose()).collect::<spi::Result<Vec<String>>>()
    })?;
    let taken = payloads.len();
    payloads.into_iter().for_each(alerts::note_stored);
    Ok(taken)
}
