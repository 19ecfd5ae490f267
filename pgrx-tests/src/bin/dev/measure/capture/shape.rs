//! The rows whose capture is measured: those of a narrow table, as in the other measurements, and those of a wide one
//! with texts that are stored out of line.

use super::super::rows::{self, INDEX};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    /// Six columns besides the key, five of them captured.
    Narrow,
    /// Forty columns, two of them of 4.7 kB. Twenty are captured, including one of these two.
    Wide,
}

pub(super) const SHAPES: [Shape; 2] = [Shape::Narrow, Shape::Wide];

/// A column that only the wide table has: its name, its type and whether it is captured.
type Column = (String, &'static str, bool);

impl Shape {
    pub(super) fn name(self) -> &'static str {
        match self {
            Shape::Narrow => "narrow rows (6 columns and a key)",
            Shape::Wide => "wide rows (40 columns, two of 4.7 kB)",
        }
    }

    /// The beginning of the names of its tables.
    pub(super) fn start(self) -> &'static str {
        match self {
            Shape::Narrow => "audited",
            Shape::Wide => "wide",
        }
    }

    pub(super) fn table(self, name: &str) -> String {
        let more: String = self.more().iter().map(|(name, kind, _)| format!(", {name} {kind}")).collect();
        let table = rows::table(name);
        table.replace("secret text", &format!("secret text{more}"))
    }

    /// The columns that [`Shape::values`] fills.
    pub(super) fn columns(self) -> String {
        let more: String = self.more().iter().map(|(name, ..)| format!(", {name}")).collect();
        format!("{}{more}", rows::COLUMNS)
    }

    /// The values of a row, as expressions of its number.
    pub(super) fn values(self, number: &str) -> String {
        let mut values = rows::values(number);
        for (name, kind, _) in self.more() {
            values.push_str(", ");
            values.push_str(&match kind {
                "integer" => format!("({number} % 1000)::integer"),
                "timestamptz" => {
                    format!("timestamptz '2026-02-01 00:00:00+00' + {number} * interval '1 second'")
                }
                "numeric" => format!("({number} % 100000)::numeric / 100"),
                "jsonb" => r#"'{"shown": true, "filters": ["year", "region"]}'::jsonb"#.to_owned(),
                _ if name.starts_with("body") => format!("(SELECT text FROM pool WHERE n = {number} % 64)"),
                _ => format!("'value ' || {number} % 100"),
            });
        }
        values
    }

    /// The captured columns whose values are sent unchanged: all but the pseudonym and the row's own time.
    pub(super) fn plain(self) -> Vec<(String, &'static str)> {
        let narrow = [("report_id", "integer"), ("event", "text"), ("detail", "text")];
        let narrow = narrow.map(|(name, kind)| (name.to_owned(), kind));
        let more = self.more().into_iter().filter(|(.., captured)| *captured);
        narrow.into_iter().chain(more.map(|(name, kind, _)| (name, kind))).collect()
    }

    /// The columns that are not captured.
    pub(super) fn left_out(self) -> Vec<String> {
        let more = self.more().into_iter().filter(|(.., captured)| !captured);
        std::iter::once("secret".to_owned()).chain(more.map(|(name, ..)| name)).collect()
    }

    /// The call that watches it.
    pub(super) fn watch(self, name: &str) -> String {
        let more: String =
            self.more().iter().filter(|one| one.2).map(|(name, ..)| format!(", {name}")).collect();
        let prefix = format!("object_prefix => '{}',", self.start());
        rows::watch_as(name, INDEX, &prefix).replace("at, detail", &format!("at, detail{more}"))
    }

    /// The statement that inserts rows with these numbers.
    pub(super) fn insert(self, table: &str, (first, last): (&str, &str)) -> String {
        let (columns, values) = (self.columns(), self.values("i"));
        format!("INSERT INTO {table} ({columns}) SELECT {values} FROM generate_series({first}, {last}) AS i")
    }

    fn more(self) -> Vec<Column> {
        if self == Shape::Narrow {
            return Vec::new();
        }
        let kinds: [(&str, &'static str, usize, usize); 6] = [
            ("number", "integer", 12, 5),
            ("label", "text", 12, 5),
            ("moment", "timestamptz", 4, 2),
            ("amount", "numeric", 2, 1),
            ("view", "jsonb", 1, 1),
            ("body", "text", 2, 1),
        ];
        let columns = kinds.into_iter().flat_map(|(name, kind, count, captured)| {
            (1..=count).map(move |at| (format!("{name}_{at}"), kind, at <= captured))
        });
        columns.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wide_table_has_forty_columns_of_which_half_are_captured() {
        let captured = Shape::Wide.plain().len() + ["user_id", "at"].len();
        assert_eq!((Shape::Wide.columns().split(',').count() + 1, captured), (40, 20));
        assert_eq!(Shape::Wide.left_out().len() + captured + 1, 40);
    }
}
