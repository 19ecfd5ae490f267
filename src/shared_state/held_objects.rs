//! Objects that a session, or the process that makes repairs, is about to correct. They are held until its transaction
//! ends.
//!
//! A session that queues a version from what the table holds now has no lock on the row, or there is no row. Until its
//! version is visible, no newer version may be delivered and deleted, because the session's older version would be sent
//! after it. So the session holds the object until its commit. Writers do not wait; the versions they queue wait for
//! their delivery.
#![forbid(unsafe_code)]

use super::{LatchSet, SharedState};
use crate::claims::{Claim, Holder};

/// An object that a session holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldObject {
    lane: usize,
    hash: i64,
}

/// Why a session cannot hold an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotHeld {
    /// A version of it is in flight, or another session holds it.
    InUse,
    /// There is no room.
    NoRoom,
}

impl SharedState {
    /// Has a session hold an object of an index. However many sessions do so, half of the claim table is left to the
    /// workers.
    pub fn hold_object(
        &mut self,
        pid: i32,
        database: u32,
        index_id: i32,
        hash: i64,
    ) -> Result<HeldObject, NotHeld> {
        // An index without a lane is not delivered, but its lane may be opened at any moment.
        self.lane_mut(database, index_id).ok_or(NotHeld::NoRoom)?;
        let lane = self.find_lane(database, index_id).ok_or(NotHeld::NoRoom)?;
        match self.objects.holder(lane as u32, hash) {
            Some(holder) if holder == Holder::session(pid) => return Ok(HeldObject { lane, hash }),
            Some(_) => return Err(NotHeld::InUse),
            None if self.objects.len() >= self.objects.capacity() / 2 => return Err(NotHeld::NoRoom),
            None => (),
        }
        match self.objects.claim(Holder::session(pid), lane as u32, hash) {
            Claim::Granted => Ok(HeldObject { lane, hash }),
            Claim::HeldBy(_) => Err(NotHeld::InUse),
            Claim::Full => Err(NotHeld::NoRoom),
        }
    }

    /// Releases a session's objects, at the latest at the end of its transaction. Versions that wait for them are
    /// looked at again.
    pub fn release_held_objects(&mut self, pid: i32, database: u32, objects: &[HeldObject]) -> LatchSet {
        let mut lanes = Vec::new();
        for HeldObject { lane, hash } in objects {
            if self.objects.holder(*lane as u32, *hash) == Some(Holder::session(pid)) {
                self.objects.release(*lane as u32, *hash);
                lanes.push(*lane);
            }
        }
        lanes.dedup();
        lanes.into_iter().for_each(|lane| self.retry_deferred(lane));
        self.wake_one(database, &[])
    }
}
