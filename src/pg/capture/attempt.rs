//! Captures rows in subtransactions, so that under `on_capture_error = warn` a row that fails can be skipped.

use super::context::attempted;
use super::statement::StatementCapture;
use super::trigger_rows::TriggerRow;
use crate::pg::report::{SqlError, SqlResult};

impl StatementCapture<'_> {
    /// Runs `work`. If it fails under `on_capture_error = warn`, everything it did is undone and the error is returned.
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
            self.conditions = None;
            if let Some((_, arena)) = &mut self.skipped {
                // SAFETY: the context contains only the state of the conditions, which the error may have corrupted.
                unsafe { arena.reset() };
            }
        }
        Ok(done)
    }

    /// Runs `work` for one row. If it fails under `on_capture_error = warn`, the row is reported as skipped.
    ///
    /// # Safety
    /// The slots hold rows of the relation that the source is bound to.
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
            // SAFETY: the caller guarantees this.
            unsafe { skipped.add(self.context, row, &error)? };
        }
        Ok(T::default())
    }
}
