//! Validates batches. A batch is refused as a whole, for its first invalid operation, before anything of it is queued.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::auth::Caller;
use super::config::ErrorShape;
use super::reply::Refusal;
use super::route::valid_index_name;

/// The actions of a batch, by Algolia's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr)]
#[strum(const_into_str)]
pub(super) enum Action {
    #[strum(serialize = "addObject")]
    Add,
    #[strum(serialize = "updateObject")]
    Update,
    #[strum(serialize = "partialUpdateObject")]
    Partial,
    #[strum(serialize = "partialUpdateObjectNoCreate")]
    PartialNoCreate,
    #[strum(serialize = "deleteObject")]
    DeleteObject,
    #[strum(serialize = "delete")]
    DeleteIndex,
    #[strum(serialize = "clear")]
    Clear,
}

impl Action {
    pub(super) fn name(self) -> &'static str {
        self.into_str()
    }

    /// The permission that the action needs inside a batch, and its name in a refusal.
    fn right(self) -> (&'static str, &'static str) {
        match self {
            Action::Add => ("addObject", "add an object"),
            Action::Update | Action::Partial | Action::PartialNoCreate => ("addObject", "update an object"),
            Action::DeleteObject => ("deleteObject", "delete an object"),
            Action::DeleteIndex => ("deleteIndex", "delete an index"),
            Action::Clear => ("deleteIndex", "clear an index"),
        }
    }

    fn whole_index(self) -> bool {
        matches!(self, Action::DeleteIndex | Action::Clear)
    }
}

/// One valid operation; `id` is empty for those on a whole index.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) index: String,
    pub(super) action: Action,
    pub(super) id: String,
    pub(super) body: Map<String, Value>,
}

/// The rules by which a batch is checked.
pub(super) struct Rules<'a> {
    pub(super) error_shape: ErrorShape,
    pub(super) max_record_bytes: usize,
    pub(super) caller: &'a Caller,
    /// The index of the path; `None` on the multi-index endpoint, where each item names its own.
    pub(super) index: Option<&'a str>,
    pub(super) next_id: &'a AtomicU64,
}

/// The operations of a batch, all valid, or the refusal of the first that is not.
pub(super) fn parse(body: &[u8], rules: &Rules<'_>) -> Result<Vec<Operation>, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| Refusal::bad("Invalid UTF-8 in the request body"))?;
    let top = object(text, text, "JSON root")?;
    let mut requests: Option<Vec<&RawValue>> = None;
    for (key, value) in &top {
        if key != "requests" {
            return Err(unknown_attribute(key, text, value));
        }
        requests =
            Some(serde_json::from_str(value.get()).map_err(|_| {
                Refusal::bad(format!("'requests' must be an array {}", near(text, value.get())))
            })?);
    }
    let requests = requests.ok_or_else(|| Refusal::bad("Missing mandatory attribute: requests"))?;
    requests.iter().enumerate().map(|(at, raw)| operation(text, at, raw.get(), rules)).collect()
}

fn operation(text: &str, position: usize, raw: &str, rules: &Rules<'_>) -> Result<Operation, Refusal> {
    let item = object(text, raw, "batch item")?;
    let word = |key: &str| item.get(key).and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    for (key, value) in &item {
        let known =
            matches!(key.as_str(), "action" | "body") || (key == "indexName" && rules.index.is_none());
        if !known {
            return Err(unknown_attribute(key, text, value));
        }
    }
    let here = item.get("body").map_or(raw, |body| body.get());
    let refuse = |message: String| Refusal::bad(format!("{message} {}", near(text, here)));
    let name = word("action").ok_or_else(|| refuse("Missing mandatory attribute: action".to_owned()))?;
    let action: Action = name.parse().map_err(|_| refuse(format!("Invalid action: {name}")))?;
    let index = match rules.index {
        Some(index) => index.to_owned(),
        None => {
            word("indexName").ok_or_else(|| refuse("Missing mandatory attribute: indexName".to_owned()))?
        }
    };
    if !valid_index_name(&index) {
        return Err(Refusal::bad("indexName is not valid"));
    }
    if !rules.caller.sees(&index) {
        return Err(Refusal::index_not_allowed());
    }
    let (acl, what) = action.right();
    if !rules.caller.may(acl) {
        return Err(Refusal::new(403, format!("Not enough rights to {what} {}", near(text, here))));
    }
    let body: Map<String, Value> = match item.get("body") {
        None if action.whole_index() => Map::new(),
        None => return Err(refuse("Missing mandatory attribute: body".to_owned())),
        Some(body) => serde_json::from_str(body.get())
            .map_err(|_| refuse("The 'body' attribute must be an object".to_owned()))?,
    };
    let id = match object_id(&body) {
        _ if action.whole_index() => String::new(),
        Found::Id(id) => id,
        Found::Missing if action == Action::Add => auto_id(rules.next_id),
        Found::Missing => {
            return Err(refuse(format!("The 'objectID' attribute is required to use action={name}")))
        }
        Found::Wrong => {
            return Err(refuse("Invalid objectID: a string or an integer is expected".to_owned()))
        }
    };
    check_size(&body, Some(position), rules.error_shape, rules.max_record_bytes).map_err(|refusal| {
        match rules.error_shape {
            ErrorShape::Column => refuse("The record cannot be taken".to_owned()),
            ErrorShape::Vague => Refusal::bad("A record cannot be taken"),
            ErrorShape::Classic | ErrorShape::New => refusal,
        }
    })?;
    Ok(Operation { index, action, id, body })
}

/// What a record says about its id.
pub(super) enum Found {
    Id(String),
    Missing,
    Wrong,
}

pub(super) fn object_id(body: &Map<String, Value>) -> Found {
    match body.get("objectID") {
        None => Found::Missing,
        Some(Value::String(id)) if !id.is_empty() => Found::Id(id.clone()),
        Some(Value::Number(id)) if id.is_i64() || id.is_u64() => Found::Id(id.to_string()),
        Some(_) => Found::Wrong,
    }
}

pub(super) fn auto_id(next: &AtomicU64) -> String {
    format!("{}", 100_000_000_000 + next.fetch_add(1, Ordering::Relaxed) * 1000)
}

/// Refuses a record whose compact JSON is too long.
pub(super) fn check_size(
    body: &Map<String, Value>,
    position: Option<usize>,
    shape: ErrorShape,
    limit: usize,
) -> Result<(), Refusal> {
    const SEE: &str = "Please have a look at https://www.algolia.com/doc/guides/sending-and-managing-data/\
                       prepare-your-data/in-depth/index-and-records-size-and-usage-limitations/#record-size-limits";
    let size = serde_json::to_string(body).map_or(0, |text| text.len());
    if size <= limit {
        return Ok(());
    }
    let id = match object_id(body) {
        Found::Id(id) => Some(id),
        Found::Missing | Found::Wrong => None,
    };
    let shown = id.as_deref().unwrap_or("undefined");
    Err(match (shape, position) {
        (ErrorShape::New, _) => Refusal::bad(format!(
            "Record {shown} is too big: size: {size} byte(s), maximum allowed: {limit} byte(s). {SEE}"
        )),
        (_, None) => Refusal::bad(format!("Record is too big size={size}/{limit} bytes. {SEE}")),
        (_, Some(at)) => {
            let message = format!(
                "Record at the position {at} objectID={shown} is too big size={size}/{limit} bytes. {SEE}"
            );
            let refusal = Refusal::bad(message).with("position", at);
            match id {
                Some(id) => refusal.with("objectID", id),
                None => refusal,
            }
        }
    })
}

/// The members of an object, values unparsed, so that their places in the text are known.
fn object<'a>(text: &str, raw: &'a str, what: &str) -> Result<BTreeMap<String, &'a RawValue>, Refusal> {
    serde_json::from_str(raw).map_err(|error| match raw.trim_start().as_bytes().first() {
        Some(b'[') => {
            Refusal::bad(format!("{what} must be an object (array not allowed) {}", start(text, raw)))
        }
        Some(b'{') => {
            Refusal::bad(format!("Invalid JSON near line:{} column:{}", error.line(), error.column()))
        }
        _ => Refusal::bad(format!("{what} must be an object {}", start(text, raw))),
    })
}

fn unknown_attribute(key: &str, text: &str, value: &RawValue) -> Refusal {
    Refusal::bad(format!("Invalid object attributes:{key} {}", near(text, value.get())))
}

/// The place of the last byte of `part`, which is a part of `text`: lines and byte columns from 1.
fn near(text: &str, part: &str) -> String {
    place(text, offset(text, part) + part.len())
}

fn start(text: &str, part: &str) -> String {
    place(text, offset(text, part) + 1)
}

fn offset(text: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize)
}

fn place(text: &str, end: usize) -> String {
    let before = text.as_bytes().get(..end).unwrap_or(text.as_bytes());
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|&&byte| byte != b'\n').count();
    format!("near line:{line} column:{column}")
}
