//! The elements of an array, one at a time: as values of their own they take many times the room that the row has for
//! them.

#![forbid(unsafe_code)]

use std::fmt;
use std::rc::Rc;

use crate::record::{Buffer, Value};

/// Shows each element, in the order in which the row has them, to whoever asks.
type Source<'a> = dyn Fn(&mut dyn FnMut(&Value<'_>)) + 'a;

/// The elements of an array.
#[derive(Clone)]
pub struct Elements<'a> {
    /// How many there are along each dimension, the outermost first; none if there is no element.
    sizes: Vec<usize>,
    source: Rc<Source<'a>>,
}

impl<'a> Elements<'a> {
    /// An array of as many elements as the dimensions hold.
    pub fn new(dimensions: &[usize], source: impl Fn(&mut dyn FnMut(&Value<'_>)) + 'a) -> Elements<'a> {
        // How many elements an array holds within each dimension, all that are further in included.
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

    /// Appends the elements within brackets, and those of each further dimension within brackets of their own.
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
