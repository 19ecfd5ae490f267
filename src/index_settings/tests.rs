//! The settings that follow from the rules.

use super::*;

fn list(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Columns with the same names as their attributes.
fn columns(names: &[&str]) -> Vec<WatchedColumn> {
    names
        .iter()
        .map(|name| WatchedColumn { name: (*name).to_owned(), attribute: (*name).to_owned() })
        .collect()
}

/// The log of the quick start.
fn access_log() -> SourceFacts {
    let mut facts = SourceFacts {
        columns: columns(&["user_id", "report_id", "event", "at"]),
        pseudonymize: list(&["user_id"]),
        object_id: list(&["id"]),
        time_column: Some("at".to_owned()),
        facets: list(&["event", "report"]),
        kinds: vec![("id".to_owned(), ValueKind::Number), ("report_id".to_owned(), ValueKind::Number)],
        ..SourceFacts::default()
    };
    facts.columns[1].attribute = "report".to_owned();
    facts
}

#[test]
fn a_log_is_ranked_by_time_and_counted_by_hour_and_event() {
    assert_eq!(
        index_settings(&[access_log()]),
        json!({
            "attributesForFaceting": ["searchable(event)", "report", "filterOnly(user_id)",
                "at_day", "at_hour", "at_weekday", "at_hour_of_day"],
            "customRanking": ["desc(at)"],
            "numericAttributesForFiltering": ["report", "at"],
            "searchableAttributes": ["unordered(user_id)", "unordered(report)", "unordered(event)"],
            "disableTypoToleranceOnAttributes": ["user_id"],
            "attributesToHighlight": [],
            "maxValuesPerFacet": 1000,
        })
    );
}

#[test]
fn pseudonyms_of_numbers_are_texts() {
    let mut facts = access_log();
    facts.pseudonymize = list(&["user_id", "report_id"]);
    let settings = index_settings(&[facts]);
    assert_eq!(settings["numericAttributesForFiltering"], json!(["at"]));
    assert_eq!(settings["attributesForFaceting"][1], "searchable(report)");
}

#[test]
fn changes_are_asked_for_by_row_by_who_and_by_when() {
    let permission = SourceFacts {
        columns: columns(&["id", "document", "holder", "level"]),
        object_id: list(&["id", "part"]),
        facets: list(&["document", "op", "changed_at", "previous.level"]),
        are_changes: true,
        ..SourceFacts::default()
    };
    let settings = index_settings(&[permission]);
    assert_eq!(
        settings["attributesForFaceting"],
        json!([
            "searchable(document)",
            "op",
            "changed_at",
            "previous.level",
            "changed",
            "searchable(changed_by)",
            "filterOnly(transaction_id)",
            "filterOnly(id)"
        ])
    );
    assert_eq!(settings["customRanking"], json!(["desc(changed_at)"]));
    assert_eq!(settings["numericAttributesForFiltering"], json!(["changed_at"]));
    assert_eq!(settings["disableTypoToleranceOnAttributes"], json!(["changed_by"]));
}

#[test]
fn sources_of_one_index_have_all_that_each_of_them_needs() {
    let mut other = access_log();
    other.facets = list(&["user_id", "event", "at_day"]);
    other.time_column = None;
    let mut third = access_log();
    third.columns = columns(&["at", "event"]);
    third.are_changes = true;
    let settings = index_settings(&[access_log(), other, third]);
    assert_eq!(
        settings["attributesForFaceting"],
        json!([
            "searchable(event)",
            "report",
            "searchable(user_id)",
            "at_day",
            "at_hour",
            "at_weekday",
            "at_hour_of_day",
            "op",
            "changed",
            "searchable(changed_by)",
            "filterOnly(transaction_id)"
        ])
    );
    assert_eq!(settings["customRanking"], json!(["desc(at)", "desc(changed_at)"]));
    assert_eq!(
        settings["searchableAttributes"],
        json!([
            "unordered(user_id)",
            "unordered(report)",
            "unordered(event)",
            "unordered(at)",
            "unordered(changed_by)"
        ])
    );
}

#[test]
fn too_many_searchable_facets_are_counted_only() {
    let names: Vec<String> = (0..33).map(|n| format!("c{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let of = |names: &[&str]| {
        let facts = SourceFacts { columns: columns(names), facets: list(names), ..SourceFacts::default() };
        index_settings(&[facts])["attributesForFaceting"][0].clone()
    };
    assert_eq!(of(&names[..32]), "searchable(c0)");
    assert_eq!(of(&names), "c0");
}
