//! From claimed rows to an answer of Algolia: batches, hosts, attempts and what their outcome means.
//! Nothing here knows PostgreSQL.
//!
//! Words: a *batch* is the body of one request; an *attempt* is one request to one host; a *verdict* is
//! what one response means; an *outcome* is what a whole delivery, over several attempts, came to.
#![forbid(unsafe_code)]

pub mod clock;
pub mod host_url;
pub mod sender_pool;
pub mod settings;

pub mod batch;
pub mod culprit;
pub mod isolate;

pub mod filters;
pub mod outcome;
pub mod question;
pub mod sink;

pub mod backoff;
pub mod classify;
pub mod gzip;
pub mod hosts;

pub mod http;
pub mod transport;
pub mod wording;
