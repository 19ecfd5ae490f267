//! Every setting as the rest of the shell reads it, and the snapshot of settings that a worker delivers with.
//!
//! All settings follow a reload, except `actor`, which is the session user's. Checks run when a setting is set, so a
//! bad value is refused with its reason and the old one stays.

mod checks;
mod definitions;
mod secrets;

use std::ffi::CString;
use std::time::Duration;

use once_cell::sync::Lazy;
use pgrx::pg_sys;
use pgrx::GucSetting;

use crate::databases::Databases;
use crate::delivery::backoff::Backoff;
use crate::delivery::settings::{parse_hosts, DeliverySettings};
use crate::page_config::Origin;
use crate::shared_state::WorkerLimits;
use definitions::*;

pub(super) use checks::time_zone;
pub(super) use definitions::define;
pub(super) use secrets::{api_key, pseudonym_key, pseudonym_key_version};

fn text(setting: &'static GucSetting<Option<CString>>) -> String {
    setting.get().map(|value| value.to_string_lossy().into_owned()).unwrap_or_default()
}

fn number(setting: &'static GucSetting<i32>) -> usize {
    usize::try_from(setting.get()).unwrap_or(0)
}

fn millis(setting: &'static GucSetting<i32>) -> Duration {
    Duration::from_millis(u64::try_from(setting.get()).unwrap_or(0))
}

/// The actor that the application has set, in the database's encoding.
pub(super) fn actor() -> Option<CString> {
    ACTOR.get().filter(|actor| !actor.is_empty())
}

/// Whether a failed capture is a warning and the row is repaired later.
pub(super) fn warns_on_capture_error() -> bool {
    ON_CAPTURE_ERROR.get() == OnCaptureError::Warn
}

/// The number of workers per database.
pub(super) fn workers() -> u32 {
    u32::try_from(WORKERS.get()).unwrap_or(0)
}

/// Whether the database of this name is served.
pub(super) fn serves(database: &str) -> bool {
    Databases::parse(&text(&DATABASES)).is_some_and(|databases| databases.include(database))
}

/// Whether application id and key are set.
pub(super) fn is_configured() -> bool {
    !text(&APPLICATION_ID).is_empty() && api_key().is_some_and(|key| !key.is_empty())
}

/// Whether delivery is enabled.
pub(super) fn is_enabled() -> bool {
    ENABLED.get()
}

/// How long a request may still be executed after everybody has stopped waiting for it, in microseconds.
pub(super) fn quarantine() -> i64 {
    i64::try_from(millis(&REQUEST_TIMEOUT).as_micros()).unwrap_or(i64::MAX)
}

/// The largest record that is sent, in bytes of compact JSON.
pub(super) fn max_record_bytes() -> usize {
    number(&MAX_RECORD_BYTES)
}

/// How often a rejected record is tried. 0 counts as 1.
pub(super) fn max_attempts() -> i32 {
    MAX_ATTEMPTS.get()
}

/// The most requests in flight per worker.
pub(super) fn in_flight() -> usize {
    number(&IN_FLIGHT)
}

/// The limits of a worker.
pub(super) fn worker_limits() -> WorkerLimits {
    WorkerLimits {
        slots: in_flight(),
        batch_rows: i64::from(BATCH_ROWS.get()),
        batch_bytes: i64::from(BATCH_BYTES.get()),
        linger: i64::from(LINGER.get()) * 1000,
        quarantine: quarantine(),
        tail_share: u32::try_from(TAIL_SHARE.get()).unwrap_or(0),
    }
}

/// The most bytes of records that are held or queued together.
pub(super) fn batch_bytes() -> usize {
    number(&BATCH_BYTES)
}

/// The delays between attempts.
pub(super) fn backoff() -> Backoff {
    Backoff { min: millis(&RETRY_MIN), max: millis(&RETRY_MAX).max(millis(&RETRY_MIN)) }
}

/// Where the audit page sends its queries. The time zone is one that the server knows.
pub(super) fn origin() -> Origin {
    let hosts = parse_hosts(&text(&HOSTS)).unwrap_or_default();
    Origin {
        application_id: text(&APPLICATION_ID),
        hosts: hosts.iter().map(ToString::to_string).collect(),
        time_zone: text(&TIME_ZONE),
    }
}

static SERVER_VERSION: Lazy<String> = Lazy::new(|| {
    // "15.18 (Debian 15.18-0+deb12u1)": Algolia's user agents contain only the number.
    let full = pg_sys::PG_VERSION.to_string_lossy();
    full.split(' ').next().unwrap_or_default().to_owned()
});

/// The current settings of deliveries. The certificate file was checked when it was set. If it has become unreadable,
/// it counts as absent, so that only connections that need it fail.
pub(super) fn delivery() -> DeliverySettings {
    let ca_file = text(&CA_FILE);
    DeliverySettings {
        application_id: text(&APPLICATION_ID),
        api_key: api_key().unwrap_or_default(),
        hosts: parse_hosts(&text(&HOSTS)).unwrap_or_default(),
        connect_timeout: millis(&CONNECT_TIMEOUT),
        request_timeout: millis(&REQUEST_TIMEOUT),
        compression: COMPRESSION.get(),
        ca_pem: if ca_file.is_empty() { None } else { std::fs::read(ca_file).ok() },
        user_agent_suffix: text(&USER_AGENT_SUFFIX),
        server_version: SERVER_VERSION.clone(),
    }
}
