//! A strict parser for OpenMetrics text, after the specification: what it accepts, every scraper accepts.
#![allow(clippy::expect_used, clippy::panic, reason = "a text that breaks the rules fails the test")]

use std::collections::{BTreeMap, BTreeSet};

/// Labels and value.
type Sample = (BTreeMap<String, String>, f64);

#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) unit: String,
    pub(crate) help: String,
    pub(crate) samples: Vec<Sample>,
}

/// Parses a whole text, and panics at the first thing that violates the specification.
#[track_caller]
pub(crate) fn read(text: &str) -> BTreeMap<String, Family> {
    let body = text.strip_suffix("# EOF\n").expect("ends with # EOF and a line feed");
    assert!(body.is_empty() || body.ends_with('\n'), "each line ends with a line feed");
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut series = BTreeSet::new();
    let mut current = String::new();
    for line in body.split_terminator('\n') {
        assert!(!line.is_empty() && line.trim() == line && !line.contains('\r'), "{line:?}");
        if let Some(description) = line.strip_prefix("# ") {
            let mut parts = description.splitn(3, ' ');
            let [word, name, rest] = [(); 3].map(|()| parts.next().expect(line));
            check_name(name, true);
            if name != current {
                let earlier = families.insert(name.to_owned(), Family::default());
                assert!(earlier.is_none(), "{name} comes twice, or is interleaved");
                current = name.to_owned();
            }
            let family = families.get_mut(name).unwrap();
            assert!(family.samples.is_empty(), "{line}: a description comes before the samples");
            let place = match word {
                "TYPE" => {
                    assert!(["gauge", "counter", "stateset"].contains(&rest), "{line}");
                    &mut family.kind
                }
                "UNIT" => {
                    assert!(name.ends_with(&format!("_{rest}")), "{name} does not end in its unit {rest}");
                    &mut family.unit
                }
                "HELP" => {
                    unescaped(rest);
                    &mut family.help
                }
                _ => panic!("{line}"),
            };
            assert!(place.is_empty(), "{line}: said twice");
            rest.clone_into(place);
            continue;
        }
        assert!(!line.starts_with('#'), "{line}: no comments");
        let family = families.get_mut(&current).expect(line);
        let (name, labels, value) = sample(line);
        assert!(series.insert((name.clone(), labels.clone())), "{line}: the series comes twice");
        assert!(!family.kind.is_empty() && !family.help.is_empty(), "{line}: undescribed");
        match family.kind.as_str() {
            "counter" => {
                assert_eq!(name, format!("{current}_total"));
                assert!(value.is_finite() && value >= 0.0, "{line}");
            }
            "stateset" => {
                assert_eq!(name, current);
                assert!(family.unit.is_empty() && labels.contains_key(&current), "{line}");
                assert!(value == 0.0 || value == 1.0, "{line}");
            }
            _ => assert_eq!(name, current),
        }
        family.samples.push((labels, value));
    }
    for (name, family) in &families {
        assert!(!family.kind.is_empty(), "{name} has no type");
        let clash = families.contains_key(&format!("{name}_total"));
        assert!(family.kind != "counter" || (!clash && !name.ends_with("_total")), "{name}");
    }
    families
}

/// `name{label="value",…} number`
fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let end = line.find(['{', ' ']).expect(line);
    let (name, rest) = line.split_at(end);
    check_name(name, true);
    let mut labels = BTreeMap::new();
    let value = match rest.strip_prefix('{') {
        None => rest,
        Some(mut rest) => loop {
            let (label, behind) = rest.split_once("=\"").expect(line);
            check_name(label, false);
            let end = closing_quote(behind).expect(line);
            let earlier = labels.insert(label.to_owned(), unescaped(&behind[..end]));
            assert!(earlier.is_none(), "{line}: {label} comes twice");
            match behind[end + 1..].strip_prefix(',') {
                Some(more) => rest = more,
                None => break behind[end + 1..].strip_prefix('}').expect(line),
            }
        },
    };
    let value = value.strip_prefix(' ').expect(line);
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit() || b"+-.e".contains(&byte));
    assert!(is_number || ["NaN", "+Inf", "-Inf"].contains(&value), "{line}");
    (name.to_owned(), labels, value.parse().expect(line))
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.char_indices().find_map(|(at, character)| {
        let found = character == '"' && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        found.then_some(at)
    })
}

fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some(escaped @ ('\\' | '"')) => escaped,
                other => panic!("{text}: \\{other:?}"),
            },
            '"' => panic!("{text}: a quote that is not escaped"),
            plain => plain,
        });
    }
    plain
}

#[track_caller]
fn check_name(name: &str, colons: bool) {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || (colons && byte == b':');
    assert!(!name.is_empty() && !name.as_bytes()[0].is_ascii_digit() && name.bytes().all(fits), "{name:?}");
}
