//! Makes sure that PostgreSQL, its headers, a C compiler, libclang, rustfmt and clippy are installed, and Python where
//! the official Algolia client is run.
//!
//! On Debian and its derivatives, as root or with a sudo that needs no password, it installs what is missing.
//! Elsewhere, it names what is missing and the command to install it. The installation does not create or start a
//! system cluster: a drop-in file prevents that while Debian's scripts run, and is removed however they end.

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{ensure, Context, Result};
use nix::unistd::geteuid;

use audit_algolia_tests::cargo;
use audit_algolia_tests::server::PgConfig;

/// Installs `$@` without creating a cluster for a new version of PostgreSQL.
const APT: &str = r#"
set -e
folder=/etc/postgresql-common/createcluster.d
made=$(for one in /etc/postgresql-common "$folder"; do [ -d "$one" ] || echo "$one"; done)
mkdir -p "$folder"
drop_in=$(mktemp "$folder/audit-algolia-XXXXXX.conf")
chmod 644 "$drop_in"
clean() {
    rm -f "$drop_in"
    # A folder that a package has brought meanwhile is the package's, also when it is empty.
    for one in $(echo "$made" | tac); do
        dpkg -S "$one" > /dev/null 2>&1 || rmdir "$one" 2> /dev/null || true
    done
}
trap clean EXIT
trap 'exit 130' HUP INT TERM
echo 'create_main_cluster = false' > "$drop_in"
export DEBIAN_FRONTEND=noninteractive
apt-get install -y -qq --no-install-recommends "$@" > "$drop_in.log" 2>&1 < /dev/null || {
    cat "$drop_in.log" >&2; rm -f "$drop_in.log"; exit 1
}
rm -f "$drop_in.log"
"#;

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
    /// To run the official Algolia client as well.
    ServeAndCompare,
}

/// Installs what is missing, with a message, and returns the PostgreSQL to use.
pub(crate) fn provision(purpose: Purpose) -> Result<PgConfig> {
    components()?;
    let lacks = lacks(purpose);
    if !lacks.is_empty() {
        let names: Vec<&str> = lacks.iter().map(|lack| lack.name).collect();
        let Some(root) = apt_as_root() else {
            return Err(Missing(advice(&names)).into());
        };
        ensure!(apt_has_lists(root)?, "apt-get update failed");
        let packages: Vec<String> = lacks.iter().flat_map(|lack| (lack.packages)()).collect();
        println!("installing {}", packages.join(" "));
        if !install(root, &packages)? {
            println!("once more, with new package lists");
            root_runs(root, "apt-get", &["update", "-qq"])?;
            ensure!(install(root, &packages)?, "apt-get could not install {}", packages.join(" "));
        }
    }
    let still: Vec<&str> = self::lacks(purpose).iter().map(|lack| lack.name).collect();
    if !still.is_empty() {
        return Err(Missing(advice(&still)).into());
    }
    PgConfig::find()
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
    if purpose == Purpose::ServeAndCompare && !has_python_environments() {
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

fn on_path(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// How to become root.
#[derive(Clone, Copy)]
enum Root {
    Is,
    Sudo,
}

fn apt_as_root() -> Option<Root> {
    // A pg_config in another place than Debian's belongs to a PostgreSQL that apt does not know.
    let foreign = env::var("PG_CONFIG").is_ok_and(|path| !path.is_empty() && !path.starts_with("/usr/"));
    if foreign || !on_path("apt-get") || !Path::new("/etc/debian_version").exists() {
        return None;
    }
    if geteuid().is_root() {
        return Some(Root::Is);
    }
    let sudo = Command::new("sudo").args(["-n", "true"]).stdin(Stdio::null()).stderr(Stdio::null()).status();
    sudo.is_ok_and(|status| status.success()).then_some(Root::Sudo)
}

/// Whether apt knows any packages, if necessary after an update.
fn apt_has_lists(root: Root) -> Result<bool> {
    let output = Command::new("apt-cache").args(["policy", "postgresql-common"]).output();
    let known = output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("Candidate: "));
    Ok(known || root_runs(root, "apt-get", &["update", "-qq"])?)
}

/// Makes sure that packages can be downloaded. Needs root only if apt's lists are missing.
pub(crate) fn prepare_downloads() -> Result<()> {
    let root = apt_as_root().context("no Debian's PostgreSQL, or neither root nor sudo")?;
    ensure!(apt_has_lists(root)?, "apt-get update failed");
    Ok(())
}

fn install(root: Root, packages: &[String]) -> Result<bool> {
    let mut arguments = vec!["-c", APT, "apt"];
    arguments.extend(packages.iter().map(String::as_str));
    root_runs(root, "bash", &arguments)
}

fn root_runs(root: Root, program: &str, arguments: &[&str]) -> Result<bool> {
    let mut command = match root {
        Root::Is => Command::new(program),
        Root::Sudo => {
            let mut sudo = Command::new("sudo");
            sudo.args(["-n", program]);
            sudo
        }
    };
    let status =
        command.args(arguments).status().with_context(|| format!("{program} could not be started"))?;
    Ok(status.success())
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
