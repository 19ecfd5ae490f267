//! A short text of fixed size for shared memory. It has no heap, and all zeroes is the empty text.
#![forbid(unsafe_code)]

/// At most `N` bytes of UTF-8. A longer text is cut at a character boundary.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FixedString<const N: usize> {
    length: u16,
    bytes: [u8; N],
}

impl<const N: usize> FixedString<N> {
    /// The empty text.
    pub const EMPTY: Self = Self { length: 0, bytes: [0; N] };

    /// Sets the content to as much of `text` as fits.
    pub fn set(&mut self, text: &str) {
        let mut end = text.len().min(N).min(usize::from(u16::MAX));
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        for (to, from) in self.bytes.iter_mut().zip(text.as_bytes().iter().take(end)) {
            *to = *from;
        }
        self.length = u16::try_from(end).unwrap_or(0);
    }

    /// Empties the text.
    pub fn clear(&mut self) {
        self.length = 0;
    }

    /// The content. If shared memory is damaged, it may be no valid text and counts as empty.
    pub fn as_str(&self) -> &str {
        self.bytes.get(..usize::from(self.length)).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or("")
    }

    /// The content; `None`, which SQL shows as NULL, if it is empty.
    pub fn get(&self) -> Option<&str> {
        (self.length > 0).then(|| self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let mut text = FixedString::<5>::EMPTY;
        text.set("ab€€");
        assert_eq!(text.as_str(), "ab€");
        text.set("");
        assert_eq!(text.get(), None);
    }
}
