//! The rows for most measurements: their table, their values, and how they are watched.

/// The index that everything is delivered to.
pub(super) const INDEX: &str = "audit_log";

/// The pseudonym key, for the extension and for what it is compared with.
pub(super) const PSEUDONYM_KEY: &str = "a key for measuring";

/// The statement that creates a table to be measured, with seven columns, five of which are captured.
pub(super) fn table(name: &str) -> String {
    format!(
        "CREATE TABLE {name} (
             id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
             user_id text NOT NULL,
             report_id integer NOT NULL,
             event text NOT NULL,
             at timestamptz NOT NULL,
             detail text,
             secret text
         )"
    )
}

/// The columns that [`values`] fills.
pub(super) const COLUMNS: &str = "user_id, report_id, event, at, detail, secret";

/// The values of a row, as expressions of its number.
pub(super) fn values(number: &str) -> String {
    format!(
        "'user-' || {number} % 5000, ({number} % 300)::integer, 'view',
         timestamptz '2026-01-01 00:00:00+00' + {number} * interval '1 second',
         'opened from the dashboard', 'never captured'"
    )
}

/// The statement that inserts so many rows into a table.
pub(super) fn insert(table: &str, rows: u64) -> String {
    insert_as(table, &values("i"), rows)
}

fn insert_as(table: &str, values: &str, rows: u64) -> String {
    format!("INSERT INTO {table} ({COLUMNS}) SELECT {values} FROM generate_series(1, {rows}) AS i")
}

/// Texts of 4.7 kB that do not compress well, each with a number.
pub(super) const POOL: &str = "
    CREATE TABLE pool AS
        SELECT n, (SELECT string_agg(md5((n * 1000 + i)::text), ' ') FROM generate_series(1, 144) AS i) AS text
        FROM generate_series(0, 63) AS n;
    ALTER TABLE pool ADD PRIMARY KEY (n)";

/// How long the records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Records {
    /// About 300 bytes.
    Small,
    /// About 5 kB.
    Large,
}

impl Records {
    pub(super) fn name(self) -> &'static str {
        if self == Records::Small {
            "300 bytes"
        } else {
            "5 KB"
        }
    }

    pub(super) fn table(self) -> &'static str {
        if self == Records::Small {
            "audit_log"
        } else {
            "audit_large"
        }
    }

    /// The table in which [`keep_records`](super::testbed::Testbed::keep_records) keeps them.
    pub(super) fn kept(self) -> &'static str {
        if self == Records::Small {
            "kept_small"
        } else {
            "kept_large"
        }
    }

    /// The statement that inserts so many rows whose records are this long.
    pub(super) fn insert(self, rows: u64) -> String {
        let mut values = values("i");
        if self == Records::Large {
            let text = "(SELECT text FROM pool WHERE n = i % 64)";
            values = values.replace("'opened from the dashboard'", text);
        }
        insert_as(self.table(), &values, rows)
    }
}

/// The call that watches a table.
pub(super) fn watch(name: &str) -> String {
    watch_as(name, INDEX, "")
}

/// The same for another index, with further arguments, such as `object_prefix => 'l',`.
pub(super) fn watch_as(name: &str, index: &str, further: &str) -> String {
    format!(
        "SELECT audit_algolia.watch('{name}', '{index}', {further}
             columns => '{{user_id, report_id, event, at, detail}}', pseudonymize => '{{user_id}}',
             time_column => 'at', facets => '{{event, report_id, user_id}}')"
    )
}
