//! The licences of the crates in the library, with their texts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{ensure, Result};

use audit_algolia_tests::crates::{self, Crate};

/// How the files begin in which crates keep their licences.
const STARTS: [&str; 5] = ["license", "licence", "copying", "notice", "unlicense"];

/// Each crate with its licence, and each text once with the crates that it is from.
pub(super) fn texts() -> Result<String> {
    let mut list = String::from("The library contains these Rust crates. Their licences follow.\n\n");
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for one in crates::built_in(&crates::metadata()?)? {
        let name = format!("{} {}", one.name, one.version);
        list.push_str(&format!("{name}: {}\n", one.licence));
        let mut found = licence_files(&one.folder)?;
        if found.is_empty() {
            found.insert(usual_text(&one)?);
        }
        for text in found {
            texts.entry(text).or_default().push(name.clone());
        }
    }
    let mut ordered: Vec<(Vec<String>, String)> =
        texts.into_iter().map(|(text, names)| (names, text)).collect();
    ordered.sort();
    for (names, text) in ordered {
        list.push_str(&format!("\n{}\n{}\n\n{text}\n", "=".repeat(72), names.join(", ")));
    }
    Ok(list)
}

fn licence_files(folder: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_lowercase();
        if STARTS.iter().any(|start| name.starts_with(start)) && entry.path().is_file() {
            let content = fs::read(entry.path())?;
            found.insert(String::from_utf8_lossy(&content).replace("\r\n", "\n").trim_end().to_owned());
        }
    }
    Ok(found)
}

/// Some crates are published without the text of their licence. That of MIT has to be there, with the holders.
fn usual_text(one: &Crate) -> Result<String> {
    ensure!(
        one.licence.split([' ', '/']).any(|word| word == "MIT"),
        "{} {} comes without the text of its licence, {}",
        one.name,
        one.version,
        one.licence
    );
    let holders =
        if one.authors.is_empty() { format!("the authors of {}", one.name) } else { one.authors.join(", ") };
    Ok(format!("Copyright (c) {holders}\n\n{}", include_str!("mit.txt").trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without_text(licence: &str) -> Crate {
        Crate {
            name: "some".into(),
            version: "1.0.0".into(),
            licence: licence.into(),
            authors: vec!["A <a@b>".into(), "C".into()],
            folder: "some-1.0.0".into(),
        }
    }

    #[test]
    fn a_crate_without_the_text_of_mit_gets_it_with_its_authors() {
        let text = usual_text(&without_text("MIT OR Apache-2.0")).unwrap();
        assert!(text.starts_with("Copyright (c) A <a@b>, C\n\nPermission is hereby granted"), "{text}");
        let error = usual_text(&without_text("Zlib")).unwrap_err().to_string();
        assert_eq!(error, "some 1.0.0 comes without the text of its licence, Zlib");
    }
}
