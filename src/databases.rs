//! The list of served databases, read by the server's own rules for lists of names.

#![forbid(unsafe_code)]

use std::iter::Peekable;
use std::str::Chars;

/// Which databases are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Databases {
    All,
    Named(Vec<String>),
}

impl Databases {
    /// Reads a list; `None` if it is malformed. Follows the server's `SplitGUCList`: a name without quotes ends at a
    /// comma or white space; a name in double quotes may contain anything, a double quote written twice. The case of
    /// letters is kept.
    pub fn parse(list: &str) -> Option<Databases> {
        if list.trim() == "*" {
            return Some(Databases::All);
        }
        let mut rest = list.chars().peekable();
        let mut names = Vec::new();
        loop {
            skip_white_space(&mut rest);
            names.push(name(&mut rest)?);
            skip_white_space(&mut rest);
            match rest.next() {
                None => return Some(Databases::Named(names)),
                Some(',') => (),
                Some(_) => return None,
            }
        }
    }

    /// Whether the list includes the database of this name.
    pub fn include(&self, database: &str) -> bool {
        match self {
            Databases::All => true,
            Databases::Named(names) => names.iter().any(|name| name == database),
        }
    }
}

fn skip_white_space(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if(|c| c.is_ascii_whitespace()).is_some() {}
}

/// Takes the name at the beginning of `rest`; `None` if there is none.
fn name(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    let mut name = String::new();
    if rest.next_if_eq(&'"').is_none() {
        while let Some(c) = rest.next_if(|c| *c != ',' && !c.is_ascii_whitespace()) {
            name.push(c);
        }
        // `*` cannot be one of several names.
        return (!name.is_empty() && name != "*").then_some(name);
    }
    loop {
        match rest.next()? {
            '"' if rest.next_if_eq(&'"').is_none() => return (!name.is_empty()).then_some(name),
            c => name.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_the_server_reads_lists_of_names() {
        for (list, expected) in [
            ("shop", vec!["shop"]),
            (" Shop ,\tmy-shop\n", vec!["Shop", "my-shop"]),
            (r#""my store", "a,b""#, vec!["my store", "a,b"]),
            (r#"" spaced ""#, vec![" spaced "]),
            (r#""say ""hi""""#, vec![r#"say "hi""#]),
            (r#""""""#, vec![r#"""#]),
            (r#""*""#, vec!["*"]),
            (r#"a"b"#, vec![r#"a"b"#]),
            ("ünï, 店", vec!["ünï", "店"]),
        ] {
            let names = expected.into_iter().map(str::to_owned).collect();
            assert_eq!(Databases::parse(list), Some(Databases::Named(names)), "{list}");
        }
        for all in ["*", " * "] {
            assert_eq!(Databases::parse(all), Some(Databases::All));
        }
    }

    #[test]
    fn what_is_no_list_of_names_is_refused() {
        for list in ["", " ", ",", "a,", ",a", "a,,b", "a b", r#""a"#, r#""a"b"#, r#""""#, "*, a", "a, *"] {
            assert_eq!(Databases::parse(list), None, "{list}");
        }
    }

    #[test]
    fn a_database_is_served_by_its_very_name() {
        let list = Databases::parse(r#"shop, "My Store""#).unwrap();
        for (name, is_served) in [("shop", true), ("My Store", true), ("my store", false), ("SHOP", false)] {
            assert_eq!(list.include(name), is_served, "{name}");
        }
        assert!(Databases::All.include("anything"));
    }
}
