//! What one would do without the extension: a service that polls a queue and sends with Algolia's own client.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};

use audit_algolia_tests::cargo;
use audit_algolia_tests::standin::{ADMIN_KEY, APP_ID};

use super::process::cpu_seconds;
use super::world::World;

const SCRIPT: &str = include_str!("poller.py");
const PACKAGES: [&str; 2] = ["algoliasearch==4.48.0", "psycopg[binary]"];
/// Longer than this is not worth waiting for.
const INSTALLING: Duration = Duration::from_secs(120);

/// A Python that has the client.
pub(super) struct Service {
    python: PathBuf,
}

impl Service {
    /// Makes a virtual environment in the target folder, the first time.
    pub(super) fn install() -> Result<Service> {
        let folder = cargo::target_dir().join("measure/python");
        let python = folder.join("bin/python");
        let has_client = |python: &Path| {
            let mut probe = Command::new(python);
            probe.args(["-c", "import psycopg, algoliasearch.search.client"]);
            quietly(&mut probe).is_ok()
        };
        if !has_client(&python) {
            let mut make = Command::new("python3");
            make.args(["-m", "venv", "--clear"]).arg(&folder);
            quietly(&mut make).context("python3 makes no virtual environment")?;
            let mut pip = Command::new(&python);
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PACKAGES);
            quietly(&mut pip).context("pip could not install Algolia's client and psycopg")?;
            ensure!(has_client(&python), "the client was installed, but cannot be imported");
        }
        Ok(Service { python })
    }

    /// Has it deliver everything in `polled_queue`. Returns rows a second, and processor seconds of the service
    /// and its backend for a million rows.
    pub(super) fn run(&mut self, world: &mut World, rows: u64) -> Result<(f64, f64)> {
        let port = world.light.url.rsplit(':').next().unwrap_or_default().to_owned();
        let mut command = Command::new(&self.python);
        command.args(["-c", SCRIPT, &world.cluster.connection_string("postgres", "postgres")]);
        command.args([port.as_str(), APP_ID, ADMIN_KEY]);
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
            command.env_remove(name);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut input = child.stdin.take().context("the service has no input")?;
        let mut output = BufReader::new(child.stdout.take().context("the service has no output")?);
        let mut line = || -> Result<String> {
            let mut line = String::new();
            output.read_line(&mut line)?;
            ensure!(!line.is_empty(), "the polling service has failed");
            Ok(line)
        };
        let backend: u32 = line()?.trim().parse()?;
        let before = cpu_seconds(backend)?;
        writeln!(input, "go")?;
        let answer = line()?;
        let in_backend = cpu_seconds(backend)? - before;
        drop(input);
        child.wait()?;
        let numbers: Vec<f64> = answer.split_whitespace().filter_map(|text| text.parse().ok()).collect();
        let &[sent, seconds, in_service] = numbers.as_slice() else {
            bail!("the polling service said {answer}");
        };
        ensure!(sent as u64 == rows, "the polling service sent {sent} of {rows} rows");
        Ok((sent / seconds, (in_service + in_backend) * 1e6 / sent))
    }
}

/// Runs a command that says nothing unless it fails, and not for ever.
fn quietly(command: &mut Command) -> Result<()> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "{status}");
            return Ok(());
        }
        if started.elapsed() > INSTALLING {
            let _ = child.kill();
            let _ = child.wait();
            bail!("not done after {INSTALLING:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
