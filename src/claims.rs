//! The claim table: who has claimed which row or object, from the claim to the settlement.
//!
//! The table lives in shared memory behind a lock, and several processes use it. It has a fixed size and no heap, and
//! it is empty when all its bytes are zero. It is a hash table with linear probing. A deletion moves the entries behind
//! it back, so the table needs no tombstones and never slows down. Whatever its bytes are, no method panics or loops
//! for ever.

#![forbid(unsafe_code)]

/// Who holds a claim. All zeroes is nobody.
///
/// The two highest bits tell the kinds apart, so holders of different kinds are never equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Holder(u32);

impl Holder {
    const NOBODY: Holder = Holder(0);
    const KIND: u32 = 0b11 << 30;
    const SESSION: u32 = 0b01 << 30;
    const HELD_BACK: u32 = 0b10 << 30;
    const QUARANTINE: u32 = 0b11 << 30;

    /// The worker in a slot.
    pub const fn worker(slot: usize) -> Holder {
        Holder((slot as u32).wrapping_add(1) & !Holder::KIND)
    }

    /// A session, by its process id.
    pub const fn session(pid: i32) -> Holder {
        Holder(Holder::SESSION | (pid.unsigned_abs() & !Holder::KIND))
    }

    /// An entry of the held-back table.
    pub const fn held_back(entry: usize) -> Holder {
        Holder(Holder::HELD_BACK | (entry as u32 & !Holder::KIND))
    }

    /// A quarantine.
    pub const fn quarantine(entry: usize) -> Holder {
        Holder(Holder::QUARANTINE | (entry as u32 & !Holder::KIND))
    }

    /// The slot, if the holder is a worker.
    pub fn as_worker(self) -> Option<usize> {
        if self.0 & Holder::KIND == 0 {
            (self.0 as usize).checked_sub(1)
        } else {
            None
        }
    }

    /// The entry, if the holder is one of the held-back table.
    pub fn as_held_back(self) -> Option<usize> {
        (self.0 & Holder::KIND == Holder::HELD_BACK).then_some((self.0 & !Holder::KIND) as usize)
    }

    fn is_nobody(self) -> bool {
        self == Holder::NOBODY
    }
}

/// The answer to [`ClaimTable::claim`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The row is the caller's now.
    Granted,
    /// The row was claimed before, by this holder; it may be the caller itself.
    HeldBy(Holder),
    /// The table holds as many claims as it may; the row is nobody's.
    Full,
}

/// The claimed rows, at most `N / 2` of them; a power of two for `N` hashes fastest.
#[derive(Debug)]
#[repr(C)]
pub struct ClaimTable<const N: usize> {
    len: usize,
    entries: [Entry; N],
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Entry {
    /// Nobody: the place is empty.
    holder: Holder,
    database: u32,
    id: i64,
}

const EMPTY: Entry = Entry { holder: Holder::NOBODY, database: 0, id: 0 };

impl<const N: usize> ClaimTable<N> {
    /// The table without claims.
    pub const fn new() -> ClaimTable<N> {
        ClaimTable { len: 0, entries: [EMPTY; N] }
    }

    /// The most claims the table holds. Half the places stay empty, so that probes stay short.
    pub const fn capacity(&self) -> usize {
        N / 2
    }

    /// The number of claims.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Claims the row `id` of `database` for `holder`. Nobody marks empty places, and cannot claim: the answer is
    /// [`Claim::Full`].
    pub fn claim(&mut self, holder: Holder, database: u32, id: i64) -> Claim {
        match self.find(database, id) {
            Probe::Found(place) => Claim::HeldBy(self.entry(place).holder),
            Probe::Empty(place) if !holder.is_nobody() && self.len < self.capacity() => {
                self.put(place, Entry { holder, database, id });
                self.len += 1;
                Claim::Granted
            }
            Probe::Empty(_) | Probe::Nowhere => Claim::Full,
        }
    }

    /// Who has claimed the row `id` of `database`.
    pub fn holder(&self, database: u32, id: i64) -> Option<Holder> {
        match self.find(database, id) {
            Probe::Found(place) => Some(self.entry(place).holder),
            Probe::Empty(_) | Probe::Nowhere => None,
        }
    }

    /// Ends the claim of the row `id` of `database`, whoever holds it. Returns whether there was one.
    pub fn release(&mut self, database: u32, id: i64) -> bool {
        match self.find(database, id) {
            Probe::Found(place) => {
                self.delete(place);
                true
            }
            Probe::Empty(_) | Probe::Nowhere => false,
        }
    }

    /// Ends all claims of `holder` and returns how many there were. It looks at every place: it is meant for
    /// workers that leave.
    pub fn release_all(&mut self, holder: Holder) -> usize {
        self.release_where(|found, _| found == holder)
    }

    /// Ends all claims whose holder and database `ends` chooses, and returns how many there were. It looks at every place
    /// once, and at none if there are no claims.
    pub fn release_where(&mut self, ends: impl Fn(Holder, u32) -> bool) -> usize {
        let mut released = 0;
        for place in 0..if self.is_empty() { 0 } else { N } {
            // A deletion may move another such claim to the same place. It never moves one from behind `place` to
            // before it, so none is missed. Each deletion empties a place: N are enough.
            while released < N {
                let entry = self.entry(place);
                if entry.holder.is_nobody() || !ends(entry.holder, entry.database) {
                    break;
                }
                self.delete(place);
                released += 1;
            }
        }
        released
    }

    /// Hands all claims of `holder` to `other`, neither of them nobody, and returns how many there were. It looks at
    /// every place.
    pub fn transfer_all(&mut self, holder: Holder, other: Holder) -> usize {
        if holder.is_nobody() || other.is_nobody() {
            return 0;
        }
        let mine = self.entries.iter_mut().filter(|entry| entry.holder == holder);
        mine.map(|entry| entry.holder = other).count()
    }

    /// Hands the claim of the row `id` of `database`, if there is one, to `other`, which is somebody.
    pub fn transfer(&mut self, database: u32, id: i64, other: Holder) {
        if let (Probe::Found(place), true) = (self.find(database, id), !other.is_nobody()) {
            self.put(place, Entry { holder: other, database, id });
        }
    }

    /// The number of claims of `holder`. It looks at every place.
    pub fn count_of(&self, holder: Holder) -> usize {
        if holder.is_nobody() {
            return 0;
        }
        self.entries.iter().filter(|entry| entry.holder == holder).count()
    }

    /// Where the row is, or else where it would be put.
    fn find(&self, database: u32, id: i64) -> Probe {
        let mut place = home::<N>(database, id);
        for _ in 0..N {
            let entry = self.entry(place);
            if entry.holder.is_nobody() {
                return Probe::Empty(place);
            }
            if entry.id == id && entry.database == database {
                return Probe::Found(place);
            }
            place = next::<N>(place);
        }
        Probe::Nowhere
    }

    /// Empties `hole` and closes the gap: each entry behind it whose probe passes over the hole moves into
    /// the hole, and leaves the next one.
    fn delete(&mut self, mut hole: usize) {
        let mut place = hole;
        for _ in 0..N {
            place = next::<N>(place);
            let entry = self.entry(place);
            if entry.holder.is_nobody() {
                break;
            }
            let from_home = distance::<N>(home::<N>(entry.database, entry.id), place);
            if from_home >= distance::<N>(hole, place) {
                self.put(hole, entry);
                hole = place;
            }
        }
        self.put(hole, EMPTY);
        self.len = self.len.saturating_sub(1);
    }

    /// Places are always below `N`; the compiler sees it where they are computed.
    fn entry(&self, place: usize) -> Entry {
        self.entries.get(place).copied().unwrap_or(EMPTY)
    }

    fn put(&mut self, place: usize, entry: Entry) {
        if let Some(slot) = self.entries.get_mut(place) {
            *slot = entry;
        }
    }
}

impl<const N: usize> Default for ClaimTable<N> {
    fn default() -> ClaimTable<N> {
        ClaimTable::new()
    }
}

/// The end of a search.
enum Probe {
    Found(usize),
    Empty(usize),
    /// Neither the row nor an empty place: the table has no places, or foreign bytes in all of them.
    Nowhere,
}

/// The place at which the search for a row begins. Ids come in runs, so every bit of the input must reach
/// the low bits of the hash: the finalizer of splitmix64 sees to that.
fn home<const N: usize>(database: u32, id: i64) -> usize {
    let mut hash = (id as u64) ^ u64::from(database).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    hash ^= hash >> 31;
    (hash as usize).checked_rem(N).unwrap_or(0)
}

/// The place behind `place`, the first one behind the last.
fn next<const N: usize>(place: usize) -> usize {
    if place + 1 < N {
        place + 1
    } else {
        0
    }
}

/// How many steps lead from place `from` to place `to`.
fn distance<const N: usize>(from: usize, to: usize) -> usize {
    if to >= from {
        to - from
    } else {
        to + N - from
    }
}

#[cfg(test)]
mod tests;
