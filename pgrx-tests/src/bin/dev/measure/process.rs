//! The processor time and private memory of a process, as the kernel counts them.

use std::fs;
use std::time::Instant;

use anyhow::{ensure, Context, Result};

/// Ticks per second in /proc. The kernel's interface fixes them on all platforms that have it.
const TICKS: f64 = 100.0;

/// Processor seconds that processes have used so far, in user and system mode.
pub(super) fn cpu_seconds(processes: &[u32]) -> Result<f64> {
    let seconds = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("no processor times")?;
        ticks(&stat).map(|ticks| ticks / TICKS).context("an unknown form of /proc/PID/stat")
    };
    processes.iter().map(seconds).sum()
}

/// The elapsed seconds of some work, and the processor seconds of a process meanwhile.
pub(super) fn seconds_of(pid: u32, work: impl FnOnce() -> Result<()>) -> Result<(f64, f64)> {
    let (started, before) = (Instant::now(), fine_cpu_seconds(pid)?);
    work()?;
    let elapsed = started.elapsed().as_secs_f64();
    Ok((elapsed, fine_cpu_seconds(pid)? - before))
}

/// Processor seconds so far, to the nanosecond, of the threads that a process still has.
pub(super) fn fine_cpu_seconds(pid: u32) -> Result<f64> {
    let mut nanos = 0.0;
    for text in of_threads(pid, "schedstat")? {
        nanos += text.split(' ').next().unwrap_or_default().parse::<f64>()?;
    }
    Ok(nanos / 1e9)
}

/// Reads a file of each thread. A thread that ends meanwhile is skipped.
fn of_threads(pid: u32, file: &str) -> Result<Vec<String>> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).context("no threads")?;
    let texts = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join(file)).ok());
    let texts: Vec<String> = texts.collect();
    ensure!(!texts.is_empty(), "no {file} of process {pid}");
    Ok(texts)
}

/// The sum of utime and stime. The name in parentheses may contain spaces.
fn ticks(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some(next()? + next()?)
}

/// Private memory of the process, in megabytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    pub(super) private_dirty: f64,
    pub(super) anonymous: f64,
}

/// Reads `/proc/PID/smaps_rollup`.
pub(super) fn memory(pid: u32) -> Result<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).context("no memory map")?;
    let megabytes = |name: &str| field(&text, name).map(|kilobytes| kilobytes / 1024.0);
    Ok(Memory {
        private_dirty: megabytes("Private_Dirty:").context("no private memory in the map")?,
        anonymous: megabytes("Anonymous:").context("no anonymous memory in the map")?,
    })
}

/// The size of a process in megabytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    /// In memory, including the shared buffers that it has touched.
    pub(super) resident: f64,
    /// The peak.
    pub(super) peak: f64,
    /// Private memory.
    pub(super) anonymous: f64,
}

/// Reads `/proc/PID/status`.
pub(super) fn size(pid: u32) -> Result<Size> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("no status")?;
    let megabytes = |name: &str| {
        let kilobytes = field(&text, name).with_context(|| format!("no {name} in the status"))?;
        anyhow::Ok(kilobytes / 1024.0)
    };
    Ok(Size { resident: megabytes("VmRSS:")?, peak: megabytes("VmHWM:")?, anonymous: megabytes("RssAnon:")? })
}

/// Private memory of processes in megabytes (RssAnon).
pub(super) fn own_memory(processes: &[u32]) -> Result<f64> {
    processes.iter().map(|&pid| Ok(size(pid)?.anonymous)).sum()
}

/// How often the threads of a process have gone to sleep voluntarily. Each time, something has woken them later.
pub(super) fn sleeps(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for text in of_threads(pid, "status")? {
        sum += switches(&text)?;
    }
    Ok(sum)
}

/// The same for its main thread, which lives as long as the process, so the count only grows.
pub(super) fn main_sleeps(pid: u32) -> Result<u64> {
    switches(&fs::read_to_string(format!("/proc/{pid}/status")).context("no status")?)
}

fn switches(status: &str) -> Result<u64> {
    let count = field(status, "voluntary_ctxt_switches:").context("no context switches in the status")?;
    Ok(count as u64)
}

fn field(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times_behind_a_name_with_spaces() {
        let stat = "42 (postgres: a) b) S 1 42 42 0 -1 4194304 1 0 0 0 150 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), Some(200.0));
    }

    #[test]
    fn reads_a_line_of_the_memory_map() {
        assert_eq!(field("Rss:  12 kB\nPrivate_Dirty:   2048 kB\n", "Private_Dirty:"), Some(2048.0));
    }

    #[test]
    fn switches_that_were_not_of_its_own_will_do_not_count() {
        let status = "nonvoluntary_ctxt_switches:\t5\nvoluntary_ctxt_switches:\t7\n";
        assert_eq!(switches(status).unwrap(), 7);
    }

    #[test]
    fn a_process_that_runs_has_used_time() {
        let own = std::process::id();
        assert!(fine_cpu_seconds(own).unwrap() > 0.0);
        // The main thread's count is read first, because it may grow meanwhile.
        let main = main_sleeps(own).unwrap();
        assert!(sleeps(own).unwrap() >= main);
        assert!(size(own).unwrap().anonymous > 0.0);
    }
}
