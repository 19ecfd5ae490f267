//! Which hosts read bodies with gzip, and what a refusal of such a body means.
//!
//! A host that cannot read gzip may answer 400 rather than 415, and 400 is also the answer when a record is at fault.
//! Sending the same body without gzip shows which it was. This is done only while it is not known that the host reads
//! gzip, so records at fault do not usually cost twice the requests.
#![forbid(unsafe_code)]

use std::cell::RefCell;

use flate2::{Compress, Compression, FlushCompress, Status};

use crate::delivery::classify::Verdict;
use crate::delivery::offending_record::OffendingRecord;
use crate::memory::{reserve_exact, LARGE};

/// Shorter bodies are not compressed.
const COMPRESS_FROM: usize = 1024;
/// The window size that every gzip reader supports.
const WINDOW_BITS: u8 = 15;
/// How many bytes compression may add to a body that it cannot shrink.
const MORE: usize = 1024;

/// Whether a host reads gzip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GzipSupport {
    /// Unknown: the host has received no gzip, or has refused the last such body for whatever reason.
    #[default]
    Untried,
    Read,
    Refused,
}

/// How a body was sent to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentAs {
    Plain,
    Compressed,
    /// Plain, after the host had refused the same body with gzip.
    PlainInstead,
}

thread_local! {
    /// The compressor of this thread, a few hundred kilobytes. It is kept, because allocating it for each body would
    /// fragment the memory.
    static DEFLATE: RefCell<Option<Compress>> = const { RefCell::new(None) };
}

/// Compresses a body; `None` if it is too short or memory is lacking, so that it is sent plain. Favours speed over
/// size.
pub fn compress(body: &[u8]) -> Option<Vec<u8>> {
    if body.len() < COMPRESS_FROM {
        return None;
    }
    DEFLATE.with_borrow_mut(|kept| {
        let deflate = kept.get_or_insert_with(|| Compress::new_gzip(Compression::fast(), WINDOW_BITS));
        deflate.reset();
        let mut compressed = Vec::new();
        // A large body reserves all it can need and uses as much as is written: growing would fragment the memory, too.
        reserve_exact(&mut compressed, if body.len() < LARGE { body.len() / 4 } else { body.len() }).ok()?;
        loop {
            let rest = body.get(usize::try_from(deflate.total_in()).ok()?..)?;
            match deflate.compress_vec(rest, &mut compressed, FlushCompress::Finish).ok()? {
                Status::StreamEnd => return Some(compressed),
                Status::Ok | Status::BufError => {
                    reserve_exact(&mut compressed, body.len() / 4 + MORE).ok()?
                }
            }
        }
    })
}

/// Whether the host may have refused the body because it could not read the gzip.
pub fn may_be_unread(status: u16, verdict: &Verdict) -> bool {
    matches!(status, 400 | 415 | 422) && !was_read(verdict)
}

/// What an answer reveals about the host's support of gzip.
pub fn support_shown_by(sent: SentAs, status: u16, verdict: &Verdict) -> Option<GzipSupport> {
    match sent {
        SentAs::Compressed if was_read(verdict) => Some(GzipSupport::Read),
        SentAs::Compressed if may_be_unread(status, verdict) => Some(GzipSupport::Untried),
        SentAs::PlainInstead if was_read(verdict) => Some(GzipSupport::Refused),
        _ => None,
    }
}

/// Whether the host has read the body. If it names a record, it has; a position alone may refer to the body's first
/// byte.
fn was_read(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Delivered { .. } => true,
        Verdict::Rejected { offending_record, .. } => {
            matches!(offending_record, OffendingRecord::ObjectId(_))
        }
        _ => false,
    }
}
