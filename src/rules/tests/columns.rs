//! The grammar of `columns`, by example and by property.

#![forbid(unsafe_code)]

use super::*;
use proptest::prelude::*;

fn check_column(entry: &str, name: &str, attribute: &str) {
    let expected = WatchedColumn { name: name.to_owned(), attribute: attribute.to_owned() };
    assert_eq!(parsed(&[entry]), Ok(vec![expected]), "{entry}");
}

#[test]
fn columns_keep_their_names_or_get_others() {
    check_column("id", "id", "id");
    check_column("  id ", "id", "id");
    check_column("user_id AS user", "user_id", "user");
    check_column("user_id as user", "user_id", "user");
    check_column("\tuser_id \n aS   user ", "user_id", "user");
    check_column("user_id AS as", "user_id", "as");
    check_column("user_id AS the user", "user_id", "the user");
    check_column("userId AS userID", "userId", "userID");
}

#[test]
fn the_longest_column_name_wins() {
    check_column("my as col", "my as col", "my as col");
    check_column("my as col as mine", "my as col", "mine");
    check_column("a as b", "a as b", "a as b");
    check_column("a as b as c", "a as b", "c");
    check_column("a AS b", "a", "b");
    check_column("a as x as y", "a", "x as y");
}

#[test]
fn names_may_be_quoted() {
    check_column("\"id\"", "id", "id");
    check_column("\"q\"\"x\" AS x", "q\"x", "x");
    check_column("q\"x", "q\"x", "q\"x");
    check_column("\"my as col\"as\"x as \"\"y\"\"\"", "my as col", "x as \"y\"");
    check_column("a AS \" b \"", "a", " b ");
    check_column("\"a\" as x as y", "a", "x as y");
    check_column("id AS\"x\"", "id", "x");
}

#[test]
fn columns_keep_their_order() {
    let names: Vec<String> =
        columns(&["at", "id AS x", "id"]).into_iter().map(|column| column.attribute).collect();
    assert_eq!(names, ["at", "x", "id"]);
}

#[test]
fn unknown_columns_are_refused() {
    use RuleErrorKind::UndefinedColumn;
    check_error(
        parsed(&["id", "nope"]),
        "column \"nope\" does not exist",
        "Name columns of the table, spelled as the table has them.",
        UndefinedColumn,
    );
    check_error(
        parsed(&["nope as b as c"]),
        "column \"nope\" does not exist",
        "Name columns of the table, spelled as the table has them.",
        UndefinedColumn,
    );
    check_error(
        parsed(&["\"no\"\"pe\" AS x"]),
        "column \"no\"pe\" does not exist",
        "Name columns of the table, spelled as the table has them.",
        UndefinedColumn,
    );
    let hint = "Perhaps you meant the column \"user_id\".";
    check_error(parsed(&["User_ID"]), "column \"User_ID\" does not exist", hint, UndefinedColumn);
    check_error(
        parsed(&["asid"]),
        "column \"asid\" does not exist",
        "Name columns of the table, spelled as the table has them.",
        UndefinedColumn,
    );
}

#[test]
fn malformed_entries_are_refused() {
    let hint = "Write 'column' or 'column AS attribute', with names in double quotes where needed.";
    for entry in ["id AS", "id AS \"\"", "id AS \"x", "id AS \"x\" y", "\"id\" x", "\"id\" asx", "\"id\" ä"]
    {
        let message =
            format!("entry \"{entry}\" of columns is neither a column nor a column with its attribute");
        check_error(parsed(&[entry]), &message, hint, RuleErrorKind::InvalidParameter);
    }
    check_error(
        parsed(&["id", " "]),
        "columns must not contain empty entries",
        "Leave the entry out.",
        RuleErrorKind::InvalidParameter,
    );
    check_error(
        parse_columns(&[Some("id"), None], &TABLE),
        "columns must not contain nulls",
        "Leave the entry out.",
        RuleErrorKind::NullNotAllowed,
    );
    check_error(
        parsed(&[]),
        "no columns are allowed to leave the database",
        "Name the columns that may leave the database, for example columns => '{id,created_at}'.",
        RuleErrorKind::InvalidParameter,
    );
}

#[test]
fn attributes_are_distinct_and_not_reserved() {
    check_error(
        parsed(&["id", "user_id AS id"]),
        "attribute \"id\" is given more than once",
        "Write 'column AS attribute' to give one of the columns another attribute.",
        RuleErrorKind::DuplicateColumn,
    );
    for name in [
        "objectID",
        "_tags",
        "_geoloc",
        "_highlightResult",
        "_snippetResult",
        "_rankingInfo",
        "_distinctSeqID",
    ] {
        check_error(
            parsed(&[&format!("id AS {name}")]),
            &format!("attribute name \"{name}\" is reserved by Algolia"),
            "Write '\"id\" AS attribute' to give the column another attribute.",
            RuleErrorKind::ReservedName,
        );
    }
    check_column("id AS objectid", "id", "objectid");
}

#[test]
fn attributes_that_algolia_would_read_as_something_else_are_refused() {
    let check = |attribute: &str, reason: &str| {
        let entry = format!("id AS \"{}\"", attribute.replace('"', "\"\""));
        check_error(
            check_attributes(&columns(&["user_id", &entry])),
            &format!("attribute name \"{attribute}\" {reason}"),
            "Write '\"id\" AS attribute' to give the column another attribute.",
            RuleErrorKind::InvalidName,
        );
    };
    for character in [',', '.', '(', ')', ':', '<', '>', '=', '!'] {
        let reason = format!("contains \"{character}\", which Algolia gives a meaning of its own");
        check(&format!("a{character}b"), &reason);
        check(&format!("{character}"), &reason);
    }
    check("-a", "begins with \"-\", by which Algolia leaves an attribute out");
    check("*", "stands for all attributes");
    check(" a", "begins or ends with a space");
    check("a\t", "begins or ends with a space");
    for attribute in ["a-b", "a b", "5\"", "o'clock", "a*", "größe", "AND", "_a", "a\\b", "100%/?&#"] {
        let entry = format!("id AS \"{}\"", attribute.replace('"', "\"\""));
        assert_eq!(check_attributes(&columns(&[&entry])), Ok(()), "{attribute}");
    }
}

proptest! {
    #[test]
    fn any_column_can_be_named_in_quotes(name in ".+", attribute in ".+", spaces in "[ \t\n]{0,3}") {
        let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let entry = format!("{}{spaces}as{spaces}{}", quote(&name), quote(&attribute));
        let parsed = parse_columns(&[Some(&entry)], &[&name]);
        prop_assert_eq!(parsed, Ok(vec![WatchedColumn { name, attribute }]));
    }

    #[test]
    fn any_column_is_itself(name in "[^ ].*") {
        prop_assume!(!name.trim().is_empty());
        let parsed = parse_columns(&[Some(&name)], &["a", &name]).unwrap();
        prop_assert_eq!(&parsed[0].name, &name);
    }

    #[test]
    fn any_entry_is_answered(entry in "([aAsSäid \"\t]|\\PC){0,20}") {
        let _ = parse_columns(&[Some(&entry)], &TABLE);
    }
}
