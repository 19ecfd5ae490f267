//! Objects that may differ between index and table: they are confirmed, counted, and corrected.

use std::collections::HashSet;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::comparison::Comparison;
use crate::hash_set::{StringSet, StringSetBuilder};
use crate::pg::api::as_owner;
use crate::pg::capture::{identity_of, QueueWriter, RowKey, Scratch};
use crate::pg::encoding::utf8;
use crate::pg::latest_snapshot::{all_rows, Cursor};
use crate::pg::report::{sql_error, SqlError, SqlResult};
use crate::pg::text_datum::varlena_bytes;
use crate::record::{Buffer, Fingerprint};

/// How many mismatches, and how many bytes of them, are collected before they are checked again together.
const MANY: usize = 10_000;
const MANY_BYTES: usize = 8 << 20;
/// How often to check again whether an object has no row, while records for its index are being queued.
const ROUNDS: usize = 4;
/// The maximum number of waiting records of a source in append mode. Eight bytes are kept of each.
const MOST_WAITING: usize = 1 << 23;
/// Rows of the queue read at a time.
const FETCH: i64 = 200;

/// An object that must be checked again.
pub(super) struct Mismatch {
    /// The objectID.
    pub(super) id: String,
    /// The name under which the queue knows the object.
    pub(super) object: String,
    /// The key of its row in a mirrored table.
    pub(super) key: RowKey,
    pub(super) expects: Expects,
    /// The record to be sent again. The record of a mirrored row is made again when it is sent.
    pub(super) record: Buffer,
}

/// What the index should hold of an object.
pub(super) enum Expects {
    /// The record of a row.
    Row { print: Fingerprint, place: RowVersion },
    /// Nothing, because there is no row.
    Nothing,
}

/// One version of a row, and its location.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct RowVersion {
    table: u32,
    ctid: String,
    xmin: String,
}

impl RowVersion {
    /// Reads tableoid, ctid and xmin, which are the columns from `first` on.
    ///
    /// # Safety
    /// `value` returns the values of the columns.
    pub(super) unsafe fn read(value: impl Fn(usize) -> Option<pg_sys::Datum>, first: usize) -> RowVersion {
        // SAFETY: the caller guarantees this, and the columns have these types.
        unsafe {
            let text = |place| value(place).and_then(|datum| String::from_datum(datum, false));
            RowVersion {
                table: value(first)
                    .and_then(|oid| pg_sys::Oid::from_datum(oid, false))
                    .map_or(0, |oid| oid.to_u32()),
                ctid: text(first + 1).unwrap_or_default(),
                xmin: text(first + 2).unwrap_or_default(),
            }
        }
    }
}

impl Mismatch {
    pub(super) fn are_many(mismatches: &[Mismatch]) -> bool {
        let bytes: usize = mismatches.iter().map(|mismatch| mismatch.record.len() + mismatch.id.len()).sum();
        mismatches.len() >= MANY || bytes >= MANY_BYTES
    }

    /// Whether the index holds what it should.
    pub(super) fn is_as_expected(&self, found: Option<Fingerprint>) -> bool {
        match &self.expects {
            Expects::Row { print, .. } => found == Some(*print),
            Expects::Nothing => found.is_none(),
        }
    }
}

impl Comparison<'_> {
    /// Counts the mismatches that are confirmed. For a repair, queues their records again or keeps them to be
    /// corrected.
    pub(super) fn settle(&mut self, mismatches: Vec<Mismatch>) -> SqlResult<()> {
        let mut confirmed = self.confirmed(mismatches)?;
        for (mismatch, found) in &confirmed {
            match (&mismatch.expects, found) {
                (Expects::Row { .. }, None) => self.tally.missing += 1,
                (Expects::Row { .. }, Some(_)) => self.tally.different += 1,
                (Expects::Nothing, _) => self.tally.orphaned += 1,
            }
        }
        if let Some(writer) = &mut self.writer {
            let records = confirmed.iter_mut().map(|(mismatch, _)| &mut mismatch.record);
            self.tally.repaired += send_again(writer, records)?;
        }
        if let Some(pending_corrections) = &mut self.pending_corrections {
            confirmed
                .into_iter()
                .for_each(|(mismatch, _)| pending_corrections.keep(mismatch.key, mismatch.id));
        }
        Ok(())
    }

    /// Returns the mismatches that are confirmed, with what the index holds instead.
    ///
    /// At a time T, nothing about them is waiting, and all that was delivered by then is visible in the index. Then the
    /// index is asked. If a row has the same version afterwards, it has had it since before T, so the index should hold
    /// it. If there was no row before and there is none afterwards, a row may have been inserted and deleted meanwhile.
    /// So such a mismatch is checked again, unless nothing was queued meanwhile.
    fn confirmed(
        &mut self,
        mut mismatches: Vec<Mismatch>,
    ) -> SqlResult<Vec<(Mismatch, Option<Fingerprint>)>> {
        for round in 1.. {
            let enqueued = self.index_client.enqueued();
            mismatches = self.not_waiting(mismatches)?;
            if mismatches.is_empty() {
                break;
            }
            self.index_client.wait_until_indexed()?;
            let ids: Vec<&str> = mismatches.iter().map(|mismatch| mismatch.id.as_str()).collect();
            let found = self.index_client.objects(&ids)?;
            let mut unlike: Vec<(Mismatch, Option<Fingerprint>)> =
                mismatches.into_iter().zip(found).collect();
            unlike.retain(|(mismatch, found)| !mismatch.is_as_expected(*found));
            let still = self.still_the_same(unlike.iter().map(|(mismatch, _)| mismatch))?;
            let mut still = still.into_iter();
            unlike.retain(|_| still.next().unwrap_or(false));
            let rows_come_and_go =
                unlike.iter().any(|(mismatch, _)| matches!(mismatch.expects, Expects::Nothing));
            if !rows_come_and_go || round == ROUNDS || enqueued == self.index_client.enqueued() {
                let (mismatches, found): (Vec<_>, Vec<_>) = unlike.into_iter().unzip();
                let waiting = self.waiting(&mismatches)?;
                let confirmed = mismatches.into_iter().zip(found);
                return Ok(confirmed.filter(|(mismatch, _)| !waiting.contains(&mismatch.object)).collect());
            }
            mismatches = unlike.into_iter().map(|(mismatch, _)| mismatch).collect();
        }
        Ok(Vec::new())
    }

    /// Drops mismatches whose object is still to be delivered or was rejected.
    fn not_waiting(&mut self, mut mismatches: Vec<Mismatch>) -> SqlResult<Vec<Mismatch>> {
        let waiting = self.waiting(&mismatches)?;
        mismatches.retain(|mismatch| !waiting.contains(&mismatch.object));
        Ok(mismatches)
    }

    /// Which objects of the mismatches are in the queue or among the dead letters: now, or, in append mode, at the
    /// first call.
    fn waiting(&mut self, mismatches: &[Mismatch]) -> SqlResult<HashSet<String>> {
        let objects = mismatches.iter().map(|mismatch| mismatch.object.as_str());
        if mismatches.is_empty() {
            return Ok(HashSet::new());
        }
        if self.present.is_some() {
            let objects: Vec<&str> = objects.collect();
            let index_id = self.rules.index_id;
            let Some(objects) = objects.into_datum() else { return Ok(HashSet::new()) };
            let arguments = [(pg_sys::INT4OID, index_id.into()), (pg_sys::TEXTARRAYOID, objects)];
            let query = include_str!("../../../../sql/reconcile/waiting_objects.sql");
            let found = as_owner(|| all_rows(query, &arguments, |row| row.get::<String>(1)))?;
            return Ok(found.into_iter().flatten().collect());
        }
        let backlog = match self.backlog.take() {
            Some(backlog) => backlog,
            None => as_owner(|| self.read_backlog())?,
        };
        let waiting = objects.filter(|object| backlog.contains(object)).map(str::to_owned).collect();
        self.backlog = Some(backlog);
        Ok(waiting)
    }

    /// All records of a source in append mode that wait or are dead letters. There is no index by object, and nothing
    /// else needs one, so all of them are read, but only once. A row that the comparison sees was committed together
    /// with its record, before this query. So if its record is not found here, it has been delivered by now. If it is
    /// queued again meanwhile, it replaces an equal record.
    fn read_backlog(&self) -> SqlResult<StringSet> {
        let arguments = [(pg_sys::INT4OID, self.rules.index_id.into()), (pg_sys::INT4OID, self.id.into())];
        let cursor = Cursor::open(include_str!("../../../../sql/reconcile/waiting_records.sql"), &arguments);
        let mut backlog = StringSetBuilder::new(MOST_WAITING);
        let mut read = |descriptor, tuples: &[pg_sys::HeapTuple]| {
            let mut scratch = Scratch::new();
            for tuple in tuples {
                // SAFETY: the query has one column, a text that is never null.
                let object = scratch.within(|| unsafe {
                    let record = pg_sys::SPI_getbinval(*tuple, descriptor, 1, &mut false);
                    identity_of(&utf8(varlena_bytes(record)))
                })?;
                scratch.give_back_if_large();
                if !backlog.add(&object) {
                    return Err(too_many_wait(&self.table.name));
                }
            }
            Ok(())
        };
        while cursor.fetch(FETCH, &mut read)?.is_some() {
            pgrx::check_for_interrupts!();
        }
        cursor.close();
        Ok(backlog.build())
    }

    /// For each mismatch, whether its row still has the same version, or still does not exist.
    fn still_the_same<'s>(&mut self, mismatches: impl Iterator<Item = &'s Mismatch>) -> SqlResult<Vec<bool>> {
        let mismatches: Vec<&Mismatch> = mismatches.collect();
        let places = mismatches.iter().filter_map(|mismatch| match &mismatch.expects {
            Expects::Row { place, .. } => Some(place.ctid.clone()),
            Expects::Nothing => None,
        });
        let places: Vec<String> = places.collect();
        let alive = if places.is_empty() { HashSet::new() } else { self.alive(places)? };
        let gone: Vec<&Mismatch> = mismatches
            .iter()
            .copied()
            .filter(|mismatch| matches!(mismatch.expects, Expects::Nothing))
            .collect();
        let gone: HashSet<&str> = self.without_row(&gone)?.into_iter().collect();
        let still = mismatches.iter().map(|mismatch| match &mismatch.expects {
            Expects::Row { place, .. } => alive.contains(place),
            Expects::Nothing => gone.contains(mismatch.id.as_str()),
        });
        Ok(still.collect())
    }

    /// The versions of the rows that are at these locations now.
    fn alive(&self, places: Vec<String>) -> SqlResult<HashSet<RowVersion>> {
        let query = format!(
            "select t.tableoid, t.ctid::pg_catalog.text, t.xmin::pg_catalog.text from {}{} as t
             where t.ctid = any ($1::pg_catalog.tid[])",
            self.table.only()?,
            self.table.name
        );
        let Some(places) = places.into_datum() else { return Ok(HashSet::new()) };
        let found = all_rows(&query, &[(pg_sys::TEXTARRAYOID, places)], |row| RowVersion {
            table: row.get::<pg_sys::Oid>(1).map_or(0, |oid| oid.to_u32()),
            ctid: row.get(2).unwrap_or_default(),
            xmin: row.get(3).unwrap_or_default(),
        })?;
        Ok(found.into_iter().collect())
    }
}

fn too_many_wait(table: &str) -> Box<SqlError> {
    sql_error(
        PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        format!("cannot compare table {table} while more than {MOST_WAITING} of its records wait"),
        "Call audit_algolia.reconcile() again when fewer records wait. Dead letters count too; audit_algolia.queue_stats() shows both.",
    )
}

/// Queues records again and returns how many.
fn send_again<'r>(writer: &mut QueueWriter, records: impl Iterator<Item = &'r mut Buffer>) -> SqlResult<i64> {
    let mut sent = 0;
    for record in records {
        if writer.push(record)? {
            writer.flush()?;
        }
        sent += 1;
    }
    writer.flush()?;
    Ok(sent)
}
