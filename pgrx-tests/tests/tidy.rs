//! Rules of the project that can be checked in its files. Needs no server.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use audit_algolia_tests::cargo::workspace;

/// The files below a folder of the workspace with this extension, sorted by name.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![workspace().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "{folder} has no .{extension} file");
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// The path relative to the workspace.
fn place(path: &Path) -> String {
    path.strip_prefix(workspace()).unwrap().display().to_string()
}

fn in_shell(path: &Path) -> bool {
    place(path).starts_with("src/pg/")
}

/// Tests in a file of their own, to which the attributes of their module apply.
fn is_test(path: &Path) -> bool {
    let place = place(path);
    place.ends_with("tests.rs") || place.contains("/tests/")
}

/// The lines that are not comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//"))
}

/// Fails with the files for which `is_wrong` returns true.
#[track_caller]
fn none(files: impl IntoIterator<Item = PathBuf>, rule: &str, is_wrong: impl Fn(&Path, &str) -> bool) {
    let wrong: Vec<String> =
        files.into_iter().filter(|path| is_wrong(path, &read(path))).map(|path| place(&path)).collect();
    assert!(wrong.is_empty(), "{rule}: {wrong:#?}");
}

/// The text between `start` and `end`, for each occurrence of `start`.
fn between<'a>(text: &'a str, start: &'a str, end: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(start).skip(1).filter_map(move |rest| rest.split(end).next())
}

fn sources() -> String {
    files("src", "rs").iter().map(|path| read(path)).collect()
}

fn install_script() -> String {
    files("sql/install", "sql").iter().map(|path| read(path)).collect()
}

#[test]
fn every_file_says_what_it_owns() {
    let all = files("src", "rs").into_iter().chain(files("pgrx-tests", "rs"));
    none(all, "a file opens with //!", |_, text| !text.starts_with("//!"));
}

#[test]
fn only_the_shell_names_pgrx() {
    none(files("src", "rs"), "only src/pg names pgrx", |path, text| {
        !in_shell(path) && code(text).any(|line| line.contains("pgrx"))
    });
}

#[test]
fn one_place_names_the_http_client() {
    none(files("src", "rs"), "only src/delivery/http names ureq", |path, text| {
        !place(path).starts_with("src/delivery/http") && code(text).any(|line| line.contains("ureq"))
    });
}

#[test]
fn only_the_shell_may_be_unsafe() {
    none(files("src", "rs"), "#![forbid(unsafe_code)] is missing", |path, text| {
        // The attribute in lib.rs would forbid it in src/pg too.
        let may = in_shell(path) || is_test(path) || place(path) == "src/lib.rs";
        !may && !text.contains("#![forbid(unsafe_code)]")
    });
}

#[test]
fn the_core_takes_clock_and_random_numbers_as_parameters() {
    let reads = ["Instant::now()", "SystemTime::now()", ".elapsed()", "fastrand::rng()", "Rng::new()"];
    let may = ["src/delivery/clock.rs", "src/delivery/http/dns_cache.rs"];
    none(files("src", "rs"), "clock and random numbers are parameters", |path, text| {
        let shipped = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        !in_shell(path)
            && !is_test(path)
            && !may.contains(&place(path).as_str())
            && code(shipped).any(|line| reads.iter().any(|read| line.contains(read)))
    });
}

#[test]
fn nothing_sleeps() {
    none(files("src", "rs"), "wait on the latch", |path, text| {
        !is_test(path) && code(text).any(|line| line.contains("sleep("))
    });
}

#[test]
fn nothing_is_left_for_later() {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let folders = [("src", "rs"), ("pgrx-tests", "rs"), ("sql", "sql")];
    let mut all: Vec<PathBuf> = folders.iter().flat_map(|(folder, end)| files(folder, end)).collect();
    all.extend(files("docs", "md"));
    all.extend(
        ["README", "ARCHITECTURE", "CONTRIBUTING", "CHANGELOG"]
            .map(|name| workspace().join(name).with_extension("md")),
    );
    none(all, "do it, or write it down elsewhere", |_, text| words.iter().any(|word| text.contains(word)));
}

#[test]
fn sql_is_indented_with_spaces_and_opens_with_a_comment() {
    none(files("sql", "sql"), "no tabs", |_, text| text.contains('\t'));
    none(files("sql", "sql"), "a comment comes first", |_, text| {
        !text.starts_with("-- ") && !text.starts_with("\\echo")
    });
}

/// Our queries also run in sessions with `standard_conforming_strings` off.
#[test]
fn a_backslash_in_sql_means_the_same_in_all_sessions() {
    let depends = |line: &str| {
        let quoted = line.split('\'').enumerate().filter(|(place, _)| place % 2 == 1);
        let before = |place: usize| line.split('\'').nth(place - 1).unwrap_or_default();
        quoted.into_iter().any(|(place, text)| text.contains('\\') && !before(place).ends_with('E'))
    };
    none(files("sql", "sql"), "without E'…' a backslash depends on a setting", |path, text| {
        !place(path).starts_with("sql/examples/")
            && text.lines().filter(|line| !line.starts_with("--")).any(depends)
    });
}

#[test]
fn every_query_is_used() {
    let sources = sources();
    let included: BTreeSet<&str> =
        between(&sources, "include_str!(\"", "\")").filter_map(|path| path.split("/sql/").nth(1)).collect();
    for path in files("sql", "sql") {
        let name = place(&path).trim_start_matches("sql/").to_owned();
        let is_for_users = ["install/", "examples/", "released/", "audit_algolia--"]
            .iter()
            .any(|start| name.starts_with(start));
        assert!(is_for_users || included.contains(name.as_str()), "{name} is not used");
    }
}

#[test]
fn cargo_pgrx_gets_the_install_script_in_its_order() {
    let shell = read(&workspace().join("src/pg/mod.rs"));
    let mut before: Option<String> = None;
    let mut listed = Vec::new();
    for part in between(&shell, "extension_sql_file!(", ");") {
        let file = between(part, "\"", "\"").next().unwrap();
        let name = between(part, "name = \"", "\"").next().unwrap().to_owned();
        match &before {
            None => assert!(part.contains("bootstrap"), "{name} comes first"),
            Some(before) => {
                assert!(part.contains(&format!("requires = [\"{before}\"]")), "{name} comes after {before}")
            }
        }
        listed.push(file.trim_start_matches("../").to_owned());
        before = Some(name);
    }
    let there: Vec<String> = files("sql/install", "sql").iter().map(|path| place(path)).collect();
    assert_eq!(listed, there);
}

/// The functions with an attribute: the attribute's line and the function's name.
fn functions_with<'a>(attribute: &'a str, sources: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let place = format!("\n{attribute}");
    let places: Vec<usize> = sources.match_indices(&place).map(|(at, _)| at + 1).collect();
    places.into_iter().map(|at| {
        let rest = &sources[at..];
        let name = between(rest, "fn ", "(").next().unwrap();
        (rest.lines().next().unwrap(), name)
    })
}

#[test]
fn sql_and_rust_declare_the_same_functions() {
    let sources = sources();
    // Objects of a released version must find their functions in a later library, until they are updated.
    let released: String = files("sql/released", "sql").iter().map(|path| read(path)).collect();
    let script = install_script() + &released;
    let in_sql: BTreeSet<String> = between(&script, "'MODULE_PATHNAME', '", "'").map(str::to_owned).collect();
    let mut in_rust = BTreeSet::new();
    for (attribute, name) in functions_with("#[pg_extern", &sources) {
        assert_eq!(attribute, "#[pg_extern(sql = false)]", "declare {name} in sql/install");
        in_rust.insert(format!("{name}_wrapper"));
    }
    for (_, name) in functions_with("#[no_mangle]", &sources) {
        // The entry points of processes are named to the postmaster instead. The function that the function manager
        // calls first is found by its name.
        if name.ends_with("_main") {
            assert!(sources.contains(&format!("\"{name}\"")), "{name} is never started");
        } else if !name.starts_with("pg_finfo_") {
            in_rust.insert(name.to_owned());
        }
    }
    assert_eq!(in_sql, in_rust);
}

#[test]
fn every_object_has_a_comment() {
    let script = install_script();
    let commented = |kind: &str, name: &str| {
        let comment = format!("comment on {kind} audit_algolia.{name}");
        let found = script.split(&comment).skip(1).any(|rest| rest.starts_with([' ', '(', '\n']));
        assert!(found, "{kind} {name} has no comment");
    };
    for kind in ["table", "view", "sequence", "function", "type"] {
        for text in between(&script, &format!("\ncreate {kind} audit_algolia."), ";\n") {
            let end = text.find([' ', '(', '\n']).unwrap();
            let name = &text[..end];
            commented(kind, name);
            for column in columns(kind, text) {
                commented("column", &format!("{name}.{column}"));
            }
        }
    }
    assert!(script.contains("comment on schema audit_algolia is"));
}

/// The columns of a table or a view. Each has a line of its own, indented by four spaces.
fn columns(kind: &str, text: &str) -> Vec<String> {
    let lines = match kind {
        "table" => between(text, "(\n", "\n)").next(),
        "view" => between(text, "select\n", "\nfrom").next(),
        _ => None,
    };
    let lines = lines.unwrap_or_default().lines();
    let items =
        lines.filter_map(|line| line.strip_prefix("    ").filter(|item| !item.starts_with([' ', '-'])));
    items
        .filter(|item| !item.starts_with("constraint ") && *item != "case")
        .filter_map(|item| match kind {
            "table" => item.split(' ').next(),
            _ => item.trim_end_matches(',').rsplit([' ', '.']).next(),
        })
        .map(str::to_owned)
        .collect()
}

/// The lint `undocumented_unsafe_blocks` checks blocks and impls, but not foreign declarations and functions.
#[test]
fn everything_unsafe_is_argued() {
    let root = read(&workspace().join("Cargo.toml"));
    assert!(
        root.contains("undocumented_unsafe_blocks = \"deny\"")
            && root.contains("unsafe_op_in_unsafe_fn = \"deny\"")
    );
    for manifest in ["Cargo.toml", "pgrx-tests/Cargo.toml"] {
        let text = read(&workspace().join(manifest));
        assert!(text.contains("[lints]\nworkspace = true"), "{manifest} does not obey the workspace's lints");
    }
    let (lint, word) = (concat!("allow(clippy::undocumented_", "unsafe_blocks"), concat!("unsafe ", "fn "));
    let sources = || files("src", "rs").into_iter().chain(files("pgrx-tests", "rs"));
    none(sources(), "the lint stays on", |_, text| text.contains(lint));
    none(sources(), "say why it is sound", |_, text| {
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        lines.iter().enumerate().any(|(at, line)| {
            let foreign = line.contains("extern \"C") && line.ends_with('{') && !line.contains(" fn ");
            // A function that PostgreSQL calls (`extern "C-unwind" fn`) is sound if PostgreSQL keeps its promises.
            let function = line.starts_with(word) || line.contains(&format!(" {word}"));
            let above =
                lines[..at].iter().rev().take_while(|line| line.starts_with("//") || line.starts_with("#["));
            (foreign || function)
                && !line.starts_with("//")
                && !above.clone().any(|line| line.to_ascii_uppercase().contains("SAFETY"))
        })
    });
}

#[test]
fn no_message_names_a_type_of_the_code() {
    let code = sources();
    let words = |text: &str| -> BTreeSet<String> {
        text.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_owned).collect()
    };
    let types: BTreeSet<String> = ["struct ", "enum ", "trait "]
        .into_iter()
        .flat_map(|keyword| code.split(keyword).skip(1))
        .filter_map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric()).next())
        .filter(|name| name.chars().filter(char::is_ascii_uppercase).count() > 1)
        .map(str::to_owned)
        .collect();
    assert!(types.contains("SharedState"), "{types:?}");
    let shipped = files("src", "rs").into_iter().filter(|path| !is_test(path)).chain(files("sql", "sql"));
    none(shipped, "a message speaks the user's language", |path, text| {
        let is_sql = path.extension().is_some_and(|found| found == "sql");
        let mut texts = shown_by(text, is_sql);
        texts.any(|text| words(text).intersection(&types).next().is_some())
    });
}

/// The texts in a file that users see: string literals in code, and all of SQL.
fn shown_by(text: &str, is_sql: bool) -> Box<dyn Iterator<Item = &str> + '_> {
    match is_sql {
        true => Box::new(text.lines()),
        false => Box::new(code(text).flat_map(|line| line.split('"').skip(1).step_by(2))),
    }
}
