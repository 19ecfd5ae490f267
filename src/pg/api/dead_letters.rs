//! `redrive` and `discard`: what a person does with dead letters.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::AnyArray;

use super::arguments::text;
use super::settings::want;
use super::{no_such_index, refuse_other_version, refuse_read_only};
use crate::id_ranges::IdRanges;
use crate::pg::capture::next_id;
use crate::pg::owner::extension_objects;
use crate::pg::report::{reported, SqlResult};
use crate::pg::xact;

/// How many dead letters are put back at a time.
const CHUNK: i64 = 1000;

#[pg_extern(sql = false)]
fn redrive(index_name: Option<&str>, ids: Option<AnyArray>) -> Result<i64, ErrorReport> {
    refuse_read_only(c"audit_algolia.redrive()");
    refuse_other_version()?;
    reported(put_back(index_name, ids))
}

#[pg_extern(sql = false)]
fn discard(index_name: Option<&str>, ids: Option<AnyArray>) -> Result<i64, ErrorReport> {
    refuse_read_only(c"audit_algolia.discard()");
    refuse_other_version()?;
    reported(delete(index_name, ids))
}

/// A dead letter to be put back. Its record may be large and is not read: it is moved within the database.
struct LockedDeadLetter {
    index_id: i32,
    id: i64,
    /// Whether it is a version of an object, whose id must stay below those of newer versions.
    is_version: bool,
    /// The settings, if the dead letter holds settings.
    settings: Option<String>,
}

/// Puts dead letters back into the queue, the oldest first. They get new ids in the order of the old ones, so that the
/// newest is delivered first, and before records that already wait. Versions of objects keep their ids: a newer version
/// in the queue still supersedes them, and one that was delivered has deleted its older dead letters.
fn put_back(index_name: Option<&str>, ids: Option<AnyArray>) -> SqlResult<i64> {
    let index_name = text("index_name", index_name)?;
    check(index_name.as_deref())?;
    let mut total = 0;
    loop {
        let letters = lock(index_name.as_deref(), ids)?;
        if letters.is_empty() {
            return Ok(total);
        }
        total += letters.len() as i64;
        let (settings, rest): (Vec<_>, Vec<_>) =
            letters.into_iter().partition(|letter| letter.settings.is_some());
        for LockedDeadLetter { index_id, id, settings, .. } in settings {
            want(
                include_str!("../../../sql/api/want_settings_again.sql"),
                index_id,
                &settings.unwrap_or_default(),
            )?;
            let arguments = [index_id.into(), id.into()];
            Spi::run_with_args(include_str!("../../../sql/api/drop_dead_letter.sql"), &arguments)?;
            xact::note_dead(index_id, -1);
        }
        for letters in rest.chunk_by(|one, other| one.index_id == other.index_id) {
            requeue(letters)?;
        }
        pgrx::check_for_interrupts!();
    }
}

fn lock(index_name: Option<&str>, ids: Option<AnyArray>) -> SqlResult<Vec<LockedDeadLetter>> {
    Spi::connect_mut(|client| {
        let arguments = [index_name.into(), ids_argument(ids), CHUNK.into()];
        let rows = client.update(include_str!("../../../sql/api/redrive.sql"), None, &arguments)?;
        let mut letters = Vec::new();
        for row in rows {
            if let (Some(index_id), Some(id), Some(is_version)) = (row.get(1)?, row.get(2)?, row.get(3)?) {
                letters.push(LockedDeadLetter { index_id, id, is_version, settings: row.get(4)? });
            }
        }
        Ok(letters)
    })
}

/// Moves dead letters of one index into its queue.
fn requeue(letters: &[LockedDeadLetter]) -> SqlResult<()> {
    let Some(index_id) = letters.first().map(|letter| letter.index_id) else { return Ok(()) };
    let (objects, count) = (extension_objects()?, letters.len() as i64);
    let old_ids: Vec<i64> = letters.iter().map(|letter| letter.id).collect();
    let id_of = |letter: &LockedDeadLetter| if letter.is_version { letter.id } else { next_id(&objects) };
    let ids: Vec<i64> = letters.iter().map(id_of).collect();
    let mut spans = IdRanges::new();
    for id in &ids {
        spans.add(*id, *id);
    }
    let arguments = [index_id.into(), old_ids.into(), ids.into()];
    Spi::run_with_args(include_str!("../../../sql/api/requeue.sql"), &arguments)?;
    xact::note_queued(index_id, count, &spans);
    xact::note_dead(index_id, -count);
    Ok(())
}

fn delete(index_name: Option<&str>, ids: Option<AnyArray>) -> SqlResult<i64> {
    let index_name = text("index_name", index_name)?;
    check(index_name.as_deref())?;
    Spi::connect_mut(|client| {
        let arguments = [index_name.into(), ids_argument(ids)];
        let rows = client.update(include_str!("../../../sql/api/discard.sql"), None, &arguments)?;
        let mut total = 0;
        for row in rows {
            if let (Some(index_id), Some(count)) = (row.get::<i32>(1)?, row.get::<i64>(2)?) {
                xact::note_dead(index_id, -count);
                total += count;
            }
        }
        Ok(total)
    })
}

/// Passes the caller's array as it is. It may be large, and there might be no memory for a copy.
fn ids_argument(ids: Option<AnyArray>) -> DatumWithOid<'static> {
    let ids = ids.map(|ids| ids.datum());
    // SAFETY: the functions are declared with bigint[] in this place, and an argument lives as long as its call.
    unsafe { DatumWithOid::new(ids, pg_sys::INT8ARRAYOID) }
}

/// Refuses a name that is not that of an index. An index without dead letters is no error.
fn check(index_name: Option<&str>) -> SqlResult<()> {
    let Some(name) = index_name else { return Ok(()) };
    let is_known = Spi::connect(|client| -> SqlResult<bool> {
        let rows = client.select(include_str!("../../../sql/api/find_index.sql"), Some(1), &[name.into()])?;
        Ok(rows.first().get_one::<bool>()?.unwrap_or_default())
    })?;
    if is_known {
        Ok(())
    } else {
        Err(no_such_index(name))
    }
}
