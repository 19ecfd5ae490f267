//! Reads the bodies of requests for the endpoints.

use serde_json::{Map, Value};

use super::parameters;
use super::reply::Refusal;
use super::route::parse_query;

/// The body as an object; an empty body is an empty object.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(Value::Array(_)) => {
            Err(Refusal::bad("JSON root must be an object (array not allowed) near line:1 column:1"))
        }
        Ok(_) => Err(Refusal::bad("JSON root must be an object near line:1 column:1")),
        Err(error) => {
            Err(Refusal::bad(format!("Invalid JSON near line:{} column:{}", error.line(), error.column())))
        }
    }
}

/// The members of an object within a list.
pub(super) fn members(item: &Value) -> Result<Map<String, Value>, Refusal> {
    item.as_object().cloned().ok_or_else(|| Refusal::bad("requests must be an array of objects"))
}

/// The list in a body that asks for several things.
pub(super) fn requests(body: &Map<String, Value>) -> Result<&Vec<Value>, Refusal> {
    let requests = body.get("requests").and_then(Value::as_array);
    requests.ok_or_else(|| Refusal::bad("Missing mandatory attribute: requests"))
}

/// A text that an item has to have.
pub(super) fn text<'a>(item: &'a Value, name: &str) -> Result<&'a str, Refusal> {
    let found = item.get(name).and_then(Value::as_str);
    found.ok_or_else(|| Refusal::bad(format!("Missing mandatory attribute: {name}")))
}

/// Search parameters may come as members or as one string called `params`.
pub(super) fn search_params(mut body: Map<String, Value>) -> Map<String, Value> {
    if let Some(Value::String(text)) = body.remove("params") {
        body.extend(params_of(&text));
    }
    body
}

/// The parameters in a `params` string: texts are bare, all else is JSON.
fn params_of(text: &str) -> Map<String, Value> {
    let pairs = parse_query(text).into_iter();
    pairs.map(|(name, value)| (name.clone(), parameters::read(&name, value))).collect()
}
