//! How the values of a column are read and compared.

use std::ffi::c_char;

use pgrx::pg_sys;

use super::decode::{Decoder, TextDecoder};
use crate::record::Value;

/// How one column is read and compared.
pub(super) struct TrackedColumn {
    pub(super) place: usize,
    decoder: FieldDecoder,
    length: i16,
    by_value: bool,
}

enum FieldDecoder {
    Plain(Decoder),
    /// Only the output text is read; it is replaced by its pseudonym.
    Text(TextDecoder),
}

impl TrackedColumn {
    pub(super) fn new(place: usize, oid: pg_sys::Oid, pseudonymize: bool) -> TrackedColumn {
        let decoder = match pseudonymize {
            true => FieldDecoder::Text(TextDecoder::of(oid)),
            false => FieldDecoder::Plain(Decoder::of(oid)),
        };
        let (mut length, mut by_value) = (0, false);
        // SAFETY: a look-up in the system caches.
        unsafe { pg_sys::get_typlenbyval(oid, &mut length, &mut by_value) };
        TrackedColumn { place, decoder, length, by_value }
    }

    pub(super) fn depends_on_settings(&self) -> bool {
        match &self.decoder {
            FieldDecoder::Plain(decoder) => decoder.depends_on_settings(),
            FieldDecoder::Text(decoder) => decoder.depends_on_settings(),
        }
    }

    /// # Safety
    /// `datum` is null or a value of the column, valid until the current memory context is reset.
    pub(super) unsafe fn decode<'a>(&self, datum: Option<pg_sys::Datum>) -> Value<'a> {
        match (datum, &self.decoder) {
            (None, _) => Value::Null,
            // SAFETY: the caller guarantees this.
            (Some(datum), FieldDecoder::Plain(decoder)) => unsafe { decoder.decode(datum) },
            // SAFETY: the caller guarantees this.
            (Some(datum), FieldDecoder::Text(decoder)) => Value::Text(unsafe { decoder.decode(datum) }),
        }
    }

    /// Whether two values differ in their stored form. That is how the server decides whether an update changes a
    /// value.
    ///
    /// # Safety
    /// As for `decode`.
    pub(super) unsafe fn differs(&self, old: Option<pg_sys::Datum>, new: Option<pg_sys::Datum>) -> bool {
        let (Some(old), Some(new)) = (old, new) else {
            return old.is_some() != new.is_some();
        };
        let (by_value, length) = (self.by_value, i32::from(self.length));
        // SAFETY: both are values of a type with this length and passing mode. An unchanged value is mostly identical
        // byte for byte, which is seen without fetching TOASTed data.
        unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                !datumIsEqual(old, new, by_value, length) && !datum_image_eq(old, new, by_value, length)
            })
        }
    }
}

// SAFETY: declared as in the server's header. Both functions only read the values; the second may detoast them.
unsafe extern "C-unwind" {
    /// `utils/datum.h`, which pgrx does not bind: whether two values are identical byte for byte.
    fn datumIsEqual(one: pg_sys::Datum, other: pg_sys::Datum, by_value: bool, length: i32) -> bool;
    /// The same for the detoasted values.
    fn datum_image_eq(one: pg_sys::Datum, other: pg_sys::Datum, by_value: bool, length: i32) -> bool;
}

/// Reads a value from its output text, by the input function of the type below its domains. The value was once valid
/// for the domain. Constraints may have been added later, and they call functions of whoever added them. No length is
/// passed either, because it was checked when the value was stored.
///
/// # Safety
/// `text` is a C string in the database's encoding. Raises the errors of the type's input function.
pub(super) unsafe fn value_of_text(of: pg_sys::Oid, text: *mut c_char) -> pg_sys::Datum {
    let (mut function, mut parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: look-ups in the system caches, then a call of the type's input function, which reads a C string. The value
    // lives in the current memory context.
    unsafe {
        pg_sys::getTypeInputInfo(pg_sys::getBaseType(of), &mut function, &mut parameter);
        pg_sys::OidInputFunctionCall(function, text, parameter, -1)
    }
}

/// Whether a text that the type cannot read was never written by it. This does not hold for types that consist of
/// others, which may be domains, nor for names of functions and operators, which may be ambiguous.
pub(super) fn reads_what_it_wrote(of: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in the system caches.
    let (base, kind, element) = unsafe {
        let base = pg_sys::getBaseType(of);
        (base, pg_sys::get_typtype(base) as u8, pg_sys::get_element_type(base))
    };
    let is_whole = [pg_sys::TYPTYPE_BASE, pg_sys::TYPTYPE_ENUM].contains(&kind);
    is_whole && element == pg_sys::InvalidOid && ![pg_sys::REGPROCOID, pg_sys::REGOPEROID].contains(&base)
}
