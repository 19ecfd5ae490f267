//! `cargo dist`: a `.deb` and an `.rpm` of the extension for each version of PostgreSQL, and what checks them.

mod bare;
mod check;
mod contents;
mod library;
mod licences;
mod made;
mod nfpm;
mod release;

use std::env::consts::{ARCH, OS};
use std::path::PathBuf;

use anyhow::{ensure, Result};

use audit_algolia_tests::cargo;
use audit_algolia_tests::server::PgConfig;

use self::bare::Trial;
use self::contents::{Format, Package};
use self::library::Library;
use self::made::{folder, Made};
use self::nfpm::Nfpm;
use self::release::Release;
use crate::provision::{provision, Purpose};
use crate::releases;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// For which versions of PostgreSQL; this machine's and all that can be fetched, unless said otherwise
    #[arg(long, value_name = "VERSIONS", value_delimiter = ',')]
    postgres: Vec<u32>,
    /// Which package of the same source it is
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    revision: u32,
    /// Makes everything again from a copy of the source elsewhere, compares each byte, and runs lintian
    #[arg(long)]
    check: bool,
    /// Installs, upgrades and removes the packages in bare Debian systems, as root
    #[arg(long)]
    bare: bool,
    /// Upgrades from the packages in this folder, such as those of the last release
    #[arg(long, value_name = "FOLDER", requires = "bare")]
    from: Option<PathBuf>,
}

/// Makes the packages, and checks them as asked.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(OS == "linux" && ARCH == "x86_64", "packages are made for Linux on x86-64, and on it");
    let own = provision(Purpose::ServeWithPython)?;
    let release = Release::of_the_commit(arguments.revision)?;
    let nfpm = Nfpm::fetch()?;
    let elsewhere = arguments.check.then(check::copy_source).transpose()?;
    let (mut made, mut trials) = (Vec::new(), Vec::new());
    for pg in servers(own, &arguments.postgres)? {
        println!("== audit_algolia {} for PostgreSQL {}", release.version, pg.version());
        let library = Library::build(&pg, &cargo::workspace())?;
        for format in [Format::Deb, Format::Rpm] {
            let file = nfpm.pack(&Package::new(&library, format, &release)?, &folder())?;
            println!("   {}", file.display());
            made.push(Made { major: pg.major(), format, file });
        }
        if let Some(elsewhere) = &elsewhere {
            check::compare(&nfpm, &made, &Library::build(&pg, elsewhere)?, &release)?;
        }
        if let Some(system) = bare::system(pg.major()).filter(|_| arguments.bare) {
            let before = match &arguments.from {
                Some(folder) => system.package_in(folder)?,
                None => {
                    let before = release.before();
                    nfpm.pack(&Package::new(&library, Format::Deb, &before)?, &folder().join("before"))?
                }
            };
            trials.push(Trial { system, before });
        }
    }
    if arguments.check {
        check::lint(&made)?;
    }
    if arguments.bare {
        bare::run(&trials, &made)?;
    }
    Ok(())
}

/// The PostgreSQL to build for in each version.
fn servers(own: PgConfig, wanted: &[u32]) -> Result<Vec<PgConfig>> {
    let mut majors = wanted.to_vec();
    if majors.is_empty() {
        majors = releases::wanted(&["all".to_owned()])?;
        majors.push(own.major());
    }
    majors.sort_unstable();
    majors.dedup();
    majors
        .into_iter()
        .map(|major| if major == own.major() { Ok(own.clone()) } else { releases::fetch(major) })
        .collect()
}
