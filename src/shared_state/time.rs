//! Times of the wall clock.
#![forbid(unsafe_code)]

/// Microseconds since the server's epoch, as PostgreSQL's `timestamptz` counts them.
pub type Micros = i64;

/// Moves a time back. 0 means that there is none.
pub(super) fn move_time(time: &mut Micros, by: Micros) {
    if *time != 0 {
        *time = time.saturating_sub(by).max(1);
    }
}
