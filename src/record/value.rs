//! A column's value as the shell passes it, and its form in a record.

#![forbid(unsafe_code)]

use crate::record::compact::append_compact;
use crate::record::number::{exact_number, MAX_SAFE_INTEGER};
use crate::record::{Buffer, Moment};
use data_encoding::BASE64;
use serde::Serialize;
use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;

/// A value that is about to be written to a record. Texts are borrowed from the row where possible.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// SQL's null. A record omits attributes and members that are null; in an array it is `null`.
    Null,
    Bool(bool),
    /// An integer of any width: a JSON number up to ±(2^53 − 1), a string beyond.
    Int(i64),
    /// A `real`, written with as many digits as distinguish it from other `real`s. `NaN` and the infinities become
    /// strings.
    Float4(f32),
    /// A `double precision`. `NaN` and the infinities become strings.
    Float8(f64),
    /// The output text of a `numeric`: a JSON number when a double holds its value exactly, else a string.
    Numeric(Cow<'a, str>),
    /// Any text, or the output text of any other type.
    Text(Cow<'a, str>),
    /// A valid JSON text, embedded without insignificant whitespace. JSON's own null is written as `null`.
    Json(Cow<'a, str>),
    /// A point in time: Unix seconds. The infinities are treated like [`Value::Null`].
    Time(Moment),
    /// Bytes: a string of base64, with padding.
    Bytes(Cow<'a, [u8]>),
    /// An array; one of several dimensions is an array of arrays.
    Array(Elements<'a>),
    /// A composite: its fields' names and values.
    Object(Vec<(Cow<'a, str>, Value<'a>)>),
}

impl Value<'_> {
    /// Whether the value is omitted from an object.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Value::Null | Value::Time(Moment::Infinity))
    }

    /// Appends the value as JSON. An absent value is `null`.
    pub(super) fn append(&self, out: &mut Buffer) -> serde_json::Result<()> {
        match self {
            Value::Null => out.extend_from_slice(b"null"),
            Value::Bool(true) => out.extend_from_slice(b"true"),
            Value::Bool(false) => out.extend_from_slice(b"false"),
            Value::Int(number) => append_integer(*number, out)?,
            Value::Float4(number) => append_float((*number).into(), number, out)?,
            Value::Float8(number) => append_float(*number, number, out)?,
            Value::Numeric(text) => match exact_number(text) {
                Some(number) => out.extend_from_slice(number.as_bytes()),
                None => serde_json::to_writer(out, text)?,
            },
            Value::Text(text) => {
                out.expect(text.len());
                serde_json::to_writer(out, text)?;
            }
            Value::Json(text) => {
                out.expect(text.len());
                append_compact(text, out);
            }
            Value::Time(moment) => moment.append(out)?,
            Value::Bytes(bytes) => append_base64(bytes, out),
            Value::Array(elements) => elements.append(out)?,
            Value::Object(members) => append_object(members, out)?,
        }
        Ok(())
    }
}

fn append_integer(number: i64, out: &mut Buffer) -> serde_json::Result<()> {
    if (-MAX_SAFE_INTEGER..=MAX_SAFE_INTEGER).contains(&number) {
        return serde_json::to_writer(out, &number);
    }
    out.push(b'"');
    serde_json::to_writer(&mut *out, &number)?;
    out.push(b'"');
    Ok(())
}

/// Appends a float. `digits` is the same number in its own width, which decides how many digits are written.
fn append_float(number: f64, digits: &impl Serialize, out: &mut Buffer) -> serde_json::Result<()> {
    if number.is_finite() {
        return serde_json::to_writer(out, digits);
    }
    let name: &[u8] = match number {
        f64::INFINITY => br#""Infinity""#,
        f64::NEG_INFINITY => br#""-Infinity""#,
        _ => br#""NaN""#,
    };
    out.extend_from_slice(name);
    Ok(())
}

fn append_base64(bytes: &[u8], out: &mut Buffer) {
    out.push(b'"');
    let room = out.extend_with_zeroes(BASE64.encode_len(bytes.len()));
    if !room.is_empty() {
        BASE64.encode_mut(bytes, room);
    }
    out.push(b'"');
}

fn append_object(members: &[(Cow<'_, str>, Value<'_>)], out: &mut Buffer) -> serde_json::Result<()> {
    out.push(b'{');
    let present = members.iter().filter(|(_, value)| !value.is_absent());
    for (index, (name, value)) in present.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        serde_json::to_writer(&mut *out, name)?;
        out.push(b':');
        value.append(out)?;
    }
    out.push(b'}');
    Ok(())
}

/// Passes each element, in the order of the row, to the function it is given.
type ElementSource<'a> = dyn Fn(&mut dyn FnMut(&Value<'_>)) + 'a;

/// The elements of an array, passed one at a time: converted all at once, they would take many times the memory of the
/// row.
#[derive(Clone)]
pub struct Elements<'a> {
    /// For each dimension, outermost first, how many elements one of its entries contains; empty if the array is empty.
    sizes: Vec<usize>,
    source: Rc<ElementSource<'a>>,
}

impl<'a> Elements<'a> {
    /// An array with these dimensions.
    pub fn new(dimensions: &[usize], source: impl Fn(&mut dyn FnMut(&Value<'_>)) + 'a) -> Elements<'a> {
        // For each dimension, the number of elements in it, including those of all dimensions within it.
        let mut sizes: Vec<usize> = dimensions
            .iter()
            .rev()
            .scan(1, |size: &mut usize, length| {
                *size = size.saturating_mul(*length);
                Some(*size)
            })
            .collect();
        sizes.reverse();
        Elements { sizes, source: Rc::new(source) }
    }

    /// Appends the elements in brackets, with further brackets for each further dimension.
    pub(super) fn append(&self, out: &mut Buffer) -> serde_json::Result<()> {
        if self.sizes.first().is_none_or(|all| *all == 0) {
            out.extend_from_slice(b"[]");
            return Ok(());
        }
        let (mut count, mut result) = (0, Ok(()));
        (self.source)(&mut |element| {
            if result.is_err() || out.check().is_err() {
                return;
            }
            if count > 0 {
                out.push(b',');
            }
            self.sizes.iter().filter(|size| count % **size == 0).for_each(|_| out.push(b'['));
            result = element.append(out);
            count += 1;
            self.sizes.iter().filter(|size| count % **size == 0).for_each(|_| out.push(b']'));
        });
        result
    }
}

impl fmt::Debug for Elements<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        (self.source)(&mut |element| {
            list.entry(element);
        });
        list.finish()
    }
}

#[cfg(test)]
impl Elements<'_> {
    /// An array of one dimension.
    pub(super) fn of(values: Vec<Value<'static>>) -> Value<'static> {
        let dimensions: Vec<usize> = Some(values.len()).filter(|len| *len > 0).into_iter().collect();
        Value::Array(Elements::new(&dimensions, move |show| values.iter().for_each(show)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(dimensions: &[usize]) -> String {
        let count = dimensions.iter().product::<usize>() as i64;
        let array = Elements::new(dimensions, move |show| (0..count).for_each(|n| show(&Value::Int(n))));
        let mut out = Buffer::default();
        array.append(&mut out).unwrap();
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn each_dimension_has_brackets_of_its_own() {
        assert_eq!(written(&[3]), "[0,1,2]");
        assert_eq!(written(&[2, 2]), "[[0,1],[2,3]]");
        assert_eq!(written(&[1, 3, 1]), "[[[0],[1],[2]]]");
        assert_eq!(written(&[2, 1, 2]), "[[[0,1]],[[2,3]]]");
        assert_eq!(written(&[]), "[]");
    }
}
