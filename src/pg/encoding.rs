//! The encoding of the database, and conversion of texts from and to it.

use std::borrow::Cow;
use std::ffi::CStr;

use pgrx::pg_sys;

/// Whether the database's encoding is UTF-8.
pub(super) fn is_utf8() -> bool {
    // SAFETY: reads what is set at the start of the session.
    unsafe { pg_sys::GetDatabaseEncoding() == pg_sys::pg_enc::PG_UTF8 as i32 }
}

/// Converts text from the database's encoding to UTF-8. Raises PostgreSQL's own error for bytes that are invalid in
/// that encoding.
pub(super) fn utf8(bytes: &[u8]) -> Cow<'_, str> {
    if is_utf8() {
        return lossy(bytes);
    }
    // SAFETY: pg_server_to_any returns its argument, or a C string in the current context.
    unsafe {
        let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
        let converted =
            pg_sys::pg_server_to_any(bytes.as_ptr().cast(), length, pg_sys::pg_enc::PG_UTF8 as i32);
        if converted.cast_const().cast() == bytes.as_ptr() {
            return lossy(bytes);
        }
        lossy(CStr::from_ptr(converted).to_bytes())
    }
}

/// Replaces invalid bytes in a text. The copy is in the current memory context, so that lack of memory is an ordinary
/// error.
fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    const MARK: &str = "\u{fffd}";
    let parts = || {
        bytes.utf8_chunks().flat_map(|chunk| {
            let mark = if chunk.invalid().is_empty() { "" } else { MARK };
            [chunk.valid(), mark]
        })
    };
    let length = parts().map(str::len).sum();
    // SAFETY: exactly the allocated bytes are written, all of them valid UTF-8.
    unsafe {
        let start: *mut u8 = pg_sys::MemoryContextAllocHuge(pg_sys::CurrentMemoryContext, length).cast();
        let mut place = start;
        for part in parts() {
            std::ptr::copy_nonoverlapping(part.as_ptr(), place, part.len());
            place = place.add(part.len());
        }
        Cow::Borrowed(std::str::from_utf8_unchecked(std::slice::from_raw_parts(start, length)))
    }
}
