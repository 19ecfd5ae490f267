//! From claimed rows to Algolia's answer. Nothing here knows PostgreSQL.
//!
//! Words: a *batch* is the body of one request; an *attempt* is one request to one host; a *verdict* is what one response
//! means; an *outcome* is what a whole delivery, over several attempts, came to.
//!
//! | subject | file |
//! |---|---|
//! | request bodies | `batch` |
//! | threads that send | `sender_pool` |
//! | one delivery, one question | `sink`; `sink/try_hosts` tries the hosts in turn, `sink/exchange` is what they are tried with |
//! | which host is next, and how long an attempt may take | `hosts`, `host_url` (the settings' values are in `settings`) |
//! | the time | `clock` |
//! | the HTTP client | `http`; `transport` is what it shares with the sink |
//! | what a response means | `classify`; `offending_record` finds the record that it names |
//! | what a delivery came to | `outcome` |
//! | an answer in words, for the log | `wording` |
//! | the records at fault in a rejected batch | `bisect` |
//! | how long to wait after a failure | `backoff` |
//! | whether a host reads gzip | `gzip` |
//! | what `reconcile` asks | `question`, `filters` |
#![forbid(unsafe_code)]

pub mod clock;
pub mod host_url;
pub mod sender_pool;
pub mod settings;

pub mod batch;
pub mod bisect;
pub mod offending_record;

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
