//! Fallible allocation of large buffers, whose size users decide.
//!
//! An ordinary allocation that fails ends the process, and with it all sessions of the server. So large buffers are
//! allocated fallibly, and their callers can go on without them. Whenever a large buffer is granted, some memory is
//! kept free for the many small, infallible allocations.
#![forbid(unsafe_code)]

use std::collections::TryReserveError;

/// A buffer of at least this many bytes is large.
pub const LARGE: usize = 1 << 20;
/// How many bytes must be free after a large allocation.
const LEFT_OVER: usize = 16 << 20;

/// Reserves exactly `more` bytes.
pub fn reserve_exact(buffer: &mut Vec<u8>, more: usize) -> Result<(), TryReserveError> {
    buffer.try_reserve_exact(more)?;
    if more >= LARGE {
        leave_over()?;
    }
    Ok(())
}

/// Checks that enough memory is left, by allocating it and freeing it again. The optimizer may remove an allocation
/// that nobody uses and assume that it succeeds; `black_box` prevents that.
fn leave_over() -> Result<(), TryReserveError> {
    let mut spare = Vec::<u8>::new();
    spare.try_reserve_exact(LEFT_OVER)?;
    std::hint::black_box(&spare);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_refused_and_the_buffer_stays_as_it_was() {
        let mut buffer = b"text".to_vec();
        assert!(reserve_exact(&mut buffer, isize::MAX as usize).is_err());
        assert_eq!(buffer, b"text");
    }
}
