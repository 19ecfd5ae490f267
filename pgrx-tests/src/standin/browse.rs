//! Browsing: pages of up to 1,000 records with a cursor that only this file can read.

use data_encoding::BASE64_NOPAD;
use serde_json::{json, Map, Value};

use super::auth::Caller;
use super::index::Index;
use super::query::Search;
use super::reply::Refusal;

/// Every cursor ends like this, so that a client that puts it unescaped into a URL fails.
const TAIL: &str = "+Q=";

/// Answers one browse request: the first page of a search, or the page behind a cursor.
pub(super) fn browse(
    name: &str,
    index: &Index,
    body: Map<String, Value>,
    caller: &Caller,
) -> Result<Value, Refusal> {
    let (mut params, after, at) = match body.get("cursor") {
        None | Some(Value::Null) => {
            if body.get("page").and_then(Value::as_u64).is_some_and(|page| page > 0) {
                return Err(Refusal::bad("you should pass cursor of current page to fetch next page"));
            }
            (body, None, 0)
        }
        Some(cursor) => {
            open(name, cursor.as_str().unwrap_or_default()).ok_or_else(|| Refusal::bad("invalid cursor"))?
        }
    };
    params.remove("cursor");
    let search = Search::new(&params, caller)?;
    let matches = search.matches(index);
    let found = search.ranked(index, &matches, matches.len() as usize);
    let most = caller.max_hits.unwrap_or(1000).clamp(1, 1000);
    let per_page = search.number(index, "hitsPerPage", 1000).clamp(1, most);
    // Records may have been added or deleted since the last page. Continue after its last record, if that still exists.
    let behind = after.and_then(|last: String| found.iter().position(|(id, _)| **id == last));
    let start = behind.map_or(at, |place| place + 1);
    let hits: Vec<Value> =
        found.iter().skip(start).take(per_page).map(|one| search.show(index, *one, caller)).collect();
    let end = start + hits.len();
    let mut answer = json!({
        "page": start / per_page,
        "nbHits": found.len(),
        "nbPages": found.len().div_ceil(per_page),
        "hitsPerPage": per_page,
        "processingTimeMS": 1,
        "query": "",
        "params": "",
    });
    if end < found.len() {
        let last = found.get(end.saturating_sub(1)).map(|(id, _)| id.as_str());
        answer["cursor"] = json!(seal(name, &params, last, end));
    }
    answer["hits"] = Value::Array(hits);
    Ok(answer)
}

fn seal(index: &str, params: &Map<String, Value>, after: Option<&str>, at: usize) -> String {
    let inside = json!({"index": index, "params": params, "after": after, "at": at});
    BASE64_NOPAD.encode(inside.to_string().as_bytes()) + TAIL
}

fn open(index: &str, cursor: &str) -> Option<(Map<String, Value>, Option<String>, usize)> {
    let bytes = BASE64_NOPAD.decode(cursor.strip_suffix(TAIL)?.as_bytes()).ok()?;
    let inside: Value = serde_json::from_slice(&bytes).ok()?;
    if inside.get("index")?.as_str()? != index {
        return None;
    }
    let params = inside.get("params")?.as_object()?.clone();
    let after = inside.get("after")?.as_str().map(str::to_owned);
    Some((params, after, inside.get("at")?.as_u64()? as usize))
}
