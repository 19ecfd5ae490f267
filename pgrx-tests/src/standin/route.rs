//! Maps methods and paths to calls, with their permissions.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

/// A call of the Search API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Batch,
    MultiBatch,
    Task,
    GetSettings,
    SetSettings,
    GetObjects,
    GetObject,
    AddObject,
    PutObject,
    PartialUpdate,
    DeleteObject,
    Browse,
    Query,
    MultiQuery,
    FacetSearch,
    DeleteBy,
    Clear,
    DeleteIndex,
    Operation,
    ListIndices,
}

impl Call {
    /// The permission that the call needs.
    pub(super) fn acl(self) -> &'static str {
        match self {
            Call::Batch | Call::MultiBatch | Call::Task | Call::Operation => "addObject",
            Call::AddObject | Call::PutObject | Call::PartialUpdate => "addObject",
            Call::GetSettings => "settings",
            Call::SetSettings => "editSettings",
            Call::GetObjects | Call::GetObject => "search",
            Call::Query | Call::MultiQuery | Call::FacetSearch => "search",
            Call::Browse => "browse",
            Call::DeleteObject => "deleteObject",
            Call::DeleteBy | Call::Clear | Call::DeleteIndex => "deleteIndex",
            Call::ListIndices => "listIndexes",
        }
    }

    /// Whether the call changes something.
    pub(super) fn writes(self) -> bool {
        self != Call::Task && !matches!(self.acl(), "search" | "browse" | "settings" | "listIndexes")
    }
}

/// A call, with the parameters in its path and query string.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) call: Call,
    /// The index; `*` for the multi-index calls, empty for calls on the application.
    pub(super) index: String,
    /// The objectID, the task id or the facet.
    pub(super) object: String,
    pub(super) params: BTreeMap<String, String>,
}

/// Finds the call; `None` when there is no such path.
pub(super) fn route(method: &str, path: &str, query: &str) -> Option<Route> {
    let path = path.strip_prefix("/1/")?;
    let segments: Vec<&str> = path.split('/').collect();
    // A path that ends in `/` means the path without it. So a DELETE with an empty objectID deletes the whole index, as
    // on the real service.
    let segments = match segments.split_last() {
        Some((&"", rest)) => rest,
        _ => segments.as_slice(),
    };
    let (call, index, object) = match (method, segments) {
        ("GET", ["indexes"]) => (Call::ListIndices, "", ""),
        ("GET", ["task", id]) => (Call::Task, "", *id),
        ("POST", ["indexes", "*", "batch"]) => (Call::MultiBatch, "*", ""),
        ("POST", ["indexes", "*", "objects"]) => (Call::GetObjects, "*", ""),
        ("POST", ["indexes", "*", "queries"]) => (Call::MultiQuery, "*", ""),
        ("POST", ["indexes", index]) => (Call::AddObject, *index, ""),
        ("DELETE", ["indexes", index]) => (Call::DeleteIndex, *index, ""),
        ("POST", ["indexes", index, "batch"]) => (Call::Batch, *index, ""),
        ("POST", ["indexes", index, "browse"]) => (Call::Browse, *index, ""),
        ("POST", ["indexes", index, "query"]) => (Call::Query, *index, ""),
        ("POST", ["indexes", index, "deleteByQuery"]) => (Call::DeleteBy, *index, ""),
        ("POST", ["indexes", index, "clear"]) => (Call::Clear, *index, ""),
        ("POST", ["indexes", index, "operation"]) => (Call::Operation, *index, ""),
        ("GET", ["indexes", index, "settings"]) => (Call::GetSettings, *index, ""),
        ("PUT", ["indexes", index, "settings"]) => (Call::SetSettings, *index, ""),
        ("GET", ["indexes", index, "task", id]) => (Call::Task, *index, *id),
        ("POST", ["indexes", index, "facets", facet, "query"]) => (Call::FacetSearch, *index, *facet),
        ("POST", ["indexes", index, object, "partial"]) => (Call::PartialUpdate, *index, *object),
        ("GET", ["indexes", index, object]) => (Call::GetObject, *index, *object),
        ("PUT", ["indexes", index, object]) => (Call::PutObject, *index, *object),
        ("DELETE", ["indexes", index, object]) => (Call::DeleteObject, *index, *object),
        _ => return None,
    };
    let decoded = |segment: &str| percent_decode_str(segment).decode_utf8_lossy().into_owned();
    Some(Route { call, index: decoded(index), object: decoded(object), params: parse_query(query) })
}

/// Whether an index may have this name. Algolia does not document what it allows, so this refuses only names that
/// cannot be intended.
pub(super) fn valid_index_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 255 && !name.contains('*') && !name.chars().any(char::is_control)
}

/// `a=b&c=d` with percent-encoding and `+` for a space.
pub(super) fn parse_query(query: &str) -> BTreeMap<String, String> {
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_decoded_one_by_one() {
        let found = route("GET", "/1/indexes/a%20b/x%2Fy", "").unwrap();
        assert_eq!(
            (found.call, found.index.as_str(), found.object.as_str()),
            (Call::GetObject, "a b", "x/y")
        );
    }

    #[test]
    fn an_empty_object_id_falls_back_to_the_index() {
        assert_eq!(route("DELETE", "/1/indexes/a/", "").unwrap().call, Call::DeleteIndex);
    }
}
