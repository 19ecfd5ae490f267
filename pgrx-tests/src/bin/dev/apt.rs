//! Installs packages with apt, as root or with a sudo that needs no password, on Debian and its derivatives.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{ensure, Context, Result};
use nix::unistd::geteuid;

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

/// Installs packages, saying so, after an update of apt's lists if need be.
///
/// # Errors
/// When apt does not get them.
pub(crate) fn install(root: Root, packages: &[String]) -> Result<()> {
    ensure!(has_lists(root)?, "apt-get update failed");
    println!("installing {}", packages.join(" "));
    if !run_apt(root, packages)? {
        println!("once more, with new package lists");
        root_runs(root, "apt-get", &["update", "-qq"])?;
        ensure!(run_apt(root, packages)?, "apt-get could not install {}", packages.join(" "));
    }
    Ok(())
}

/// Installs the package of a program, which has the program's name, unless the program is there.
///
/// # Errors
/// When it is missing and cannot be installed.
pub(crate) fn install_program(name: &str) -> Result<()> {
    if !on_path(name) {
        let root = root().with_context(|| format!("missing: {name}; Debian's package has the same name"))?;
        install(root, &[name.to_owned()])?;
    }
    Ok(())
}

/// Makes sure that packages can be downloaded. Needs root only if apt's lists are missing.
///
/// # Errors
/// When there is no apt, or its lists cannot be got.
pub(crate) fn prepare_downloads() -> Result<()> {
    let root = for_postgresql().context("no Debian's PostgreSQL, or neither root nor sudo")?;
    ensure!(has_lists(root)?, "apt-get update failed");
    Ok(())
}

/// How to become root.
#[derive(Clone, Copy)]
pub(crate) enum Root {
    Is,
    Sudo,
}

/// The way to install packages here, if there is one.
pub(crate) fn root() -> Option<Root> {
    if !on_path("apt-get") || !Path::new("/etc/debian_version").exists() {
        return None;
    }
    if geteuid().is_root() {
        return Some(Root::Is);
    }
    let sudo = Command::new("sudo").args(["-n", "true"]).stdin(Stdio::null()).stderr(Stdio::null()).status();
    sudo.is_ok_and(|status| status.success()).then_some(Root::Sudo)
}

/// The same for what belongs to PostgreSQL. A pg_config in another place than Debian's belongs to a PostgreSQL that apt does
/// not know.
pub(crate) fn for_postgresql() -> Option<Root> {
    let foreign = env::var("PG_CONFIG").is_ok_and(|path| !path.is_empty() && !path.starts_with("/usr/"));
    if foreign {
        return None;
    }
    root()
}

/// Whether apt knows any packages, if necessary after an update.
fn has_lists(root: Root) -> Result<bool> {
    let output = Command::new("apt-cache").args(["policy", "postgresql-common"]).output();
    let known = output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("Candidate: "));
    Ok(known || root_runs(root, "apt-get", &["update", "-qq"])?)
}

fn run_apt(root: Root, packages: &[String]) -> Result<bool> {
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

/// Whether a program is found by its name.
pub(crate) fn on_path(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(name).is_file())
}
