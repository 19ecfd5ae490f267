//! Runs the stand-in as a process of its own, so that its costs are not counted for another.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{ensure, Context, Result};

use audit_algolia_tests::cargo;

/// A stand-in in light mode. It ends when its input is closed, so also when this process ends.
pub(super) struct StandinProcess {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    pub(super) url: String,
    /// The address over TLS, and the PEM certificate of its authority.
    pub(super) https_url: String,
    pub(super) authority: String,
}

impl StandinProcess {
    pub(super) fn start() -> Result<StandinProcess> {
        let mut child = Command::new(cargo::target_dir().join("release/standin"))
            .args(["--light", "--light-times", "--https"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the stand-in could not be started")?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("the stand-in has no output")?;
        let output = BufReader::new(output);
        let (url, https_url, authority) = Default::default();
        let mut light = StandinProcess { child, input, output, url, https_url, authority };
        light.url = light.line()?;
        light.https_url = light.line()?;
        ensure!(light.https_url.starts_with("https"), "the stand-in said {}", light.https_url);
        light.authority = light.lines("authority")?.join("\n");
        Ok(light)
    }

    /// Changes the latency of writes.
    pub(super) fn set_latency(&mut self, milliseconds: u64) -> Result<()> {
        self.ask(&format!("latency {milliseconds}")).map(drop)
    }

    /// Deletes everything that has arrived.
    pub(super) fn reset(&mut self) -> Result<()> {
        self.ask("reset").map(drop)
    }

    /// The number of operations that an index has accepted.
    pub(super) fn count(&mut self, index: &str) -> Result<u64> {
        self.ask(&format!("count {index}"))?.parse().context("not a count")
    }

    /// The number of requests since the start or the last reset.
    pub(super) fn requests(&mut self) -> Result<u64> {
        self.ask("requests")?.parse().context("not a count")
    }

    /// The hash of each id, and when it arrived, in microseconds since 1970.
    pub(super) fn times(&mut self, index: &str) -> Result<Vec<(u64, i64)>> {
        let time = |line: String| {
            let (hash, at) = line.split_once(' ').context("not an arrival")?;
            Ok((hash.parse()?, at.parse()?))
        };
        self.lines(&format!("times {index}"))?.into_iter().map(time).collect()
    }

    /// An answer of several lines, preceded by their number.
    fn lines(&mut self, command: &str) -> Result<Vec<String>> {
        let count: usize = self.ask(command)?.parse().context("not a count")?;
        (0..count).map(|_| self.line()).collect()
    }

    fn ask(&mut self, command: &str) -> Result<String> {
        let input = self.input.as_mut().context("the stand-in has no input")?;
        writeln!(input, "{command}")?;
        self.line()
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = self.output.read_line(&mut line)?;
        ensure!(read > 0, "the stand-in has ended");
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for StandinProcess {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
