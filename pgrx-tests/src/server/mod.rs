//! A PostgreSQL for tests: found, copied, with the extension installed, and run in throw-away clusters.
//!
//! Nothing here writes to a system folder, and nothing outlives the process except the caches below the target folder.

mod account;
mod builder;
mod client;
mod cluster;
mod extension;
mod files;
mod folder;
mod install;
mod layout;
mod log;
mod pg_config;
mod port;
mod released;
mod settings;
mod template;

pub use account::Account;
pub use builder::Builder;
pub(crate) use client::is_end_of_session;
pub use cluster::{Cluster, StopMode};
pub use extension::{extension_files, released_versions};
pub use folder::{clusters_folder, WARNINGS_VARIABLE};
pub use install::{Installation, INSTALLATION_VARIABLE, NEWER_VARIABLE};
pub use log::LogMark;
pub use pg_config::PgConfig;
pub use released::released_library;
