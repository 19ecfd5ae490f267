//! What capture is compared with: triggers in PL/pgSQL that build the same record and insert it into a plain queue, and
//! the C triggers of PgQ.

use super::super::rows::PSEUDONYM_KEY;
use super::shape::Shape;

/// A way to capture, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Variant {
    /// No trigger.
    Bare,
    /// The extension.
    Ours,
    /// A PL/pgSQL row trigger.
    Row,
    /// A PL/pgSQL statement trigger with transition tables.
    Statement,
    /// PgQ's trigger that writes JSON.
    Json,
    /// PgQ's trigger that writes URL-encoded rows.
    Url,
    /// A trigger in C that copies a prepared row into a queue, whatever was inserted: a lower bound.
    Bound,
}

/// The variants that are compared in every respect.
pub(super) const VARIANTS: [Variant; 6] =
    [Variant::Bare, Variant::Ours, Variant::Row, Variant::Statement, Variant::Json, Variant::Url];

impl Variant {
    /// The table of the variant.
    pub(super) fn table(self, shape: Shape) -> String {
        format!("{}_{self:?}", shape.start()).to_lowercase()
    }

    /// The variant's name in reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Variant::Bare => "no trigger",
            Variant::Ours => "audit_algolia",
            Variant::Row => "PL/pgSQL row trigger",
            Variant::Statement => "PL/pgSQL statement trigger",
            Variant::Json => "PgQ jsontriga",
            Variant::Url => "PgQ logutriga",
            Variant::Bound => "C trigger that copies a row",
        }
    }

    pub(super) fn is_pgq(self) -> bool {
        matches!(self, Variant::Json | Variant::Url)
    }

    /// Creates the table and what captures its rows. `hmac` is whether pgcrypto is installed.
    pub(super) fn set_up(self, shape: Shape, hmac: bool) -> String {
        let name = self.table(shape);
        let make = shape.table(&name);
        let capture = match self {
            Variant::Bare => String::new(),
            Variant::Ours => shape.watch(&name),
            Variant::Row => {
                let values = format!("VALUES (1, {})", record(shape, "new", hmac));
                plpgsql(&name, &values, "FOR EACH ROW")
            }
            Variant::Statement => {
                let select = format!("SELECT 1, {} FROM added AS a", record(shape, "a", hmac));
                plpgsql(&name, &select, "REFERENCING NEW TABLE AS added FOR EACH STATEMENT")
            }
            Variant::Json | Variant::Url => format!(
                "SELECT pgq.create_queue('{name}');
                 CREATE TRIGGER capture AFTER INSERT ON {name} FOR EACH ROW
                     EXECUTE FUNCTION pgq.{function}('{name}', 'ignore={left_out}')",
                function = if self == Variant::Json { "jsontriga" } else { "logutriga" },
                left_out = shape.left_out().join(","),
            ),
            Variant::Bound => format!(
                "CREATE TRIGGER capture AFTER INSERT ON {name} FOR EACH ROW EXECUTE FUNCTION insert_alike()"
            ),
        };
        format!("{make}; {capture}")
    }
}

/// A plain queue, and a trigger that inserts `records` into it.
fn plpgsql(name: &str, records: &str, each: &str) -> String {
    format!(
        "CREATE TABLE queue_{name} (
             id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, source integer NOT NULL,
             enqueued_at timestamptz NOT NULL DEFAULT statement_timestamp(), record text NOT NULL
         );
         CREATE FUNCTION capture_{name}() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             INSERT INTO queue_{name} (source, record) {records};
             RETURN NULL;
         END $$;
         CREATE TRIGGER capture AFTER INSERT ON {name} {each} EXECUTE FUNCTION capture_{name}()"
    )
}

/// The record that the extension would build, as an expression over a row.
fn record(shape: Shape, row: &str, hmac: bool) -> String {
    let pseudonym = if hmac {
        format!("hmac({row}.user_id, '{PSEUDONYM_KEY}', 'sha256')")
    } else {
        format!("sha256(convert_to('{PSEUDONYM_KEY}' || {row}.user_id, 'UTF8'))")
    };
    let bucket = |form: &str| format!("to_char({row}.at AT TIME ZONE 'UTC', '{form}')");
    let plain: String = shape
        .plain()
        .iter()
        .map(|(name, kind)| match *kind {
            "timestamptz" => format!("'{name}', extract(epoch FROM {row}.{name}), "),
            _ => format!("'{name}', {row}.{name}, "),
        })
        .collect();
    format!(
        "json_build_object(
             'objectID', {row}.id::text,
             'user_id', 'p_' || left(encode({pseudonym}, 'hex'), 26), {plain}
             'at', extract(epoch FROM {row}.at), 'at_day', {day}, 'at_hour', {hour},
             'at_weekday', {weekday}, 'at_hour_of_day', {hour_of_day})::text",
        day = bucket("YYYY-MM-DD"),
        hour = bucket("YYYY-MM-DD\"T\"HH24"),
        weekday = bucket("Dy"),
        hour_of_day = bucket("HH24"),
    )
}
