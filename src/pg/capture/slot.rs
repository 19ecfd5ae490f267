//! The executor's slots, which hold rows: reading, measuring and clearing them.

use pgrx::pg_sys;

pub(in crate::pg) type TupleSlot = *mut pg_sys::TupleTableSlot;

/// A row of at least this length uses memory of its own.
const OWN_MEMORY_FROM: u32 = 64 << 10;

/// The first `width` values of a row by their places. They are deformed if necessary.
///
/// # Safety
/// The slot holds a row of a relation with at least so many columns, until the last value has been requested.
/// No place of `width` or more is requested.
pub(in crate::pg) unsafe fn values_of(
    slot: TupleSlot,
    width: usize,
) -> impl Fn(usize) -> Option<pg_sys::Datum> + Copy {
    // SAFETY: the caller guarantees this. This is slot_getsomeattrs, an inline function of the server.
    unsafe {
        if usize::try_from((*slot).tts_nvalid).unwrap_or(0) < width {
            pg_sys::slot_getsomeattrs_int(slot, width as i32);
        }
    }
    // SAFETY: as above.
    move |place| unsafe { (!*(*slot).tts_isnull.add(place)).then(|| *(*slot).tts_values.add(place)) }
}

/// Whether reading a row needs memory of its own, because it is long or partly stored in TOAST.
///
/// # Safety
/// The slot is null or holds a row.
pub(super) unsafe fn is_large(slot: TupleSlot) -> bool {
    // SAFETY: the caller guarantees this. The kind of a slot determines its type.
    unsafe {
        if slot.is_null() {
            return false;
        }
        let (length, flags) = if (*slot).tts_ops == &raw const pg_sys::TTSOpsMinimalTuple {
            let tuple = &*(*slot.cast::<pg_sys::MinimalTupleTableSlot>()).mintuple;
            (tuple.t_len, tuple.t_infomask)
        } else if (*slot).tts_ops == &raw const pg_sys::TTSOpsVirtual {
            return false;
        } else {
            let tuple = (*slot.cast::<pg_sys::HeapTupleTableSlot>()).tuple;
            if tuple.is_null() {
                return false;
            }
            ((*tuple).t_len, (*(*tuple).t_data).t_infomask)
        };
        length >= OWN_MEMORY_FROM || u32::from(flags) & pg_sys::HEAP_HASEXTERNAL != 0
    }
}

/// Empties a slot.
///
/// # Safety
/// `slot` is a valid slot.
pub(super) unsafe fn clear(slot: TupleSlot) {
    // SAFETY: every kind of slot has a clear method. This is ExecClearTuple, an inline function of the server.
    unsafe {
        if let Some(clear) = (*(*slot).tts_ops).clear {
            pg_sys::ffi::pg_guard_ffi_boundary(|| clear(slot));
        }
    }
}
