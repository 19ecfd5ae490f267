//! The server's linked lists, read as slices.

use pgrx::pg_sys;

/// The cells of a server list.
///
/// # Safety
/// `list` is null or a valid list that outlives the result.
pub(super) unsafe fn cells<'a>(list: *mut pg_sys::List) -> &'a [pg_sys::ListCell] {
    // SAFETY: a list has `length` contiguous cells.
    unsafe {
        match list.as_ref() {
            None => &[],
            Some(list) => {
                std::slice::from_raw_parts(list.elements, usize::try_from(list.length).unwrap_or(0))
            }
        }
    }
}
