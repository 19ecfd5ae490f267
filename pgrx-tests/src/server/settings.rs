//! The settings of a cluster's server, in a file that `postgresql.conf` includes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::account::Account;

/// The file for the settings.
const SETTINGS: &str = "harness.conf";

/// Settings by name.
pub(super) type Settings = BTreeMap<String, String>;

/// Writes the settings where the server reads them.
pub(super) fn write_settings(account: Account, data: &Path, settings: &Settings) -> Result<()> {
    let line = |(name, value): (&String, &String)| {
        format!("{name} = '{}'\n", value.replace('\\', "\\\\").replace('\'', "''"))
    };
    let text: String = settings.iter().map(line).collect();
    let new = data.join("harness.conf.new");
    fs::write(&new, text).with_context(|| format!("cannot write {}", new.display()))?;
    account.give(&new)?;
    fs::rename(&new, data.join(SETTINGS))?;
    Ok(())
}

/// Makes the server read them.
pub(super) fn include_settings(data: &Path) -> Result<()> {
    let path = data.join("postgresql.conf");
    let text = fs::read_to_string(&path)?;
    fs::write(&path, format!("{text}\ninclude '{SETTINGS}'\n"))?;
    Ok(())
}

/// The settings that all clusters share.
pub(super) fn base_settings(durable: bool, preload: bool) -> Settings {
    let switch = if durable { "on" } else { "off" };
    let all = [
        ("cluster_name", "primary"),
        ("fsync", switch),
        ("full_page_writes", switch),
        ("listen_addresses", "127.0.0.1"),
        ("log_checkpoints", "off"),
        ("log_line_prefix", "%m [%p] %q%u@%d "),
        ("log_timezone", "UTC"),
        ("max_prepared_transactions", "10"),
        ("shared_preload_libraries", if preload { "audit_algolia" } else { "" }),
        ("timezone", "UTC"),
        ("wal_level", "replica"),
    ];
    all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
