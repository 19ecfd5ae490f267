//! The notes of a chaos run's rows.

use super::tables::MAX_RECORD_BYTES;
use super::transactions::{Rows, Size};

/// The SQL expression for the note of a row. Huge ones are made by the server.
pub(super) fn note_expression(rows: &Rows, id: i64) -> String {
    if rows.size == Size::Huge {
        format!("'poison {id} ' || repeat('x', {})", (1 + id % 4) * 1_000_000)
    } else {
        format!("'{}'", note(rows, id))
    }
}

/// The stand-in refuses records with a poisonous note. Some of them are too large even for the extension, and some
/// nearly.
pub(super) fn note(rows: &Rows, id: i64) -> String {
    if rows.poison == Some(id) {
        let factor = [40, 32, 1][(id % 3) as usize];
        format!("poison {id} {}", "x".repeat(factor * MAX_RECORD_BYTES))
    } else if rows.size == Size::Big {
        format!("note {id} {}", "y".repeat(MAX_RECORD_BYTES * 9 / 10))
    } else {
        format!("note {id} {}", "é".repeat((id % 50) as usize))
    }
}
