//! Finds PostgreSQL and its parts.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, ensure, Context, Result};

/// The PostgreSQL versions that the extension supports.
const SUPPORTED: std::ops::RangeInclusive<u32> = 15..=18;

/// An installed PostgreSQL, known by its `pg_config`.
#[derive(Clone, Debug)]
pub struct PgConfig {
    path: PathBuf,
    version: String,
    major: u32,
}

impl PgConfig {
    /// The PostgreSQL that `PG_CONFIG` names. Otherwise, of `pg_config` on the path and those in Debian's version
    /// folders, newest first: the first with a server and headers, or else the first with a server.
    pub fn find() -> Result<PgConfig> {
        if let Some(path) = env::var_os("PG_CONFIG").filter(|path| !path.is_empty()) {
            let found = PgConfig::at(Path::new(&path))?;
            ensure!(
                found.has_server(),
                "{} answers, but its folder of programs has no server",
                found.path.display()
            );
            return Ok(found);
        }
        let found: Vec<PgConfig> = candidates()
            .iter()
            .filter_map(|path| PgConfig::at(path).ok())
            .filter(PgConfig::has_server)
            .collect();
        let complete = found.iter().find(|one| one.has_headers());
        complete
            .or(found.first())
            .cloned()
            .context("no PostgreSQL server found; set PG_CONFIG to the pg_config of one")
    }

    /// The PostgreSQL whose `pg_config` is at `path`.
    pub fn at(path: &Path) -> Result<PgConfig> {
        let answer = ask(path, "--version")?;
        let Some(version) = answer.split_whitespace().nth(1) else {
            bail!("{} does not tell its version", path.display());
        };
        let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
        let major = digits.parse().with_context(|| format!("{} is of version {version}", path.display()))?;
        ensure!(SUPPORTED.contains(&major), "PostgreSQL {version} is not supported: 15 to 18 are");
        // Debian's /usr/bin/pg_config stands for the newest version. This finds the real one.
        let own = PathBuf::from(ask(path, "--bindir")?).join("pg_config");
        let path = if own.is_file() { own } else { path.to_path_buf() };
        Ok(PgConfig { path, version: version.to_owned(), major })
    }

    /// The program itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The full version, such as `15.8`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The major version, such as 15.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The folder that it returns for an option such as `bindir`.
    pub fn folder(&self, option: &str) -> Result<PathBuf> {
        Ok(PathBuf::from(ask(&self.path, &format!("--{option}"))?))
    }

    /// Whether clusters can be created with it.
    pub fn has_server(&self) -> bool {
        self.folder("bindir").is_ok_and(|bin| bin.join("postgres").is_file() && bin.join("initdb").is_file())
    }

    /// Whether the extension can be built for it.
    pub fn has_headers(&self) -> bool {
        self.folder("includedir-server").is_ok_and(|folder| folder.join("postgres.h").is_file())
    }
}

fn candidates() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut all: Vec<PathBuf> = env::split_paths(&path)
        .map(|folder| folder.join("pg_config"))
        .filter(|file| file.is_file())
        .collect();
    let mut versions: Vec<u32> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    all.extend(versions.iter().map(|n| PathBuf::from(format!("/usr/lib/postgresql/{n}/bin/pg_config"))));
    all
}

fn ask(path: &Path, option: &str) -> Result<String> {
    let output = Command::new(path)
        .arg(option)
        .output()
        .with_context(|| format!("{} could not be started", path.display()))?;
    let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure!(output.status.success() && !answer.is_empty(), "{} has no answer to {option}", path.display());
    Ok(answer)
}
