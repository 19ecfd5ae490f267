//! The settings and search parameters that Algolia knows, and their types, after the description of its interface.
//! Others are refused by name.

use serde_json::{Map, Value};

use super::reply::Refusal;
use super::schema::Kind::{
    self, Anything, Either, Filters, Flag, Integer, Null, Object, Shapes, Text, Texts, Word, Words,
};
use super::schema::INTEGER;

type Table = &'static [(&'static str, Kind)];

const LANGUAGES: &[&str] = &[
    "af", "ar", "az", "bg", "bn", "ca", "cs", "cy", "da", "de", "el", "en", "eo", "es", "et", "eu", "fa",
    "fi", "fo", "fr", "ga", "gl", "he", "hi", "hu", "hy", "id", "is", "it", "ja", "ka", "kk", "ko", "ku",
    "ky", "lt", "lv", "mi", "mn", "mr", "ms", "mt", "nb", "nl", "no", "ns", "pl", "ps", "pt", "pt-br", "qu",
    "ro", "ru", "sk", "sq", "sv", "sw", "ta", "te", "th", "tl", "tn", "tr", "tt", "uk", "ur", "uz", "zh",
];

/// Settings that a query cannot change.
const SETTINGS_ONLY: Table = &[
    ("attributesForFaceting", Texts),
    ("replicas", Texts),
    ("paginationLimitedTo", Integer(0, 20_000)),
    ("unretrievableAttributes", Texts),
    ("disableTypoToleranceOnWords", Texts),
    ("attributesToTransliterate", Texts),
    ("camelCaseAttributes", Texts),
    ("decompoundedAttributes", Object),
    ("indexLanguages", Words(LANGUAGES)),
    ("disablePrefixOnAttributes", Texts),
    ("allowCompressionOfIntegerArray", Flag),
    ("numericAttributesForFiltering", Texts),
    ("separatorsToIndex", Text),
    ("searchableAttributes", Texts),
    ("userData", Anything),
    ("customNormalization", Object),
    ("attributeForDistinct", Text),
    ("keepDiacriticsOnCharacters", Text),
    ("customRanking", Texts),
];

/// Settings that a query can override.
const SETTINGS: Table = &[
    ("attributesToRetrieve", Texts),
    ("ranking", Texts),
    ("relevancyStrictness", Integer(0, 100)),
    ("attributesToHighlight", Texts),
    ("attributesToSnippet", Texts),
    ("highlightPreTag", Text),
    ("highlightPostTag", Text),
    ("snippetEllipsisText", Text),
    ("restrictHighlightAndSnippetArrays", Flag),
    ("hitsPerPage", Integer(1, 1000)),
    ("minWordSizefor1Typo", INTEGER),
    ("minWordSizefor2Typos", INTEGER),
    ("typoTolerance", Either(&[Flag, Word(&["min", "strict", "true", "false"])])),
    ("allowTyposOnNumericTokens", Flag),
    ("disableTypoToleranceOnAttributes", Texts),
    ("ignorePlurals", Either(&[Flag, Words(LANGUAGES), Word(&["true", "false"])])),
    ("removeStopWords", Either(&[Flag, Words(LANGUAGES)])),
    ("queryLanguages", Words(LANGUAGES)),
    ("decompoundQuery", Flag),
    ("enableRules", Flag),
    ("enablePersonalization", Flag),
    ("queryType", Word(&["prefixLast", "prefixAll", "prefixNone"])),
    ("removeWordsIfNoResults", Word(&["none", "lastWords", "firstWords", "allOptional"])),
    ("mode", Word(&["neuralSearch", "keywordSearch"])),
    ("semanticSearch", Object),
    ("advancedSyntax", Flag),
    ("optionalWords", Either(&[Text, Texts, Null])),
    ("disableExactOnAttributes", Texts),
    ("exactOnSingleWordQuery", Word(&["attribute", "none", "word"])),
    (
        "alternativesAsExact",
        Words(&["ignorePlurals", "singleWordSynonym", "multiWordsSynonym", "ignoreConjugations"]),
    ),
    ("advancedSyntaxFeatures", Words(&["exactPhrase", "excludeWords"])),
    ("distinct", Either(&[Flag, Integer(0, 4)])),
    ("replaceSynonymsInHighlight", Flag),
    ("minProximity", Integer(1, 7)),
    ("responseFields", Texts),
    ("maxValuesPerFacet", Integer(0, 1000)),
    ("maxFacetHits", Integer(0, 100)),
    ("sortFacetValuesBy", Word(&["count", "alpha"])),
    ("attributeCriteriaComputedByMinProximity", Flag),
    ("renderingContent", Object),
    ("enableReRanking", Flag),
    ("reRankingApplyFilter", Either(&[Filters, Null])),
];

/// Parameters that only a query has. A query may ask for no hits at all, which a setting may not.
const QUERY: Table = &[
    ("hitsPerPage", Integer(0, 1000)),
    ("query", Text),
    ("similarQuery", Text),
    ("filters", Text),
    ("facetFilters", Filters),
    ("optionalFilters", Filters),
    ("numericFilters", Filters),
    ("tagFilters", Filters),
    ("sumOrFiltersScores", Flag),
    ("restrictSearchableAttributes", Texts),
    ("facets", Texts),
    ("facetingAfterDistinct", Flag),
    ("page", Integer(0, i64::MAX)),
    ("offset", Integer(0, i64::MAX)),
    ("length", Integer(0, 1000)),
    ("aroundLatLng", Text),
    ("aroundLatLngViaIP", Flag),
    ("aroundRadius", Either(&[Integer(1, i64::MAX), Word(&["all"])])),
    ("aroundPrecision", Either(&[INTEGER, Anything])),
    ("minimumAroundRadius", Integer(1, i64::MAX)),
    ("insideBoundingBox", Either(&[Shapes, Text, Null])),
    ("insidePolygon", Shapes),
    ("naturalLanguages", Words(LANGUAGES)),
    ("ruleContexts", Texts),
    ("personalizationImpact", Integer(0, 100)),
    ("userToken", Text),
    ("getRankingInfo", Flag),
    ("synonyms", Flag),
    ("clickAnalytics", Flag),
    ("analytics", Flag),
    ("analyticsTags", Texts),
    ("percentileComputation", Flag),
    ("enableABTest", Flag),
];

/// Checks a settings update. Null gives a setting its default.
pub(super) fn check_settings(patch: &Map<String, Value>) -> Result<(), Refusal> {
    for (name, value) in patch {
        let Some(kind) = find(&[SETTINGS_ONLY, SETTINGS], name) else {
            return Err(Refusal::bad(format!("Invalid object attributes: {name} near line:1 column:1")));
        };
        if !value.is_null() && !kind.takes(value, false) {
            return Err(wrong(name, kind));
        }
    }
    Ok(())
}

/// Checks the parameters of a query.
pub(super) fn check_search(params: &Map<String, Value>) -> Result<(), Refusal> {
    check(params, |name| find(&[QUERY, SETTINGS], name))
}

/// Checks a body against a table of members.
pub(super) fn check_members(body: &Map<String, Value>, table: Table) -> Result<(), Refusal> {
    check(body, |name| find(&[table], name))
}

fn check(params: &Map<String, Value>, kind_of: impl Fn(&str) -> Option<Kind>) -> Result<(), Refusal> {
    for (name, value) in params {
        let Some(kind) = kind_of(name) else {
            return Err(Refusal::bad(format!("Unknown parameter: {name}")));
        };
        if !kind.takes(value, true) {
            return Err(wrong(name, kind));
        }
    }
    Ok(())
}

/// A parameter from a query string.
pub(super) fn read(name: &str, text: String) -> Value {
    find(&[QUERY, SETTINGS], name).unwrap_or(Text).read(text)
}

fn find(tables: &[Table], name: &str) -> Option<Kind> {
    let mut known = tables.iter().copied().flatten();
    known.find(|(known, _)| *known == name).map(|(_, kind)| *kind)
}

fn wrong(name: &str, kind: Kind) -> Refusal {
    Refusal::bad(format!("Invalid value for \"{name}\" parameter, expected {}", kind.expected()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(check: fn(&Map<String, Value>) -> Result<(), Refusal>, body: Value) -> Option<String> {
        check(body.as_object().unwrap()).err().map(|refusal| refusal.message)
    }

    #[test]
    fn settings_are_checked_by_name_and_value() {
        for body in [
            json!({"maxValuesPerFacet": 1000, "hitsPerPage": null, "distinct": 2, "typoTolerance": "min"}),
            json!({"optionalWords": "a", "userData": [1], "paginationLimitedTo": 20000}),
        ] {
            assert_eq!(refusal(check_settings, body), None);
        }
        for (body, expected) in [
            (json!({"nonsense": 1}), "Invalid object attributes: nonsense near line"),
            (json!({"facets": ["a"]}), "Invalid object attributes: facets near line"),
            (json!({"maxValuesPerFacet": "many"}), "expected integer between 0 and 1000"),
            (json!({"hitsPerPage": 1001}), "\"hitsPerPage\" parameter, expected integer between 1 and 1000"),
            (json!({"hitsPerPage": 0}), "expected integer between 1 and 1000"),
            (json!({"attributesForFaceting": "a"}), "expected array of strings"),
            (json!({"paginationLimitedTo": 20001}), "between 0 and 20000"),
            (json!({"queryType": "prefixFirst"}), "expected one of \"prefixLast\""),
            (json!({"indexLanguages": ["xx"]}), "expected array of \"af\""),
        ] {
            let found = refusal(check_settings, body.clone()).unwrap_or_default();
            assert!(found.contains(expected), "{body}: {found}");
        }
    }

    #[test]
    fn queries_are_checked_by_name_and_value() {
        assert_eq!(refusal(check_search, json!({"hitsPerPage": 0, "facets": "a", "tagFilters": ""})), None);
        for (body, expected) in [
            (json!({"nope": 1}), "Unknown parameter: nope"),
            (json!({"customRanking": []}), "Unknown parameter: customRanking"),
            (json!({"hitsPerPage": 1001}), "expected integer between 0 and 1000"),
            (json!({"page": -1}), "expected integer of 0 or more"),
            (json!({"filters": ["a:1"]}), "expected string"),
            (json!({"clickAnalytics": "true"}), "expected boolean"),
        ] {
            let found = refusal(check_search, body.clone()).unwrap_or_default();
            assert!(found.contains(expected), "{body}: {found}");
        }
    }
}
