//! Decides which warnings in the servers' logs are expected. Any other counts as a failure, because a newer version may
//! warn about something that an older version accepts.

/// Parts of the warnings that tests cause on purpose.
const EXPECTED: [&str; 17] = [
    "audit_algolia",
    " could not be captured for index ",
    " are not captured",
    "objects of partition ",
    " of watched table ",
    "could not replace the triggers of table ",
    " was not granted the right to create partitions of a watched table",
    "repairs of table ",
    "no orphaned record was deleted",
    "not all records could be repaired",
    // A crash while a database is created or dropped.
    "could not open directory \"base/",
    "some useless files may be left behind in old database directory",
    "there is already a transaction in progress",
    "there is no transaction in progress",
    "terminating connection because of crash of another server process",
    // PostgreSQL itself forgets to close partitions to which a subscription applies changes of their root, if the table has
    // any trigger for rows.
    "resource was not closed: relation \"parts_",
    "relcache reference leak: relation \"parts_",
];

/// The other warnings, each with its count and its first line.
pub(super) fn unexpected(log: &str) -> Vec<String> {
    let mut found: Vec<(&str, usize, &str)> = Vec::new();
    for line in log.lines() {
        let Some((_, text)) = line.split_once("WARNING:  ") else { continue };
        if EXPECTED.iter().any(|part| text.contains(part)) {
            continue;
        }
        match found.iter_mut().find(|(known, ..)| *known == text) {
            Some((_, count, _)) => *count += 1,
            None => found.push((text, 1, line)),
        }
    }
    found.into_iter().map(|(_, count, line)| format!("{count} ×: {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_test_provokes_is_told_once() {
        let log = "2026-11-30 17:45:24 UTC [1] a@b WARNING:  audit_algolia has said this\n\
                   2026-11-30 17:45:25 UTC [2] WARNING:  resource was not closed: cache entry\n\
                   2026-11-30 17:45:26 UTC [3] WARNING:  resource was not closed: cache entry\n";
        let line = "2026-11-30 17:45:25 UTC [2] WARNING:  resource was not closed: cache entry";
        assert_eq!(unexpected(log), [format!("2 ×: {line}")]);
    }
}
