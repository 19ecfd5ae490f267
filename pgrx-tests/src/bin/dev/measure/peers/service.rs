//! Runs a service: waits until it is ready, lets it work, and reports what it and its processes have used.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};

use super::super::process::{cpu_seconds, own_memory};
use super::super::testbed::Drained;
use crate::interrupt;

/// Nothing takes longer than this.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs a service until it has delivered so many rows, which are fed once it has delivered those that were there
/// before. The service prints its processes, waits for a line, and prints rows, seconds and processes that were added.
/// Then it waits for the end of its input.
pub(super) fn run(command: &mut Command, rows: u64, feed: impl FnOnce() -> Result<()>) -> Result<Drained> {
    let mut service = Service::start(command)?;
    let mut processes = vec![service.child.id()];
    for word in service.line()?.split_whitespace() {
        processes.push(word.parse()?);
    }
    feed()?;
    let before = cpu_seconds(&processes)?;
    service.go()?;
    let answer = service.line()?;
    let mut words = answer.split_whitespace();
    let mut number = || words.next().and_then(|word| word.parse::<f64>().ok());
    let (Some(sent), Some(seconds)) = (number(), number()) else {
        bail!("the service said {answer}");
    };
    ensure!(sent as u64 == rows, "the service sent {sent} of {rows} rows");
    for word in words {
        processes.push(word.parse()?);
    }
    let processor = (cpu_seconds(&processes)? - before) * 1e6 / sent;
    let memory = own_memory(&processes)?;
    service.end()?;
    Ok(Drained { rate: sent / seconds, processor, memory, ..Drained::default() })
}

/// The process, which is ended when this is dropped.
struct Service {
    child: Child,
    lines: Receiver<String>,
}

impl Service {
    fn start(command: &mut Command) -> Result<Service> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("the service has no output")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Service { child, lines })
    }

    fn line(&self) -> Result<String> {
        let started = Instant::now();
        loop {
            interrupt::check()?;
            match self.lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => return Ok(line),
                Err(RecvTimeoutError::Disconnected) => bail!("the service has failed"),
                Err(RecvTimeoutError::Timeout) => {
                    ensure!(started.elapsed() < PATIENCE, "the service says nothing");
                }
            }
        }
    }

    fn go(&mut self) -> Result<()> {
        let input = self.child.stdin.as_mut().context("the service has no input")?;
        Ok(writeln!(input, "go")?)
    }

    fn end(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "the service ended with {status}");
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
