//! From PostgreSQL's values to the core's: fast paths for the common types, the type's output function for the rest.

use std::borrow::Cow;
use std::ffi::CStr;
use std::rc::Rc;

use pgrx::pg_sys;

use super::scratch::Scratch;
use crate::pg::descriptor::attribute;
use crate::pg::encoding::utf8;
use crate::pg::text_datum::varlena_bytes;
use crate::record::{Elements, Moment, Value};

/// How values of one type are read.
pub(super) enum Decoder {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Text,
    Json,
    Timestamp,
    Date,
    Bytes,
    /// Uses the output function. The text becomes a number if possible.
    Numeric(pg_sys::Oid),
    Array(Rc<ArrayElement>),
    Composite,
    /// Uses the output function.
    Output(pg_sys::Oid),
    /// The same for a type whose output is the same in all sessions.
    Steady(pg_sys::Oid),
    OutputJson(pg_sys::Oid),
}

/// What is needed to iterate over an array.
pub(super) struct ArrayElement {
    decoder: Decoder,
    oid: pg_sys::Oid,
    length: i16,
    by_value: bool,
    alignment: i8,
}

/// The output function of a type.
pub(super) fn output_of(oid: pg_sys::Oid) -> pg_sys::Oid {
    let mut function = pg_sys::InvalidOid;
    let mut is_varlena = false;
    // SAFETY: a look-up in the system caches. Raises an error if the type does not exist.
    unsafe { pg_sys::getTypeOutputInfo(oid, &mut function, &mut is_varlena) };
    function
}

/// Whether a type's output is known not to depend on settings. Pinning the settings costs a single-row insert about as
/// much as the rest of its capture, and keys and codes have these types.
fn is_steady(oid: pg_sys::Oid) -> bool {
    match oid {
        pg_sys::UUIDOID
        | pg_sys::INETOID
        | pg_sys::CIDROID
        | pg_sys::MACADDROID
        | pg_sys::MACADDR8OID
        | pg_sys::NAMEOID
        | pg_sys::OIDOID
        | pg_sys::XIDOID
        | pg_sys::BITOID
        | pg_sys::VARBITOID => true,
        // SAFETY: a look-up in the system caches.
        other => unsafe { pg_sys::get_typtype(other) as u8 == pg_sys::TYPTYPE_ENUM },
    }
}

impl Decoder {
    /// Chooses the decoder of a type.
    pub(super) fn of(oid: pg_sys::Oid) -> Decoder {
        // SAFETY: look-ups in the system caches.
        let (base, element) = unsafe {
            let base = pg_sys::getBaseType(oid);
            (base, pg_sys::get_base_element_type(base))
        };
        match base {
            pg_sys::BOOLOID => Decoder::Bool,
            pg_sys::INT2OID => Decoder::Int2,
            pg_sys::INT4OID => Decoder::Int4,
            pg_sys::INT8OID => Decoder::Int8,
            pg_sys::FLOAT4OID => Decoder::Float4,
            pg_sys::FLOAT8OID => Decoder::Float8,
            pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID => Decoder::Text,
            pg_sys::JSONOID => Decoder::Json,
            pg_sys::JSONBOID => Decoder::OutputJson(output_of(base)),
            pg_sys::TIMESTAMPOID | pg_sys::TIMESTAMPTZOID => Decoder::Timestamp,
            pg_sys::DATEOID => Decoder::Date,
            pg_sys::BYTEAOID => Decoder::Bytes,
            pg_sys::NUMERICOID => Decoder::Numeric(output_of(base)),
            // These vectors are read as their output text.
            pg_sys::INT2VECTOROID | pg_sys::OIDVECTOROID => Decoder::Output(output_of(base)),
            _ if element != pg_sys::InvalidOid => Decoder::Array(Rc::new(ArrayElement::of(element))),
            // SAFETY: a look-up in the system caches.
            _ if unsafe { pg_sys::type_is_rowtype(base) } => Decoder::Composite,
            _ if is_steady(base) => Decoder::Steady(output_of(base)),
            _ => Decoder::Output(output_of(base)),
        }
    }

    /// Whether the result may depend on the session's settings, such as DateStyle.
    pub(super) fn depends_on_settings(&self) -> bool {
        match self {
            Decoder::Composite | Decoder::Output(_) => true,
            Decoder::Array(element) => element.decoder.depends_on_settings(),
            _ => false,
        }
    }

    /// Reads a value. It may borrow from the row or the current memory context.
    ///
    /// # Safety
    /// `datum` is a value of the decoder's type. It and the current memory context outlive `'a`.
    pub(super) unsafe fn decode<'a>(&self, datum: pg_sys::Datum) -> Value<'a> {
        // SAFETY: the caller guarantees that the datum has the decoder's type. Varlena values are detoasted first.
        unsafe {
            match self {
                Decoder::Bool => Value::Bool(datum.value() as u8 != 0),
                Decoder::Int2 => Value::Int(i64::from(datum.value() as i16)),
                Decoder::Int4 => Value::Int(i64::from(datum.value() as i32)),
                Decoder::Int8 => Value::Int(datum.value() as i64),
                Decoder::Float4 => Value::Float4(f32::from_bits(datum.value() as u32)),
                Decoder::Float8 => Value::Float8(f64::from_bits(datum.value() as u64)),
                Decoder::Text => Value::Text(varlena_text(datum)),
                Decoder::Json => Value::Json(varlena_text(datum)),
                Decoder::Timestamp => Value::Time(Moment::from_timestamp(datum.value() as i64)),
                Decoder::Date => Value::Time(Moment::from_date(datum.value() as i32)),
                Decoder::Bytes => Value::Bytes(Cow::Borrowed(varlena_bytes(datum))),
                Decoder::Numeric(output) => Value::Numeric(output_text(*output, datum)),
                Decoder::Output(output) | Decoder::Steady(output) => Value::Text(output_text(*output, datum)),
                Decoder::OutputJson(output) => Value::Json(output_text(*output, datum)),
                Decoder::Array(element) => decode_array(element, datum),
                Decoder::Composite => decode_composite(datum),
            }
        }
    }
}

/// Reads values as their output texts: key columns and pseudonymized columns.
pub(super) struct TextDecoder {
    decoder: Decoder,
    output: pg_sys::Oid,
}

impl TextDecoder {
    pub(super) fn of(oid: pg_sys::Oid) -> TextDecoder {
        TextDecoder { decoder: Decoder::of(oid), output: output_of(oid) }
    }

    pub(super) fn depends_on_settings(&self) -> bool {
        !matches!(
            self.decoder,
            Decoder::Bool
                | Decoder::Int2
                | Decoder::Int4
                | Decoder::Int8
                | Decoder::Text
                | Decoder::Numeric(_)
                | Decoder::Steady(_)
                | Decoder::OutputJson(_)
                | Decoder::Json
        )
    }

    /// The output text of a value.
    ///
    /// # Safety
    /// As for [`Decoder::decode`].
    pub(super) unsafe fn decode<'a>(&self, datum: pg_sys::Datum) -> Cow<'a, str> {
        match self.decoder {
            // SAFETY: the caller guarantees this.
            Decoder::Text => unsafe { varlena_text(datum) },
            Decoder::Int2 => Cow::Owned((datum.value() as i16).to_string()),
            Decoder::Int4 => Cow::Owned((datum.value() as i32).to_string()),
            Decoder::Int8 => Cow::Owned((datum.value() as i64).to_string()),
            // SAFETY: the caller guarantees this.
            _ => unsafe { output_text(self.output, datum) },
        }
    }
}

impl ArrayElement {
    fn of(oid: pg_sys::Oid) -> ArrayElement {
        let (mut length, mut by_value, mut alignment) = (0, false, 0);
        // SAFETY: a look-up in the system caches.
        unsafe { pg_sys::get_typlenbyvalalign(oid, &mut length, &mut by_value, &mut alignment) };
        ArrayElement { decoder: Decoder::of(oid), oid, length, by_value, alignment }
    }

    /// Passes the elements of an array to `show`, one by one. Memory is freed from time to time, because the output
    /// texts of all elements take far more than the array.
    ///
    /// # Safety
    /// `array` is a detoasted array of the element's type.
    unsafe fn walk(&self, array: *mut pg_sys::ArrayType, show: &mut dyn FnMut(&Value<'_>)) {
        // SAFETY: the caller guarantees this. The iterator returns elements within the array, and nobody keeps what is
        // shown.
        unsafe {
            let mut kind = pg_sys::ArrayMetaState {
                element_type: self.oid,
                typlen: self.length,
                typbyval: self.by_value,
                typalign: self.alignment,
                ..Default::default()
            };
            let iterator = pg_sys::array_create_iterator(array, 0, &raw mut kind);
            let (mut element, mut is_null) = (pg_sys::Datum::from(0usize), false);
            let mut scratch = Scratch::new();
            while pg_sys::array_iterate(iterator, &raw mut element, &raw mut is_null) {
                match (is_null, self.by_value) {
                    (true, _) => show(&Value::Null),
                    (false, true) => show(&self.decoder.decode(element)),
                    (false, false) => {
                        scratch.within(|| show(&self.decoder.decode(element)));
                        scratch.give_back_if_large();
                    }
                }
            }
            pg_sys::array_free_iterator(iterator);
        }
    }
}

/// # Safety
/// `datum` is an array of the element's type.
unsafe fn decode_array<'a>(element: &Rc<ArrayElement>, datum: pg_sys::Datum) -> Value<'a> {
    // SAFETY: an array's dimensions follow its header.
    let (array, dimensions) = unsafe {
        let array: *mut pg_sys::ArrayType = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast();
        let rank = usize::try_from((*array).ndim).unwrap_or(0);
        let sizes: *const i32 = array.add(1).cast();
        let dimensions: Vec<usize> = (0..rank).map(|d| usize::try_from(*sizes.add(d)).unwrap_or(0)).collect();
        (array, dimensions)
    };
    let element = element.clone();
    // SAFETY: the array lives as long as the value.
    Value::Array(Elements::new(&dimensions, move |show| unsafe { element.walk(array, show) }))
}

/// # Safety
/// `datum` is a composite.
unsafe fn decode_composite<'a>(datum: pg_sys::Datum) -> Value<'a> {
    // SAFETY: a composite's header names its row type. The type cache provides the descriptor, which is released before
    // the return. heap_deform_tuple fills exactly natts entries.
    unsafe {
        let header: pg_sys::HeapTupleHeader = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast();
        let descriptor = pg_sys::lookup_rowtype_tupdesc(
            pg_sys::Oid::from((*header).t_choice.t_datum.datum_typeid.to_u32()),
            (*header).t_choice.t_datum.datum_typmod,
        );
        let mut tuple = pg_sys::HeapTupleData { t_data: header, ..Default::default() };
        tuple.t_len = pgrx::varlena::varsize(header.cast()) as u32;
        let width = usize::try_from((*descriptor).natts).unwrap_or(0);
        let mut values = vec![pg_sys::Datum::from(0usize); width];
        let mut nulls = vec![true; width];
        pg_sys::heap_deform_tuple(&mut tuple, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
        let mut members = Vec::with_capacity(width);
        for (place, (value, null)) in values.into_iter().zip(nulls).enumerate() {
            let column = attribute(descriptor, place);
            if !(*column).attisdropped && !null {
                let name = CStr::from_ptr((*column).attname.data.as_ptr()).to_string_lossy().into_owned();
                members.push((Cow::Owned(name), Decoder::of((*column).atttypid).decode(value)));
            }
        }
        if (*descriptor).tdrefcount >= 0 {
            pg_sys::DecrTupleDescRefCount(descriptor);
        }
        Value::Object(members)
    }
}

/// # Safety
/// `datum` is a text, or of a type that is stored like one.
unsafe fn varlena_text<'a>(datum: pg_sys::Datum) -> Cow<'a, str> {
    // SAFETY: the caller guarantees this.
    utf8(unsafe { varlena_bytes(datum) })
}

/// # Safety
/// `function` is the output function of the datum's type.
unsafe fn output_text<'a>(function: pg_sys::Oid, datum: pg_sys::Datum) -> Cow<'a, str> {
    // SAFETY: output functions return a C string in the current context.
    utf8(unsafe { CStr::from_ptr(pg_sys::OidOutputFunctionCall(function, datum)) }.to_bytes())
}
