//! `pause`, `resume`, `reset_stats` and `pseudonym`.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::arguments::text;
use super::{my_database, no_such_index, refuse_other_version, refuse_read_only};
use crate::pg::clock::now;
use crate::pg::encoding::utf8;
use crate::pg::report::{reported, SqlResult};
use crate::pg::rules::{no_pseudonym_key, pseudonymizer};
use crate::pg::{shmem, xact};

#[pg_extern(sql = false)]
fn pause(index_name: Option<&str>) -> Result<(), ErrorReport> {
    refuse_read_only(c"audit_algolia.pause()");
    refuse_other_version()?;
    reported(set_paused(true, index_name).map(drop))
}

#[pg_extern(sql = false)]
fn resume(index_name: Option<&str>) -> Result<(), ErrorReport> {
    refuse_read_only(c"audit_algolia.resume()");
    refuse_other_version()?;
    reported(set_paused(false, index_name).map(|indices| {
        if let Some(mut shared_state) = shmem::shared_state() {
            for index in indices {
                if let Some(lane) = shared_state.lane_mut(my_database(), index) {
                    lane.retry_now(now());
                }
            }
        }
    }))
}

/// Stores whether indices are paused; the workers follow once the transaction commits. Returns the indices.
fn set_paused(paused: bool, index_name: Option<&str>) -> SqlResult<Vec<i32>> {
    let index_name = text("index_name", index_name)?;
    let indices = Spi::connect_mut(|client| -> SqlResult<Vec<i32>> {
        let rows = client.update(
            include_str!("../../../sql/api/set_paused.sql"),
            None,
            &[paused.into(), index_name.clone().into()],
        )?;
        let mut indices = Vec::new();
        for row in rows {
            indices.extend(row.get::<i32>(1)?);
        }
        Ok(indices)
    })?;
    match index_name {
        Some(name) if indices.is_empty() => Err(no_such_index(&name)),
        _ => {
            xact::note_stale();
            for index in &indices {
                xact::note_paused(*index, paused);
            }
            Ok(indices)
        }
    }
}

#[pg_extern(sql = false)]
fn reset_stats() {
    if let Some(mut shared_state) = shmem::shared_state() {
        shared_state.reset_stats(my_database(), now());
    }
}

#[pg_extern(sql = false)]
fn pseudonym(value: &[u8]) -> Result<String, ErrorReport> {
    // The argument is bytes, because a text is in the database's encoding and pseudonyms are made from UTF-8.
    reported(pseudonymizer().map(|made| made.pseudonym(&utf8(value))).ok_or_else(no_pseudonym_key))
}
