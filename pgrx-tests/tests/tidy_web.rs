//! The rules of the audit page that can be read off its files. No node.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use audit_algolia_tests::cargo::workspace;

/// The page's own files of TypeScript and JavaScript below a folder, and not what is installed or made there.
fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![workspace().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !["node_modules", "dist", ".test"].contains(&name.as_str()) {
                folders.push(path);
            } else if name.ends_with(".ts") || name.ends_with(".mjs") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "{folder} has no file");
    found
}

/// The path from the workspace on.
fn place(path: &Path) -> String {
    path.strip_prefix(workspace()).unwrap().display().to_string()
}

/// Complains of the files for which `is_wrong` holds.
#[track_caller]
fn none(files: Vec<PathBuf>, rule: &str, is_wrong: impl Fn(&str, &str) -> bool) {
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let wrong: Vec<String> =
        files.iter().filter(|path| is_wrong(&place(path), &read(path))).map(|path| place(path)).collect();
    assert!(wrong.is_empty(), "{rule}: {wrong:#?}");
}

#[test]
fn every_file_of_the_page_says_what_it_owns() {
    none(files("web"), "a file opens with /** … */", |_, text| !text.starts_with("/**"));
}

#[test]
fn nothing_of_the_page_is_left_for_later() {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME")];
    none(files("web"), "do it, or write it down elsewhere", |_, text| {
        words.iter().any(|word| text.contains(word))
    });
}

#[test]
fn one_file_names_each_library_that_asks_algolia() {
    for (library, owner) in
        [("'algoliasearch", "web/src/search.ts"), ("'instantsearch.js", "web/src/views/explore_facets.ts")]
    {
        none(files("web/src"), &format!("only {owner} names {library}"), |place, text| {
            place != owner && text.contains(library)
        });
    }
}

#[test]
fn the_page_never_reads_a_text_as_html() {
    let ways = ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"];
    none(files("web/src"), "build elements instead", |_, text| ways.iter().any(|way| text.contains(way)));
}

#[test]
fn the_page_keeps_nothing_beyond_its_tab() {
    let ways = ["localStorage", "indexedDB", "document.cookie", "serviceWorker"];
    none(files("web/src"), "the tab's sessionStorage is all", |_, text| {
        ways.iter().any(|way| text.contains(way))
    });
}

#[test]
fn tests_of_the_page_wait_for_something_and_never_for_a_time() {
    let ways = ["waitForTimeout", "setTimeout(", "setInterval("];
    none(files("web/test"), "wait until it is so", |_, text| ways.iter().any(|way| text.contains(way)));
}

#[test]
fn no_test_of_the_page_is_left_out() {
    let ways = ["test.skip", "test.only", "test.todo", "describe.skip", "{ todo", "skip: true"];
    none(files("web/test"), "run it or remove it", |_, text| ways.iter().any(|way| text.contains(way)));
}

#[test]
fn every_variable_that_tests_of_the_page_read_is_explained() {
    let mut read = BTreeSet::new();
    for path in files("web/test") {
        let text = fs::read_to_string(path).unwrap();
        for (start, end) in [("process.env['", "'"), ("process.env.", "")] {
            for rest in text.split(start).skip(1) {
                let name = if end.is_empty() {
                    rest.split(|c: char| !(c.is_ascii_uppercase() || c == '_')).next()
                } else {
                    rest.split(end).next()
                };
                read.extend(name.filter(|name| !name.is_empty()).map(str::to_owned));
            }
        }
    }
    assert!(read.contains("CHROMIUM"), "{read:?}");
    // What the runner itself tells its tests, and what belongs to others.
    let known = ["WEB_FOLDER", "PAGE_FOLDER", "NODE_OPTIONS", "CARGO_TARGET_DIR"];
    let page = fs::read_to_string(workspace().join("web/README.md")).unwrap();
    for name in read.iter().filter(|name| !known.contains(&name.as_str())) {
        assert!(page.contains(&format!("`{name}`")), "web/README.md does not explain {name}");
    }
}
