//! The demo's table of document changes, how the history is inserted, and what the demo's page shows.

use std::io::Write;

use anyhow::Result;
use postgres::Client;

use crate::history::Change;

/// The table, and the index that it delivers to.
pub const TABLE: &str = "document_changes";

/// How it is watched.
pub const WATCH: &str = "SELECT audit_algolia.watch('document_changes',
    columns      => '{package, version, author, email, changed_at, urgency}',
    pseudonymize => '{author, email}',
    time_column  => 'changed_at',
    facets       => '{package, author, urgency}')";

/// What the demo's page shows, beside the worked examples: `package` is no name from which views follow.
pub const PAGE_CONFIG: &str = r#"SELECT audit_algolia.page_config() || '{"title": "Demo", "views": {
    "editors": [
        {"index": "workspace_edit", "document": "report", "user": "user",
         "unauthorized": {"attribute": "authorized", "value": "false"}},
        {"index": "workspace_report", "document": "report", "user": "changed_by"},
        {"index": "document_changes", "document": "package", "user": "author"}],
    "document": [
        {"document": "report", "history": ["workspace_report", "workspace_edit"],
         "permissions": {"index": "workspace_permission", "user": "user", "level": "level"}},
        {"document": "package", "history": ["document_changes"]}]}}'"#;

/// Creates the table `document_changes`.
pub fn create_table(client: &mut Client) -> Result<()> {
    Ok(client.batch_execute(
        "CREATE TABLE document_changes (
             id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
             package text NOT NULL,
             version text NOT NULL,
             author text NOT NULL,
             email text,
             changed_at timestamptz NOT NULL,
             urgency text NOT NULL,
             summary text NOT NULL
         )",
    )?)
}

/// Copies changes into the table in one statement, and reports to `told` after each how many are in.
pub fn copy(client: &mut Client, changes: &[Change], mut told: impl FnMut(usize)) -> Result<u64> {
    // COPY takes no expressions and times are numbers, so a temporary table is needed.
    let mut transaction = client.transaction()?;
    transaction.batch_execute(
        "CREATE TEMPORARY TABLE incoming (
             position bigint, package text, version text, author text, email text, seconds bigint,
             urgency text, summary text
         ) ON COMMIT DROP",
    )?;
    let mut writer = transaction.copy_in("COPY incoming FROM STDIN")?;
    for (position, change) in changes.iter().enumerate() {
        writeln!(
            writer,
            "{position}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
            escaped(&change.package),
            escaped(&change.version),
            escaped(&change.author),
            change.email.as_deref().map_or_else(|| "\\N".to_owned(), escaped),
            change.changed_at,
            escaped(&change.urgency),
            escaped(&change.summary),
        )?;
        told(position + 1);
    }
    writer.finish()?;
    let count = transaction.execute(
        "INSERT INTO document_changes (package, version, author, email, changed_at, urgency, summary)
         SELECT package, version, author, email, to_timestamp(seconds), urgency, summary
         FROM incoming ORDER BY position",
        &[],
    )?;
    transaction.commit()?;
    Ok(count)
}

/// Inserts one change, as an application would.
pub fn insert(client: &mut Client, change: &Change) -> Result<()> {
    client.execute(
        "INSERT INTO document_changes (package, version, author, email, changed_at, urgency, summary)
         VALUES ($1, $2, $3, $4, to_timestamp($5::bigint), $6, $7)",
        &[
            &change.package,
            &change.version,
            &change.author,
            &change.email,
            &change.changed_at,
            &change.urgency,
            &change.summary,
        ],
    )?;
    Ok(())
}

/// Escapes a text for COPY. PostgreSQL does not allow zero bytes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\0' => {}
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_copy_would_read_as_its_own() {
        assert_eq!(escaped("a\tb\\N\nc\0"), "a\\tb\\\\N\\nc");
    }
}
