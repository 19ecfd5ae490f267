//! The conditions of one source, filter and alert, for the rows of one relation.

use pgrx::pg_sys;

use super::kind::ConditionKind;
use super::{Condition, Evaluation};
use crate::pg::report::SqlResult;
use crate::pg::rules::SourceRules;

/// Which rows are queued, and which records alert. Without a filter all rows are queued; without an alert no record
/// alerts.
#[derive(Default)]
pub(in crate::pg) struct Conditions {
    filter: Option<Condition>,
    alert: Option<Condition>,
}

/// Conditions that are prepared for the rows of one statement.
pub(in crate::pg) struct Evaluations {
    filter: Option<Evaluation>,
    alert: Option<Evaluation>,
}

impl Conditions {
    /// Compiles the conditions of a source for rows of `relation`; `place` as for [`Condition::compile`].
    ///
    /// # Safety
    /// `relation` is open and locked.
    pub(in crate::pg) unsafe fn compile(
        rules: &SourceRules,
        relation: pg_sys::Relation,
        place: impl Fn(usize) -> Option<usize>,
    ) -> SqlResult<Conditions> {
        let compile = |kind, text: &Option<String>| {
            // SAFETY: the caller guarantees this.
            let compiled = text
                .as_ref()
                .map(|text| unsafe { Condition::compile(kind, text, relation, rules.owner, &place) });
            compiled.transpose()
        };
        Ok(Conditions {
            filter: compile(ConditionKind::Filter, &rules.filter)?,
            alert: compile(ConditionKind::Alert, &rules.alert)?,
        })
    }

    /// Whether the source has neither.
    pub(in crate::pg) fn are_none(&self) -> bool {
        self.filter.is_none() && self.alert.is_none()
    }

    pub(in crate::pg) fn has_filter(&self) -> bool {
        self.filter.is_some()
    }

    /// Whether a result may depend on the session's settings, which must be pinned.
    pub(in crate::pg) fn depends_on_settings(&self) -> bool {
        self.filter.iter().chain(&self.alert).any(|condition| condition.depends_on_settings)
    }

    /// Prepares them for rows in slots. The result lives in the current memory context.
    pub(in crate::pg) fn prepare(&self) -> Evaluations {
        self.prepare_in(|_| ())
    }

    /// As `prepare`. Calls `enter` with each condition before it is prepared, and with none at the end.
    pub(in crate::pg) fn prepare_in(&self, enter: impl Fn(Option<ConditionKind>)) -> Evaluations {
        let prepare = |kind, condition: &Option<Condition>| {
            enter(Some(kind));
            condition.as_ref().map(Condition::prepare)
        };
        let prepared = Evaluations {
            filter: prepare(ConditionKind::Filter, &self.filter),
            alert: prepare(ConditionKind::Alert, &self.alert),
        };
        enter(None);
        prepared
    }
}

impl Evaluations {
    /// Whether the filter accepts a row.
    ///
    /// # Safety
    /// The slot holds a row of the relation the conditions were compiled for.
    pub(in crate::pg) unsafe fn accepts(&self, slot: *mut pg_sys::TupleTableSlot) -> bool {
        // SAFETY: the caller guarantees this.
        self.filter.as_ref().is_none_or(|filter| unsafe { filter.is_true(slot) })
    }

    /// Whether the record of a row alerts.
    ///
    /// # Safety
    /// As for `accepts`.
    pub(in crate::pg) unsafe fn alerts(&self, slot: *mut pg_sys::TupleTableSlot) -> bool {
        // SAFETY: the caller guarantees this.
        self.alert.as_ref().is_some_and(|alert| unsafe { alert.is_true(slot) })
    }

    pub(in crate::pg) fn close(self) {
        for evaluation in self.filter.into_iter().chain(self.alert) {
            evaluation.close();
        }
    }
}
