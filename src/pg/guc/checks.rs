//! Check hooks: what a setting must look like, and what the user is told when it does not.

use std::ffi::{c_char, c_void, CStr, CString};
use std::sync::atomic::{AtomicPtr, Ordering};

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::databases::Databases;
use crate::delivery::http::check_certificates;
use crate::delivery::settings::parse_hosts;

/// Makes a check hook from a function that accepts the new text or returns the reason why not.
macro_rules! check_hook {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[pg_guard]
        pub(super) unsafe extern "C-unwind" fn $name(
            value: *mut *mut c_char,
            _extra: *mut *mut c_void,
            _source: pg_sys::GucSource::Type,
        ) -> bool {
            // SAFETY: the server passes the address of the new value, a C string or null.
            let text = unsafe { text_at(value) };
            match ($check)(&text) {
                Ok(()) => true,
                Err(reason) => refuse(&reason),
            }
        }
    };
}

check_hook!(
    /// It becomes part of host names.
    application_id,
    |text: &str| {
        if text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') && text.len() <= 60 {
            Ok(())
        } else {
            Err("An application id consists of letters, digits and hyphens, like \"YourApplicationID\".".to_owned())
        }
    }
);
check_hook!(hosts, |text: &str| parse_hosts(text).map(drop).map_err(|error| error.to_string()));
check_hook!(databases, |text: &str| {
    match Databases::parse(text) {
    Some(_) => Ok(()),
    None => Err("Give \"*\", or database names separated by commas. Put a name that contains a comma, a space or a double quote in double quotes, and write a double quote in it twice.".to_owned()),
}
});
check_hook!(ca_file, |text: &str| {
    if text.is_empty() {
        return Ok(());
    }
    match std::fs::read_to_string(text) {
        Ok(pem) => check_certificates(pem.as_bytes()).map_err(|error| format!("File \"{text}\": {error}.")),
        Err(error) => Err(format!("Could not read file \"{text}\": {error}.")),
    }
});
check_hook!(time_zone_name, |text: &str| match time_zone_of(text) {
    Some(_) => Ok(()),
    None => Err(format!("Time zone \"{text}\" is not known; see pg_timezone_names.")),
});
check_hook!(header_text, |text: &str| {
    if text.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
        Ok(())
    } else {
        Err("The text becomes part of an HTTP header and may only contain printable ASCII characters."
            .to_owned())
    }
});

/// The longest actor, in bytes. It becomes part of each change record, whose size is limited, and anybody may set it.
const LONGEST_ACTOR: usize = 1000;

/// Checks the actor. The error does not repeat a value that is too long, as the server would.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn actor(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: the server passes the address of the new value, a C string or null. Messages are passed as in `refuse`.
    unsafe {
        let length = if (*value).is_null() { 0 } else { CStr::from_ptr(*value).to_bytes().len() };
        if length <= LONGEST_ACTOR {
            return true;
        }
        pg_sys::GUC_check_errmsg_string =
            in_error_context("value for parameter \"audit_algolia.actor\" is too long");
        pg_sys::GUC_check_errhint_string = in_error_context(
            "Set something short that identifies the user, such as a login name or a number.",
        );
    }
    refuse(&format!("It may be at most {LONGEST_ACTOR} bytes long."))
}

/// The server's time zone with this name. The server never unloads a zone.
fn time_zone_of(name: &str) -> Option<*mut pg_sys::pg_tz> {
    let name = CString::new(name).ok()?;
    // SAFETY: pg_tzset takes a C string and returns null for an unknown name.
    let zone = unsafe { pg_sys::pg_tzset(name.as_ptr()) };
    (!zone.is_null()).then_some(zone)
}

static ZONE: AtomicPtr<pg_sys::pg_tz> = AtomicPtr::new(std::ptr::null_mut());

/// Stores the zone, so that a statement need not look it up by name.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn assign_time_zone(value: *const c_char, _extra: *mut c_void) {
    // SAFETY: the check hook has loaded the zone of this name, so this look-up cannot fail.
    ZONE.store(unsafe { pg_sys::pg_tzset(value) }, Ordering::Relaxed);
}

/// The zone of the time buckets, `audit_algolia.time_zone`.
pub(in crate::pg) fn time_zone() -> Option<*mut pg_sys::pg_tz> {
    let zone = ZONE.load(Ordering::Relaxed);
    (!zone.is_null()).then_some(zone)
}

/// # Safety
/// `value` is what the server passes to a check hook.
pub(super) unsafe fn text_at(value: *mut *mut c_char) -> String {
    // SAFETY: the caller guarantees this. It points to a C string or to null.
    unsafe {
        if value.is_null() || (*value).is_null() {
            String::new()
        } else {
            CStr::from_ptr(*value).to_string_lossy().into_owned()
        }
    }
}

/// Refuses the value, with the reason as the DETAIL.
pub(super) fn refuse(reason: &str) -> bool {
    // SAFETY: check hooks run in the main thread. guc.c reads the variable right after the hook.
    unsafe { pg_sys::GUC_check_errdetail_string = in_error_context(reason) };
    false
}

/// Copies a text to where GUC_check_errdetail() and its like would have put it.
fn in_error_context(text: &str) -> *mut c_char {
    let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
    // SAFETY: the context lives as long as the process, and is reset after the error was reported.
    unsafe { pg_sys::MemoryContextStrdup(pg_sys::ErrorContext, text.as_ptr()) }
}
