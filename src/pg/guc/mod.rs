//! Every setting: where it lives, what it means, and the snapshot a worker delivers by.
//!
//! Settings of the session's user (`actor`) apart, all follow a reload. What can be checked is checked when it
//! is set, so that a bad value is refused with its reason and the old one stays.

mod checks;
mod secrets;

use std::ffi::CString;
use std::time::Duration;

use once_cell::sync::Lazy;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

use crate::delivery::backoff::Backoff;
use crate::delivery::settings::{parse_hosts, Settings};
use crate::ledger::Appetite;

pub(super) use checks::time_zone;
pub(super) use secrets::{api_key, pseudonym_key, pseudonym_key_version};

/// What to do when a row cannot become a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub(super) enum OnCaptureError {
    #[name = c"error"]
    Error,
    /// Refused until a row left out can be repaired later: without that, going on would lose it.
    #[name = c"warn"]
    Warn,
}

static APPLICATION_ID: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static HOSTS: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static DATABASES: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"*"));
static CA_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static TIME_ZONE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"UTC"));
static USER_AGENT_SUFFIX: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static ACTOR: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static WORKERS: GucSetting<i32> = GucSetting::<i32>::new(2);
static IN_FLIGHT: GucSetting<i32> = GucSetting::<i32>::new(4);
static BATCH_ROWS: GucSetting<i32> = GucSetting::<i32>::new(1000);
static BATCH_BYTES: GucSetting<i32> = GucSetting::<i32>::new(8 << 20);
static LINGER: GucSetting<i32> = GucSetting::<i32>::new(0);
static MAX_RECORD_BYTES: GucSetting<i32> = GucSetting::<i32>::new(100_000);
static CONNECT_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(2_000);
static REQUEST_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(30_000);
static RETRY_MIN: GucSetting<i32> = GucSetting::<i32>::new(200);
static RETRY_MAX: GucSetting<i32> = GucSetting::<i32>::new(300_000);
static MAX_ATTEMPTS: GucSetting<i32> = GucSetting::<i32>::new(0);
static TAIL_SHARE: GucSetting<i32> = GucSetting::<i32>::new(10);
static COMPRESSION: GucSetting<bool> = GucSetting::<bool>::new(true);
static ENABLED: GucSetting<bool> = GucSetting::<bool>::new(true);
static ON_CAPTURE_ERROR: GucSetting<OnCaptureError> =
    GucSetting::<OnCaptureError>::new(OnCaptureError::Error);

/// Defines all settings. Call it once, from `_PG_init`.
pub(super) fn define() {
    secrets::define();
    define_strings();
    define_numbers();
    GucRegistry::define_bool_guc(
        c"audit_algolia.compression",
        c"Compresses request bodies of 1 kB and more with gzip.",
        c"Off saves processor time at the price of about six times the traffic.",
        &COMPRESSION,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    GucRegistry::define_bool_guc(
        c"audit_algolia.enabled",
        c"Delivers queued records.",
        c"Off: capture goes on and rows queue up, nothing is sent.",
        &ENABLED,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    // SAFETY: the check hook is guarded against unwinding; there are no assign and show hooks.
    unsafe {
        GucRegistry::define_enum_guc_with_hooks(
            c"audit_algolia.on_capture_error",
            c"Chooses what happens when a row cannot be made into a record.",
            c"\"error\": the writer's statement fails.",
            &ON_CAPTURE_ERROR,
            GucContext::Sighup,
            GucFlags::empty(),
            Some(checks::on_capture_error),
            None,
            None,
        );
    }
    #[cfg(any(feature = "pg13", feature = "pg14"))]
    // SAFETY: the prefix is a static C string.
    unsafe {
        pg_sys::EmitWarningsOnPlaceholders(c"audit_algolia".as_ptr())
    };
    #[cfg(not(any(feature = "pg13", feature = "pg14")))]
    // SAFETY: the prefix is a static C string.
    unsafe {
        pg_sys::MarkGUCPrefixReserved(c"audit_algolia".as_ptr())
    };
}

fn define_strings() {
    let string =
        |name, short, long, setting: &'static GucSetting<Option<CString>>, context, check, assign| {
            // SAFETY: the check hooks are guarded against unwinding; so is the one assign hook; there are no show hooks.
            unsafe {
                GucRegistry::define_string_guc_with_hooks(
                    name,
                    short,
                    long,
                    setting,
                    context,
                    GucFlags::empty(),
                    check,
                    assign,
                    None,
                )
            }
        };
    string(
        c"audit_algolia.application_id",
        c"Names the Algolia application records are delivered to.",
        c"Empty: rows queue up, nothing is sent.",
        &APPLICATION_ID,
        GucContext::Sighup,
        Some(checks::application_id),
        None,
    );
    string(
        c"audit_algolia.hosts",
        c"Lists the base URLs requests go to, separated by commas and tried in order.",
        c"Empty: Algolia's own hosts for the application.",
        &HOSTS,
        GucContext::Sighup,
        Some(checks::hosts),
        None,
    );
    string(
        c"audit_algolia.databases",
        c"Lists the databases that are served, separated by commas.",
        c"\"*\": each one in which the extension is installed.",
        &DATABASES,
        GucContext::Sighup,
        Some(checks::databases),
        None,
    );
    string(
        c"audit_algolia.ca_file",
        c"Names a file with certificate authorities (PEM) trusted besides the platform's.",
        c"For gateways in internal networks. Empty: the platform's roots alone.",
        &CA_FILE,
        GucContext::Sighup,
        Some(checks::ca_file),
        None,
    );
    string(
        c"audit_algolia.time_zone",
        c"Sets the time zone of the time buckets (day, hour, weekday).",
        c"A name PostgreSQL knows, such as \"Europe/Berlin\". Records already made keep theirs.",
        &TIME_ZONE,
        GucContext::Sighup,
        Some(checks::time_zone_name),
        Some(checks::assign_time_zone),
    );
    string(
        c"audit_algolia.user_agent_suffix",
        c"Adds a text to the user agent of requests.",
        c"The user agent begins with \"Algolia for audit_algolia\" and its version.",
        &USER_AGENT_SUFFIX,
        GucContext::Sighup,
        Some(checks::header_text),
        None,
    );
    string(
        c"audit_algolia.actor",
        c"Tells who makes the changes of this session or transaction.",
        c"Set by the application; recorded with changes. Empty: the session's user.",
        &ACTOR,
        GucContext::Userset,
        None,
        None,
    );
}

fn define_numbers() {
    let number = |name, short, long, setting: &'static GucSetting<i32>, min, max, flags| {
        GucRegistry::define_int_guc(name, short, long, setting, min, max, GucContext::Sighup, flags)
    };
    number(
        c"audit_algolia.workers",
        c"Sets the number of delivery workers for each database.",
        c"Each takes one of max_worker_processes. 0: nothing is delivered.",
        &WORKERS,
        0,
        32,
        GucFlags::empty(),
    );
    number(
        c"audit_algolia.in_flight",
        c"Sets the number of requests one worker keeps in flight.",
        c"With more than one, one of them is kept for rows that have just been committed.",
        &IN_FLIGHT,
        1,
        64,
        GucFlags::empty(),
    );
    number(
        c"audit_algolia.batch_rows",
        c"Sets the most records in one request.",
        c"",
        &BATCH_ROWS,
        1,
        10_000,
        GucFlags::empty(),
    );
    number(
        c"audit_algolia.batch_bytes",
        c"Sets the most bytes in one request body, before compression.",
        c"A single larger record is sent alone.",
        &BATCH_BYTES,
        1024,
        512 << 20,
        GucFlags::UNIT_BYTE,
    );
    number(
        c"audit_algolia.linger",
        c"Sets how long a batch that is not full waits for more rows.",
        c"0: not at all.",
        &LINGER,
        0,
        60_000,
        GucFlags::UNIT_MS,
    );
    number(
        c"audit_algolia.max_record_bytes",
        c"Sets the largest record that is sent.",
        c"Algolia's plans allow 10,000 to 100,000 bytes of compact JSON.",
        &MAX_RECORD_BYTES,
        100,
        i32::MAX,
        GucFlags::UNIT_BYTE,
    );
    number(
        c"audit_algolia.connect_timeout",
        c"Sets how long one attempt waits for a connection to a host.",
        c"Grows with each time-out of the same host until it answers.",
        &CONNECT_TIMEOUT,
        1,
        600_000,
        GucFlags::UNIT_MS,
    );
    number(
        c"audit_algolia.request_timeout",
        c"Sets how long one attempt waits for a host's answer.",
        c"Grows with each time-out of the same host until it answers.",
        &REQUEST_TIMEOUT,
        1,
        3_600_000,
        GucFlags::UNIT_MS,
    );
    number(
        c"audit_algolia.retry_min",
        c"Sets the shortest backoff after a failed attempt.",
        c"It doubles with each failure in a row, with full jitter, up to audit_algolia.retry_max.",
        &RETRY_MIN,
        1,
        3_600_000,
        GucFlags::UNIT_MS,
    );
    number(
        c"audit_algolia.retry_max",
        c"Sets the longest backoff after failed attempts.",
        c"Also how often a blocked application is tried again.",
        &RETRY_MAX,
        1,
        86_400_000,
        GucFlags::UNIT_MS,
    );
    number(
        c"audit_algolia.max_attempts",
        c"Sets the number of attempts before a rejected record is given up.",
        c"0: a rejected record is given up at once. Outages never count.",
        &MAX_ATTEMPTS,
        0,
        1000,
        GucFlags::empty(),
    );
    number(
        c"audit_algolia.tail_share",
        c"Sets the percentage of batches taken from the oldest end while there is a backlog.",
        c"0: strictly newest first, so that under lasting overload the oldest rows wait for ever.",
        &TAIL_SHARE,
        0,
        100,
        GucFlags::empty(),
    );
}

fn text(setting: &'static GucSetting<Option<CString>>) -> String {
    setting
        .get()
        .map(|value| value.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn number(setting: &'static GucSetting<i32>) -> usize {
    usize::try_from(setting.get()).unwrap_or(0)
}

fn millis(setting: &'static GucSetting<i32>) -> Duration {
    Duration::from_millis(u64::try_from(setting.get()).unwrap_or(0))
}

/// Delivery workers for each database.
pub(super) fn workers() -> u32 {
    u32::try_from(WORKERS.get()).unwrap_or(0)
}

/// Whether the database of this name is served.
pub(super) fn serves(database: &str) -> bool {
    let list = text(&DATABASES);
    list.trim() == "*" || checks::names(&list).iter().any(|name| name == database)
}

/// Whether there is somebody to deliver to.
pub(super) fn is_configured() -> bool {
    !text(&APPLICATION_ID).is_empty() && api_key().is_some_and(|key| !key.is_empty())
}

/// Whether delivery is switched on.
pub(super) fn is_enabled() -> bool {
    ENABLED.get()
}

/// The longest request body, in bytes before compression.
pub(super) fn batch_bytes() -> usize {
    number(&BATCH_BYTES)
}

/// Requests in flight for one worker.
pub(super) fn in_flight() -> usize {
    number(&IN_FLIGHT)
}

/// What a worker with `busy` requests under way can take.
pub(super) fn appetite(busy: usize) -> Appetite {
    Appetite {
        free: in_flight().saturating_sub(busy),
        slots: in_flight(),
        batch_rows: i64::from(BATCH_ROWS.get()),
        linger: i64::from(LINGER.get()) * 1000,
        tail_share: u32::try_from(TAIL_SHARE.get()).unwrap_or(0),
    }
}

/// Waiting times between attempts.
pub(super) fn backoff() -> Backoff {
    Backoff {
        min: millis(&RETRY_MIN),
        max: millis(&RETRY_MAX).max(millis(&RETRY_MIN)),
    }
}

static SERVER_VERSION: Lazy<String> = Lazy::new(|| {
    // "15.18 (Debian 15.18-0+deb12u1)": Algolia's agent strings carry the number alone.
    let full = pg_sys::PG_VERSION.to_string_lossy();
    full.split(' ').next().unwrap_or_default().to_owned()
});

/// The settings of delivery as they are now. The certificate file was checked when it was set; one that has
/// become unreadable since counts as absent, so that only connections that need it fail.
pub(super) fn delivery() -> Settings {
    let ca_file = text(&CA_FILE);
    Settings {
        application_id: text(&APPLICATION_ID),
        api_key: api_key().unwrap_or_default(),
        hosts: parse_hosts(&text(&HOSTS)).unwrap_or_default(),
        connect_timeout: millis(&CONNECT_TIMEOUT),
        request_timeout: millis(&REQUEST_TIMEOUT),
        compression: COMPRESSION.get(),
        ca_pem: if ca_file.is_empty() {
            None
        } else {
            std::fs::read(ca_file).ok()
        },
        user_agent_suffix: text(&USER_AGENT_SUFFIX),
        server_version: SERVER_VERSION.clone(),
    }
}
