//! Sends the alerts of prepared transactions that have been committed.

use pgrx::prelude::*;

use super::statements::lock;
use crate::pg::owner::table;
use crate::pg::process::in_transaction;
use crate::pg::{alerts, xact};

/// So many a transaction sends.
const MOST: i32 = 100;

/// Sends what is stored; while the notification queue is too full, it waits.
pub(super) fn send_prepared_alerts() -> spi::Result<()> {
    // The end of the transaction sends them.
    xact::register();
    while in_transaction(send_some)? == MOST as usize {}
    Ok(())
}

/// Takes some of those stored; how many.
fn send_some() -> spi::Result<usize> {
    if !lock(table(c"prepared_alert")) || !alerts::has_room(&[]) {
        return Ok(0);
    }
    let query = include_str!("../../../sql/worker/take_prepared_alerts.sql");
    let payloads = Spi::connect_mut(|client| {
        let rows = client.update(query, None, &[MOST.into()])?;
        rows.filter_map(|row| row.get::<String>(1).transpose()).collect::<spi::Result<Vec<String>>>()
    })?;
    let taken = payloads.len();
    payloads.into_iter().for_each(alerts::note_stored);
    Ok(taken)
}
