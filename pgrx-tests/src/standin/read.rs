//! The endpoints that only read: tasks, settings, objects, searches, browsing, the list of indices.

use serde_json::{json, Map, Value};

use super::auth::Caller;
use super::body::{members, object, requests, search_params, text};
use super::browse::browse;
use super::engine::Engine;
use super::parameters::check_members;
use super::query::project;
use super::reply::{Refusal, Reply};
use super::route::Call;
use super::schema::Kind;
use super::searches;
use super::settings::shown;
use super::shared::{Incoming, Shared};

pub(super) fn serve(shared: &Shared, incoming: &Incoming<'_>, caller: &Caller) -> Result<Reply, Refusal> {
    let route = incoming.route;
    let name = route.index.as_str();
    let mut engine = shared.engine();
    let answer = match route.call {
        Call::Task => {
            let task = route.object.parse().map_err(|_| Refusal::bad("Invalid taskID"))?;
            let published = engine.is_published(task);
            let pending = engine.pending() > 0;
            json!({"status": if published { "published" } else { "notPublished" }, "pendingTask": pending})
        }
        Call::GetSettings => shown(&engine.existing(name)?.settings),
        Call::GetObject => {
            let wanted = route.params.get("attributesToRetrieve");
            let wanted: Option<Vec<String>> = wanted.map(|list| list.split(',').map(str::to_owned).collect());
            let index = engine.existing(name)?;
            let record = index.records.get(&route.object);
            let record = record.ok_or_else(|| Refusal::new(404, "ObjectID does not exist"))?;
            project(&route.object, record, wanted.as_deref(), index, caller)
        }
        Call::GetObjects => get_objects(&mut engine, &object(&incoming.body)?, caller)?,
        Call::Browse => {
            let params = search_params(object(&incoming.body)?);
            browse(name, engine.existing(name)?, params, caller)?
        }
        Call::Query | Call::MultiQuery | Call::FacetSearch => {
            let body = object(&incoming.body)?;
            searches::serve(&mut engine, route, body, caller, shared.config.exhaustive)?
        }
        _ => list(&mut engine, caller),
    };
    Ok(Reply::ok(&answer))
}

/// The members of a request for an object.
const WANTED: &[(&str, Kind)] =
    &[("indexName", Kind::Text), ("objectID", Kind::Text), ("attributesToRetrieve", Kind::Texts)];

/// Objects in the order of the request, with `null` for those that do not exist.
fn get_objects(engine: &mut Engine, body: &Map<String, Value>, caller: &Caller) -> Result<Value, Refusal> {
    check_members(body, &[("requests", Kind::Anything)])?;
    let wanted = requests(body)?;
    if wanted.len() > 1000 {
        return Err(Refusal::bad("Too many objects requested, the maximum is 1000"));
    }
    if caller.max_hits.is_some_and(|most| wanted.len() > most) {
        return Err(Refusal::new(403, "Method not allowed with this API key (nbObjects > hitsPerPage)"));
    }
    let (mut results, mut message) = (Vec::with_capacity(wanted.len()), None);
    for item in wanted {
        check_members(&members(item)?, WANTED)?;
        let (name, id) = (text(item, "indexName")?, text(item, "objectID")?);
        if !caller.sees(name) {
            return Err(Refusal::index_not_allowed());
        }
        let attributes: Option<Vec<String>> = item
            .get("attributesToRetrieve")
            .and_then(Value::as_array)
            .map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        let found = engine.index(name).and_then(|index| Some((index, index.records.get(id)?)));
        results.push(match found {
            Some((index, record)) => project(id, record, attributes.as_deref(), index, caller),
            None => {
                message.get_or_insert_with(|| format!("ObjectID {id} does not exist."));
                Value::Null
            }
        });
    }
    let mut answer = json!({"results": results});
    if let Some(message) = message {
        answer["message"] = json!(message);
    }
    Ok(answer)
}

fn list(engine: &mut Engine, caller: &Caller) -> Value {
    let pending = engine.pending();
    let items: Vec<Value> = engine
        .indices()
        .iter()
        .filter(|(name, _)| caller.sees(name))
        .map(|(name, index)| {
            let bytes: usize = index
                .records
                .iter()
                .map(|(_, one)| serde_json::to_string(one).map_or(0, |text| text.len()))
                .sum();
            json!({
                "name": name,
                "entries": index.records.len(),
                "dataSize": bytes,
                "fileSize": bytes,
                "lastBuildTimeS": 0,
                "numberOfPendingTasks": pending,
                "pendingTask": pending > 0,
                "createdAt": index.created,
                "updatedAt": index.updated,
            })
        })
        .collect();
    json!({"items": items, "nbPages": 1})
}
