//! audit_algolia keeps an Algolia index in step with PostgreSQL audit tables, from inside the database.
//!
//! The core (`delivery`, `record`, …) is plain Rust and builds without PostgreSQL; the shell (`pg`)
//! is the only part that names pgrx and comes with one of the features `pg15` … `pg18`.

pub mod alerts;
pub mod backfill;
pub mod claims;
pub mod databases;
pub mod delivery;
pub mod flight_recorder;
pub mod hash_set;
pub mod id_ranges;
pub mod index_settings;
pub mod memory;
pub mod metrics;
pub mod page_config;
pub mod pseudonym;
pub mod record;
pub mod rules;
pub mod runs;
pub mod secret;
pub mod secured_key;
pub mod shared_state;

#[cfg(any(feature = "pg15", feature = "pg16", feature = "pg17", feature = "pg18"))]
mod pg;
