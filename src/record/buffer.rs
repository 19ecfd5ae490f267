//! The buffer that a record is written to. Its size depends on a user's data, so there may not be enough memory for it.
//!
//! A `Vec` ends the process when it cannot grow. This buffer remembers that it could not, ignores further writes, and
//! reports the error when it is asked at the end. So lack of memory is an error of the row.

#![forbid(unsafe_code)]

use std::io;
use std::ops::Deref;

use thiserror::Error;

/// The longest record: PostgreSQL's limit for one allocation, minus room for the rest of the row.
const LONGEST: usize = 0x3fff_ffff - (8 << 10);

/// The capacity that a buffer starts with.
const FIRST: usize = 512;
/// If the length is known beforehand and is at least this, the buffer reserves it at once and does not double its way
/// there.
const RESERVE_FROM: usize = 64 << 10;

/// Why a buffer does not hold everything that was written to it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Overflow {
    #[error("there is no memory for {bytes} bytes")]
    NoMemory { bytes: usize },
    #[error("it is longer than {most} bytes")]
    TooLong { most: usize },
}

/// An append-only buffer of bytes.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// First `head` bytes that belong to the buffer's owner, then the content.
    bytes: Vec<u8>,
    head: usize,
    most: usize,
    overflow: Option<Overflow>,
}

impl Default for Buffer {
    fn default() -> Buffer {
        Buffer::behind(0)
    }
}

impl Buffer {
    /// An empty buffer that keeps `head` bytes free before its content. `head` should be small.
    pub fn behind(head: usize) -> Buffer {
        // An owner that uses the head is about to write: one allocation serves both. Every row that is inserted by
        // itself needs such a buffer.
        let mut bytes = if head == 0 { Vec::new() } else { Vec::with_capacity(head + FIRST) };
        bytes.resize(head, 0);
        Buffer { bytes, head, most: LONGEST, overflow: None }
    }

    /// The head and the content.
    pub fn whole_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Fails if something that was written did not fit.
    pub fn check(&self) -> Result<(), Overflow> {
        self.overflow.map_or(Ok(()), Err)
    }

    #[inline]
    pub fn push(&mut self, byte: u8) {
        self.extend_from_slice(&[byte]);
    }

    #[inline]
    pub fn extend_from_slice(&mut self, more: &[u8]) {
        if self.is_ready_for(more.len()) {
            // The compiler sees that there is room and omits its own check.
            self.bytes.extend_from_slice(more);
        } else {
            self.extend_beyond_room(more);
        }
    }

    #[cold]
    #[inline(never)]
    fn extend_beyond_room(&mut self, more: &[u8]) {
        if self.grows_by(more.len()) {
            self.bytes.extend_from_slice(more);
        }
    }

    /// Appends `count` zeroes for the caller to overwrite, or none if they do not all fit.
    pub fn extend_with_zeroes(&mut self, count: usize) -> &mut [u8] {
        let start = self.bytes.len();
        if self.is_ready_for(count) || self.grows_by(count) {
            self.bytes.resize(start + count, 0);
        }
        self.bytes.get_mut(start..).unwrap_or_default()
    }

    /// Removes everything after the first `len` bytes, and forgets an overflow.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(self.head + len);
        self.overflow = None;
    }

    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Removes the last byte.
    pub fn pop(&mut self) -> Option<u8> {
        if self.is_empty() {
            return None;
        }
        self.bytes.pop()
    }

    /// Removes one byte from the middle.
    pub fn remove(&mut self, place: usize) {
        if place < self.len() {
            self.bytes.remove(self.head + place);
        }
    }

    /// Whether there is room for `more` bytes without an allocation.
    #[inline]
    fn is_ready_for(&self, more: usize) -> bool {
        more <= self.bytes.capacity() - self.bytes.len() && self.overflow.is_none()
    }

    /// Makes room for `more` bytes, and for further ones if memory allows. After the first write that did not fit
    /// nothing else is written, so that nothing is missing in the middle.
    #[cold]
    fn grows_by(&mut self, more: usize) -> bool {
        if self.overflow.is_some() {
            return false;
        }
        let needed = self.len().saturating_add(more);
        if needed > self.most {
            self.overflow = Some(Overflow::TooLong { most: self.most });
            return false;
        }
        let left = self.most - self.len();
        let ample = self.bytes.capacity().max(FIRST);
        // If little memory is left, reserve less, but not so little that each write needs another allocation.
        for more in [ample, ample / 8, ample / 64].map(|ample| ample.min(left).max(more)) {
            if self.bytes.try_reserve_exact(more).is_ok() {
                return true;
            }
        }
        self.overflow = Some(Overflow::NoMemory { bytes: needed });
        false
    }

    /// Announces a text of `bytes` bytes, which may become somewhat longer when some of its characters are escaped.
    pub(super) fn expect(&mut self, bytes: usize) {
        let bytes = bytes.saturating_add(bytes / 16);
        if bytes >= RESERVE_FROM && bytes <= self.most - self.len() {
            // If this fails, the writes that follow report it.
            let _ = self.bytes.try_reserve_exact(bytes);
        }
    }
}

/// Dereferences to the content.
impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(self.head..).unwrap_or_default()
    }
}

/// For `serde_json`. It never sees an error: [`Buffer::check`] reports what did not fit.
impl io::Write for Buffer {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_told_at_the_end() {
        let mut buffer = Buffer { bytes: vec![0; 4], most: 8, ..Buffer::behind(4) };
        buffer.extend_from_slice(b"12345678");
        assert_eq!((buffer.check(), &*buffer), (Ok(()), &b"12345678"[..]));
        buffer.push(b'9');
        buffer.truncate(3);
        assert_eq!((buffer.check(), &*buffer), (Ok(()), &b"123"[..]));
        buffer.extend_from_slice(b"456789");
        buffer.push(b'0');
        assert_eq!(buffer.check(), Err(Overflow::TooLong { most: 8 }));
        assert_eq!(&*buffer, b"123", "nothing is missing in the middle");
        buffer.clear();
        assert_eq!((buffer.check(), buffer.len()), (Ok(()), 0));
    }

    #[test]
    fn want_of_memory_is_told_at_the_end() {
        let mut buffer = Buffer { most: usize::MAX, ..Buffer::default() };
        buffer.extend_from_slice(b"123");
        assert!(buffer.extend_with_zeroes(usize::MAX / 4).is_empty());
        assert!(matches!(buffer.check(), Err(Overflow::NoMemory { .. })));
        assert_eq!(&*buffer, b"123");
    }

    #[test]
    fn the_head_is_no_content() {
        let mut buffer = Buffer::behind(4);
        assert_eq!(buffer.pop(), None);
        buffer.extend_from_slice(b"abc");
        buffer.remove(1);
        assert_eq!(&*buffer, b"ac");
        assert_eq!(buffer.pop(), Some(b'c'));
        assert_eq!(buffer.whole_mut(), [0, 0, 0, 0, b'a']);
    }
}
