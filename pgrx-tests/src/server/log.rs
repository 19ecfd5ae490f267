//! The log of a cluster's server.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use super::cluster::Cluster;

/// A position in a server's log.
#[derive(Clone, Copy, Debug)]
pub struct LogMark(u64);

impl Cluster {
    /// The whole log.
    pub fn log(&self) -> String {
        self.log_since(LogMark(0))
    }

    /// The current end of the log.
    pub fn log_mark(&self) -> LogMark {
        LogMark(fs::metadata(self.log_file()).map_or(0, |meta| meta.len()))
    }

    /// What was logged since the mark.
    pub fn log_since(&self, mark: LogMark) -> String {
        let mut content = Vec::new();
        if let Ok(mut file) = File::open(self.log_file()) {
            if file.seek(SeekFrom::Start(mark.0)).is_ok() {
                let _ = file.read_to_end(&mut content);
            }
        }
        String::from_utf8_lossy(&content).into_owned()
    }

    /// The last lines of the log.
    pub fn log_end(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.socket_dir().join("log")
    }
}
