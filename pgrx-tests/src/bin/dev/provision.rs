//! Makes sure that PostgreSQL, its headers, a C compiler, libclang, rustfmt and clippy are installed, and Python where
//! programs from PyPI are run. What the audit page needs is apart, because the rest does without it.
//!
//! On Debian and its derivatives, as root or with a sudo that needs no password, it installs what is missing.
//! Elsewhere, it names what is missing and the command to install it. The installation does not create or start a
//! system cluster: a drop-in file prevents that while Debian's scripts run, and is removed however they end.

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{ensure, Result};

use audit_algolia_tests::cargo;
use audit_algolia_tests::page;
use audit_algolia_tests::server::PgConfig;

use crate::apt::{self, on_path};

/// What is missing and cannot be installed, with the command to install it.
#[derive(Debug)]
pub(crate) struct Missing(String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

/// What a command needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To build the extension and run a server.
    Serve,
    /// To run programs from PyPI as well.
    ServeWithPython,
}

/// Installs what is missing, with a message, and returns the PostgreSQL to use.
pub(crate) fn provision(purpose: Purpose) -> Result<PgConfig> {
    components()?;
    let lacks = lacks(purpose);
    if !lacks.is_empty() {
        let names: Vec<&str> = lacks.iter().map(|lack| lack.name).collect();
        let Some(root) = apt::for_postgresql() else {
            return Err(Missing(advice(&names)).into());
        };
        let packages: Vec<String> = lacks.iter().flat_map(|lack| (lack.packages)()).collect();
        apt::install(root, &packages)?;
    }
    let still: Vec<&str> = self::lacks(purpose).iter().map(|lack| lack.name).collect();
    if !still.is_empty() {
        return Err(Missing(advice(&still)).into());
    }
    PgConfig::find()
}

/// What the audit page is wanted for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForPage {
    /// Show it.
    Building,
    /// Run its tests in a browser.
    Testing,
}

/// Installs what the audit page takes and is missing, if that can be done here. The rest of the project does without.
///
/// # Errors
/// What is missing, why, and how it is got.
pub(crate) fn provision_page(purpose: ForPage) -> Result<(), Missing> {
    let lacks = || page::lacks(purpose == ForPage::Testing);
    let missing = lacks();
    if missing.is_empty() {
        return Ok(());
    }
    if let Some(root) = apt::root() {
        let packages: Vec<String> = missing.iter().map(|lack| lack.package().to_owned()).collect();
        if let Err(error) = apt::install(root, &packages) {
            return Err(Missing(format!("{}; {error:#}", page::advice(&missing))));
        }
    }
    match lacks() {
        still if still.is_empty() => Ok(()),
        still => Err(Missing(page::advice(&still))),
    }
}

/// Something that is missing, and the Debian packages that contain it.
struct Lack {
    name: &'static str,
    packages: fn() -> Vec<String>,
}

fn lacks(purpose: Purpose) -> Vec<Lack> {
    let mut lacks = Vec::new();
    let pg = PgConfig::find();
    if !pg.as_ref().is_ok_and(PgConfig::has_headers) {
        // Server and headers together. Otherwise apt could install a newer patch release of one than of the other.
        let name = if pg.is_ok() {
            "the headers of the PostgreSQL server"
        } else {
            "a PostgreSQL server and its headers"
        };
        lacks.push(Lack { name, packages: postgresql_packages });
    }
    if !["cc", "gcc", "clang"].iter().any(|name| on_path(name)) {
        lacks.push(Lack { name: "a C compiler", packages: || names(&["gcc", "libc6-dev", "make"]) });
    }
    if !has_libclang() {
        lacks.push(Lack { name: "libclang", packages: || names(&["libclang-dev"]) });
    }
    if purpose == Purpose::ServeWithPython && !has_python_environments() {
        lacks.push(Lack { name: "python3 with venv", packages: || names(&["python3", "python3-venv"]) });
    }
    lacks
}

fn postgresql_packages() -> Vec<String> {
    let installed = PgConfig::find().ok().map(|pg| pg.major().to_string());
    let major = installed.or_else(distribution_major).unwrap_or_else(|| "15".to_owned());
    vec![format!("postgresql-{major}"), format!("postgresql-server-dev-{major}")]
}

/// The major version of the distribution's package `postgresql`.
fn distribution_major() -> Option<String> {
    let output = Command::new("apt-cache").args(["depends", "postgresql"]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| Some(line.trim().strip_prefix("Depends: postgresql-")?.to_owned()))
}

fn names(all: &[&str]) -> Vec<String> {
    all.iter().map(|&name| name.to_owned()).collect()
}

fn components() -> Result<()> {
    let lacking: Vec<&str> = ["rustfmt", "clippy"].into_iter().filter(|name| !has_component(name)).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    if !on_path("rustup") {
        return Err(Missing(format!("missing: {}; install them beside cargo", lacking.join(", "))).into());
    }
    println!("installing {}", lacking.join(" "));
    let status = Command::new("rustup").args(["component", "add"]).args(&lacking).status()?;
    ensure!(status.success(), "rustup could not add {}", lacking.join(" "));
    Ok(())
}

fn has_component(name: &str) -> bool {
    let tool = if name == "rustfmt" { "fmt" } else { name };
    let quiet =
        cargo::command().args([tool, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

/// Debian's python3 does not contain what `python3 -m venv` needs.
fn has_python_environments() -> bool {
    let quiet = Command::new("python3")
        .args(["-c", "import ensurepip, venv"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    quiet.is_ok_and(|status| status.success())
}

fn has_libclang() -> bool {
    let mut folders: Vec<PathBuf> = env::var_os("LIBCLANG_PATH").map(PathBuf::from).into_iter().collect();
    folders.extend(
        ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/opt/llvm/lib"].map(PathBuf::from),
    );
    folders.push("/Library/Developer/CommandLineTools/usr/lib".into());
    for entry in fs::read_dir("/usr/lib").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("llvm") {
            folders.push(entry.path().join("lib"));
        } else if name.contains("-linux-") {
            folders.push(entry.path());
        }
    }
    folders.iter().any(|folder| holds_libclang(folder))
}

fn holds_libclang(folder: &Path) -> bool {
    fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        (name.starts_with("libclang.") || name.starts_with("libclang-"))
            && (name.contains(".so") || name.ends_with(".dylib"))
            && entry.path().exists()
    })
}

fn advice(missing: &[&str]) -> String {
    let command = if cfg!(target_os = "macos") {
        "brew install postgresql@17 llvm"
    } else if Path::new("/etc/debian_version").exists() {
        "sudo apt-get install postgresql postgresql-server-dev-all libclang-dev gcc make"
    } else if on_path("dnf") {
        "sudo dnf install postgresql-server postgresql-server-devel clang-devel gcc make"
    } else if on_path("pacman") {
        "sudo pacman -S postgresql clang gcc make"
    } else if on_path("apk") {
        "sudo apk add postgresql postgresql-dev clang-dev gcc make musl-dev"
    } else {
        "install PostgreSQL 15 to 18 with its server headers, gcc and libclang"
    };
    format!(
        "missing: {}\nget it with: {command}\nor set PG_CONFIG to the pg_config of another PostgreSQL",
        missing.join(", ")
    )
}
