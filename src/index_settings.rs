//! The settings an index needs so that its records can be searched by time, by who and what, and counted.
//!
//! They follow from the rules of all sources that deliver to the index. Algolia keeps all settings that are not named
//! here.

#![forbid(unsafe_code)]

use serde_json::{json, Map, Value};

use crate::record::ALERT_ATTRIBUTE;
use crate::rules::{bucket_names, WatchedColumn};

/// Algolia returns at most this many values of a facet: almost three years of days, six weeks of hours.
const FACET_VALUES: u32 = 1000;
/// If an index has more searchable facets and searchable attributes than this, Algolia no longer searches for facet
/// values.
const MOST_SEARCHABLE: usize = 65;

/// What the settings depend on, for one source.
#[derive(Clone, Debug, Default)]
pub struct SourceFacts {
    pub columns: Vec<WatchedColumn>,
    pub pseudonymize: Vec<String>,
    /// The key's columns.
    pub object_id: Vec<String>,
    pub time_column: Option<String>,
    /// The attributes that `facets` names.
    pub facets: Vec<String>,
    /// Whether its records are changes.
    pub are_changes: bool,
    /// Whether some of its records alert.
    pub has_alert: bool,
    /// Whether its records are the rows of the table.
    pub is_mirror: bool,
    /// The kind of value of each column of the table.
    pub kinds: Vec<(String, ValueKind)>,
}

/// What the values of a column are in the records, unless they are pseudonymized. For an array: the kind of its
/// elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    Text,
    Number,
    Boolean,
    /// A number as well: seconds since 1970.
    Time,
    Json,
}

impl ValueKind {
    /// The kind's name, in the query of the sources and in the configuration of the audit page.
    pub fn word(self) -> &'static str {
        match self {
            ValueKind::Text => "text",
            ValueKind::Number => "number",
            ValueKind::Boolean => "boolean",
            ValueKind::Time => "time",
            ValueKind::Json => "json",
        }
    }

    /// The kind with this name.
    pub fn of(word: &str) -> Option<ValueKind> {
        let all = [ValueKind::Text, ValueKind::Number, ValueKind::Boolean, ValueKind::Time, ValueKind::Json];
        all.into_iter().find(|kind| kind.word() == word)
    }
}

impl SourceFacts {
    fn attributes_of<'a>(&'a self, columns: &'a [String]) -> impl Iterator<Item = &'a str> {
        let is_meant = |column: &&WatchedColumn| columns.contains(&column.name);
        self.columns.iter().filter(is_meant).map(|column| column.attribute.as_str())
    }

    pub(crate) fn time_attribute(&self) -> Option<&str> {
        let time = self.time_column.as_ref()?;
        self.columns.iter().find(|column| column.name == *time).map(|column| column.attribute.as_str())
    }

    /// Whether the attribute's values are numbers in the records.
    fn is_numeric(&self, attribute: &str) -> bool {
        let column = self.columns.iter().find(|column| column.attribute == attribute);
        column.is_some_and(|column| matches!(self.kind_of(&column.name), ValueKind::Number | ValueKind::Time))
    }

    /// The kind of a column's values in the records. Pseudonyms are texts.
    pub(crate) fn kind_of(&self, column: &str) -> ValueKind {
        let known = self.kinds.iter().find(|(name, _)| name == column && !self.pseudonymize.contains(name));
        known.map_or(ValueKind::Text, |(_, kind)| *kind)
    }
}

/// What an entry of `attributesForFaceting` allows, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    /// Filtering, which costs least.
    Filter,
    /// Counting its values as well.
    Count,
    /// Searching for its values as well.
    Search,
}

/// Settings under construction. Each list has an entry only once, in the order of the sources.
#[derive(Default)]
struct SettingsBuilder {
    faceting: Vec<(String, Use)>,
    searchable: Vec<String>,
    without_typos: Vec<String>,
    ranking: Vec<String>,
    numeric: Vec<String>,
}

/// The settings for the index that these sources deliver to.
pub fn index_settings(sources: &[SourceFacts]) -> Value {
    let mut settings = SettingsBuilder::default();
    for source in sources {
        settings.add_facets(source);
        settings.add_times(source);
        settings.add_searchable(source);
    }
    for source in sources.iter().filter(|source| source.are_changes) {
        settings.add_changes(source);
    }
    settings.finish()
}

impl SettingsBuilder {
    fn facet(&mut self, attribute: &str, usage: Use) {
        match self.faceting.iter_mut().find(|(known, _)| known == attribute) {
            Some((_, known)) => *known = usage.max(*known),
            None => self.faceting.push((attribute.to_owned(), usage)),
        }
    }

    fn add_facets(&mut self, source: &SourceFacts) {
        for facet in &source.facets {
            let is_text = source.columns.iter().any(|column| column.attribute == *facet)
                && !source.is_numeric(facet)
                && source.time_attribute() != Some(facet);
            self.facet(facet, if is_text { Use::Search } else { Use::Count });
            if source.is_numeric(facet) {
                add(&mut self.numeric, facet);
            }
        }
        if source.has_alert {
            self.facet(ALERT_ATTRIBUTE, Use::Count);
        }
        // Somebody who knows a person's pseudonym can filter by it.
        for attribute in source.attributes_of(&source.pseudonymize) {
            self.facet(attribute, Use::Filter);
        }
    }

    fn add_times(&mut self, source: &SourceFacts) {
        if let Some(time) = source.time_attribute() {
            for bucket in bucket_names(time) {
                self.facet(&bucket, Use::Count);
            }
            add(&mut self.numeric, time);
            add(&mut self.ranking, time);
        }
    }

    fn add_searchable(&mut self, source: &SourceFacts) {
        for WatchedColumn { attribute, .. } in &source.columns {
            if source.time_attribute() != Some(attribute) {
                add(&mut self.searchable, attribute);
            }
        }
        // A pseudonym that differs in one character belongs to somebody else.
        for attribute in source.attributes_of(&source.pseudonymize) {
            add(&mut self.without_typos, attribute);
        }
    }

    /// Adds the attributes that only change records have. Records without a time column are ranked by the time of the
    /// change.
    fn add_changes(&mut self, source: &SourceFacts) {
        for attribute in ["op", "changed"] {
            self.facet(attribute, Use::Count);
        }
        self.facet("changed_by", Use::Search);
        self.facet("transaction_id", Use::Filter);
        // The history of one row is found by its key, because the objectID of a change contains a number as well.
        for attribute in source.attributes_of(&source.object_id) {
            self.facet(attribute, Use::Filter);
        }
        add(&mut self.numeric, "changed_at");
        add(&mut self.ranking, "changed_at");
        add(&mut self.searchable, "changed_by");
        add(&mut self.without_typos, "changed_by");
    }

    fn finish(self) -> Value {
        let searchable_facets = self.faceting.iter().filter(|(_, usage)| *usage == Use::Search).count();
        let most = if searchable_facets + self.searchable.len() > MOST_SEARCHABLE {
            Use::Count
        } else {
            Use::Search
        };
        let faceting = self.faceting.iter().map(|(attribute, usage)| match usage.min(&most) {
            Use::Filter => format!("filterOnly({attribute})"),
            Use::Count => attribute.clone(),
            Use::Search => format!("searchable({attribute})"),
        });
        let mut settings = Map::new();
        settings.insert("attributesForFaceting".to_owned(), faceting.collect());
        settings.insert(
            "customRanking".to_owned(),
            self.ranking.iter().map(|time| format!("desc({time})")).collect(),
        );
        settings.insert("numericAttributesForFiltering".to_owned(), json!(self.numeric));
        settings.insert(
            "searchableAttributes".to_owned(),
            self.searchable.iter().map(|attribute| format!("unordered({attribute})")).collect(),
        );
        settings.insert("disableTypoToleranceOnAttributes".to_owned(), json!(self.without_typos));
        // Without this, each hit would repeat all of its attributes.
        settings.insert("attributesToHighlight".to_owned(), json!([]));
        settings.insert("maxValuesPerFacet".to_owned(), json!(FACET_VALUES));
        Value::Object(settings)
    }
}

fn add(list: &mut Vec<String>, entry: &str) {
    if !list.iter().any(|known| known == entry) {
        list.push(entry.to_owned());
    }
}

#[cfg(test)]
mod tests;
