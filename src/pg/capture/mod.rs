//! The trigger function: rows of a watched table become records in the queue, in the writer's own transaction.
//!
//! It runs with the writer's rights and needs none: it reaches rules and queue past the executor or, where that is not
//! possible, as the extension's owner under a pinned search_path. It calls output functions of the table's types with
//! the writer's rights, so a hostile type gains nothing. It evaluates filters with the rights of the table's owner.

mod attempt;
mod bound_relation;
mod column;
mod context;
mod current_row;
mod decode;
mod history;
mod ids;
mod key_index;
mod mirror;
mod on_error_warn;
mod queue;
mod record_error;
mod record_maker;
mod removed_partition;
mod repair;
mod repair_key;
mod repair_writer;
mod row_fetcher;
mod scratch;
mod skipped_change;
mod slot;
mod source;
mod statement;
mod trigger;
mod trigger_call;
mod trigger_rows;

pub(super) use bound_relation::BoundRelation;
pub(super) use current_row::{identity_of, identity_of_id, OpenTables, RowKey};
pub(super) use history::{HistoryWrite, HistoryWriter};
pub(super) use ids::next_id;
pub(super) use queue::{ensure_room, record_buffer, QueueWriter};
pub(super) use record_maker::RecordMaker;
pub(super) use removed_partition::RemovedPartition;
pub(super) use repair_writer::RepairWriter;
pub(super) use row_fetcher::file_of;
pub(super) use scratch::Scratch;
pub(super) use skipped_change::{RepairOutcome, SkippedChange};
pub(super) use slot::{values_of, TupleSlot};
pub(super) use trigger_call::PARTITION_ARGUMENT;
