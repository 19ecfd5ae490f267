//! Objects that sessions, and the process that makes repairs, are about to put right: held until their transactions end.
//!
//! Whoever queues a version from what the table holds now has not locked the row, or finds none to lock. Until that
//! version can be seen no newer one must be delivered, and forgotten, for then the older one would be sent after it. So
//! the session holds the object meanwhile, however long its commit takes; writers wait for nothing, and what they queue of it waits for its turn.
#![forbid(unsafe_code)]

use super::{LatchSet, SharedState};
use crate::claims::{Claim, Owner};

/// An object that a session holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldObject {
    lane: usize,
    hash: i64,
}

/// Why a session does not hold an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotHeld {
    /// A version of it is on its way, or another session holds it.
    Taken,
    /// There is no room for it.
    NoRoom,
}

impl SharedState {
    /// Has a session hold an object of an index. However many sessions do so, and however long, half of the room is left
    /// to the workers.
    pub fn hold_object(
        &mut self,
        pid: i32,
        database: u32,
        index_id: i32,
        hash: i64,
    ) -> Result<HeldObject, NotHeld> {
        // Without a lane nobody delivers, but one may be opened at any moment.
        self.lane_mut(database, index_id).ok_or(NotHeld::NoRoom)?;
        let lane = self.find_lane(database, index_id).ok_or(NotHeld::NoRoom)?;
        match self.objects.holder(lane as u32, hash) {
            Some(holder) if holder == Owner::session(pid) => return Ok(HeldObject { lane, hash }),
            Some(_) => return Err(NotHeld::Taken),
            None if self.objects.len() >= self.objects.capacity() / 2 => return Err(NotHeld::NoRoom),
            None => (),
        }
        match self.objects.claim(Owner::session(pid), lane as u32, hash) {
            Claim::Taken => Ok(HeldObject { lane, hash }),
            Claim::HeldBy(_) => Err(NotHeld::Taken),
            Claim::Full => Err(NotHeld::NoRoom),
        }
    }

    /// The session's transaction has ended, or has come so far that what it held can go: versions that wait for it are
    /// looked at again.
    pub fn release_held_objects(&mut self, pid: i32, database: u32, objects: &[HeldObject]) -> LatchSet {
        let mut lanes = Vec::new();
        for HeldObject { lane, hash } in objects {
            if self.objects.holder(*lane as u32, *hash) == Some(Owner::session(pid)) {
                self.objects.release(*lane as u32, *hash);
                lanes.push(*lane);
            }
        }
        lanes.dedup();
        lanes.into_iter().for_each(|lane| self.retry_deferred(lane));
        self.wake_one(database, &[])
    }
}
