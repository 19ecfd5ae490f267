//! What capture is compared with: triggers in PL/pgSQL that build the same record and put it into a plain queue.

use super::world::{table, watch, PSEUDONYM_KEY};

/// A way to capture, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    /// No trigger.
    Bare,
    /// The extension.
    Ours,
    /// A PL/pgSQL trigger for each row.
    Row,
    /// A PL/pgSQL trigger for each statement, over its transition table.
    Statement,
}

pub(super) const VARIANTS: [Variant; 4] = [Variant::Bare, Variant::Ours, Variant::Row, Variant::Statement];

impl Variant {
    /// Its table.
    pub(super) fn table(self) -> &'static str {
        match self {
            Variant::Bare => "audited_bare",
            Variant::Ours => "audited_ours",
            Variant::Row => "audited_row",
            Variant::Statement => "audited_statement",
        }
    }

    /// How the report calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Variant::Bare => "no trigger",
            Variant::Ours => "audit_algolia",
            Variant::Row => "PL/pgSQL row trigger",
            Variant::Statement => "PL/pgSQL statement trigger",
        }
    }

    /// Makes the table, and what captures its rows. `hmac` tells whether pgcrypto is there.
    pub(super) fn set_up(self, hmac: bool) -> String {
        let name = self.table();
        let make = table(name);
        match self {
            Variant::Bare => make,
            Variant::Ours => {
                format!("{make}; {}", watch(name).replace("facets", "object_prefix => 'c', facets"))
            }
            Variant::Row => format!(
                "{make};
                 {queue};
                 CREATE FUNCTION capture_row() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN
                     INSERT INTO queue_row (source, record) VALUES (1, {record});
                     RETURN NULL;
                 END $$;
                 CREATE TRIGGER capture AFTER INSERT ON {name} FOR EACH ROW EXECUTE FUNCTION capture_row()",
                queue = queue("queue_row"),
                record = record("new", hmac),
            ),
            Variant::Statement => format!(
                "{make};
                 {queue};
                 CREATE FUNCTION capture_statement() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN
                     INSERT INTO queue_statement (source, record) SELECT 1, {record} FROM added AS a;
                     RETURN NULL;
                 END $$;
                 CREATE TRIGGER capture AFTER INSERT ON {name} REFERENCING NEW TABLE AS added
                     FOR EACH STATEMENT EXECUTE FUNCTION capture_statement()",
                queue = queue("queue_statement"),
                record = record("a", hmac),
            ),
        }
    }
}

fn queue(name: &str) -> String {
    format!(
        "CREATE TABLE {name} (
             id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, source integer NOT NULL,
             enqueued_at timestamptz NOT NULL DEFAULT statement_timestamp(), record text NOT NULL
         )"
    )
}

/// The record the extension builds, as an expression over a row.
fn record(row: &str, hmac: bool) -> String {
    let pseudonym = if hmac {
        format!("hmac({row}.user_id, '{PSEUDONYM_KEY}', 'sha256')")
    } else {
        format!("sha256(convert_to('{PSEUDONYM_KEY}' || {row}.user_id, 'UTF8'))")
    };
    let bucket = |form: &str| format!("to_char({row}.at AT TIME ZONE 'UTC', '{form}')");
    format!(
        "jsonb_build_object(
             'objectID', {row}.id::text,
             'user_id', 'p_' || left(encode({pseudonym}, 'hex'), 26),
             'report_id', {row}.report_id, 'event', {row}.event,
             'at', extract(epoch FROM {row}.at), 'at_day', {day}, 'at_hour', {hour},
             'at_weekday', {weekday}, 'at_hour_of_day', {hour_of_day}, 'detail', {row}.detail)::text",
        day = bucket("YYYY-MM-DD"),
        hour = bucket("YYYY-MM-DD\"T\"HH24"),
        weekday = bucket("Dy"),
        hour_of_day = bucket("HH24"),
    )
}
