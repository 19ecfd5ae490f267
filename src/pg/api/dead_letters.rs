//! `redrive` and `discard`: what a person does with dead letters.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::settings::want;
use super::{no_such_index, refuse_read_only};
use crate::pg::capture::next_id;
use crate::pg::owner::home;
use crate::pg::report::{reported, Outcome};
use crate::pg::xact;
use crate::regions::Regions;

/// Dead letters put back at a time: few enough that large records do not pile up in memory.
const CHUNK: i64 = 128;

#[pg_extern(sql = false)]
fn redrive(index_name: Option<String>, ids: Option<Vec<Option<i64>>>) -> Result<i64, ErrorReport> {
    refuse_read_only(c"audit_algolia.redrive()");
    reported(put_back(index_name, ids))
}

#[pg_extern(sql = false)]
fn discard(index_name: Option<String>, ids: Option<Vec<Option<i64>>>) -> Result<i64, ErrorReport> {
    refuse_read_only(c"audit_algolia.discard()");
    reported(delete(index_name, ids))
}

/// A dead letter on its way back.
struct Letter {
    index_id: i32,
    source: i32,
    enqueued_at: Option<TimestampWithTimeZone>,
    action: String,
    record: String,
    /// Of a version of an object: which, and its id, which tells it from newer ones.
    version: Option<(String, i64)>,
}

/// Puts dead letters back into the queue, the oldest first: they get new ids, so that the newest of them are delivered
/// first again, and before what has been waiting. Versions of objects keep theirs: a newer one that waits supersedes them
/// still, and one that has been delivered has taken their dead letters with it.
fn put_back(index_name: Option<String>, ids: Option<Vec<Option<i64>>>) -> Outcome<i64> {
    check(index_name.as_deref())?;
    let mut total = 0;
    loop {
        let letters = take(index_name.as_deref(), ids.as_deref())?;
        if letters.is_empty() {
            return Ok(total);
        }
        total += letters.len() as i64;
        let (settings, mut rest): (Vec<_>, Vec<_>) =
            letters.into_iter().partition(|letter| letter.action == "s");
        for Letter { index_id, record, .. } in settings {
            want(include_str!("../../../sql/want_settings_again.sql"), index_id, &record)?;
            xact::note_dead(index_id, -1);
        }
        while let Some(index_id) = rest.first().map(|letter| letter.index_id) {
            let others = rest.iter().position(|letter| letter.index_id != index_id).unwrap_or(rest.len());
            let later = rest.split_off(others);
            enqueue(index_id, rest)?;
            rest = later;
        }
        pgrx::check_for_interrupts!();
    }
}

fn take(index_name: Option<&str>, ids: Option<&[Option<i64>]>) -> Outcome<Vec<Letter>> {
    Spi::connect_mut(|client| {
        let arguments = [index_name.into(), ids.map(<[_]>::to_vec).into(), CHUNK.into()];
        let rows = client.update(include_str!("../../../sql/redrive.sql"), None, &arguments)?;
        let mut letters = Vec::new();
        for row in rows {
            if let (Some(index_id), Some(source), Some(action), Some(record)) =
                (row.get(1)?, row.get(2)?, row.get(4)?, row.get(5)?)
            {
                let version = row.get::<String>(6)?.zip(row.get(7)?);
                letters.push(Letter { index_id, source, enqueued_at: row.get(3)?, action, record, version });
            }
        }
        Ok(letters)
    })
}

fn enqueue(index_id: i32, letters: Vec<Letter>) -> Outcome<()> {
    let home = home()?;
    let count = letters.len() as i64;
    let id_of = |letter: &Letter| letter.version.as_ref().map(|(_, id)| *id);
    let ids: Vec<i64> =
        letters.iter().map(|letter| id_of(letter).unwrap_or_else(|| next_id(&home))).collect();
    let objects: Vec<Option<String>> =
        letters.iter().map(|letter| letter.version.as_ref().map(|(object, _)| object.clone())).collect();
    let mut spans = Regions::new();
    for id in &ids {
        spans.add(*id, *id);
    }
    let sources: Vec<i32> = letters.iter().map(|letter| letter.source).collect();
    let times: Vec<_> = letters.iter().map(|letter| letter.enqueued_at).collect();
    let (actions, records): (Vec<String>, Vec<String>) =
        letters.into_iter().map(|letter| (letter.action, letter.record)).unzip();
    Spi::connect_mut(|client| -> Outcome<()> {
        let arguments = [
            index_id.into(),
            sources.into(),
            ids.into(),
            times.into(),
            actions.into(),
            records.into(),
            objects.into(),
        ];
        client.update(include_str!("../../../sql/requeue.sql"), None, &arguments)?;
        Ok(())
    })?;
    xact::note_queued(index_id, count, &spans);
    xact::note_dead(index_id, -count);
    Ok(())
}

fn delete(index_name: Option<String>, ids: Option<Vec<Option<i64>>>) -> Outcome<i64> {
    check(index_name.as_deref())?;
    Spi::connect_mut(|client| {
        let arguments = [index_name.into(), ids.into()];
        let rows = client.update(include_str!("../../../sql/discard.sql"), None, &arguments)?;
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

/// A name that is no index is a mistake; an index without dead letters is none.
fn check(index_name: Option<&str>) -> Outcome<()> {
    let Some(name) = index_name else { return Ok(()) };
    let is_known = Spi::connect(|client| -> Outcome<bool> {
        let rows = client.select(include_str!("../../../sql/find_index.sql"), Some(1), &[name.into()])?;
        Ok(rows.first().get_one::<bool>()?.unwrap_or_default())
    })?;
    if is_known {
        Ok(())
    } else {
        Err(no_such_index(name))
    }
}
