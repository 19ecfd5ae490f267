//! Rules of the documentation that can be checked in its files: links have a target, each function is explained, the
//! map names every folder, tables are complete, pages stay short.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use audit_algolia_tests::cargo::workspace;

/// The maximum number of lines of a page that is read from top to bottom.
const ONE_READING: usize = 200;

fn pages() -> Vec<PathBuf> {
    let top = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"];
    let mut pages: Vec<PathBuf> = top.iter().map(|name| workspace().join(name)).collect();
    pages.extend(documents());
    pages
}

/// The pages in `docs` and its folders.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![workspace().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// The path relative to the workspace.
fn place(path: &Path) -> String {
    path.strip_prefix(workspace()).unwrap().display().to_string()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// A page without its code blocks.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// The targets of a page's links.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(str::to_owned).collect()
}

/// The anchor of a heading: lower case, words joined by hyphens, without punctuation.
fn anchors(text: &str) -> BTreeSet<String> {
    let prose = prose(text);
    let headings = prose.lines().filter_map(|line| line.strip_prefix('#'));
    headings
        .map(|heading| {
            let kept = heading.trim_start_matches('#').trim().chars();
            let kept = kept.filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
            kept.collect::<String>().to_lowercase().replace(' ', "-")
        })
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        for link in links(&read(&page)).into_iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let leads = target.exists() && (anchor.is_empty() || anchors(&read(&target)).contains(anchor));
            if !leads {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_reference_explains_every_function() {
    let page = read(&workspace().join("docs/sql.md"));
    let script: String = fs::read_dir(workspace().join("sql/install"))
        .unwrap()
        .map(|entry| read(&entry.unwrap().path()))
        .collect();
    for rest in script.split("create function audit_algolia.").skip(1) {
        let name = rest.split('(').next().unwrap();
        assert!(page.contains(&format!("`{name}(")), "docs/sql.md does not explain {name}");
    }
}

#[test]
fn the_entrance_pages_link_every_page_and_are_short() {
    let [readme, architecture] = ["README.md", "ARCHITECTURE.md"].map(|name| read(&workspace().join(name)));
    for (name, page) in [("README.md", &readme), ("ARCHITECTURE.md", &architecture)] {
        let lines = page.lines().count();
        assert!(lines <= ONE_READING, "{name} has {lines} lines");
    }
    let linked: BTreeSet<String> = links(&readme).into_iter().chain(links(&architecture)).collect();
    for page in documents() {
        let place = place(&page);
        assert!(linked.contains(&place), "neither README.md nor ARCHITECTURE.md links {place}");
    }
}

#[test]
fn the_map_names_every_folder() {
    let map = read(&workspace().join("ARCHITECTURE.md"));
    let mut folders: Vec<PathBuf> = ["src", "pgrx-tests/src", "sql"].map(|top| workspace().join(top)).into();
    let mut missing = Vec::new();
    while let Some(folder) = folders.pop() {
        let place = place(&folder);
        // One line of the map covers all folders of unit tests.
        if !place.ends_with("/tests") && !map.contains(&format!("`{place}`")) {
            missing.push(place);
        }
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        folders.extend(entries.filter(|path| path.is_dir()));
    }
    assert!(missing.is_empty(), "ARCHITECTURE.md does not name {missing:#?}");
}

/// The words in backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Some modules open with a table whose second column names the files of their folder.
#[test]
fn the_table_of_a_module_names_its_files() {
    for module in ["src/shared_state/mod.rs", "src/delivery/mod.rs", "src/pg/worker/main_loop.rs"] {
        let folder = workspace().join(module.trim_end_matches("/mod.rs").trim_end_matches(".rs"));
        let module = read(&workspace().join(module));
        let rows = module.lines().filter_map(|line| line.strip_prefix("//! |"));
        let named: BTreeSet<&str> = rows.filter_map(|row| row.split('|').nth(1)).flat_map(quoted).collect();
        for name in &named {
            assert!(folder.join(name).with_extension("rs").exists(), "{} names {name}", place(&folder));
        }
        let declared = module.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod "));
        for name in declared.map(|rest| rest.trim_end_matches(';')).filter(|name| *name != "tests") {
            assert!(named.contains(name), "{} does not name {name}", place(&folder));
        }
    }
}

#[test]
fn what_pgxn_is_told_is_true() {
    let meta: serde_json::Value = serde_json::from_str(&read(&workspace().join("META.json"))).unwrap();
    let provided = &meta["provides"]["audit_algolia"];
    for version in [&meta["version"], &provided["version"]] {
        assert_eq!(version, env!("CARGO_PKG_VERSION"));
    }
    for file in [&provided["file"], &provided["docfile"]] {
        assert!(workspace().join(file.as_str().unwrap()).is_file(), "{file}");
    }
}

/// A blank line ends a table. A row after it is a paragraph with bars, unless it begins another table.
#[test]
fn no_blank_line_cuts_a_table_in_two() {
    let is_row = |line: &str| line.trim_start().starts_with('|');
    let is_separator =
        |line: &str| is_row(line) && line.chars().all(|letter| matches!(letter, '|' | '-' | ':' | ' '));
    let mut cut = Vec::new();
    for page in pages() {
        let text = read(&page);
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| is_row(line)) {
            let begins =
                at.checked_sub(1).and_then(|before| lines.get(before)).is_none_or(|line| !is_row(line));
            let has_header = lines.get(at + 1).is_some_and(|next| is_separator(next));
            if begins && !has_header {
                cut.push(format!("{}:{}: {line}", place(&page), at + 1));
            }
        }
    }
    assert!(cut.is_empty(), "{cut:#?}");
}
