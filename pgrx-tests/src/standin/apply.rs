//! Applies a queued change to the indices once its task is published.

use serde_json::{json, Map, Number, Value};

use super::batch::{Action, Operation};
use super::filter::Condition;
use super::index::{Index, Indices, Records};
use super::record::Record;

/// A change that waits to be applied.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Operation(Operation),
    DeleteBy { index: String, condition: Condition },
    Settings { index: String, patch: Map<String, Value> },
    Copy { from: String, to: String, scope: Option<Vec<String>> },
    Move { from: String, to: String },
}

/// Applies one change; `now` is the time that the index shows as its last update.
pub(super) fn apply(indices: &mut Indices, change: Change, now: &str) {
    match change {
        Change::Operation(operation) => apply_operation(indices, operation, now),
        Change::DeleteBy { index, condition } => {
            if let Some(found) = indices.get_mut(&index) {
                let matching = condition.matching(found);
                let name = |number| Some(found.records.numbered(number)?.0.clone());
                let ids: Vec<String> = matching.iter().filter_map(name).collect();
                ids.iter().for_each(|id| found.records.remove(id));
                now.clone_into(&mut found.updated);
            }
        }
        Change::Settings { index, patch } => {
            let index = touch(indices, &index, now);
            for (key, value) in patch {
                match value {
                    Value::Null => index.settings.remove(&key),
                    value => index.settings.insert(key, value),
                };
            }
            index.prepare();
        }
        Change::Copy { from, to, scope } => copy(indices, &from, &to, scope.as_deref(), now),
        Change::Move { from, to } => {
            if let Some(mut index) = indices.remove(&from) {
                now.clone_into(&mut index.updated);
                indices.insert(to, index);
            }
        }
    }
}

fn apply_operation(indices: &mut Indices, operation: Operation, now: &str) {
    let Operation { index, action, id, mut body } = operation;
    body.remove("objectID");
    match action {
        Action::Add | Action::Update => {
            touch(indices, &index, now).insert(id, body);
        }
        Action::Partial | Action::PartialNoCreate => {
            let create = action == Action::Partial;
            let stored = indices.get(&index).and_then(|found| found.records.get(&id));
            if stored.is_none() && !create {
                return;
            }
            if let Some(merged) = merge(stored, body) {
                touch(indices, &index, now).insert(id, merged);
            }
        }
        Action::DeleteObject => {
            if let Some(found) = indices.get_mut(&index) {
                found.records.remove(&id);
                now.clone_into(&mut found.updated);
            }
        }
        Action::DeleteIndex => {
            indices.remove(&index);
        }
        Action::Clear => {
            if let Some(found) = indices.get_mut(&index) {
                found.records.clear();
                now.clone_into(&mut found.updated);
            }
        }
    }
}

/// The index, created if it does not exist.
fn touch<'a>(indices: &'a mut Indices, name: &str, now: &str) -> &'a mut Index {
    let index = indices
        .entry(name.to_owned())
        .or_insert_with(|| Index { created: now.to_owned(), ..Index::default() });
    now.clone_into(&mut index.updated);
    index
}

/// A missing source counts as an empty one. Some settings are not copied.
fn copy(indices: &mut Indices, from: &str, to: &str, scope: Option<&[String]>, now: &str) {
    let (records, mut settings) = match indices.get(from) {
        Some(source) => (source.records.clone(), source.settings.clone()),
        None => (Records::default(), Map::new()),
    };
    for stays in ["replicas", "mode", "enableReRanking"] {
        settings.remove(stays);
    }
    let target = touch(indices, to, now);
    match scope {
        None => {
            target.records = records;
            target.settings = settings;
        }
        // Synonyms and rules are not kept here, so there is nothing to copy.
        Some(scope) if scope.iter().any(|part| part == "settings") => target.settings = settings,
        Some(_) => {}
    }
}

/// Merges first-level attributes. `None` when a guard (IncrementSet, IncrementFrom) refuses the whole update.
fn merge(stored: Option<&Record>, patch: Record) -> Option<Record> {
    let mut merged = stored.cloned().unwrap_or_default();
    for (attribute, value) in patch {
        let Some((name, argument)) = built_in(&value) else {
            merged.insert(attribute, value);
            continue;
        };
        let old = merged.get(&attribute).cloned();
        let new = match name.as_str() {
            "IncrementSet" if number(&argument) > old.as_ref().map_or(0.0, number) => argument,
            "IncrementFrom" if number(&argument) == old.as_ref().map_or(0.0, number) => {
                sum(Some(&argument), &json!(1), 1.0)
            }
            "IncrementSet" | "IncrementFrom" => return None,
            "Increment" => sum(old.as_ref(), &argument, 1.0),
            "Decrement" => sum(old.as_ref(), &argument, -1.0),
            "Add" | "AddUnique" | "Remove" => edit_list(old, &name, argument),
            _ => value,
        };
        merged.insert(attribute, new);
    }
    Some(merged)
}

fn built_in(value: &Value) -> Option<(String, Value)> {
    let name = value.get("_operation")?.as_str()?;
    Some((name.to_owned(), value.get("value")?.clone()))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

fn sum(old: Option<&Value>, by: &Value, sign: f64) -> Value {
    match (old.map_or(Some(0), Value::as_i64), by.as_i64()) {
        (Some(old), Some(by)) if sign > 0.0 => json!(old.saturating_add(by)),
        (Some(old), Some(by)) => json!(old.saturating_sub(by)),
        _ => Number::from_f64(old.map_or(0.0, number) + sign * number(by)).map_or(Value::Null, Value::Number),
    }
}

fn edit_list(old: Option<Value>, name: &str, item: Value) -> Value {
    let mut list = match old {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    };
    match name {
        "Remove" => list.retain(|existing| *existing != item),
        "AddUnique" if list.contains(&item) => {}
        _ => list.push(item),
    }
    Value::Array(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: Value) -> Record {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_guard_refuses_the_whole_update() {
        let stored = record(json!({"v": 5, "a": 1}));
        let patch = |n: i64, op: &str| record(json!({"a": 2, "v": {"_operation": op, "value": n}}));
        assert_eq!(merge(Some(&stored), patch(5, "IncrementSet")), None);
        assert_eq!(merge(Some(&stored), patch(6, "IncrementSet")), Some(record(json!({"a": 2, "v": 6}))));
        assert_eq!(merge(Some(&stored), patch(4, "IncrementFrom")), None);
        assert_eq!(merge(Some(&stored), patch(5, "IncrementFrom")), Some(record(json!({"a": 2, "v": 6}))));
        assert_eq!(merge(None, patch(0, "IncrementSet")), None);
        assert_eq!(merge(None, patch(0, "IncrementFrom")), Some(record(json!({"a": 2, "v": 1}))));
    }

    #[test]
    fn numbers_and_lists_are_edited_in_place() {
        let stored = record(json!({"n": 5, "l": ["a"]}));
        let patch =
            json!({"n": {"_operation": "Decrement", "value": 2}, "l": {"_operation": "Add", "value": "a"}});
        assert_eq!(merge(Some(&stored), record(patch)), Some(record(json!({"n": 3, "l": ["a", "a"]}))));
    }
}
