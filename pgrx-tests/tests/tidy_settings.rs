//! The table in docs/settings.md agrees with the source.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

use std::fs;

use audit_algolia_tests::cargo::workspace;

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Setting {
    name: String,
    /// In the unit of the setting, as `SHOW` prints it without one.
    default: String,
    range: Option<(i64, i64)>,
    context: String,
    unit: String,
}

#[test]
fn the_documentation_has_the_settings_of_the_source() {
    let (documented, defined) = (documented(), defined());
    assert!(defined.len() > 20, "found only {defined:#?}");
    for setting in &documented {
        let of_this_name = defined.iter().find(|other| other.name == setting.name);
        assert_eq!(Some(setting), of_this_name, "left: docs/settings.md, right: src/pg/guc");
    }
    for setting in &defined {
        let name = &setting.name;
        assert!(documented.contains(setting), "docs/settings.md does not list {name}");
    }
}

/// The rows of the table.
fn documented() -> Vec<Setting> {
    let page = fs::read_to_string(workspace().join("docs/settings.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').splitn(6, '|').map(str::trim).collect();
        let [name, default, range, context, unit, _meaning] = cells[..] else {
            panic!("a row has six cells: {row}");
        };
        Setting {
            name: name.trim_matches('`').to_owned(),
            default: match amount(default.trim_matches('`')) {
                Some(number) => number.to_string(),
                None => default.trim_matches(['`', '\'']).to_owned(),
            },
            range: range.split_once(" to ").map(|(min, max)| {
                let bounds = (amount(min), amount(max));
                (bounds.0.unwrap(), bounds.1.unwrap())
            }),
            context: context.to_owned(),
            unit: unit.to_owned(),
        }
    })
    .collect()
}

/// `8MB`, `30s` and so on in the base unit, a byte or a millisecond.
fn amount(text: &str) -> Option<i64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let factor = match text[end..].trim() {
        "" | "ms" => 1,
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "s" => 1000,
        "min" => 60_000,
        _ => return None,
    };
    Some(text[..end].parse::<i64>().ok()? * factor)
}

/// The definitions in `src/pg/guc`: a call that begins with the name, two texts and the static variable.
fn defined() -> Vec<Setting> {
    let mut settings = Vec::new();
    for file in ["definitions.rs", "secrets.rs"] {
        let source = fs::read_to_string(workspace().join("src/pg/guc").join(file)).unwrap();
        for definition in source.split("c\"audit_algolia.").skip(1) {
            let (name, rest) = definition.split_once('"').unwrap();
            let rest = rest.split(");").next().unwrap();
            let arguments = rest.split_once('&').unwrap().1;
            let arguments: Vec<&str> = arguments.split(',').map(str::trim).collect();
            let number = |place: usize| arguments.get(place).and_then(|text| constant(text));
            let unit = ["UNIT_MS", "UNIT_BYTE"].map(|unit| rest.contains(unit));
            settings.push(Setting {
                name: name.to_owned(),
                default: default_of(&source, arguments[0]),
                range: number(1).zip(number(2)),
                context: match rest.contains("GucContext::Userset") {
                    true => "user".to_owned(),
                    false => "sighup".to_owned(),
                },
                unit: match unit {
                    [true, _] => "ms".to_owned(),
                    [_, true] => "bytes".to_owned(),
                    _ => String::new(),
                },
            });
        }
    }
    settings
}

/// The default of the static variable. A macro defines those of the keys, which are all alike.
fn default_of(source: &str, name: &str) -> String {
    let plain = source.split(&format!("static {name}:")).nth(1);
    let made = plain.or_else(|| source.split("static $setting:").nth(1)).unwrap();
    let value = made.split("::new(").nth(1).unwrap().split(");").next().unwrap();
    if let Some(number) = constant(value) {
        return number.to_string();
    }
    match value.strip_prefix("Some(c\"") {
        Some(text) => text.split('"').next().unwrap().to_owned(),
        None => match value {
            "true" => "on".to_owned(),
            "false" => "off".to_owned(),
            variant => variant.rsplit("::").next().unwrap().to_lowercase(),
        },
    }
}

/// `10_000`, `8 << 20` or `i32::MAX`.
fn constant(text: &str) -> Option<i64> {
    let literal = |text: &str| text.trim().replace('_', "").parse::<i64>().ok();
    match text.split_once("<<") {
        Some((value, places)) => Some(literal(value)? << literal(places)?),
        None if text == "i32::MAX" => Some(i64::from(i32::MAX)),
        None => literal(text),
    }
}
