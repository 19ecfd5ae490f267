//! `_highlightResult`: marks the words of a hit that match the query.

use serde_json::{json, Map, Value};

use super::filter::unwrap;
use super::record::Record;

/// The tags around a word that was found.
pub(super) struct Tags<'a> {
    pub(super) before: &'a str,
    pub(super) after: &'a str,
}

/// The highlighted attributes of a record, by the entries of `attributesToHighlight`. `words` are the query's, in lower case;
/// the last one may be the beginning of a word.
pub(super) fn highlights(record: &Record, entries: &[String], words: &[String], tags: &Tags<'_>) -> Value {
    let names: Vec<&str> =
        entries.iter().flat_map(|entry| entry.split(',')).map(|entry| unwrap(entry).1).collect();
    let is_wanted =
        |name: &str| names.iter().any(|wanted| *wanted == "*" || wanted.split('.').next() == Some(name));
    let shown: Map<String, Value> = record
        .iter()
        .filter(|(name, _)| is_wanted(name))
        .filter_map(|(name, value)| Some((name.clone(), of_value(value, words, tags)?)))
        .collect();
    Value::Object(shown)
}

fn of_value(value: &Value, words: &[String], tags: &Tags<'_>) -> Option<Value> {
    match value {
        Value::String(text) => Some(of_text(text, words, tags)),
        Value::Number(number) => Some(of_text(&number.to_string(), words, tags)),
        Value::Array(items) => {
            Some(items.iter().filter_map(|item| of_value(item, words, tags)).collect::<Vec<_>>().into())
        }
        Value::Object(members) => {
            let of_member =
                |(name, value): (&String, &Value)| Some((name.clone(), of_value(value, words, tags)?));
            Some(Value::Object(members.iter().filter_map(of_member).collect()))
        }
        Value::Bool(_) | Value::Null => None,
    }
}

fn of_text(text: &str, words: &[String], tags: &Tags<'_>) -> Value {
    let (value, found, covered) = mark(text, words, tags);
    let level = match found.len() {
        0 => "none",
        count if count == words.len() => "full",
        _ => "partial",
    };
    let mut shown = json!({"value": value, "matchLevel": level, "matchedWords": found});
    if let (Value::Object(shown), false) = (&mut shown, found.is_empty()) {
        shown.insert("fullyHighlighted".to_owned(), json!(covered));
    }
    shown
}

/// The text with tags around the words that the query found, those words of the query, and whether nothing else is in it.
pub(super) fn mark(text: &str, words: &[String], tags: &Tags<'_>) -> (String, Vec<String>, bool) {
    let (mut marked, mut found, mut covered) = (String::with_capacity(text.len()), Vec::new(), true);
    let mut rest = text;
    while let Some(start) = rest.find(char::is_alphanumeric) {
        let (between, from) = rest.split_at(start);
        let (word, behind) = from.split_at(from.find(|c: char| !c.is_alphanumeric()).unwrap_or(from.len()));
        marked.push_str(between);
        match matched(word, words) {
            Some((length, wanted)) => {
                let (head, tail) = word.split_at(length);
                marked.extend([tags.before, head, tags.after, tail]);
                covered &= tail.is_empty();
                if !found.contains(wanted) {
                    found.push(wanted.clone());
                }
            }
            None => {
                marked.push_str(word);
                covered = false;
            }
        }
        rest = behind;
    }
    marked.push_str(rest);
    (marked, found, covered)
}

/// How many bytes of a word match, and which of the query's words they match.
fn matched<'w>(word: &str, words: &'w [String]) -> Option<(usize, &'w String)> {
    let lower = word.to_lowercase();
    if let Some(whole) = words.iter().find(|wanted| **wanted == lower) {
        return Some((word.len(), whole));
    }
    let last = words.last()?;
    let length = word.char_indices().nth(last.chars().count()).map_or(word.len(), |(at, _)| at);
    let head = word.get(..length)?;
    (head.to_lowercase() == *last).then_some((length, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAGS: Tags<'_> = Tags { before: "<em>", after: "</em>" };

    fn marked(text: &str, words: &[&str]) -> (String, Vec<String>, bool) {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        mark(text, &words, &TAGS)
    }

    #[test]
    fn words_and_the_beginning_of_the_last_one_are_marked() {
        assert_eq!(marked("Log in, login", &["log"]).0, "<em>Log</em> in, <em>log</em>in");
        assert_eq!(
            marked("Log in", &["in", "log"]),
            ("<em>Log</em> <em>in</em>".into(), vec!["log".into(), "in".into()], true)
        );
        assert_eq!(marked("login", &["log", "in"]).0, "login", "only the last word is a beginning");
        assert_eq!(marked("Straße", &["stra"]).0, "<em>Stra</em>ße");
        assert_eq!(marked("a<b>", &[]), ("a<b>".into(), vec![], false));
    }

    #[test]
    fn an_attribute_tells_how_much_of_the_query_it_has() {
        let record =
            json!({"a": "log in", "n": 7, "b": true, "o": {"p": ["out"]}}).as_object().unwrap().clone();
        let words = ["log".to_owned(), "out".to_owned()];
        let found = highlights(&record, &["a".into(), "n".into(), "b".into(), "o.p".into()], &words, &TAGS);
        assert_eq!(
            found["a"],
            json!({"value": "<em>log</em> in", "matchLevel": "partial", "matchedWords": ["log"], "fullyHighlighted": false})
        );
        assert_eq!(found["n"], json!({"value": "7", "matchLevel": "none", "matchedWords": []}));
        assert_eq!(found["o"]["p"][0]["value"], "<em>out</em>");
        assert_eq!(found.get("b"), None);
    }
}
