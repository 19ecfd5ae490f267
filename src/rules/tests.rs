//! The checks of `watch`, by example, and the style of every message. `columns` tests the grammar of columns.

#![forbid(unsafe_code)]

mod columns;

use super::*;

const TABLE: [&str; 8] = ["id", "user_id", "userId", "at", "my as col", "a", "a as b", "q\"x"];

fn parsed(entries: &[&str]) -> Result<Vec<WatchedColumn>, RuleError> {
    parse_columns(&entries.iter().map(|entry| Some(*entry)).collect::<Vec<_>>(), &TABLE)
}

fn columns(entries: &[&str]) -> Vec<WatchedColumn> {
    parsed(entries).unwrap()
}

/// Checks message, hint and kind of an error.
fn check_error<T: std::fmt::Debug>(
    result: Result<T, RuleError>,
    message: &str,
    hint: &str,
    kind: RuleErrorKind,
) {
    let error = result.expect_err("the check passed");
    assert_eq!(error.to_string(), message);
    assert_eq!(error.hint(), hint);
    assert_eq!(error.kind(), kind);
    assert!(!message.ends_with('.') && !message.starts_with(char::is_uppercase), "{message}");
    assert!(hint.ends_with('.') && hint.starts_with(char::is_uppercase), "{hint}");
}

#[test]
fn index_names_are_checked() {
    for name in ["orders", "prod/orders.2026", "Größe und Gewicht", "a*", &"x".repeat(256)] {
        assert_eq!(check_index_name(name), Ok(()));
    }
    let long = "x".repeat(257);
    let shown = format!("{}…", "x".repeat(64));
    for (name, shown, reason) in [
        ("", "", "must not be empty"),
        ("  ", "  ", "must not be empty"),
        ("*", "*", "stands for all indexes"),
        ("a\nb\0", "a\\nb\\0", "must not contain control characters"),
        (&long, &shown, "is longer than 256 bytes"),
    ] {
        let message = format!("index name \"{shown}\" {reason}");
        let hint = "Give another name with index_name.";
        check_error(check_index_name(name), &message, hint, RuleErrorKind::InvalidParameter);
    }
}

#[test]
fn the_key_names_columns_once() {
    assert_eq!(check_object_id(&[Some("id"), Some(" at ")], &TABLE).unwrap(), ["id", "at"]);
    check_error(
        check_object_id(&[Some("id"), Some("id")], &TABLE),
        "object_id names \"id\" more than once",
        "Name \"id\" once.",
        RuleErrorKind::DuplicateColumn,
    );
    let hint = "Leave object_id out to use the primary key.";
    check_error(
        check_object_id(&[], &TABLE),
        "object_id names no columns",
        hint,
        RuleErrorKind::InvalidParameter,
    );
    let unknown = "column \"x\" does not exist";
    check_error(
        check_object_id(&[Some("x")], &TABLE),
        unknown,
        "Name columns of the table, spelled as the table has them.",
        RuleErrorKind::UndefinedColumn,
    );
    let nulls = "object_id must not contain nulls";
    check_error(
        check_object_id(&[None], &TABLE),
        nulls,
        "Leave the entry out.",
        RuleErrorKind::NullNotAllowed,
    );
}

#[test]
fn only_allowed_columns_are_pseudonymized() {
    let columns = columns(&["id", "user_id AS user"]);
    let check = |entries: &[Option<&str>]| check_pseudonymize(entries, &columns, &["at"], &TABLE);
    assert_eq!(check(&[]).unwrap(), [""; 0]);
    assert_eq!(check(&[Some("user_id"), Some("at"), Some("user_id")]).unwrap(), ["user_id", "at"]);
    check_error(
        check(&[Some("a")]),
        "pseudonymize names column \"a\", which is not allowed to leave the database",
        "Add \"a\" to columns.",
        RuleErrorKind::InvalidParameter,
    );
    check_error(
        check(&[Some("user")]),
        "column \"user\" does not exist",
        "Name columns of the table, spelled as the table has them.",
        RuleErrorKind::UndefinedColumn,
    );
}

#[test]
fn the_time_column_is_allowed_and_shown() {
    let allowed = columns(&["id", "at AS time", "at"]);
    let check = |column, hidden: &[String]| check_time_column(column, &allowed, hidden, &TABLE);
    assert_eq!(check("at", &[]), Ok("time"));
    check_error(
        check("a", &[]),
        "time_column names column \"a\", which is not allowed to leave the database",
        "Add \"a\" to columns.",
        RuleErrorKind::InvalidParameter,
    );
    check_error(
        check("x", &[]),
        "column \"x\" does not exist",
        "Name columns of the table, spelled as the table has them.",
        RuleErrorKind::UndefinedColumn,
    );
    check_error(
        check("at", &["at".to_owned()]),
        "time column \"at\" must not be pseudonymized",
        "Remove the column from pseudonymize, or choose another time_column.",
        RuleErrorKind::InvalidParameter,
    );
    check_error(
        check_time_column("at", &columns(&["id AS at_hour_of_day", "at"]), &[], &TABLE),
        "attribute \"at_hour_of_day\" is also the name of a time bucket of \"at\"",
        "Write 'column AS attribute' to give the column or the time column another attribute.",
        RuleErrorKind::DuplicateColumn,
    );
}

#[test]
fn facets_are_attributes_or_buckets() {
    let columns = columns(&["user_id AS user", "at"]);
    let alert = check_facets(&[Some("alert")], &columns, None, false, true);
    assert_eq!(alert, Ok(vec!["alert".to_owned()]));
    let facets =
        check_facets(&[Some("user"), Some("at_weekday"), Some("user")], &columns, Some("at"), false, false);
    assert_eq!(facets.unwrap(), ["user", "at_weekday"]);
    check_error(
        check_facets(&[Some("at_day")], &columns, None, false, false),
        "facet \"at_day\" is not an attribute of the records",
        "The attributes are user, at.",
        RuleErrorKind::UndefinedColumn,
    );
    let nulls = "facets must not contain nulls";
    check_error(
        check_facets(&[None], &columns, None, false, false),
        nulls,
        "Leave the entry out.",
        RuleErrorKind::NullNotAllowed,
    );
}

#[test]
fn operations_are_read_in_any_case_and_order() {
    use RuleErrorKind::{InvalidParameter, NullNotAllowed};
    assert_eq!(check_operations(&[Some("insert")]).unwrap(), [Operation::Insert]);
    assert_eq!(
        check_operations(&[Some("Truncate"), Some(" INSERT "), Some("update"), Some("insert")]).unwrap(),
        [Operation::Insert, Operation::Update, Operation::Truncate]
    );
    let tell = |operations: &[Operation]| are_changes(Mode::Append, operations);
    assert!(!tell(&[Operation::Insert]));
    assert!(tell(&[Operation::Insert, Operation::Delete]) && tell(&[Operation::Truncate]));
    assert!(!are_changes(Mode::Mirror, &Operation::ALL));
    let hint = "Leave operations out to capture inserts.";
    check_error(check_operations(&[]), "operations names no operation", hint, InvalidParameter);
    check_error(
        check_operations(&[None]),
        "operations must not contain nulls",
        "Leave the entry out.",
        NullNotAllowed,
    );
    check_error(
        check_operations(&[Some("delete"), Some("upsert")]),
        "unrecognized operation \"upsert\"",
        "Available values: insert, update, delete, truncate.",
        InvalidParameter,
    );
}

#[test]
fn records_that_alert_keep_the_name_of_their_attribute() {
    assert_eq!(check_alert_attribute(&columns(&["user_id", "at"])), Ok(()));
    check_error(
        check_alert_attribute(&columns(&["at", "user_id AS alert"])),
        "attribute \"alert\" is reserved for records that alert",
        "Write '\"user_id\" AS attribute' to give the column another attribute.",
        RuleErrorKind::DuplicateColumn,
    );
}

#[test]
fn change_records_keep_their_own_names() {
    let clear = columns(&["user_id", "at"]);
    assert_eq!(check_change_attributes(&clear, &["id"]), Ok(()));
    assert_eq!(unlisted_keys(&clear, &["id", "at"]), ["id"]);
    for attribute in ["op", "changed", "previous", "changed_by", "changed_at", "transaction_id"] {
        check_error(
            check_change_attributes(&columns(&["at", &format!("user_id AS {attribute}")]), &["id"]),
            &format!("attribute \"{attribute}\" is also an attribute that change records have of their own"),
            "Write '\"user_id\" AS attribute' to give the column another attribute.",
            RuleErrorKind::DuplicateColumn,
        );
    }
    check_error(
        check_change_attributes(&columns(&["user_id AS id"]), &["id"]),
        "attribute \"id\" is also the name of a key column",
        "Give the other column another attribute, or add '\"id\" AS attribute' to columns.",
        RuleErrorKind::DuplicateColumn,
    );
    let facets = [Some("op"), Some("changed_by"), Some("previous.at"), Some("at")];
    assert_eq!(
        check_facets(&facets, &clear, None, true, false).unwrap(),
        ["op", "changed_by", "previous.at", "at"]
    );
    check_error(
        check_facets(&[Some("previous")], &clear, None, true, false),
        "facet \"previous\" is not an attribute of the records",
        "The attributes are user_id, at, op, changed, changed_by, changed_at, transaction_id, previous.user_id, previous.at.",
        RuleErrorKind::UndefinedColumn,
    );
}

#[test]
fn what_is_not_there_yet_says_so() {
    use RuleErrorKind::{InvalidParameter, NullNotAllowed};
    assert_eq!(check_mode(Some("append")), Ok(Mode::Append));
    assert_eq!(check_mode(Some(" Mirror ")), Ok(Mode::Mirror));
    let available = "Available values: append, mirror.";
    check_error(check_mode(Some("sync")), "unrecognized mode \"sync\"", available, InvalidParameter);
    let default = "Leave the argument out to get its default.";
    check_error(check_mode(None), "mode must not be null", default, NullNotAllowed);
}

#[test]
fn a_backfill_needs_insertions_and_a_pace_that_moves() {
    use RuleErrorKind::InvalidParameter;
    assert_eq!(check_backfill(&[Operation::Insert, Operation::Update]), Ok(()));
    let message = "a table whose insertions are not watched cannot be backfilled";
    let hint = "Rows that are there already are sent as insertions: add insert to operations.";
    check_error(check_backfill(&[Operation::Update, Operation::Delete]), message, hint, InvalidParameter);
    for pace in [None, Some(1), Some(i32::MAX)] {
        assert_eq!(check_rows_per_second(pace), Ok(()));
    }
    for pace in [Some(0), Some(-1), Some(i32::MIN)] {
        let message = "rows_per_second must be at least 1";
        check_error(check_rows_per_second(pace), message, "Leave it out for no limit.", InvalidParameter);
    }
}

#[test]
fn a_mirror_takes_every_operation_or_says_so() {
    use Operation::{Delete, Insert};
    assert_eq!(Mode::Append.operations(vec![Insert]), Ok(vec![Insert]));
    assert_eq!(Mode::Mirror.operations(vec![Insert]), Ok(Operation::ALL.to_vec()));
    assert_eq!(Mode::Mirror.operations(Operation::ALL.to_vec()), Ok(Operation::ALL.to_vec()));
    for subset in [vec![Delete], vec![Insert, Delete]] {
        check_error(
            Mode::Mirror.operations(subset),
            "mode mirror takes all operations",
            "Leave operations out: the index can hold the table's rows only if every change is told.",
            RuleErrorKind::InvalidParameter,
        );
    }
}
