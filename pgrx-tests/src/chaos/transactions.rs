//! Owns what the transactions of a chaos run may be.

/// Rows of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Which of [`TABLES`](super::tables::TABLES).
    pub table: usize,
    /// The id of the first; the others follow.
    pub first: i64,
    pub count: i64,
    /// The id of one that the index refuses.
    pub poison: Option<i64>,
    pub size: Size,
}

/// How large the notes of rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    Usual,
    /// Nearly as large as the index takes them.
    Big,
    /// Some megabytes each, which nobody sends: all of them are poison.
    Huge,
}

/// What a transaction does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ids that no other rows ever have.
    Insert(Rows),
    Copy(Rows),
    /// Rows that the writer has inserted before. They may not be there, or not any more.
    Change(Rows, Work),
    /// Savepoints are nested like brackets, each with a release or a rollback.
    Savepoint,
    Release,
    RollBackTo,
}

/// What is done to rows that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Gives them another note, with this number.
    Rewrite(i64),
    /// Has the filter refuse them.
    Hide,
    /// Has the filter let them through again, with another note.
    Show(i64),
    Delete,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Commit,
    Rollback,
    /// The client goes away without a word.
    Leave,
    /// PREPARE; after so many more transactions COMMIT PREPARED (true) or ROLLBACK PREPARED.
    Prepare(bool, usize),
}

/// One transaction of a writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub actions: Vec<Action>,
    pub end: End,
}
