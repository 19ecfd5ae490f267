//! What all packages that are made at once have in common: version, maintainer and date.

use std::env;
use std::process::Command;

use anyhow::{ensure, Context, Result};
use time::format_description::well_known::Rfc3339;
use time::OffsetDateTime;

use audit_algolia_tests::cargo;

pub(super) struct Release {
    pub(super) version: &'static str,
    /// Which package of the same source it is.
    pub(super) revision: u32,
    pub(super) maintainer: String,
    /// Seconds since 1970; all files in a package are from that moment.
    pub(super) epoch: i64,
}

impl Release {
    /// Of the commit that is checked out.
    pub(super) fn of_the_commit(revision: u32) -> Result<Release> {
        Ok(Release {
            version: env!("CARGO_PKG_VERSION"),
            revision,
            maintainer: maintainer()?,
            epoch: epoch()?,
        })
    }

    /// Revision 0, which is lower than any that is published.
    pub(super) fn before(&self) -> Release {
        Release { revision: 0, maintainer: self.maintainer.clone(), ..*self }
    }

    pub(super) fn date(&self) -> Result<String> {
        Ok(OffsetDateTime::from_unix_timestamp(self.epoch)?.format(&Rfc3339)?)
    }
}

/// Whoever publishes the packages answers for them: the person that Debian's tools are told, or else the committer.
fn maintainer() -> Result<String> {
    match (env::var("DEBFULLNAME"), env::var("DEBEMAIL")) {
        (Ok(name), Ok(address)) => Ok(format!("{name} <{address}>")),
        _ => of_the_commit("%cn <%ce>").context("DEBFULLNAME and DEBEMAIL would name the maintainer"),
    }
}

fn epoch() -> Result<i64> {
    match env::var("SOURCE_DATE_EPOCH") {
        Ok(epoch) => epoch.parse().context("SOURCE_DATE_EPOCH is no number of seconds"),
        Err(_) => Ok(of_the_commit("%ct").context("SOURCE_DATE_EPOCH would give the date")?.parse()?),
    }
}

/// What git tells of the last commit, in one of its formats.
fn of_the_commit(format: &str) -> Result<String> {
    let output = Command::new("git")
        .current_dir(cargo::workspace())
        .args(["log", "-1", &format!("--format={format}")])
        .output()
        .context("git could not be started")?;
    ensure!(
        output.status.success(),
        "git does not tell the last commit: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
