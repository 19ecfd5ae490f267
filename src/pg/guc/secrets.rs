//! The two keys and the files that may hold them.
//!
//! A reload logs each changed parameter with its new value, and every list of settings shows it. So the visible value
//! of a key is always the empty text: the check hook moves the secret into the hook's "extra" memory, the assign hook
//! remembers it, and the show hook returns asterisks.

use std::ffi::{c_char, c_void, CStr, CString};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

use super::checks::{refuse, text_at};
use crate::secret::Secret;

/// The largest key file, in bytes.
const KEY_FILE_LIMIT: u64 = 4096;

/// A setting's secret: the "extra" of its current value, which the server owns.
type Slot = AtomicPtr<c_char>;

static API_KEY: Slot = Slot::new(std::ptr::null_mut());
static API_KEY_FILE: Slot = Slot::new(std::ptr::null_mut());
static PSEUDONYM_KEY: Slot = Slot::new(std::ptr::null_mut());
static PSEUDONYM_KEY_FILE: Slot = Slot::new(std::ptr::null_mut());

/// The write key, from the setting or otherwise from the file.
pub(in crate::pg) fn api_key() -> Option<Secret> {
    secret(&API_KEY).or_else(|| secret(&API_KEY_FILE))
}

/// The pseudonym key, from the setting or otherwise from the file.
pub(in crate::pg) fn pseudonym_key() -> Option<Secret> {
    secret(&PSEUDONYM_KEY).or_else(|| secret(&PSEUDONYM_KEY_FILE))
}

/// Counts the assignments of keys, so that values derived from a key can be cached.
static ASSIGNED: AtomicU64 = AtomicU64::new(0);

/// A number that changes whenever the pseudonym key may have changed.
pub(in crate::pg) fn pseudonym_key_version() -> u64 {
    ASSIGNED.load(Ordering::Relaxed)
}

fn secret(slot: &Slot) -> Option<Secret> {
    let extra = slot.load(Ordering::Relaxed);
    if extra.is_null() {
        return None;
    }
    // SAFETY: the assign hook stored the extra of the current value, a C string made by `keep`. The server frees it
    // only after assigning another one, in this thread.
    let text = unsafe { CStr::from_ptr(extra) }.to_string_lossy();
    (!text.is_empty()).then(|| Secret::new(&text))
}

/// Makes the variable and the hooks of a setting that holds a secret.
macro_rules! secret_setting {
    ($slot:ident, $setting:ident, $assign:ident, $show:ident) => {
        static $setting: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));

        #[pg_guard]
        unsafe extern "C-unwind" fn $assign(_value: *const c_char, extra: *mut c_void) {
            $slot.store(extra.cast(), Ordering::Relaxed);
            ASSIGNED.fetch_add(1, Ordering::Relaxed);
        }

        #[pg_guard]
        unsafe extern "C-unwind" fn $show() -> *const c_char {
            if secret(&$slot).is_some() {
                c"********".as_ptr()
            } else {
                c"".as_ptr()
            }
        }
    };
}

secret_setting!(API_KEY, API_KEY_VALUE, assign_api_key, show_api_key);
secret_setting!(PSEUDONYM_KEY, PSEUDONYM_KEY_VALUE, assign_pseudonym_key, show_pseudonym_key);

/// Makes the variable and the assign hook of a setting that names a file with a secret.
macro_rules! secret_file {
    ($slot:ident, $setting:ident, $assign:ident) => {
        static $setting: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));

        #[pg_guard]
        unsafe extern "C-unwind" fn $assign(_value: *const c_char, extra: *mut c_void) {
            $slot.store(extra.cast(), Ordering::Relaxed);
            ASSIGNED.fetch_add(1, Ordering::Relaxed);
        }
    };
}

secret_file!(API_KEY_FILE, API_KEY_PATH, assign_api_key_file);
secret_file!(PSEUDONYM_KEY_FILE, PSEUDONYM_KEY_PATH, assign_pseudonym_key_file);

/// Defines the four settings.
pub(super) fn define() {
    let string = |name, short, long, setting: &'static GucSetting<Option<CString>>, check, assign, show| {
        // SAFETY: all hooks are guarded against unwinding.
        unsafe {
            GucRegistry::define_string_guc_with_hooks(
                name,
                short,
                long,
                setting,
                GucContext::Sighup,
                GucFlags::SUPERUSER_ONLY,
                check,
                assign,
                show,
            )
        }
    };
    string(
        c"audit_algolia.api_key",
        c"Sets the Algolia key that records are written with.",
        c"It needs the right addObject and is never shown. Use audit_algolia.api_key_file to keep it out of the configuration.",
        &API_KEY_VALUE,
        Some(check_api_key),
        Some(assign_api_key),
        Some(show_api_key),
    );
    string(
        c"audit_algolia.api_key_file",
        c"Names a file that holds the Algolia write key.",
        c"Read at start and at each reload. Refused if others can read it.",
        &API_KEY_PATH,
        Some(check_api_key_file),
        Some(assign_api_key_file),
        None,
    );
    string(
        c"audit_algolia.pseudonym_key",
        c"Sets the secret key that pseudonyms are made with.",
        c"Whoever has it can compute the pseudonym of a known value. Another key makes other pseudonyms.",
        &PSEUDONYM_KEY_VALUE,
        Some(check_pseudonym_key),
        Some(assign_pseudonym_key),
        Some(show_pseudonym_key),
    );
    string(
        c"audit_algolia.pseudonym_key_file",
        c"Names a file that holds the secret key of the pseudonyms.",
        c"Read at start and at each reload. Refused if others can read it.",
        &PSEUDONYM_KEY_PATH,
        Some(check_pseudonym_key_file),
        Some(assign_pseudonym_key_file),
        None,
    );
}

/// Makes the check hooks of a key and of a file that holds it. `$fits` checks a key.
macro_rules! check_hooks {
    ($key:ident, $file:ident, $fits:expr) => {
        #[pg_guard]
        unsafe extern "C-unwind" fn $key(
            value: *mut *mut c_char,
            extra: *mut *mut c_void,
            _source: pg_sys::GucSource::Type,
        ) -> bool {
            // SAFETY: the server passes the addresses of the new value and of its extra.
            unsafe {
                let key = hide(value);
                match $fits(&key) {
                    Ok(()) => keep(&key, extra),
                    Err(reason) => refuse(reason),
                }
            }
        }

        /// Reads the file. The path stays visible; the content becomes the extra.
        #[pg_guard]
        unsafe extern "C-unwind" fn $file(
            value: *mut *mut c_char,
            extra: *mut *mut c_void,
            _source: pg_sys::GucSource::Type,
        ) -> bool {
            // SAFETY: the server passes the address of the new value.
            let path = unsafe { text_at(value) };
            if path.is_empty() {
                return true;
            }
            match read_key_file(&path).and_then(|key| $fits(&key).map(|()| key).map_err(str::to_owned)) {
                // SAFETY: the server passes the address of the extra.
                Ok(key) => unsafe { keep(&key, extra) },
                Err(reason) => refuse(&reason),
            }
        }
    };
}

check_hooks!(check_api_key, check_api_key_file, is_sendable);
check_hooks!(check_pseudonym_key, check_pseudonym_key_file, is_any);

fn is_sendable(key: &str) -> Result<(), &'static str> {
    if key.trim().chars().all(|c| c.is_ascii_graphic()) {
        Ok(())
    } else {
        Err("The key becomes part of an HTTP header and may only contain visible ASCII characters.")
    }
}

/// Any text can be a pseudonym key.
fn is_any(_key: &str) -> Result<(), &'static str> {
    Ok(())
}

/// Hides the key: the visible value becomes empty, even in an error message.
///
/// # Safety
/// `value` is what the server passes to a check hook.
unsafe fn hide(value: *mut *mut c_char) -> String {
    // SAFETY: the server allocated the value with malloc (from 16 on, in its own context) and allows a check hook to
    // shorten it in place.
    unsafe {
        let secret = text_at(value);
        if !(*value).is_null() {
            let length = CStr::from_ptr(*value).to_bytes().len();
            std::ptr::write_bytes(*value, 0, length);
        }
        secret
    }
}

/// Reads a key from a file. As with the server's own key files, only the owner may have access; a file of root may be
/// readable by the server's group.
fn read_key_file(path: &str) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("Could not read key file \"{path}\": {error}.");
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > KEY_FILE_LIMIT {
        return Err(format!("Key file \"{path}\" is not a small ordinary file."));
    }
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & forbidden != 0 {
        return Err(format!(
            "Key file \"{path}\" can be read by others; make its permissions u=rw (0600) or less."
        ));
    }
    let key = std::fs::read_to_string(path).map_err(unreadable)?;
    match key.trim() {
        "" => Err(format!("Key file \"{path}\" is empty.")),
        key if key.contains('\0') => Err(format!("Key file \"{path}\" is not a text.")),
        key => Ok(key.to_owned()),
    }
}

/// Copies a secret into memory that guc.c frees with the value.
///
/// # Safety
/// `extra` is what the server passes to a check hook.
unsafe fn keep(secret: &str, extra: *mut *mut c_void) -> bool {
    let size = secret.len() + 1;
    // SAFETY: extras are freed with free() up to 15 and with guc_free() from 16 on. This allocates accordingly, and
    // writes only within the allocation.
    unsafe {
        #[cfg(feature = "pg15")]
        let memory: *mut u8 = malloc(size).cast();
        #[cfg(not(feature = "pg15"))]
        let memory: *mut u8 = pg_sys::guc_malloc(pg_sys::LOG as i32, size).cast();
        if memory.is_null() {
            return false;
        }
        std::ptr::copy_nonoverlapping(secret.as_ptr(), memory, secret.len());
        memory.add(secret.len()).write(0);
        *extra = memory.cast();
    }
    true
}

// SAFETY: declared as in the C library's header.
#[cfg(feature = "pg15")]
extern "C" {
    fn malloc(size: usize) -> *mut c_void;
}
