//! The transactions of a chaos run.

/// Rows of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    /// The table's place in [`TABLES`](super::tables::TABLES).
    pub table: usize,
    /// The id of the first row; the others follow it.
    pub first: i64,
    pub count: i64,
    /// The id of a row that the index refuses.
    pub poison: Option<i64>,
    pub size: Size,
}

/// How large the notes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    Usual,
    /// Nearly as large as the index allows.
    Big,
    /// Several megabytes each. They are never sent: all of them are poison.
    Huge,
}

/// What a transaction does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Inserts ids that no other rows ever have.
    Insert(Rows),
    Copy(Rows),
    /// Changes rows that this writer inserted before. They may not exist (any more).
    Change(Rows, Work),
    /// Savepoints are nested like brackets, each with a release or a rollback.
    Savepoint,
    Release,
    RollBackTo,
}

/// How existing rows are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Sets another note, with this number.
    Rewrite(i64),
    /// Makes the filter refuse them.
    Hide,
    /// Makes the filter accept them again, with another note.
    Show(i64),
    Delete,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Commit,
    Rollback,
    /// The client disconnects.
    Leave,
    /// PREPARE. After this many more transactions, COMMIT PREPARED (true) or ROLLBACK PREPARED.
    Prepare(bool, usize),
}

/// One transaction of a writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub actions: Vec<Action>,
    pub end: End,
}
