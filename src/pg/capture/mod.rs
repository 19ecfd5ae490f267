//! The trigger function: rows of a watched table become records in the queue, in the writer's own transaction.
//!
//! It runs with the writer's rights and needs none: rules and queue are reached past the executor, and where that
//! is not possible, as the extension's owner under a pinned search_path. Output functions of the table's types are
//! called with the writer's rights, so a hostile type gains nothing; filters are evaluated with the table owner's.

mod attempt;
mod bound;
mod column;
mod context;
mod current_row;
mod decode;
mod departure;
mod history;
mod ids;
mod key;
mod leaf;
mod mirror;
mod on_error_warn;
mod queue;
mod repair;
mod repair_writer;
mod rows;
mod scratch;
mod source;
mod statement;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::prelude::*;

use super::guc;
use super::owner;
use super::report::{failure, reported, Failure, Outcome};
use crate::record::Operation;
use context::Context;
use on_error_warn::{attempted, SkippedRows};
use rows::value_in;
use source::{arguments, known_source, source_of, Source};

pub(super) use bound::Bound;
pub(super) use current_row::{identity_of, identity_of_id, Key, Present};
pub(super) use departure::Departure;
pub(super) use history::{History, Written};
pub(super) use ids::next_id;
pub(super) use leaf::file_of;
pub(super) use queue::{ensure_room, record_buffer, Writer};
pub(super) use repair_writer::{Made, NotedChange, RepairWriter};
pub(super) use scratch::Scratch;

/// The second argument of a trigger that may outlive its source, or its table's being a partition of the watched one.
pub(super) const LEAF: &str = "partition";

/// The version-1 call information PostgreSQL asks for before it calls `audit_algolia_capture`.
#[no_mangle]
#[allow(unreachable_pub, reason = "PostgreSQL looks the symbol up")]
pub extern "C" fn pg_finfo_audit_algolia_capture() -> &'static pg_sys::Pg_finfo_record {
    const V1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &V1
}

/// `audit_algolia.capture()`.
///
/// # Safety
/// To be called by PostgreSQL's function manager alone.
#[no_mangle]
#[allow(unreachable_pub, reason = "PostgreSQL looks the symbol up")]
#[pg_guard]
pub unsafe extern "C-unwind" fn audit_algolia_capture(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the function manager passes valid call information; a trigger call is told by its context node.
    let outcome = unsafe {
        match (*fcinfo).context.cast::<pg_sys::TriggerData>().as_ref() {
            Some(call) if call.type_ == pg_sys::NodeTag::T_TriggerData => match Event::of(call) {
                Some(event) => capture(call, event, (*call.tg_relation).rd_id),
                None => Err(not_ours()),
            },
            _ => Err(not_ours()),
        }
    };
    reported(outcome).unwrap_or_report();
    pg_sys::Datum::from(0usize)
}

/// What a trigger is called for.
#[derive(Clone, Copy)]
struct Event {
    operation: Operation,
    /// With one row at hand, not with all of a statement.
    is_row: bool,
    /// Before the change rather than after it.
    is_before: bool,
}

impl Event {
    /// What a call is for; nothing when the trigger is not shaped like ours: after the change, with the row or with all
    /// rows at hand, or before a TRUNCATE.
    fn of(call: &pg_sys::TriggerData) -> Option<Event> {
        let has = |mask, bits| call.tg_event & mask == bits;
        let operation = match call.tg_event & pg_sys::TRIGGER_EVENT_OPMASK {
            pg_sys::TRIGGER_EVENT_INSERT => Operation::Insert,
            pg_sys::TRIGGER_EVENT_UPDATE => Operation::Update,
            pg_sys::TRIGGER_EVENT_DELETE => Operation::Delete,
            _ => Operation::Truncate,
        };
        let (has_old, has_new) = (!call.tg_oldtable.is_null(), !call.tg_newtable.is_null());
        let is_row = has(pg_sys::TRIGGER_EVENT_ROW, pg_sys::TRIGGER_EVENT_ROW);
        let has_rows = match operation {
            Operation::Insert => is_row || has_new,
            Operation::Update => is_row || (has_old && has_new),
            Operation::Delete => is_row || has_old,
            Operation::Truncate => true,
        };
        let is_before = has(pg_sys::TRIGGER_EVENT_TIMINGMASK, pg_sys::TRIGGER_EVENT_BEFORE);
        let is_after = has(pg_sys::TRIGGER_EVENT_TIMINGMASK, pg_sys::TRIGGER_EVENT_AFTER);
        let is_timely = is_after || (is_before && operation == Operation::Truncate);
        (has_rows && is_timely).then_some(Event { operation, is_row, is_before })
    }

    /// Whether a source's trigger is called like this. To mirror a table each row has to be at hand, and those that
    /// TRUNCATE removes.
    fn suits(self, source: &Source) -> bool {
        let shaped = match (&source.key, self.operation) {
            (Some(_), Operation::Truncate) => self.is_before,
            (Some(_), _) => self.is_row,
            (None, _) => !self.is_before,
        };
        shaped && source.operations.contains(&self.operation)
    }
}

/// Queues what a trigger is called for. `member` is the table by which its source is known, the trigger's own or, of rows that
/// leave with theirs, the watched one.
///
/// # Safety
/// `call` is what PostgreSQL passes to a trigger function.
unsafe fn capture(call: &pg_sys::TriggerData, event: Event, member: pg_sys::Oid) -> Outcome<()> {
    // SAFETY: handed on to the caller.
    unsafe {
        let context = Context::enter(call);
        let omissions = guc::warns_on_capture_error().then(|| SkippedRows::new(call, event, member));
        let found = match known_source(call) {
            Some(source) => Ok(Some(source)),
            None if omissions.is_none() => Ok(source_of(call, event, member)?),
            None => attempted(&context, || source_of(call, event, member))?,
        };
        let (source, omissions) = match (found, omissions) {
            (Ok(Some(source)), omissions) => (source, omissions),
            (Err(failure), Some(omissions)) => {
                omissions.all(&context, failure)?;
                context.leave();
                return Ok(());
            }
            _ => {
                context.leave();
                return Ok(());
            }
        };
        if !event.suits(&source) {
            return Err(not_ours());
        }
        let level = source.depends_on_settings().then(|| {
            let level = pg_sys::NewGUCNestLevel();
            owner::set_output_aside();
            level
        });
        statement::capture(call, event, &source, &context, omissions)?;
        if let Some(level) = level {
            pg_sys::AtEOXact_GUC(false, level);
        }
        context.leave();
        Ok(())
    }
}

/// The error of a call that is no trigger of ours.
fn not_ours() -> Box<Failure> {
    failure(
        PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
        "function audit_algolia.capture() was not called by a trigger that watch() has made",
        "Drop the trigger, and let audit_algolia.watch() put one in place.",
    )
}
