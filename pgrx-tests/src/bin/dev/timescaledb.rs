//! TimescaleDB for a PostgreSQL that `cargo verify --postgres` has downloaded. It is built from Debian's source package, which
//! contains only the part under the Apache licence: hypertables, without compression and continuous aggregates.

use std::path::Path;
use std::process::Command;

use anyhow::{ensure, Context, Result};

use crate::apt::prepare_downloads;

/// Downloads the source with the hash `$1` into the folder `$2`, builds it with the tools in `$4`, and installs it in the
/// server `$3`. apt uses separate lists, so that those of the machine do not change.
const BUILD: &str = r#"
set -eu
hash=$1 work=$2 server=$3 tools=$4
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/source/build"
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | sort -u | head -n 1)
keys=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb-src [signed-by=$keys] $mirror trixie main" > "$work/sources.list"
cat > "$work/apt.conf" <<END
Dir::State::Lists "$work/lists";
Dir::Cache "$work/cache";
Dir::Etc::SourceList "$work/sources.list";
Dir::Etc::SourceParts "/dev/null";
APT::Sandbox::User "";
END
export APT_CONFIG=$work/apt.conf
cd "$work"
apt-get update -qq
apt-get source -qq --download-only timescaledb > /dev/null
echo "$hash  $(ls timescaledb_*.orig.tar.xz)" | sha256sum --quiet --check
tar -xf timescaledb_*.orig.tar.xz -C source --strip-components=1
"$tools/pip" install -q --disable-pip-version-check cmake
cd source/build
{
    "$tools/cmake" .. -DCMAKE_BUILD_TYPE=Release -DREGRESS_CHECKS=OFF -DAPACHE_ONLY=1 -DWARNINGS_AS_ERRORS=OFF \
        -DUSE_OPENSSL=OFF "-DPG_CONFIG=$server/bin/pg_config"
    make -s -j2
    make -s install
} > "$work/log" 2>&1 || { tail -n 40 "$work/log" >&2; exit 1; }
"#;

/// The hash of TimescaleDB 2.19.3 in Debian 13.
const SHA256: &str = "09fd11191768c220b071f61a108df9bd1df5522fbe4e7c2229f30f69b195454a";

/// Builds TimescaleDB into a server; `work` is an empty folder, and `tools` that of a virtual environment's programs.
pub(crate) fn install(server: &Path, work: &Path, tools: &Path) -> Result<()> {
    if !Path::new("/etc/debian_version").exists() {
        println!("left out: TimescaleDB, which is built from Debian's source package on Debian only");
        return Ok(());
    }
    println!("building TimescaleDB for it, about half a minute");
    prepare_downloads()?;
    let status = Command::new("bash")
        .args(["-c", BUILD, "timescaledb", SHA256])
        .args([work, server, tools])
        .status()
        .context("bash could not be started")?;
    ensure!(status.success(), "TimescaleDB could not be built");
    Ok(())
}
