//! Records of rows that exist now, for `preview` and `reconcile`: the columns and the conditions they need, and the
//! record of each row.

use std::cell::RefCell;

use pgrx::pg_sys;

use super::Table;
use crate::pg::capture::{record_buffer, BoundRelation, RecordMaker, TupleSlot};
use crate::pg::condition::{Conditions, Evaluations};
use crate::pg::descriptor::columns;
use crate::pg::report::SqlResult;
use crate::pg::rules::SourceRules;
use crate::record::{Buffer, Change, ChangeOrigin, Operation};

/// The columns that records are made of, without duplicates.
pub(super) fn names_of(rules: &SourceRules) -> Vec<String> {
    let mut names: Vec<String> = rules.columns.iter().map(|column| column.name.clone()).collect();
    names.extend(rules.object_id.iter().cloned());
    names.sort_unstable();
    names.dedup();
    names
}

/// The conditions of a source, for rows that consist of the columns in `names`. Adds the columns that the conditions
/// read to them.
pub(super) fn conditions_of(
    table: &Table,
    rules: &SourceRules,
    names: &RefCell<Vec<String>>,
) -> SqlResult<Conditions> {
    if rules.filter.is_none() && rules.alert.is_none() {
        return Ok(Conditions::default());
    }
    // SAFETY: the relation is locked when it is opened. After an error, the abort closes it. The attribute numbers are
    // those of its columns.
    unsafe {
        let relation = pg_sys::relation_open(table.oid, pg_sys::AccessShareLock as i32);
        let known = columns((*relation).rd_att);
        let place = |column| {
            let name = &known.iter().find(|known| known.place == column)?.name;
            let mut names = names.borrow_mut();
            let found = names.iter().position(|other| other == name);
            if found.is_none() {
                names.push(name.clone());
            }
            Some(found.unwrap_or(names.len() - 1))
        };
        let conditions = Conditions::compile(rules, relation, place);
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
        conditions
    }
}

/// Makes the records of rows as if each row had just been inserted, or changed by the first operation that the source
/// watches.
pub(super) struct RowWriter<'a> {
    bound: &'a BoundRelation,
    maker: RecordMaker,
    /// For a source that records changes: the operation to record, and its origin.
    change: Option<(Operation, ChangeOrigin)>,
}

impl<'a> RowWriter<'a> {
    pub(super) fn new(rules: &SourceRules, bound: &'a BoundRelation) -> SqlResult<RowWriter<'a>> {
        let maker = RecordMaker::current();
        // SAFETY: reads the state of the session and its transaction.
        let (now, transaction) = unsafe {
            (pg_sys::GetCurrentStatementStartTimestamp(), pg_sys::GetTopFullTransactionIdIfAny().value)
        };
        let change = match rules.operations.first() {
            Some(operation) if rules.are_changes() => {
                Some((*operation, maker.origin(bound, now, transaction)?))
            }
            _ => None,
        };
        Ok(RowWriter { bound, maker, change })
    }

    /// The record of a row; `None` if only TRUNCATE is watched, whose records are not about rows.
    ///
    /// # Safety
    /// The slot holds a row of the relation that the rules were bound to and the conditions compiled for.
    pub(super) unsafe fn write(
        &mut self,
        slot: TupleSlot,
        conditions: &Evaluations,
    ) -> SqlResult<Option<Buffer>> {
        let mut record = record_buffer();
        // SAFETY: the caller guarantees this.
        unsafe {
            let value = self.bound.row(slot);
            match &self.change {
                None => self.maker.write_record(self.bound, value, &mut record)?,
                Some((Operation::Truncate, _)) => return Ok(None),
                Some((operation, origin)) => {
                    let change = Change { operation: *operation, number: 0, previous: &[], origin };
                    self.maker.write_change(self.bound, &change, value, &mut record)?;
                }
            }
            if conditions.alerts(slot) {
                self.bound.add_alert(&mut record)?;
            }
        }
        Ok(Some(record))
    }
}
