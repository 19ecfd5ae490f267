//! The endpoints that change something. Each validates, queues a task and answers at once.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde_json::{json, Map, Value};

use super::apply::Change;
use super::auth::Caller;
use super::batch::{self, auto_id, check_size, object_id, Action, Found, Operation, Rules};
use super::body::{object, search_params};
use super::clock::iso_now;
use super::filter_text::parse;
use super::light;
use super::parameters::{check_members, check_settings};
use super::query::condition;
use super::reply::{Refusal, Reply};
use super::route::{valid_index_name, Call};
use super::schema::Kind;
use super::shared::{Incoming, Shared};

pub(super) fn serve(shared: &Shared, incoming: &Incoming<'_>, caller: &Caller) -> Result<Reply, Refusal> {
    match incoming.route.call {
        Call::Batch if shared.config.light => light_batch(shared, incoming, Some(&incoming.route.index)),
        Call::MultiBatch if shared.config.light => light_batch(shared, incoming, None),
        Call::Batch => full_batch(shared, incoming, caller, Some(&incoming.route.index)),
        Call::MultiBatch => full_batch(shared, incoming, caller, None),
        Call::AddObject | Call::PutObject | Call::PartialUpdate => one_object(shared, incoming),
        Call::SetSettings => {
            let patch = object(&incoming.body)?;
            check_settings(&patch)?;
            let index = incoming.route.index.clone();
            let task = queue(shared, incoming, "", "setSettings", Change::Settings { index, patch });
            Ok(Reply::ok(&json!({"taskID": task, "updatedAt": iso_now()})))
        }
        Call::DeleteBy => delete_by(shared, incoming, caller),
        Call::Operation => operation(shared, incoming, caller),
        call => {
            let (action, stamp) = match call {
                Call::DeleteObject => (Action::DeleteObject, "deletedAt"),
                Call::DeleteIndex => (Action::DeleteIndex, "deletedAt"),
                _ => (Action::Clear, "updatedAt"),
            };
            let (index, id) = (incoming.route.index.clone(), incoming.route.object.clone());
            let change = Change::Operation(Operation { index, action, id: id.clone(), body: Map::new() });
            let task = queue(shared, incoming, &id, action.name(), change);
            Ok(Reply::ok(&json!({"taskID": task, stamp: iso_now()})))
        }
    }
}

/// Queues one change as one task.
fn queue(shared: &Shared, incoming: &Incoming<'_>, id: &str, action: &'static str, change: Change) -> i64 {
    let mut engine = shared.engine();
    engine.journal.accept(incoming.entry, [(incoming.route.index.as_str(), id, action)].into_iter());
    engine.enqueue(vec![change], shared.indexing_delay.get())
}

fn light_batch(shared: &Shared, incoming: &Incoming<'_>, index: Option<&str>) -> Result<Reply, Refusal> {
    let batch = light::parse(&incoming.body)?;
    let task = {
        let mut engine = shared.engine();
        engine.light.accept(&batch, index, &shared.config);
        let task = engine.next_task();
        match index {
            Some(_) => task.to_string(),
            None => Value::from_iter(batch.index_names().map(|name| (name, task))).to_string(),
        }
    };
    Ok(Reply::raw(200, light::answer(&batch, &task, &shared.next_id)))
}

fn full_batch(
    shared: &Shared,
    incoming: &Incoming<'_>,
    caller: &Caller,
    index: Option<&str>,
) -> Result<Reply, Refusal> {
    let rules = Rules {
        error_shape: shared.config.error_shape,
        max_record_bytes: shared.max_record_bytes.load(Ordering::Relaxed),
        caller,
        index,
        next_id: &shared.next_id,
    };
    let operations = batch::parse(&incoming.body, &rules)?;
    let tampering = &incoming.tampering;
    let ids: Vec<String> = operations
        .iter()
        .map(|operation| match tampering.wrong_ids {
            true => format!("not-{}", operation.id),
            false => operation.id.clone(),
        })
        .collect();
    let mut engine = shared.engine();
    let accepted = operations.iter().map(|one| (one.index.as_str(), one.id.as_str(), one.action.name()));
    engine.journal.accept(incoming.entry, accepted);
    let mut by_index: BTreeMap<String, Vec<Change>> = BTreeMap::new();
    for operation in operations {
        let changes = by_index.entry(operation.index.clone()).or_default();
        if !tampering.lose.as_ref().is_some_and(|lose| (lose.0)(&operation.id)) {
            changes.push(Change::Operation(operation));
        }
    }
    let tasks: Map<String, Value> = by_index
        .into_iter()
        .map(|(name, changes)| (name, json!(engine.enqueue(changes, shared.indexing_delay.get()))))
        .collect();
    let task = match index {
        Some(_) => tasks.into_iter().next().map_or(json!(0), |(_, task)| task),
        None if tasks.is_empty() => json!(0),
        None => Value::Object(tasks),
    };
    Ok(Reply::ok(&json!({"taskID": task, "objectIDs": ids})))
}

fn one_object(shared: &Shared, incoming: &Incoming<'_>) -> Result<Reply, Refusal> {
    let route = incoming.route;
    let mut body = object(&incoming.body)?;
    let call = route.call;
    let id = match object_id(&body) {
        _ if call != Call::AddObject => route.object.clone(),
        Found::Id(id) => id,
        Found::Missing => auto_id(&shared.next_id),
        Found::Wrong => return Err(Refusal::bad("Invalid objectID: a string or an integer is expected")),
    };
    body.insert("objectID".to_owned(), json!(id));
    check_size(&body, None, shared.config.error_shape, shared.max_record_bytes.load(Ordering::Relaxed))?;
    let action = match call {
        Call::AddObject => Action::Add,
        Call::PutObject => Action::Update,
        _ if route.params.get("createIfNotExists").is_some_and(|value| value == "false") => {
            Action::PartialNoCreate
        }
        _ => Action::Partial,
    };
    let change = Operation { index: route.index.clone(), action, id: id.clone(), body };
    let task = queue(shared, incoming, &id, action.name(), Change::Operation(change));
    let (status, stamp) = if call == Call::AddObject { (201, "createdAt") } else { (200, "updatedAt") };
    Ok(Reply::json(status, &json!({"taskID": task, "objectID": id, stamp: iso_now()})))
}

fn delete_by(shared: &Shared, incoming: &Incoming<'_>, caller: &Caller) -> Result<Reply, Refusal> {
    let params = search_params(object(&incoming.body)?);
    const ALLOWED: [&str; 4] = ["filters", "facetFilters", "numericFilters", "tagFilters"];
    if let Some(name) = params.keys().find(|name| !ALLOWED.contains(&name.as_str())) {
        return Err(Refusal::bad(format!("Unknown parameter: {name}")));
    }
    let mut condition = condition(&params)?;
    if condition.is_empty() {
        return Err(Refusal::bad("deleteByQuery needs a filter"));
    }
    if let Some(filters) = &caller.filters {
        condition.and(parse(filters)?);
    }
    let index = incoming.route.index.clone();
    let task = queue(shared, incoming, "", "deleteByQuery", Change::DeleteBy { index, condition });
    Ok(Reply::ok(&json!({"taskID": task, "updatedAt": iso_now()})))
}

/// The members of an operation on an index.
const OPERATION: &[(&str, Kind)] = &[
    ("operation", Kind::Word(&["copy", "move"])),
    ("destination", Kind::Text),
    ("scope", Kind::Either(&[Kind::Words(&["settings", "synonyms", "rules"]), Kind::Null])),
];

fn operation(shared: &Shared, incoming: &Incoming<'_>, caller: &Caller) -> Result<Reply, Refusal> {
    let body = object(&incoming.body)?;
    check_members(&body, OPERATION)?;
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let from = incoming.route.index.clone();
    let to = text("destination").unwrap_or_default().to_owned();
    if !valid_index_name(&to) {
        return Err(Refusal::bad("indexName is not valid"));
    }
    if !caller.sees(&to) {
        return Err(Refusal::index_not_allowed());
    }
    let (change, action) = match (text("operation"), body.get("scope")) {
        (Some("copy"), scope) => {
            let scope = match scope {
                Some(Value::Array(parts)) => {
                    Some(parts.iter().filter_map(Value::as_str).map(str::to_owned).collect())
                }
                _ => None,
            };
            (Change::Copy { from, to, scope }, "copy")
        }
        (Some("move"), None | Some(Value::Null)) => (Change::Move { from, to }, "move"),
        (Some("move"), Some(_)) => return Err(Refusal::bad("scope is only allowed with operation=copy")),
        _ => return Err(Refusal::bad("Invalid operation: copy or move is expected")),
    };
    let task = queue(shared, incoming, "", action, change);
    Ok(Reply::ok(&json!({"taskID": task, "updatedAt": iso_now()})))
}
