//! Captures rows in subtransactions, so that under `on_capture_error = warn` a row that fails can be skipped.

use super::on_error_warn::attempted;
use super::statement::StatementCapture;
use super::trigger_rows::TriggerRow;
use crate::pg::report::{SqlError, SqlResult};

impl StatementCapture<'_> {
    /// Does `work`, of which nothing remains if it fails and the writer is to go on: what it has added is taken back, and
    /// the error returned.
    pub(super) fn attempt<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> SqlResult<T>,
    ) -> SqlResult<Result<T, Box<SqlError>>> {
        if self.skipped.is_none() {
            return work(self).map(Ok);
        }
        let (before, context) = (self.writer.len(), self.context);
        let done = attempted(context, || {
            self.prepare();
            work(self)
        })?;
        if done.is_err() {
            self.writer.truncate(before);
            self.filter = None;
            if let Some((_, arena)) = &mut self.skipped {
                // SAFETY: the filter's state, which an error may have left in disorder, is all that is in there.
                unsafe { arena.reset() };
            }
        }
        Ok(done)
    }

    /// Does `work` for one row, which is told of as skipped if it fails and the writer is to go on.
    ///
    /// # Safety
    /// The slots hold rows of the relation the source is bound to.
    pub(super) unsafe fn attempt_row<T: Default>(
        &mut self,
        row: TriggerRow,
        work: impl FnOnce(&mut Self) -> SqlResult<T>,
    ) -> SqlResult<T> {
        let error = match self.attempt(work)? {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if let Some((skipped, _)) = &mut self.skipped {
            // SAFETY: handed on to the caller.
            unsafe { skipped.add(self.context, row, &error)? };
        }
        Ok(T::default())
    }
}
