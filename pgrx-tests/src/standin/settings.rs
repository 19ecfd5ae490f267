//! Owns the settings of an index as a GET shows them.

use serde_json::{json, Map, Value};

/// What was set, over the defaults. A setting that has no default and was not set is left out.
pub(super) fn shown(stored: &Map<String, Value>) -> Value {
    let mut all = json!({
        "minWordSizefor1Typo": 4,
        "minWordSizefor2Typos": 8,
        "hitsPerPage": 20,
        "maxValuesPerFacet": 100,
        "paginationLimitedTo": 1000,
        "exactOnSingleWordQuery": "attribute",
        "ranking": ["typo", "geo", "words", "filters", "proximity", "attribute", "exact", "custom"],
        "separatorsToIndex": "",
        "removeWordsIfNoResults": "none",
        "queryType": "prefixLast",
        "highlightPreTag": "<em>",
        "highlightPostTag": "</em>",
        "alternativesAsExact": ["ignorePlurals", "singleWordSynonym"],
    });
    if let Value::Object(all) = &mut all {
        all.extend(stored.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    all
}
