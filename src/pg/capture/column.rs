//! How the values of a column are read and compared.

use std::ffi::c_char;

use pgrx::pg_sys;

use super::decode::{Decoder, TextDecoder};
use crate::record::Value;

/// One column, as it is read and compared.
pub(super) struct TrackedColumn {
    pub(super) place: usize,
    decoder: FieldDecoder,
    length: i16,
    by_value: bool,
}

enum FieldDecoder {
    Plain(Decoder),
    /// Only the output text is read, to be replaced by its pseudonym.
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
            // SAFETY: handed on to the caller.
            (Some(datum), FieldDecoder::Plain(decoder)) => unsafe { decoder.decode(datum) },
            // SAFETY: handed on to the caller.
            (Some(datum), FieldDecoder::Text(decoder)) => Value::Text(unsafe { decoder.decode(datum) }),
        }
    }

    /// Whether two values differ as they are stored: as the server tells whether an update changes anything.
    ///
    /// # Safety
    /// As for `decode`.
    pub(super) unsafe fn differs(&self, old: Option<pg_sys::Datum>, new: Option<pg_sys::Datum>) -> bool {
        let (Some(old), Some(new)) = (old, new) else {
            return old.is_some() != new.is_some();
        };
        let (by_value, length) = (self.by_value, i32::from(self.length));
        // SAFETY: both are values of a type with this length and way of passing. What an update leaves alone mostly is
        // the same byte for byte, which is seen without fetching what is stored elsewhere.
        unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                !datumIsEqual(old, new, by_value, length) && !datum_image_eq(old, new, by_value, length)
            })
        }
    }
}

// SAFETY: declared as in the server's header; both read the values alone, and the second may fetch what is toasted.
unsafe extern "C-unwind" {
    /// `utils/datum.h`, which pgrx does not bind: whether two values are alike byte for byte.
    fn datumIsEqual(one: pg_sys::Datum, other: pg_sys::Datum, by_value: bool, length: i32) -> bool;
    /// The same, of the values as they are once fetched and decompressed.
    fn datum_image_eq(one: pg_sys::Datum, other: pg_sys::Datum, by_value: bool, length: i32) -> bool;
}

/// A value of a column's type from its output text, as the type below its domains reads it. What is stored was a value of
/// the domain once; the domain's constraints may have come later, and call functions of whoever made them. A length goes
/// with no text either: it was minded when the value was stored.
///
/// # Safety
/// `text` is a C string in the database's encoding. Raises what the type's input function raises.
pub(super) unsafe fn value_of_text(of: pg_sys::Oid, text: *mut c_char) -> pg_sys::Datum {
    let (mut function, mut parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: look-ups in the system caches, then a call of the type's input function, which reads a C string. The value
    // lives in the current memory context.
    unsafe {
        pg_sys::getTypeInputInfo(pg_sys::getBaseType(of), &mut function, &mut parameter);
        pg_sys::OidInputFunctionCall(function, text, parameter, -1)
    }
}

/// Whether a text that a column's type cannot read is none that it has ever written. That is not so of types that are made
/// of others, among which may be domains, and of names of functions and operators, of which there may be several.
pub(super) fn reads_what_it_wrote(of: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in the system caches.
    let (base, kind, element) = unsafe {
        let base = pg_sys::getBaseType(of);
        (base, pg_sys::get_typtype(base) as u8, pg_sys::get_element_type(base))
    };
    let is_whole = [pg_sys::TYPTYPE_BASE, pg_sys::TYPTYPE_ENUM].contains(&kind);
    is_whole && element == pg_sys::InvalidOid && ![pg_sys::REGPROCOID, pg_sys::REGOPEROID].contains(&base)
}
