//! Indices, and the records that they hold.

use std::cell::RefCell;
use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use serde_json::{Map, Value};

use super::filter::unwrap;
use super::postings::{Column, FacetKey, Postings};
use super::record::{ById, Record};

/// A record with its id.
pub(super) type Found<'a> = (&'a String, &'a Record);

/// With so many records an index prepares what it declares, and does not leave that to the first search.
const MANY: usize = 10_000;

/// One index.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    pub(super) records: Records,
    pub(super) settings: Map<String, Value>,
    pub(super) created: String,
    pub(super) updated: String,
}

/// All indices by name.
pub(super) type Indices = BTreeMap<String, Index>;

impl Index {
    /// Prepares searches by what the settings declare, if there are many records.
    pub(super) fn prepare(&self) {
        if self.records.len() < MANY {
            return;
        }
        let entries = |name: &str| {
            let list = self.settings.get(name).and_then(Value::as_array);
            let entries = list.into_iter().flatten().filter_map(Value::as_str);
            entries.flat_map(|entry| entry.split(',')).map(|entry| unwrap(entry).1)
        };
        entries("attributesForFaceting").for_each(|path| self.records.facets(path, |_| ()));
        entries("numericAttributesForFiltering").for_each(|path| self.records.numbers(path, |_, _| ()));
        entries("searchableAttributes").for_each(|path| self.records.words(path, |_| ()));
        entries("customRanking").take(1).for_each(|path| self.records.ranks(path, |_| ()));
    }

    /// Adds a record, or takes it for the one that has its id.
    pub(super) fn insert(&mut self, id: String, record: Record) {
        self.records.insert(id, record);
        if self.records.len() == MANY {
            self.prepare();
        }
    }
}

/// What an index holds. Each record has a number, by which the postings know it.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    by_id: ById,
    /// Ids by number.
    ids: Vec<String>,
    /// Numbers below `ids.len()` that no record has.
    free: Vec<u32>,
    all: RoaringBitmap,
    postings: RefCell<Postings>,
}

impl Records {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Found<'_>> {
        self.by_id.iter().map(|(id, (_, record))| (id, record))
    }

    pub(super) fn get(&self, id: &str) -> Option<&Record> {
        self.by_id.get(id).map(|(_, record)| record)
    }

    /// The number of the record with this id.
    pub(super) fn number_of(&self, id: &str) -> Option<u32> {
        self.by_id.get(id).map(|(number, _)| *number)
    }

    /// The numbers of all records.
    pub(super) fn all(&self) -> &RoaringBitmap {
        &self.all
    }

    /// The record with this number.
    pub(super) fn numbered(&self, number: u32) -> Option<Found<'_>> {
        let (id, (_, record)) = self.by_id.get_key_value(self.ids.get(number as usize)?)?;
        Some((id, record))
    }

    /// Looks at the values of an attribute as facets show them.
    pub(super) fn facets<T>(&self, path: &str, look: impl FnOnce(&Column<FacetKey>) -> T) -> T {
        look(self.postings.borrow_mut().facets.column(path, &self.by_id))
    }

    /// Looks at the numbers of an attribute, in buckets and in spans.
    pub(super) fn numbers<T>(&self, path: &str, look: impl FnOnce(&Column<i64>, &Column<i64>) -> T) -> T {
        let postings = &mut *self.postings.borrow_mut();
        look(postings.numbers.column(path, &self.by_id), postings.spans.column(path, &self.by_id))
    }

    /// Looks at the number of an attribute that counts for ranking, in buckets.
    pub(super) fn ranks<T>(&self, path: &str, look: impl FnOnce(&Column<i64>) -> T) -> T {
        look(self.postings.borrow_mut().ranks.column(path, &self.by_id))
    }

    /// Looks at the words of an attribute, or of the whole record if there is no path.
    pub(super) fn words<T>(&self, path: &str, look: impl FnOnce(&Column<String>) -> T) -> T {
        look(self.postings.borrow_mut().words.column(path, &self.by_id))
    }

    fn insert(&mut self, id: String, record: Record) {
        self.remove(&id);
        let number = self.free.pop().unwrap_or(self.ids.len() as u32);
        match self.ids.get_mut(number as usize) {
            Some(place) => id.clone_into(place),
            None => self.ids.push(id.clone()),
        }
        self.all.insert(number);
        self.postings.get_mut().add(number, &record);
        self.by_id.insert(id, (number, record));
    }

    pub(super) fn remove(&mut self, id: &str) {
        if let Some((number, record)) = self.by_id.remove(id) {
            self.postings.get_mut().remove(number, &record);
            self.all.remove(number);
            self.free.push(number);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Records::default();
    }
}
