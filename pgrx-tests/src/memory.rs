//! The memory of processes, as the kernel counts it.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

use anyhow::{Context, Result};
use postgres::Client;

/// How often to look at a process that may end.
const OFTEN: Duration = Duration::from_millis(2);

/// The peak memory of a process so far (VmHWM) in bytes, including the shared memory that it has touched.
pub fn peak_of(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("no such process")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().context("no number")?;
    Ok(kilobytes << 10)
}

/// The peak memory of a session so far, in bytes.
pub fn peak_of_session(db: &mut Client) -> Result<u64> {
    let pid: i32 = db.query_one("select pg_backend_pid()", &[])?.get(0);
    peak_of(u32::try_from(pid)?)
}

/// Runs `work` and returns its result, with the peak memory of the processes that `find` has found meanwhile. There may
/// be none for a while, or several one after the other.
pub fn peak_meanwhile<T>(
    find: impl Fn() -> Option<u32> + Send,
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, u64)> {
    let mut pid = None;
    let look = move || match pid.and_then(|pid| peak_of(pid).ok()) {
        Some(peak) => peak,
        None => {
            pid = find();
            0
        }
    };
    most_meanwhile(look, work)
}

/// Runs `work` and returns its result, with the largest value that `look` has returned meanwhile.
pub fn most_meanwhile<T, N: Copy + Default + PartialOrd + Send>(
    mut look: impl FnMut() -> N + Send,
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, N)> {
    let is_done = AtomicBool::new(false);
    scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut most = N::default();
            while !is_done.load(Ordering::Relaxed) {
                let now = look();
                most = if now > most { now } else { most };
                sleep(OFTEN);
            }
            most
        });
        let result = work();
        is_done.store(true, Ordering::Relaxed);
        let most = watcher.join().map_err(|_| anyhow::anyhow!("the watcher has failed"))?;
        Ok((result?, most))
    })
}
