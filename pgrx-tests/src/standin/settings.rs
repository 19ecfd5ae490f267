//! Owns the names that Algolia knows: settings and search parameters. An unknown one is refused by name.

use serde_json::{json, Map, Value};

use super::reply::Refusal;

const SETTINGS: &str = "attributesForFaceting replicas paginationLimitedTo unretrievableAttributes \
    disableTypoToleranceOnWords attributesToTransliterate camelCaseAttributes decompoundedAttributes \
    indexLanguages disablePrefixOnAttributes allowCompressionOfIntegerArray numericAttributesForFiltering \
    separatorsToIndex searchableAttributes userData customNormalization attributeForDistinct maxFacetHits \
    keepDiacriticsOnCharacters customRanking attributesToRetrieve ranking relevancyStrictness \
    attributesToHighlight attributesToSnippet highlightPreTag highlightPostTag snippetEllipsisText \
    restrictHighlightAndSnippetArrays hitsPerPage minWordSizefor1Typo minWordSizefor2Typos typoTolerance \
    allowTyposOnNumericTokens disableTypoToleranceOnAttributes ignorePlurals removeStopWords queryLanguages \
    decompoundQuery enableRules enablePersonalization queryType removeWordsIfNoResults mode semanticSearch \
    advancedSyntax optionalWords disableExactOnAttributes exactOnSingleWordQuery alternativesAsExact \
    advancedSyntaxFeatures distinct replaceSynonymsInHighlight minProximity responseFields \
    maxValuesPerFacet sortFacetValuesBy attributeCriteriaComputedByMinProximity renderingContent \
    enableReRanking reRankingApplyFilter attributesToIndex slaves numericAttributesToIndex";

const SEARCH_ONLY: &str =
    "query similarQuery filters facetFilters optionalFilters numericFilters tagFilters \
    sumOrFiltersScores restrictSearchableAttributes facets facetingAfterDistinct page offset length \
    aroundLatLng aroundLatLngViaIP aroundRadius aroundPrecision minimumAroundRadius insideBoundingBox \
    insidePolygon naturalLanguages ruleContexts personalizationImpact userToken getRankingInfo synonyms \
    clickAnalytics analytics analyticsTags percentileComputation enableABTest cursor";

/// Checks the names in a settings update.
pub(super) fn check_settings(patch: &Map<String, Value>) -> Result<(), Refusal> {
    match patch.keys().find(|key| !knows(SETTINGS, key)) {
        Some(key) => Err(Refusal::bad(format!("Invalid object attributes: {key} near line:1 column:1"))),
        None => Ok(()),
    }
}

/// Checks the names in a query.
pub(super) fn check_search(params: &Map<String, Value>) -> Result<(), Refusal> {
    match params.keys().find(|key| !knows(SETTINGS, key) && !knows(SEARCH_ONLY, key)) {
        Some(key) => Err(Refusal::bad(format!("Unknown parameter: {key}"))),
        None => Ok(()),
    }
}

fn knows(names: &str, name: &str) -> bool {
    names.split_ascii_whitespace().any(|known| known == name)
}

/// The settings as a GET shows them: what was set over the defaults.
pub(super) fn shown(stored: &Map<String, Value>) -> Value {
    let mut all = json!({
        "minWordSizefor1Typo": 4,
        "minWordSizefor2Typos": 8,
        "hitsPerPage": 20,
        "maxValuesPerFacet": 100,
        "version": 2,
        "searchableAttributes": null,
        "numericAttributesForFiltering": null,
        "attributesToRetrieve": null,
        "unretrievableAttributes": null,
        "attributesForFaceting": null,
        "attributesToHighlight": null,
        "attributesToSnippet": null,
        "paginationLimitedTo": 1000,
        "attributeForDistinct": null,
        "exactOnSingleWordQuery": "attribute",
        "ranking": ["typo", "geo", "words", "filters", "proximity", "attribute", "exact", "custom"],
        "customRanking": null,
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
