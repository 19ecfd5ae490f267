//! The function that triggers call.

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::prelude::*;

use super::context::{attempted, CaptureErrorContext};
use super::on_error_warn::SkippedRows;
use super::source::{known_source, source_of};
use super::statement;
use super::trigger_call::{not_ours, TriggerEvent};
use crate::pg::guc;
use crate::pg::owner;
use crate::pg::report::{reported, SqlResult};

/// The version-1 information that PostgreSQL reads before it calls `audit_algolia_capture`.
#[no_mangle]
#[allow(unreachable_pub, reason = "PostgreSQL looks the symbol up")]
pub extern "C" fn pg_finfo_audit_algolia_capture() -> &'static pg_sys::Pg_finfo_record {
    const V1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &V1
}

/// `audit_algolia.capture()`.
///
/// # Safety
/// Only PostgreSQL's function manager may call it.
#[no_mangle]
#[allow(unreachable_pub, reason = "PostgreSQL looks the symbol up")]
#[pg_guard]
pub unsafe extern "C-unwind" fn audit_algolia_capture(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the function manager passes valid call information. The context node shows whether it is a trigger call.
    let outcome = unsafe {
        match (*fcinfo).context.cast::<pg_sys::TriggerData>().as_ref() {
            Some(call) if call.type_ == pg_sys::NodeTag::T_TriggerData => match TriggerEvent::of(call) {
                Some(event) => capture(call, event, (*call.tg_relation).rd_id),
                None => Err(not_ours()),
            },
            _ => Err(not_ours()),
        }
    };
    reported(outcome).unwrap_or_report();
    pg_sys::Datum::from(0usize)
}

/// Queues the changes that a trigger is called for. `member` is the table by which its source is found: the trigger's
/// own table or, for a removed partition, the watched one.
///
/// # Safety
/// `call` is what PostgreSQL passes to a trigger function.
pub(super) unsafe fn capture(
    call: &pg_sys::TriggerData,
    event: TriggerEvent,
    member: pg_sys::Oid,
) -> SqlResult<()> {
    // SAFETY: the caller guarantees this.
    unsafe {
        let context = CaptureErrorContext::enter(call);
        let skipped = guc::warns_on_capture_error().then(|| SkippedRows::new(call, event, member));
        let found = match known_source(call) {
            Some(source) => Ok(Some(source)),
            None if skipped.is_none() => Ok(source_of(call, event, member)?),
            None => attempted(&context, || source_of(call, event, member))?,
        };
        let (source, skipped) = match (found, skipped) {
            (Ok(Some(source)), skipped) => (source, skipped),
            (Err(error), Some(skipped)) => {
                skipped.skip_all(&context, error)?;
                context.leave();
                return Ok(());
            }
            _ => {
                context.leave();
                return Ok(());
            }
        };
        if !source.expects(event) {
            return Err(not_ours());
        }
        let level = source.relation.depends_on_settings().then(|| {
            let level = pg_sys::NewGUCNestLevel();
            owner::pin_output_settings();
            level
        });
        statement::capture(call, event, &source, &context, skipped)?;
        if let Some(level) = level {
            pg_sys::AtEOXact_GUC(false, level);
        }
        context.leave();
        Ok(())
    }
}
