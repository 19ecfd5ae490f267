//! The kinds of conditions, and how messages name them.

/// What a condition decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pg) enum ConditionKind {
    Filter,
    Alert,
}

impl ConditionKind {
    /// The argument of `watch` that it comes from.
    pub(in crate::pg) fn word(self) -> &'static str {
        match self {
            ConditionKind::Filter => "filter",
            ConditionKind::Alert => "alert",
        }
    }

    pub(super) fn with_article(self) -> &'static str {
        match self {
            ConditionKind::Filter => "a filter",
            ConditionKind::Alert => "an alert",
        }
    }
}
