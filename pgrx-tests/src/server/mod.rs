//! A PostgreSQL of one's own: found, copied, given the extension, and run in throw-away clusters.
//!
//! Nothing here writes to a system folder, and nothing outlives the process that asked for it except the
//! caches below the target folder.

mod account;
mod builder;
mod cluster;
mod files;
mod folder;
mod install;
mod pg_config;

pub use account::Account;
pub use builder::Builder;
pub use cluster::{Cluster, LogMark, StopMode};
pub use folder::clusters_folder;
pub use install::{Installation, INSTALLATION_VARIABLE};
pub use pg_config::PgConfig;
