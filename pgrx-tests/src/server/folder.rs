//! The folder of a running cluster, and its removal, however its owner ends.
//!
//! The owner removes its folder itself. If the owner is killed, a shell that reads from a pipe of the owner sees the
//! end of it, stops the server and removes the folder. If the shell is killed as well, the next process that starts a
//! cluster sees that nobody holds the folder's lock, and does the same. Before the
//! folder is removed, the warnings in the server's log are added to the file that [`WARNINGS_VARIABLE`] names.

use std::env;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

use super::account::Account;
use super::files::{lock, own_folder, try_lock};

/// Stops a cluster whose owner has died. A line on standard input means that the owner has done it. The server's
/// working folder distinguishes it from another process that has got its PID since.
const END_CLUSTER: &str = r#"
trap '' HUP INT TERM
read -r line && exit 0
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
mine() {
    kill -0 "$pid" 2>/dev/null || return 1
    [ ! -d /proc/self ] || [ "$(readlink "/proc/$pid/cwd")" = "$1/data" ]
}
if [ -n "$pid" ] && mine "$1"; then
    kill -QUIT "$pid"
    tries=0
    while mine "$1" && [ $tries -lt 200 ]; do sleep 0.05; tries=$((tries + 1)); done
fi
[ -z "$2" ] || [ -e "$1/kept" ] || [ ! -f "$1/log" ] || grep -ah 'WARNING:  ' "$1/log" >> "$2"
rm -rf "$1"
"#;

/// The variable with the path of a file for the warnings in the logs of all servers.
pub const WARNINGS_VARIABLE: &str = "AUDIT_ALGOLIA_WARNINGS";

const OWNER: &str = "owner";
const KEPT: &str = "kept";
/// How long the folder of a failed test is kept.
const KEEP_FOR: Duration = Duration::from_secs(24 * 3600);
/// How long a folder without a lock may still be one that is being created.
const BEING_MADE: Duration = Duration::from_secs(60);

/// A cluster's folder: `data`, the log, the socket.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    watchdog: Child,
    _owned: Flock<File>,
}

impl Folder {
    /// Creates a folder, after removing those whose owner has died.
    pub(super) fn new(account: Account) -> Result<Folder> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let home = clusters_folder();
        own_folder(&home)?;
        // The server's working folder is compared with this path, so it must not contain symbolic links.
        let home = home.canonicalize()?;
        sweep(&home);
        // A folder that was kept may already have this name, from an earlier process with the same PID.
        let path = loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = home.join(format!("{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                made => made.with_context(|| format!("cannot make {}", path.display()))?,
            }
            break path;
        };
        // The file is locked before it gets its name. Otherwise a sweep could take the folder for an abandoned one.
        let unnamed = path.join("owner.new");
        let owned = lock(&unnamed, FlockArg::LockExclusive)?;
        fs::rename(&unnamed, path.join(OWNER))?;
        fs::set_permissions(&path, Permissions::from_mode(0o700))?;
        account.give(&path)?;
        let watchdog = end_cluster(&path, Stdio::piped())?;
        Ok(Folder { path, watchdog, _owned: owned })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn watchdog(&self) -> u32 {
        self.watchdog.id()
    }

    /// Ends the watchdog, and removes the folder or keeps it.
    pub(super) fn end(&mut self, keep: bool) {
        if let Some(file) = env::var_os(WARNINGS_VARIABLE) {
            let _ = self.add_warnings(Path::new(&file));
        }
        if keep {
            let _ = fs::write(self.path.join(KEPT), "");
        } else {
            let _ = fs::remove_dir_all(&self.path);
        }
        if let Some(mut pipe) = self.watchdog.stdin.take() {
            let _ = pipe.write_all(b"done\n");
        }
        let _ = self.watchdog.wait();
    }

    fn add_warnings(&self, file: &Path) -> Result<()> {
        let log = fs::read(self.path.join("log"))?;
        let log = String::from_utf8_lossy(&log);
        let lines: String =
            log.lines().filter(|line| line.contains("WARNING:  ")).map(|line| format!("{line}\n")).collect();
        Ok(OpenOptions::new().create(true).append(true).open(file)?.write_all(lines.as_bytes())?)
    }
}

/// The folder for clusters. Its path is short, because the path of a socket is limited to about 100 characters.
pub fn clusters_folder() -> PathBuf {
    PathBuf::from(format!("/tmp/audit_algolia-{}", geteuid()))
}

fn end_cluster(folder: &Path, input: Stdio) -> Result<Child> {
    Command::new("/bin/sh")
        .args(["-c", END_CLUSTER, "audit_algolia-watchdog"])
        .arg(folder)
        .arg(env::var_os(WARNINGS_VARIABLE).unwrap_or_default())
        .current_dir("/")
        .stdin(input)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A process group of its own, because Ctrl-C in the terminal is meant for the owner only.
        .process_group(0)
        .spawn()
        .context("no watchdog could be started")
}

fn sweep(home: &Path) {
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        let path = entry.path();
        if is_abandoned(&path) {
            if let Ok(mut child) = end_cluster(&path, Stdio::null()) {
                let _ = child.wait();
            }
        }
    }
}

fn is_abandoned(path: &Path) -> bool {
    let age = |file: &Path| -> Option<Duration> {
        SystemTime::now().duration_since(fs::metadata(file).ok()?.modified().ok()?).ok()
    };
    if let Some(kept_for) = age(&path.join(KEPT)) {
        return kept_for > KEEP_FOR;
    }
    let owner = path.join(OWNER);
    if owner.exists() {
        try_lock(&owner).is_some()
    } else {
        age(path).is_some_and(|since| since > BEING_MADE)
    }
}
