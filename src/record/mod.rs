//! From a row's values to the JSON record that leaves the database. Nothing here knows PostgreSQL.
//!
//! The shell makes one [`RecordLayout`] per source and calls [`write_record`] once per row. A record is an object
//! without insignificant whitespace: `{"objectID":"…","attribute":…}`.

#![forbid(unsafe_code)]

mod ascii;
mod buckets;
mod buffer;
mod change;
mod compact;
mod deletion;
mod error;
mod fingerprint;
mod layout;
mod moment;
mod name;
mod number;
mod object_id;
mod value;
mod write;

pub use ascii::escape_non_ascii;
pub use buckets::{Calendar, CivilHour, BUCKET_SUFFIXES};
pub use buffer::{Buffer, Overflow};
pub use change::{write_change, write_truncate, Change, ChangeOrigin, Operation, CHANGE_ATTRIBUTES};
pub use compact::compact_len;
pub use deletion::{identity, leading_object_id, write_deletion};
pub use error::RecordError;
pub use fingerprint::Fingerprint;
pub use layout::{Field, RecordLayout};
pub use moment::{Moment, EPOCH_2000_MILLIS};
pub use object_id::split_object_id;
pub use value::{Elements, Value};
pub use write::{add_alert, write_record, ALERT_ATTRIBUTE};

#[cfg(test)]
mod tests;
