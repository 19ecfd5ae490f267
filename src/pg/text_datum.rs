//! Texts as the database keeps them, byte by byte. In a database that is not in UTF-8 they are no Rust strings.

use pgrx::pg_sys;
use pgrx::prelude::*;

/// A text in the database's encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TextBytes(pub(super) Vec<u8>);

/// An array of texts without nulls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TextArray(pub(super) Vec<Vec<u8>>);

fn text_of(bytes: &[u8]) -> pg_sys::Datum {
    // SAFETY: the bytes are copied, by their length, into the current context.
    unsafe { pg_sys::cstring_to_text_with_len(bytes.as_ptr().cast(), bytes.len() as i32) }.into()
}

impl FromDatum for TextBytes {
    /// # Safety
    /// The datum has the requested type.
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _type: pg_sys::Oid,
    ) -> Option<TextBytes> {
        // SAFETY: the caller requests the value's type.
        (!is_null).then(|| TextBytes(unsafe { varlena_bytes(datum) }.to_vec()))
    }
}

impl IntoDatum for TextBytes {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(text_of(&self.0))
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TEXTOID
    }
}

impl FromDatum for TextArray {
    /// # Safety
    /// The datum has the requested type.
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _type: pg_sys::Oid,
    ) -> Option<TextArray> {
        if is_null {
            return None;
        }
        // SAFETY: the caller requests the value's type, an array of texts. deconstruct_array allocates the lists in the
        // current context and returns their length.
        unsafe {
            let array: *mut pg_sys::ArrayType = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast();
            let (mut values, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
            let alignment = pg_sys::TYPALIGN_INT as std::os::raw::c_char;
            pg_sys::deconstruct_array(
                array,
                pg_sys::TEXTOID,
                -1,
                false,
                alignment,
                &mut values,
                &mut nulls,
                &mut count,
            );
            let all = 0..usize::try_from(count).unwrap_or(0);
            Some(TextArray(
                all.filter(|place| !*nulls.add(*place))
                    .map(|place| varlena_bytes(*values.add(place)).to_vec())
                    .collect(),
            ))
        }
    }
}

impl IntoDatum for TextArray {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        let mut datums: Vec<pg_sys::Datum> = self.0.iter().map(|text| text_of(text)).collect();
        // SAFETY: the length is that of the vector. The array is made in the current context.
        let array = unsafe {
            pg_sys::construct_array(
                datums.as_mut_ptr(),
                datums.len() as i32,
                pg_sys::TEXTOID,
                -1,
                false,
                pg_sys::TYPALIGN_INT as std::os::raw::c_char,
            )
        };
        Some(array.into())
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TEXTARRAYOID
    }
}

/// The bytes of a varlena value.
///
/// # Safety
/// `datum` is a varlena.
pub(super) unsafe fn varlena_bytes<'a>(datum: pg_sys::Datum) -> &'a [u8] {
    // SAFETY: detoasting returns a plain varlena, in the row itself or in the current context.
    unsafe {
        let plain = pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr());
        let length = pgrx::varlena::varsize_any_exhdr(plain);
        std::slice::from_raw_parts(pgrx::varlena::vardata_any(plain).cast(), length)
    }
}
