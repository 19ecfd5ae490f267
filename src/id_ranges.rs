//! Where committed rows that nobody has claimed may be: a small set of intervals of row ids.
//!
//! It lives in shared memory, so it has a fixed size and no heap, and it is empty when all its bytes are zero. It is
//! always a superset of what was added and not removed: when it has no room for another interval, it joins the two
//! neighbours with the smallest gap. Looking for a row where there is none costs a scan; missing a row would lose it.

#![forbid(unsafe_code)]

/// The most intervals that a set keeps apart.
pub const MAX_SPANS: usize = 32;

/// The ids from `lo` to `hi`, both included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Span {
    pub lo: i64,
    pub hi: i64,
}

impl Span {
    /// The span from the lower end of both to the higher one.
    #[must_use]
    pub fn joined(self, other: Span) -> Span {
        Span { lo: self.lo.min(other.lo), hi: self.hi.max(other.hi) }
    }
}

/// At most [`MAX_SPANS`] intervals of ids, which neither overlap nor touch, in ascending order.
///
/// Newer rows have higher ids, so the newest interval is the highest one.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IdRanges {
    len: usize,
    /// The first `len` are in use.
    spans: [Span; MAX_SPANS],
}

impl IdRanges {
    /// The empty set.
    pub const fn new() -> IdRanges {
        IdRanges { len: 0, spans: [Span { lo: 0, hi: 0 }; MAX_SPANS] }
    }

    /// Adds the ids from `lo` to `hi`, both included. Adds none if `lo` is greater than `hi`.
    pub fn add(&mut self, lo: i64, hi: i64) {
        if lo > hi {
            return;
        }
        let mut added = Span { lo, hi };
        if self.append(added) {
            return;
        }
        let mut rebuilt = Builder::new();
        let mut waiting = true;
        for span in self.iter() {
            if added.touches(span) {
                added = Span { lo: added.lo.min(span.lo), hi: added.hi.max(span.hi) };
                continue;
            }
            if waiting && added.lo < span.lo {
                rebuilt.push(added);
                waiting = false;
            }
            rebuilt.push(span);
        }
        if waiting {
            rebuilt.push(added);
        }
        *self = rebuilt.finish();
    }

    /// Adds ids at the end, where ids are mostly added: the newest interval grows, or another one follows it. `false`
    /// if they do not belong at the end, or if there is no room.
    fn append(&mut self, added: Span) -> bool {
        let len = self.used().len();
        match self.spans.get_mut(..len).and_then(<[Span]>::last_mut) {
            Some(newest) if added.lo < newest.lo => return false,
            Some(newest) if newest.touches(added) => newest.hi = newest.hi.max(added.hi),
            _ => match self.spans.get_mut(len) {
                Some(place) => {
                    *place = added;
                    self.len = len + 1;
                }
                None => return false,
            },
        }
        true
    }

    /// Removes the ids of `removed`. If more than [`MAX_SPANS`] intervals would remain, the ids in the narrowest gap
    /// stay in the set or return to it.
    pub fn remove(&mut self, removed: Span) {
        if removed.lo > removed.hi {
            return;
        }
        let mut rebuilt = Builder::new();
        for span in self.iter() {
            if span.hi < removed.lo || span.lo > removed.hi {
                rebuilt.push(span);
                continue;
            }
            // Where the subtraction or addition would overflow, the comparison before it is false.
            if span.lo < removed.lo {
                rebuilt.push(Span { lo: span.lo, hi: removed.lo.saturating_sub(1) });
            }
            if span.hi > removed.hi {
                rebuilt.push(Span { lo: removed.hi.saturating_add(1), hi: span.hi });
            }
        }
        *self = rebuilt.finish();
    }

    /// The interval with the highest ids.
    pub fn newest(&self) -> Option<Span> {
        self.used().last().copied()
    }

    /// The interval with the lowest ids.
    pub fn oldest(&self) -> Option<Span> {
        self.used().first().copied()
    }

    /// Removes the interval with the highest ids and returns it.
    pub fn take_newest(&mut self) -> Option<Span> {
        let newest = self.newest()?;
        self.len = self.used().len() - 1;
        Some(newest)
    }

    /// Removes and returns the lowest interval of the ids from `from` on.
    pub fn take_oldest_from(&mut self, from: i64) -> Option<Span> {
        let oldest = self.iter().find(|span| span.hi >= from)?;
        let taken = Span { lo: oldest.lo.max(from), hi: oldest.hi };
        self.remove(taken);
        Some(taken)
    }

    /// From the lowest id to the highest.
    pub fn bounds(&self) -> Option<Span> {
        Some(Span { lo: self.oldest()?.lo, hi: self.newest()?.hi })
    }

    /// The intervals in ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Span> + '_ {
        self.used().iter().copied()
    }

    pub fn is_empty(&self) -> bool {
        self.used().is_empty()
    }

    /// Removes all ids.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// If corruption has set a length that is too large, it is cut off.
    fn used(&self) -> &[Span] {
        self.spans.get(..self.len).unwrap_or(&self.spans)
    }
}

impl Default for IdRanges {
    fn default() -> IdRanges {
        IdRanges::new()
    }
}

impl Span {
    /// Whether the two overlap, or leave no id between them.
    fn touches(self, other: Span) -> bool {
        self.lo <= other.hi.saturating_add(1) && other.lo <= self.hi.saturating_add(1)
    }

    /// How many ids lie between `self` and the later `next`.
    fn gap_before(self, next: Span) -> u64 {
        next.lo.abs_diff(self.hi)
    }
}

/// Collects intervals in ascending order. One change adds at most one interval, so there is room for one more.
struct Builder {
    len: usize,
    spans: [Span; MAX_SPANS + 1],
}

impl Builder {
    fn new() -> Builder {
        Builder { len: 0, spans: [Span::default(); MAX_SPANS + 1] }
    }

    fn push(&mut self, span: Span) {
        match self.spans.get_mut(self.len) {
            Some(place) => {
                *place = span;
                self.len += 1;
            }
            // Never reached in a valid set. Widening the last interval keeps even a corrupted set a superset.
            None => self.spans[MAX_SPANS].hi = self.spans[MAX_SPANS].hi.max(span.hi),
        }
    }

    fn finish(mut self) -> IdRanges {
        if self.len > MAX_SPANS {
            self.join_nearest();
        }
        let mut id_ranges = IdRanges::new();
        id_ranges.len = self.len;
        for (place, span) in id_ranges.spans.iter_mut().zip(&self.spans[..self.len]) {
            *place = *span;
        }
        id_ranges
    }

    /// Joins the two neighbours with the smallest gap; if several are equal, the oldest, because they are claimed last.
    fn join_nearest(&mut self) {
        let gaps = self.spans.windows(2).map(|pair| pair[0].gap_before(pair[1]));
        let nearest = gaps.enumerate().min_by_key(|(_, gap)| *gap).map_or(0, |(index, _)| index);
        self.spans[nearest].hi = self.spans[nearest + 1].hi;
        self.spans.copy_within(nearest + 2.., nearest + 1);
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests;
