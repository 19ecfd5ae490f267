//! Queues records of rows that a table already holds, as if each had just been inserted.
//!
//! The backfill process calls this with the rights of the table's owner, who also owns the filters and the output
//! functions of the table's types.

use std::collections::HashMap;

use pgrx::pg_sys;

use super::queue::{record_buffer, QueueAction, QueueWriter};
use super::record_maker::RecordMaker;
use super::row_fetcher::{not_watched, RowFetcher, RowLock};
use super::scratch::Scratch;
use crate::backfill::TupleVersion;
use crate::pg::report::SqlResult;
use crate::record::{Buffer, Change, ChangeOrigin, Operation};

/// The number of the change record for a row that existed before the watch: however often it is made, its objectID is
/// the same.
const BEFORE_ALL: i64 = 0;

/// Writes records of existing rows of one source.
pub(in crate::pg) struct HistoryWriter {
    source: i32,
    writer: QueueWriter,
    maker: RecordMaker,
    unknown: ChangeOrigin,
    fetchers: HashMap<u32, RowFetcher>,
    record: Buffer,
    /// Memory for reading a row.
    scratch: Scratch,
    bytes: usize,
}

/// The result of writing a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pg) enum HistoryWrite {
    Queued,
    /// The filter excludes the row, or the row has changed and its trigger has queued it.
    LeftOut,
    /// Somebody else has locked the row and may be changing it.
    Locked,
}

impl HistoryWriter {
    /// Ids are taken from `sequence`. Without one, the rows are queued as if they had just been written.
    pub(in crate::pg) fn open(
        source: i32,
        index_id: i32,
        sequence: Option<pg_sys::Oid>,
    ) -> SqlResult<HistoryWriter> {
        Ok(HistoryWriter {
            source,
            writer: match sequence {
                Some(sequence) => QueueWriter::open_for_history(index_id, source, sequence)?,
                None => QueueWriter::open(index_id, source)?,
            },
            maker: RecordMaker::current(),
            unknown: ChangeOrigin::unknown(),
            fetchers: HashMap::new(),
            record: record_buffer(),
            scratch: Scratch::new(),
            bytes: 0,
        })
    }

    /// Fetches a row that the active snapshot has just shown; `None` if it is gone.
    pub(in crate::pg) fn fetch(
        &mut self,
        relation: pg_sys::Oid,
        place: pg_sys::ItemPointerData,
    ) -> SqlResult<Option<TupleVersion>> {
        let fetcher = self.fetcher(relation)?;
        // SAFETY: the slot holds the fetched row.
        Ok(fetcher.fetch(place).then(|| unsafe { fetcher.version(relation) }))
    }

    /// Queues the row fetched last, unless the filter excludes it.
    pub(in crate::pg) fn write(&mut self, relation: pg_sys::Oid) -> SqlResult<HistoryWrite> {
        let Some(fetcher) = self.fetchers.get(&relation.to_u32()) else { return Ok(HistoryWrite::LeftOut) };
        let is_mirrored = fetcher.bound.is_mirrored;
        // SAFETY: the slot holds a row of the relation that rules and filter were bound to.
        unsafe {
            if !fetcher.accepts() {
                return Ok(HistoryWrite::LeftOut);
            }
            if is_mirrored {
                match fetcher.lock() {
                    RowLock::Taken => (),
                    RowLock::Changed => return Ok(HistoryWrite::LeftOut),
                    RowLock::Busy => return Ok(HistoryWrite::Locked),
                }
            }
        }
        let mut scratch = std::mem::replace(&mut self.scratch, Scratch::new());
        let rendered = scratch.within(|| self.render(relation));
        scratch.give_back_if_large();
        self.scratch = scratch;
        rendered?;
        self.bytes += self.record.len();
        let is_full = match is_mirrored {
            true => self.writer.push_version(QueueAction::AddObject, &mut self.record)?,
            false => self.writer.push(&mut self.record)?,
        };
        if is_full {
            self.writer.flush()?;
        }
        Ok(HistoryWrite::Queued)
    }

    /// Makes the record of the row fetched last.
    fn render(&mut self, relation: pg_sys::Oid) -> SqlResult<()> {
        let fetcher = self.fetchers.get(&relation.to_u32()).ok_or_else(|| not_watched("a partition"))?;
        // SAFETY: as in `write`.
        unsafe {
            let (bound, value) = (&fetcher.bound, fetcher.bound.row(fetcher.slot));
            self.record.clear();
            if bound.are_changes {
                let change = Change {
                    operation: Operation::Insert,
                    number: BEFORE_ALL,
                    previous: &[],
                    origin: &self.unknown,
                };
                self.maker.write_change(bound, &change, value, &mut self.record)?;
            } else {
                self.maker.write_record(bound, value, &mut self.record)?;
            }
            // History notifies nobody: it is no news.
            match fetcher.alerts() {
                true => bound.add_alert(&mut self.record),
                false => Ok(()),
            }
        }
    }

    /// The total size of the records queued so far.
    pub(in crate::pg) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the relation is mirrored, so that its triggers queue every change of its rows since the watch began.
    pub(in crate::pg) fn is_mirrored(&self, relation: pg_sys::Oid) -> bool {
        self.fetchers.get(&relation.to_u32()).is_some_and(|fetcher| fetcher.bound.is_mirrored)
    }

    /// Writes the rows that were added.
    pub(in crate::pg) fn flush(&mut self) -> SqlResult<()> {
        self.writer.flush()
    }

    /// Writes the rest and closes everything. After an error, the abort of the transaction does that.
    pub(in crate::pg) fn close(mut self) -> SqlResult<()> {
        self.writer.flush()?;
        for fetcher in self.fetchers.into_values() {
            fetcher.close();
        }
        self.writer.close();
        Ok(())
    }

    fn fetcher(&mut self, oid: pg_sys::Oid) -> SqlResult<&RowFetcher> {
        let key = oid.to_u32();
        if !self.fetchers.contains_key(&key) {
            // The fetcher lives as long as the transaction. SAFETY: the context is the transaction's own. If an error
            // leaves it current, the abort restores the former one.
            let fetcher = unsafe {
                let context = pg_sys::MemoryContextSwitchTo(pg_sys::CurTransactionContext);
                let fetcher = RowFetcher::open(self.source, oid);
                pg_sys::MemoryContextSwitchTo(context);
                fetcher
            };
            self.fetchers.insert(key, fetcher?);
        }
        self.fetchers.get(&key).ok_or_else(|| not_watched("a partition"))
    }
}
