//! Objects of the index that have no row. Only mirrored tables can have orphans; in append mode a record outlives its
//! row.

use std::collections::HashSet;

use pgrx::pg_sys;

use super::comparison::{Comparison, TimeRange};
use super::index_client::Page;
use super::mismatches::{Expects, Mismatch};
use crate::delivery::filters::between;
use crate::delivery::question::PAGE;
use crate::pg::capture::{identity_of_id, OpenTables, RowKey};
use crate::pg::failpoint;
use crate::pg::latest_snapshot::all_rows;
use crate::pg::report::SqlResult;
use crate::record::{split_object_id, Buffer};

/// How many objects are looked up together, when only a scan of the whole table can find their rows.
const AT_A_SCAN: usize = 100_000;
/// The same limit in bytes of their ids.
const AT_A_SCAN_BYTES: usize = 4 << 20;

/// Another source of the same index.
pub(super) struct Neighbour {
    prefix: String,
    parts: usize,
}

/// The other sources of an index. Must be called with the owner's rights.
pub(super) fn neighbours(index_id: i32, source: i32) -> SqlResult<Vec<Neighbour>> {
    let arguments = [(pg_sys::INT4OID, index_id.into()), (pg_sys::INT4OID, source.into())];
    all_rows(include_str!("../../../../sql/reconcile/neighbours.sql"), &arguments, |row| Neighbour {
        prefix: row.get(1).unwrap_or_default(),
        parts: usize::try_from(row.get::<i32>(2).unwrap_or_default()).unwrap_or_default(),
    })
}

impl Neighbour {
    /// Whether an object whose id begins with `prefix` may belong to the neighbour. The longer prefix decides. After a
    /// shorter one, the rest of the id must look like a key.
    fn may_own(&self, id: &str, prefix: &str) -> bool {
        let Some(rest) = id.strip_prefix(self.prefix.as_str()) else {
            return false;
        };
        self.prefix.len() > prefix.len() || split_object_id(rest, self.parts).is_some()
    }
}

impl Comparison<'_> {
    /// Reads the objects of the index and settles those without a row.
    pub(super) fn find_orphans(&mut self, neighbours: &[Neighbour]) -> SqlResult<()> {
        failpoint::reach("before orphans");
        let (prefix, filters) = (self.rules.object_prefix.clone(), self.time_filter());
        let is_hidden = self.rules.object_id.iter().any(|part| self.rules.pseudonymize.contains(part))
            || !self.present.as_ref().is_some_and(OpenTables::reads_all_keys);
        let (mut objects, mut mismatches, mut cursor) = (Vec::new(), Vec::new(), None);
        let (mut size, mut has_settled) = (PAGE, false);
        loop {
            let (ids, next) = match self.index_client.page((&prefix, filters.as_deref()), cursor, size)? {
                Page::Read { ids, next } => (ids, next),
                // The cursor keeps the size of its pages, so reading starts again from the beginning, unless orphans
                // have been counted already, which would be counted twice.
                Page::TooLong(error) if size == 1 || has_settled => return Err(error),
                Page::TooLong(_) => {
                    size /= 2;
                    cursor = None;
                    objects.clear();
                    mismatches.clear();
                    continue;
                }
            };
            let ours = ids.into_iter().filter(|id| !neighbours.iter().any(|one| one.may_own(id, &prefix)));
            for id in ours {
                objects.push(self.object(id, is_hidden)?);
            }
            let bytes: usize = objects.iter().map(|object| object.id.len()).sum();
            let is_over = next.is_none();
            if !is_hidden || is_over || objects.len() >= AT_A_SCAN || bytes >= AT_A_SCAN_BYTES {
                let without: HashSet<String> = self
                    .without_row(&objects.iter().collect::<Vec<_>>())?
                    .into_iter()
                    .map(str::to_owned)
                    .collect();
                let found = std::mem::take(&mut objects).into_iter();
                mismatches.extend(found.filter(|object: &Mismatch| without.contains(&object.id)));
            }
            if is_over || Mismatch::are_many(&mismatches) {
                self.settle(std::mem::take(&mut mismatches))?;
                has_settled = true;
            }
            if is_over {
                return Ok(());
            }
            cursor = next;
            pgrx::check_for_interrupts!();
        }
    }

    /// An object of the index as a mismatch: it is an orphan if it has no row.
    fn object(&self, id: String, is_hidden: bool) -> SqlResult<Mismatch> {
        let rest = id.strip_prefix(self.rules.object_prefix.as_str()).unwrap_or_default();
        let key = match split_object_id(rest, self.rules.object_id.len()) {
            None => RowKey::Impossible,
            Some(_) if is_hidden => RowKey::Hidden,
            Some(parts) => RowKey::Known(parts),
        };
        let object = identity_of_id(&id)?;
        Ok(Mismatch { id, object, key, expects: Expects::Nothing, record: Buffer::default() })
    }

    /// The ids of those objects for which there is no row, and none that another transaction is writing or deleting.
    pub(super) fn without_row<'s>(&mut self, mismatches: &[&'s Mismatch]) -> SqlResult<Vec<&'s str>> {
        let Some(present) = &mut self.present else {
            return Ok(Vec::new());
        };
        let objects: Vec<_> =
            mismatches.iter().map(|mismatch| (&mismatch.key, mismatch.object.as_str())).collect();
        let without = present.without_row(&objects)?;
        let without = mismatches.iter().zip(without).filter(|(_, without)| *without);
        Ok(without.map(|(mismatch, _)| mismatch.id.as_str()).collect())
    }

    /// The range of time as an Algolia filter. It may match records outside the range, which are looked up like the
    /// others.
    fn time_filter(&self) -> Option<String> {
        let TimeRange { since, until } = self.window;
        let time = self.rules.time_column.as_ref()?;
        let column = self.rules.columns.iter().find(|column| column.name == *time)?;
        between(&column.attribute, since, until)
    }
}
