//! Memory for what users have written, which may be more than there is: it is asked for.
//!
//! An allocation that fails where nobody asks ends the process, and with it the sessions of the whole server. Whoever
//! asks can do without the buffer. Something is left over whenever a large one is granted, for all the small allocations
//! that nobody asks for.
#![forbid(unsafe_code)]

use std::collections::TryReserveError;
use std::io;

/// A buffer of so many bytes is a large one.
const LARGE: usize = 1 << 20;
/// So much is left over then.
const LEFT_OVER: usize = 16 << 20;

/// Makes room for `more` bytes.
pub fn reserve(buffer: &mut Vec<u8>, more: usize) -> Result<(), TryReserveError> {
    let needed = buffer.len().saturating_add(more);
    if needed <= buffer.capacity() {
        return Ok(());
    }
    // Doubled as long as that is little, and by a quarter after that: what is written once is not to have twice its room.
    let spare = if needed < LARGE { needed } else { needed / 4 };
    if buffer.try_reserve_exact(more.saturating_add(spare)).is_err() {
        buffer.try_reserve_exact(more)?;
    }
    if needed >= LARGE {
        leave_over()?;
    }
    Ok(())
}

/// Makes room for `more` bytes and not for more than that.
pub fn reserve_exact(buffer: &mut Vec<u8>, more: usize) -> Result<(), TryReserveError> {
    buffer.try_reserve_exact(more)?;
    if more >= LARGE {
        leave_over()?;
    }
    Ok(())
}

/// Asks for what is to be left over, and gives it back. A compiler may take an allocation that is used for nothing for one that
/// succeeds: this one is told to be used.
fn leave_over() -> Result<(), TryReserveError> {
    let mut spare = Vec::<u8>::new();
    spare.try_reserve_exact(LEFT_OVER)?;
    std::hint::black_box(&spare);
    Ok(())
}

/// A buffer to write into; an error when there is no memory.
#[derive(Debug, Default)]
pub struct Buffer(pub Vec<u8>);

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        reserve(&mut self.0, bytes.len()).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_cannot_be_had_is_refused_and_the_buffer_stays_as_it_was() {
        let mut buffer = b"text".to_vec();
        assert!(reserve(&mut buffer, isize::MAX as usize).is_err());
        assert!(reserve_exact(&mut buffer, isize::MAX as usize).is_err());
        assert_eq!(buffer, b"text");
    }

    #[test]
    fn a_buffer_holds_what_is_written_and_little_more_room() {
        let mut buffer = Buffer::default();
        for _ in 0..64 {
            buffer.write_all(&[7; 100_000]).unwrap();
        }
        assert_eq!(buffer.0.len(), 6_400_000);
        assert!(buffer.0.capacity() < 6_400_000 / 4 * 5 + 100_000 * 2, "{}", buffer.0.capacity());
    }
}
