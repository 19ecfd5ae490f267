//! What the audit page (`web/`) needs to know of indices and attributes. It contains no secret: the page asks for the
//! search key.
//!
//! The page derives its views from it; `docs/audit-page.md` describes both.

#![forbid(unsafe_code)]

use serde_json::{json, Map, Value};

use crate::index_settings::{index_settings, SourceFacts, ValueKind};
use crate::record::ALERT_ATTRIBUTE;
use crate::rules::WatchedColumn;

/// The version of the configuration's format. The page refuses any other.
const VERSION: u32 = 1;

/// Where the page sends its queries, and the time zone of the time buckets.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// Algolia's application id; empty: the page asks for it.
    pub application_id: String,
    /// Base URLs to use instead of Algolia's own.
    pub hosts: Vec<String>,
    /// The name of a time zone, such as `Europe/Berlin`.
    pub time_zone: String,
}

/// The configuration of a page for these indices, each given by its name and the sources that deliver to it.
pub fn page_config(origin: &Origin, indices: &[(String, Vec<SourceFacts>)]) -> Value {
    let mut config = Map::new();
    config.insert("version".to_owned(), json!(VERSION));
    if !origin.application_id.is_empty() {
        config.insert("application_id".to_owned(), json!(origin.application_id));
    }
    if !origin.hosts.is_empty() {
        config.insert("hosts".to_owned(), json!(origin.hosts));
    }
    config.insert("time_zone".to_owned(), json!(origin.time_zone));
    let indices = indices.iter().map(|(name, sources)| index(name, sources));
    config.insert("indices".to_owned(), indices.collect());
    Value::Object(config)
}

fn index(name: &str, sources: &[SourceFacts]) -> Value {
    let records = if sources.iter().any(|source| source.are_changes) {
        "changes"
    } else if sources.iter().any(|source| source.is_mirror) {
        "rows"
    } else {
        "inserts"
    };
    let mut index = Map::new();
    index.insert("name".to_owned(), json!(name));
    index.insert("records".to_owned(), json!(records));
    if let Some(time) = sources.iter().find_map(SourceFacts::time_attribute) {
        index.insert("time".to_owned(), json!(time));
    }
    let attributes = attributes(sources).into_iter().map(Attribute::into_json);
    index.insert("attributes".to_owned(), attributes.collect());
    let faceting = index_settings(sources)["attributesForFaceting"].take();
    index.insert("attributesForFaceting".to_owned(), faceting);
    Value::Object(index)
}

struct Attribute<'a> {
    name: &'a str,
    kind: ValueKind,
    is_pseudonym: bool,
    is_key: bool,
}

impl Attribute<'_> {
    fn into_json(self) -> Value {
        let mut attribute = Map::new();
        attribute.insert("name".to_owned(), json!(self.name));
        attribute.insert("type".to_owned(), json!(self.kind.word()));
        for (flag, is_set) in [("pseudonym", self.is_pseudonym), ("key", self.is_key)] {
            if is_set {
                attribute.insert(flag.to_owned(), json!(true));
            }
        }
        Value::Object(attribute)
    }
}

/// The attributes of all sources, each once. If two sources give an attribute values of different kinds, it counts as a
/// text.
fn attributes(sources: &[SourceFacts]) -> Vec<Attribute<'_>> {
    let mut attributes: Vec<Attribute<'_>> = Vec::new();
    for source in sources {
        let columns = source.columns.iter().map(|WatchedColumn { name, attribute }| Attribute {
            name: attribute,
            kind: source.kind_of(name),
            is_pseudonym: source.pseudonymize.contains(name),
            is_key: source.object_id.contains(name),
        });
        let alert = source.has_alert.then_some(Attribute {
            name: ALERT_ATTRIBUTE,
            kind: ValueKind::Boolean,
            is_pseudonym: false,
            is_key: false,
        });
        for found in columns.chain(alert) {
            match attributes.iter_mut().find(|known| known.name == found.name) {
                None => attributes.push(found),
                Some(known) => {
                    known.kind = if known.kind == found.kind { known.kind } else { ValueKind::Text };
                    known.is_pseudonym |= found.is_pseudonym;
                    known.is_key |= found.is_key;
                }
            }
        }
    }
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn log() -> SourceFacts {
        let column = |name: &str, attribute: &str| WatchedColumn {
            name: name.to_owned(),
            attribute: attribute.to_owned(),
        };
        SourceFacts {
            columns: vec![column("user_id", "user"), column("report", "report"), column("at", "at")],
            pseudonymize: list(&["user_id"]),
            object_id: list(&["report"]),
            time_column: Some("at".to_owned()),
            facets: list(&["report"]),
            kinds: vec![
                ("user_id".to_owned(), ValueKind::Number),
                ("report".to_owned(), ValueKind::Number),
                ("at".to_owned(), ValueKind::Time),
            ],
            ..SourceFacts::default()
        }
    }

    fn of_one(source: SourceFacts) -> Value {
        let origin = Origin { time_zone: "UTC".to_owned(), ..Origin::default() };
        page_config(&origin, &[("log".to_owned(), vec![source])])
    }

    #[test]
    fn a_log_has_its_time_its_kinds_and_its_facets() {
        assert_eq!(
            of_one(log()),
            json!({
                "version": 1,
                "time_zone": "UTC",
                "indices": [{
                    "name": "log",
                    "records": "inserts",
                    "time": "at",
                    "attributes": [
                        {"name": "user", "type": "text", "pseudonym": true},
                        {"name": "report", "type": "number", "key": true},
                        {"name": "at", "type": "time"},
                    ],
                    "attributesForFaceting": ["report", "filterOnly(user)", "at_day", "at_hour", "at_weekday",
                        "at_hour_of_day"],
                }],
            })
        );
    }

    #[test]
    fn records_are_told_apart_and_the_origin_is_named() {
        let mirror = SourceFacts { is_mirror: true, ..log() };
        assert_eq!(of_one(mirror)["indices"][0]["records"], "rows");
        let changes = SourceFacts { are_changes: true, ..log() };
        assert_eq!(of_one(changes)["indices"][0]["records"], "changes");
        let origin = Origin {
            application_id: "APP".to_owned(),
            hosts: list(&["https://search.example"]),
            time_zone: "Europe/Berlin".to_owned(),
        };
        let config = page_config(&origin, &[]);
        assert_eq!(config["application_id"], "APP");
        assert_eq!(config["hosts"], json!(["https://search.example"]));
        assert_eq!(config["indices"], json!([]));
    }

    #[test]
    fn alerts_are_an_attribute_to_filter_on() {
        let config = of_one(SourceFacts { has_alert: true, ..log() });
        let index = &config["indices"][0];
        assert_eq!(index["attributes"][3], json!({"name": "alert", "type": "boolean"}));
        assert_eq!(index["attributesForFaceting"][1], "alert");
    }

    #[test]
    fn an_attribute_of_two_kinds_is_a_text() {
        let mut other = log();
        other.kinds[1].1 = ValueKind::Json;
        let config = page_config(&Origin::default(), &[("log".to_owned(), vec![log(), other])]);
        assert_eq!(config["indices"][0]["attributes"][1]["type"], "text");
    }
}
