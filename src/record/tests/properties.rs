//! Properties of the record of any row.

#![forbid(unsafe_code)]

use super::*;
use proptest::prelude::*;
use serde_json::value::RawValue;
use std::collections::HashMap;

fn any_value() -> impl Strategy<Value = Value<'static>> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        prop::num::f32::ANY.prop_map(Value::Float4),
        prop::num::f64::ANY.prop_map(Value::Float8),
        "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,25})?".prop_map(|text| Value::Numeric(text.into())),
        any::<String>().prop_map(|text| Value::Numeric(text.into())),
        any::<String>().prop_map(|text| Value::Text(text.into())),
        any::<String>().prop_map(|text| Value::Json(json!({ "k": [text, null] }).to_string().into())),
        any::<i64>().prop_map(|micros| Value::Time(Moment::Micros(micros))),
        any::<i32>().prop_map(|days| Value::Time(Moment::from_date(days))),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| Value::Bytes(bytes.into())),
    ];
    scalar.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Elements::of),
            prop::collection::btree_map(any::<String>(), inner, 0..4).prop_map(|members| {
                Value::Object(members.into_iter().map(|(name, value)| (name.into(), value)).collect())
            }),
        ]
    })
}

/// The objectID's definition, character by character.
fn object_id(prefix: &str, key: &[String]) -> String {
    let escape = |part: &String| part.replace('\\', r"\\").replace(':', r"\:");
    format!("{prefix}{}", key.iter().map(escape).collect::<Vec<_>>().join(":"))
}

/// Every string in `json`, names and values.
fn strings(json: &Json, found: &mut Vec<String>) {
    match json {
        Json::String(text) => found.push(text.clone()),
        Json::Array(elements) => elements.iter().for_each(|element| strings(element, found)),
        Json::Object(members) => members.iter().for_each(|(name, value)| {
            found.push(name.clone());
            strings(value, found);
        }),
        _ => {}
    }
}

proptest! {
    #[test]
    fn any_row_becomes_a_compact_object_with_its_object_id(
        prefix in any::<String>(),
        key in prop::collection::vec(".*|[:\\\\a\"]*", 0..4),
        fields in prop::collection::btree_map(any::<String>(), (any_value(), any::<bool>()), 0..6),
    ) {
        prop_assume!(key.is_empty() || !object_id(&prefix, &key).is_empty());
        let layout_fields: Vec<Field> = fields
            .iter()
            .map(|(name, (_, bucketed))| Field { bucketed: *bucketed, ..field(&format!("c{name}")) })
            .collect();
        let layout = RecordLayout::new(&prefix, layout_fields, vec![false; key.len()]);
        let parts: Vec<Option<&str>> = key.iter().map(|part| Some(part.as_str())).collect();
        let values: Vec<Value<'_>> = fields.values().map(|(value, _)| value.clone()).collect();
        let record = written(&layout, &parts, &values, &mut Offset::new(3600));
        let parsed: Json = serde_json::from_str(&record).unwrap();
        prop_assert_eq!(&parsed["objectID"], &Json::from(object_id(&prefix, &key)));
        prop_assert_eq!(compact_len(&record), record.len());
        for (name, (value, _)) in &fields {
            let member = parsed.get(format!("c{name}"));
            prop_assert_eq!(member.is_none(), value.is_absent());
        }
    }

    #[test]
    fn numbers_come_back(integer in any::<i64>(), double in any::<f64>(), single in any::<f32>()) {
        let layout = RecordLayout::new("", vec![field("i"), field("d"), field("s")], vec![]);
        let values = [Value::Int(integer), Value::Float8(double), Value::Float4(single)];
        let record = written(&layout, &[], &values, &mut Offset::new(0));
        // As raw text, because serde_json sometimes parses doubles with a small error.
        let raw: HashMap<String, Box<RawValue>> = serde_json::from_str(&record).unwrap();
        let is_string = integer.unsigned_abs() > 9_007_199_254_740_991;
        prop_assert_eq!(raw["i"].get().starts_with('"'), is_string);
        prop_assert_eq!(raw["i"].get().trim_matches('"').parse::<i64>().unwrap(), integer);
        prop_assert_eq!(raw["d"].get().trim_matches('"').parse::<f64>().unwrap(), double);
        prop_assert_eq!(raw["s"].get().trim_matches('"').parse::<f32>().unwrap(), single);
    }

    #[test]
    fn no_original_of_a_pseudonym_is_in_the_record(
        user in "[A-Z]{12}.{0,10}",
        other in any_value(),
        with_key in any::<bool>(),
    ) {
        let layout = RecordLayout::new("x", vec![pseudonymized("user"), field("other")], vec![with_key]);
        let key = if with_key { user.as_str() } else { "1" };
        let record = written(&layout, &[Some(key)], &[text(&user), other], &mut Offset::new(0));
        let mut found = Vec::new();
        strings(&serde_json::from_str(&record).unwrap(), &mut found);
        prop_assert!(found.iter().all(|text| !text.contains(&user)), "{}", record);
        prop_assert!(found.contains(&pseudonymizer().pseudonym(&user)));
    }
}
