//! The rules of the documentation that can be read off the files: links lead somewhere, each function is explained,
//! pages stay short.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use audit_algolia_tests::cargo::workspace;

/// Most lines of a page that is read from top to bottom.
const ONE_READING: usize = 200;

fn pages() -> Vec<PathBuf> {
    let top = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"];
    let mut pages: Vec<PathBuf> = top.iter().map(|name| workspace().join(name)).collect();
    pages.extend(documents());
    pages
}

/// The pages in `docs`, those in its folders too.
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

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// A page without its blocks of code.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// The targets of a page's links.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(str::to_owned).collect()
}

/// What a heading's anchor is called: lower case, words joined by hyphens, without punctuation.
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
fn the_readme_lists_every_page_and_is_read_at_one_go() {
    let readme = read(&workspace().join("README.md"));
    for page in fs::read_dir(workspace().join("docs")).unwrap().map(|entry| entry.unwrap().path()) {
        let name = page.file_name().unwrap().to_string_lossy().into_owned();
        assert!(!name.ends_with(".md") || readme.contains(&format!("(docs/{name})")), "no link to {name}");
    }
    let lines = readme.lines().count();
    assert!(lines <= ONE_READING, "README.md has {lines} lines");
}
