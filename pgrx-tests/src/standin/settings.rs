//! The settings of an index, as a GET request shows them.

use serde_json::{json, Map, Value};

/// The stored settings over the defaults. A setting without a default that was not set is left out.
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
