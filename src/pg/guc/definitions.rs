//! The definitions of the settings: default, range, context and description.

use std::ffi::CString;

use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

use super::{checks, secrets};

/// What happens when a row cannot become a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub(super) enum OnCaptureError {
    #[name = c"error"]
    Error,
    #[name = c"warn"]
    Warn,
}

pub(super) static APPLICATION_ID: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
pub(super) static HOSTS: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
pub(super) static DATABASES: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"*"));
pub(super) static CA_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
pub(super) static TIME_ZONE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"UTC"));
pub(super) static USER_AGENT_SUFFIX: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c""));
pub(super) static ACTOR: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
pub(super) static WORKERS: GucSetting<i32> = GucSetting::<i32>::new(2);
pub(super) static IN_FLIGHT: GucSetting<i32> = GucSetting::<i32>::new(4);
pub(super) static BATCH_ROWS: GucSetting<i32> = GucSetting::<i32>::new(1000);
pub(super) static BATCH_BYTES: GucSetting<i32> = GucSetting::<i32>::new(8 << 20);
pub(super) static LINGER: GucSetting<i32> = GucSetting::<i32>::new(0);
pub(super) static MAX_RECORD_BYTES: GucSetting<i32> = GucSetting::<i32>::new(100_000);
pub(super) static CONNECT_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(2_000);
pub(super) static REQUEST_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(30_000);
pub(super) static RETRY_MIN: GucSetting<i32> = GucSetting::<i32>::new(200);
pub(super) static RETRY_MAX: GucSetting<i32> = GucSetting::<i32>::new(300_000);
pub(super) static MAX_ATTEMPTS: GucSetting<i32> = GucSetting::<i32>::new(0);
pub(super) static TAIL_SHARE: GucSetting<i32> = GucSetting::<i32>::new(10);
pub(super) static COMPRESSION: GucSetting<bool> = GucSetting::<bool>::new(true);
pub(super) static ENABLED: GucSetting<bool> = GucSetting::<bool>::new(true);
pub(super) static ON_CAPTURE_ERROR: GucSetting<OnCaptureError> =
    GucSetting::<OnCaptureError>::new(OnCaptureError::Error);

/// Defines all settings. Call it once, from `_PG_init`.
pub(in crate::pg) fn define() {
    secrets::define();
    define_strings();
    define_numbers();
    GucRegistry::define_bool_guc(
        c"audit_algolia.compression",
        c"Compresses request bodies of 1 kB and more with gzip.",
        c"Off: saves processor time, but causes about six times the traffic.",
        &COMPRESSION,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    GucRegistry::define_bool_guc(
        c"audit_algolia.enabled",
        c"Delivers queued records.",
        c"Off: changes are still captured and queued, but nothing is sent.",
        &ENABLED,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    GucRegistry::define_enum_guc(
        c"audit_algolia.on_capture_error",
        c"Chooses what happens when a row cannot be made into a record.",
        c"\"error\": the writer's statement fails. \"warn\": the writer gets a warning, and the row is read again later.",
        &ON_CAPTURE_ERROR,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    // SAFETY: the prefix is a static C string.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"audit_algolia".as_ptr()) };
}

fn define_strings() {
    let string =
        |name, short, long, setting: &'static GucSetting<Option<CString>>, context, check, assign| {
            // SAFETY: the check hooks and the one assign hook are guarded against unwinding. There are no show hooks.
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
        c"Names the Algolia application that records are delivered to.",
        c"Empty: rows queue up, nothing is sent.",
        &APPLICATION_ID,
        GucContext::Sighup,
        Some(checks::application_id),
        None,
    );
    string(
        c"audit_algolia.hosts",
        c"Lists the base URLs that requests are sent to, separated by commas and tried in order.",
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
        c"Names a PEM file with certificate authorities that are trusted besides the platform's.",
        c"For gateways in internal networks. Empty: only the platform's authorities.",
        &CA_FILE,
        GucContext::Sighup,
        Some(checks::ca_file),
        None,
    );
    string(
        c"audit_algolia.time_zone",
        c"Sets the time zone of the time buckets (day, hour, weekday).",
        c"A name that PostgreSQL knows, such as \"Europe/Berlin\". Existing records keep their buckets.",
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
        c"Names the user who makes the changes of this session or transaction.",
        c"Set by the application and recorded with changes. At most 1000 bytes. Empty: the session's user.",
        &ACTOR,
        GucContext::Userset,
        Some(checks::actor),
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
        c"Each counts towards max_worker_processes. 0: nothing is delivered.",
        &WORKERS,
        0,
        32,
        GucFlags::empty(),
    );
    number(
        c"audit_algolia.in_flight",
        c"Sets the number of requests that one worker keeps in flight.",
        c"If it is more than one, one of them is reserved for rows that have just been committed.",
        &IN_FLIGHT,
        1,
        64,
        GucFlags::empty(),
    );
    number(
        c"audit_algolia.batch_rows",
        c"Sets the maximum number of records in one request.",
        c"",
        &BATCH_ROWS,
        1,
        10_000,
        GucFlags::empty(),
    );
    number(
        c"audit_algolia.batch_bytes",
        c"Sets the maximum size of a request body before compression.",
        c"A larger record is sent alone.",
        &BATCH_BYTES,
        1024,
        512 << 20,
        GucFlags::UNIT_BYTE,
    );
    number(
        c"audit_algolia.linger",
        c"Sets how long a batch that is not full waits for more rows.",
        c"0: it is sent at once, unless another such batch of its index is in flight; then it waits until that one returns.",
        &LINGER,
        0,
        60_000,
        GucFlags::UNIT_MS,
    );
    number(
        c"audit_algolia.max_record_bytes",
        c"Sets the maximum size of a record that is sent.",
        c"Algolia's plans allow 10,000 to 100,000 bytes of compact JSON.",
        &MAX_RECORD_BYTES,
        100,
        i32::MAX,
        GucFlags::UNIT_BYTE,
    );
    number(
        c"audit_algolia.connect_timeout",
        c"Sets how long one attempt waits for a connection to a host.",
        c"Grows with each timeout of the same host until it answers.",
        &CONNECT_TIMEOUT,
        1,
        600_000,
        GucFlags::UNIT_MS,
    );
    number(
        c"audit_algolia.request_timeout",
        c"Limits how long one attempt at a host takes, from the look-up of its name to the last byte of its answer.",
        c"Grows with each timeout of the same host until it answers. The answer to a question of reconcile() must begin within 5 s, which \
          grows likewise.",
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
        c"It is also how often a blocked application is tried again.",
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
        c"0: strictly newest first; under lasting overload, the oldest rows then wait for ever.",
        &TAIL_SHARE,
        0,
        100,
        GucFlags::empty(),
    );
}
