//! A throw-away PostgreSQL cluster with its server.

use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, ensure, Context, Result};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use super::account::Account;
use super::folder::Folder;
use super::install::Installation;
use super::port::free_port;
use super::settings::{write_settings, Settings};
use crate::wait::poll;

/// How a server is asked to stop, as `pg_ctl stop -m` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Waits for the clients to disconnect.
    Smart,
    /// Disconnects the clients, rolls back, and shuts down.
    Fast,
    /// Stops at once; the next start recovers from the WAL.
    Immediate,
}

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(60);

/// A cluster with its server. Dropping it stops the server and removes the folder, except if the thread is panicking,
/// so that the folder can be examined.
#[derive(Debug)]
pub struct Cluster {
    pub(super) installation: Arc<Installation>,
    pub(super) account: Account,
    settings: Mutex<Settings>,
    /// The address space that each process of the server may have, in bytes. `None`: no limit.
    pub(super) address_space: Option<u64>,
    port: AtomicU16,
    server: Mutex<Option<Child>>,
    kept: AtomicBool,
    folder: Folder,
}

impl Cluster {
    pub(super) fn new(
        installation: Arc<Installation>,
        account: Account,
        folder: Folder,
        settings: Settings,
        address_space: Option<u64>,
    ) -> Cluster {
        Cluster {
            installation,
            account,
            settings: Mutex::new(settings),
            address_space,
            port: AtomicU16::new(0),
            server: Mutex::new(None),
            kept: AtomicBool::new(false),
            folder,
        }
    }

    /// Changes settings and reloads them.
    pub fn set(&self, changes: &[(&str, &str)]) -> Result<()> {
        let mut settings = self.settings_guard();
        settings.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        write_settings(self.account, &self.data_dir(), &settings)?;
        drop(settings);
        self.reload()
    }

    /// Makes the server reload its settings.
    pub fn reload(&self) -> Result<()> {
        self.signal(Signal::SIGHUP)
    }

    /// Starts the server, and returns when it accepts connections.
    pub fn start(&self) -> Result<()> {
        if self.port() == 0 {
            return self.start_on_free_port();
        }
        let mut server = self.server();
        ensure!(server.is_none(), "the server runs already");
        write_settings(self.account, &self.data_dir(), &self.settings_guard())?;
        let log = OpenOptions::new().create(true).append(true).open(self.log_file())?;
        let mut child = self
            .server_command()
            .arg("-D")
            .arg(self.data_dir())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("the server could not be started")?;
        let pid = child.id();
        let answer = poll(START, || match child.try_wait() {
            Ok(None) => self.takes_connections(pid).then_some(Ok(())),
            Ok(Some(status)) => Some(Err(anyhow!("the server ended at its start: {status}"))),
            Err(error) => Some(Err(error.into())),
        });
        let result = answer.unwrap_or_else(|| Err(anyhow!("the server is not ready after {START:?}")));
        if let Err(error) = result {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error.context(self.log_end(10)));
        }
        *server = Some(child);
        Ok(())
    }

    /// Stops the server and returns how long that took.
    pub fn stop(&self, mode: StopMode) -> Result<Duration> {
        let mut server = self.server();
        let child = server.as_mut().context("the server does not run")?;
        let started = Instant::now();
        kill(process(child.id())?, mode.signal())?;
        match poll(STOP, || child.try_wait().transpose()) {
            Some(ended) => drop(ended?),
            None => bail!("the server still runs {STOP:?} after it was asked to stop"),
        }
        *server = None;
        Ok(started.elapsed())
    }

    /// Stops and starts the server.
    pub fn restart(&self, mode: StopMode) -> Result<()> {
        self.stop(mode)?;
        self.start()
    }

    /// Makes a standby a primary, and returns when it is one.
    pub fn promote(&self) -> Result<()> {
        let mut client = self.connect("postgres", "postgres")?;
        let done: bool = client.query_one("SELECT pg_promote(true, 60)", &[])?.get(0);
        ensure!(done, "the standby was not promoted within a minute");
        Ok(())
    }

    /// Sends a signal to one of the cluster's processes.
    pub fn kill_backend(&self, pid: i32, signal: Signal) -> Result<()> {
        ensure!(pid > 1, "{pid} is no process of a server");
        kill(Pid::from_raw(pid), signal).with_context(|| format!("cannot signal process {pid}"))
    }

    /// Keeps the folder at the end, as after a panic.
    pub fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    /// The cluster's data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The folder of the server's socket.
    pub fn socket_dir(&self) -> &Path {
        self.folder.path()
    }

    /// The port on 127.0.0.1, which is also part of the socket's name.
    pub fn port(&self) -> u16 {
        self.port.load(Ordering::Relaxed)
    }

    /// The server's process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server().as_ref().map(Child::id)
    }

    /// The process that cleans up if this one is killed.
    pub fn watchdog(&self) -> u32 {
        self.folder.watchdog()
    }

    /// A program of this PostgreSQL.
    pub fn bin(&self, name: &str) -> PathBuf {
        self.installation.bin(name)
    }

    /// The PostgreSQL it runs.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    pub(super) fn settings(&self) -> Settings {
        self.settings_guard().clone()
    }

    /// Starts on a free port, or on another one if another process takes it first.
    pub(super) fn start_on_free_port(&self) -> Result<()> {
        let mut result = Ok(());
        for _ in 0..5 {
            let port = free_port()?;
            self.port.store(port, Ordering::Relaxed);
            let own = [
                ("port".to_owned(), port.to_string()),
                ("unix_socket_directories".to_owned(), self.socket_dir().display().to_string()),
            ];
            self.settings_guard().extend(own);
            let mark = self.log_mark();
            result = self.start();
            if result.is_ok() || !self.log_since(mark).contains("could not bind") {
                break;
            }
        }
        result
    }

    /// The folder for locales that were compiled for this cluster.
    pub(super) fn locales(&self) -> PathBuf {
        self.folder.path().join("locales")
    }

    /// The command that starts the server. `prlimit` sets the limit and then becomes the server, whose processes
    /// inherit it.
    fn server_command(&self) -> Command {
        let program = self.bin("postgres");
        let mut command = match self.address_space {
            None => self.account.command(&program),
            Some(bytes) => {
                let mut command = self.account.command(Path::new("prlimit"));
                command.arg(format!("--as={bytes}")).arg(program);
                command
            }
        };
        if self.locales().exists() {
            command.env("LOCPATH", self.locales());
        }
        command
    }

    /// Looks for the server's state in its PID file, which is faster and more exact than trying to connect.
    fn takes_connections(&self, pid: u32) -> bool {
        let file = fs::read_to_string(self.data_dir().join("postmaster.pid")).unwrap_or_default();
        let mut lines = file.lines();
        lines.next() == Some(pid.to_string().as_str())
            && lines.nth(6).is_some_and(|state| state.trim() == "ready")
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().context("the server does not run")?;
        Ok(kill(process(pid)?, signal)?)
    }

    fn server(&self) -> MutexGuard<'_, Option<Child>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings_guard(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.pid().is_some() && self.stop(StopMode::Immediate).is_err() {
            if let Some(mut child) = self.server().take() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        let keep = std::thread::panicking() || self.kept.load(Ordering::Relaxed);
        if keep {
            let folder = self.folder.path().display();
            eprintln!("the cluster's folder is kept a day: {folder}\n{}", self.log_end(60));
        }
        self.folder.end(keep);
    }
}

impl StopMode {
    fn signal(self) -> Signal {
        match self {
            StopMode::Smart => Signal::SIGTERM,
            StopMode::Fast => Signal::SIGINT,
            StopMode::Immediate => Signal::SIGQUIT,
        }
    }
}

fn process(pid: u32) -> Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(pid).context("no process number")?))
}
