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

/// Bodies below this many bytes are not worth compressing.
const COMPRESS_FROM: usize = 1024;
/// The window of gzip, as everybody reads it.
const WINDOW_BITS: u8 = 15;
/// What compression may add to a body that it cannot make smaller.
const MORE: usize = 1024;

/// Whether a host reads bodies with gzip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GzipSupport {
    /// Nobody knows: it has been sent none, or has refused the last one for whatever reason.
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
    /// Plain, after the same body with gzip had been refused.
    PlainInstead,
}

thread_local! {
    /// Some hundred kilobytes, which a thread that compresses keeps: taken for each body, they leave holes behind.
    static DEFLATE: RefCell<Option<Compress>> = const { RefCell::new(None) };
}

/// The body with gzip, if that is worth it and there is memory for it; otherwise the plain body will do. Speed counts for
/// more than the last bytes.
pub fn compress(body: &[u8]) -> Option<Vec<u8>> {
    if body.len() < COMPRESS_FROM {
        return None;
    }
    DEFLATE.with_borrow_mut(|kept| {
        let deflate = kept.get_or_insert_with(|| Compress::new_gzip(Compression::fast(), WINDOW_BITS));
        deflate.reset();
        let mut compressed = Vec::new();
        // Of a large body as much as it can need, which is taken as it is written: growing would leave holes behind, too.
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

/// Whether the body of a refused request may not have been read because of its compression.
pub fn may_be_unread(status: u16, verdict: &Verdict) -> bool {
    matches!(status, 400 | 415 | 422) && !was_read(verdict)
}

/// What an answer tells of the host.
pub fn support_shown_by(sent: SentAs, status: u16, verdict: &Verdict) -> Option<GzipSupport> {
    match sent {
        SentAs::Compressed if was_read(verdict) => Some(GzipSupport::Read),
        SentAs::Compressed if may_be_unread(status, verdict) => Some(GzipSupport::Untried),
        SentAs::PlainInstead if was_read(verdict) => Some(GzipSupport::Refused),
        _ => None,
    }
}

/// Who names a record has read the body. A place in it may be that of its first byte.
fn was_read(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Delivered { .. } => true,
        Verdict::Rejected { offending_record, .. } => {
            matches!(offending_record, OffendingRecord::ObjectId(_))
        }
        _ => false,
    }
}
