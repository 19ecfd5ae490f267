//! No file imports, directly or indirectly, a file that imports it. Needs no server.
//!
//! A file imports another if it names something that the other defines. A module that only declares its parts, or
//! re-exports their names with `pub use`, does not import them: a file that uses such a name imports the part.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use audit_algolia_tests::cargo::workspace;

#[test]
fn no_two_files_import_each_other() {
    for root in ["src", "pgrx-tests/src", "pgrx-tests/src/bin/dev"] {
        let circles = circles(&Modules::read(&workspace().join(root)).imports());
        assert!(
            circles.is_empty(),
            "{root}: move what several files need to a file of its own: {circles:#?}"
        );
    }
}

#[test]
fn circles_are_found() {
    let edges = |pairs: &[(&str, &str)]| {
        let mut edges = Edges::new();
        for (from, to) in pairs {
            edges.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        edges
    };
    assert!(circles(&edges(&[("a", "b"), ("b", "c"), ("a", "c")])).is_empty());
    assert_eq!(circles(&edges(&[("a", "b"), ("b", "c"), ("c", "b")])), [["b", "c"]]);
}

#[test]
fn names_are_traced_to_the_file_that_defines_them() {
    let mut modules = Modules::default();
    modules.add("lib", "mod a; mod c;");
    modules
        .add("a/mod", "mod b; pub use b::{Inner, Other as Renamed}; use crate::c::helper; pub fn own() {}");
    modules.add("a/b", "use super::own; // use super::super::c;\nfn f() { crate::c::g(); }");
    modules.add("c", "use crate::a::{self, Renamed};");
    let imports = modules.imports();
    let of = |file: &str| imports.get(file).into_iter().flatten().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(of("a/mod"), ["c"], "what is passed on is not imported");
    assert_eq!(of("a/b"), ["a/mod", "c"]);
    assert_eq!(of("c"), ["a/b", "a/mod"]);
}

/// A path of names, such as `crate::a::b`, and the name under which it is imported.
struct Import {
    path: Vec<String>,
    name: String,
    is_passed_on: bool,
}

/// A file of a crate.
struct File {
    place: String,
    imports: Vec<Import>,
    /// The names in its code, without its imports.
    code: Vec<Vec<String>>,
}

/// The files of a crate by the paths of their modules.
#[derive(Default)]
struct Modules {
    files: BTreeMap<Vec<String>, File>,
}

impl Modules {
    fn read(folder: &Path) -> Modules {
        let mut modules = Modules::default();
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(&next).unwrap() {
                let path = entry.unwrap().path();
                let place = path.strip_prefix(folder).unwrap().with_extension("").display().to_string();
                let is_test = place.ends_with("tests");
                // Each program is a crate of its own.
                if path.is_dir() && !is_test && place != "bin" {
                    folders.push(path);
                } else if path.extension().is_some_and(|end| end == "rs") && !is_test {
                    modules.add(&place, &fs::read_to_string(&path).unwrap());
                }
            }
        }
        modules
    }

    fn add(&mut self, place: &str, text: &str) {
        let module = match place {
            "lib" | "main" => Vec::new(),
            place => place.trim_end_matches("/mod").split('/').map(str::to_owned).collect(),
        };
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let lines: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
        let (text, mut imports, mut code) = (lines.join("\n"), Vec::new(), String::new());
        let mut left = text.as_str();
        while let Some((before, import, after)) = next_import(left) {
            let words = before.trim_end().rsplit([';', '}', '\n']).next().unwrap_or_default();
            let is_passed_on = words.trim().starts_with("pub");
            for mut path in expanded(import) {
                let last = path.pop().unwrap_or_default();
                let (last, name) = last.split_once(" as ").unwrap_or((&last, &last));
                let mut name = name.trim().to_owned();
                if last.trim() == "self" {
                    name = path.last().cloned().unwrap_or_default();
                } else {
                    path.push(last.trim().to_owned());
                }
                imports.push(Import { path, name, is_passed_on });
            }
            code.push_str(before);
            left = after;
        }
        code.push_str(left);
        self.files.insert(module, File { place: place.to_owned(), imports, code: paths(&code) });
    }

    /// Which files each file imports.
    fn imports(&self) -> Edges {
        let mut edges = Edges::new();
        for (module, File { place, imports, code }) in &self.files {
            let words: BTreeSet<&str> =
                code.iter().filter_map(|path| path.first()).map(String::as_str).collect();
            let used = imports.iter().filter(|one| !one.is_passed_on || words.contains(one.name.as_str()));
            for path in used.map(|one| &one.path).chain(code.iter().filter(|path| path.len() > 1)) {
                let target = self.absolute(module, path).and_then(|path| self.file_of(&path, 0));
                edges.entry(place.clone()).or_default().extend(target.filter(|target| target != place));
            }
        }
        edges
    }

    /// A path from the root of the crate; `None` if it leads out of the crate.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<Vec<String>> {
        let mut at = module.to_vec();
        let mut names = path.iter().peekable();
        match path.first()?.as_str() {
            "crate" => {
                at.clear();
                names.next();
            }
            "self" => drop(names.next()),
            "super" => {
                while names.next_if(|name| *name == "super").is_some() {
                    at.pop();
                }
            }
            first => {
                let part: Vec<String> = at.iter().cloned().chain([first.to_owned()]).collect();
                self.files.get(&part)?;
            }
        }
        at.extend(names.cloned());
        Some(at)
    }

    /// The file that defines the item at a path.
    fn file_of(&self, path: &[String], depth: usize) -> Option<String> {
        let known = (0..=path.len()).rev().find(|length| self.files.contains_key(&path[..*length]))?;
        let file = &self.files[&path[..known]];
        let passed_on = path.get(known).and_then(|name| file.imports.iter().find(|one| one.name == *name));
        match passed_on {
            Some(one) if depth < 8 => {
                let target = self.absolute(&path[..known], &one.path)?;
                let rest = path[known + 1..].iter().cloned();
                self.file_of(&target.into_iter().chain(rest).collect::<Vec<_>>(), depth + 1)
            }
            _ => Some(file.place.clone()),
        }
    }
}

/// The next `use`: the text before it, what it imports, and the text after it.
fn next_import(code: &str) -> Option<(&str, &str, &str)> {
    let starts_word = |at: usize| !code[..at].ends_with(|last: char| last.is_alphanumeric() || last == '_');
    let at = code.match_indices("use ").map(|(at, _)| at).find(|at| starts_word(*at))?;
    let (import, after) = code[at + 4..].split_once(';')?;
    Some((&code[..at], import, after))
}

/// The paths that `a::{b, c::{d, e}}` stands for.
fn expanded(import: &str) -> Vec<Vec<String>> {
    let names = |text: &str| -> Vec<String> {
        text.split("::").map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
    };
    let Some((before, rest)) = import.split_once('{') else { return vec![names(import)] };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for letter in inner.chars() {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        match letter {
            ',' if depth == 0 => parts.push(String::new()),
            letter => parts.last_mut().unwrap().push(letter),
        }
    }
    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(|part| expanded(part)).map(|end| [names(before), end].concat()).collect()
}

/// The names in some code. Names joined by `::` form a path.
fn paths(code: &str) -> Vec<Vec<String>> {
    // `pub(in crate::a)` imports nothing.
    let code = code.replace("(in crate::", "(").replace("(in super::super", "(");
    let is_of_name = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    let words = code.split(|letter| !is_of_name(letter));
    let path = |word: &str| -> Vec<String> {
        word.split(':').filter(|name| !name.is_empty()).map(str::to_owned).collect()
    };
    words.map(path).filter(|path| !path.is_empty()).collect()
}

/// Which files each file imports.
type Edges = BTreeMap<String, BTreeSet<String>>;

/// The files that a file imports, directly or indirectly.
fn reached<'a>(edges: &'a Edges, from: &'a str) -> BTreeSet<&'a str> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(file) = next.pop() {
        for to in edges.get(file).into_iter().flatten() {
            if seen.insert(to.as_str()) {
                next.push(to);
            }
        }
    }
    seen
}

/// Files that import each other, as sets in order of names.
fn circles(edges: &Edges) -> Vec<Vec<String>> {
    let reach: BTreeMap<&str, BTreeSet<&str>> =
        edges.keys().map(|file| (file.as_str(), reached(edges, file))).collect();
    let mut found = BTreeSet::new();
    for (file, others) in &reach {
        let meets = |other: &&&str| reach.get(**other).is_some_and(|back| back.contains(file));
        let circle: BTreeSet<String> = others.iter().filter(meets).map(|other| (*other).to_owned()).collect();
        if circle.len() > 1 {
            found.insert(circle);
        }
    }
    found.into_iter().map(|circle| circle.into_iter().collect()).collect()
}
