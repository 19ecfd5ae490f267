//! Copies of PostgreSQL with the extension installed.
//!
//! A copy is never changed once it has its name. `plain` holds the server without the extension. Each build of the
//! extension has a folder of its own, whose other files are hard links to `plain`. So a new build does not affect
//! running clusters, and two runs at once do not affect each other. A process that uses a copy holds a shared lock on
//! it. Copies that are not locked and no longer current are removed.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::fs::{self, File, Permissions};
use std::hash::{Hash, Hasher};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{ensure, Context, Result};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

use super::account::Account;
use super::extension::{add_extension, fingerprint, script_name};
use super::files::{copy_tree, in_one_step, lock, own_folder, try_lock, Make};
use super::layout::{add_package, plain_copy, Layout};
use super::pg_config::PgConfig;
use crate::cargo::{self, Profile};

/// The variable that passes a prepared installation to child processes, so that they need not prepare it again.
pub const INSTALLATION_VARIABLE: &str = "AUDIT_ALGOLIA_INSTALLATION";

/// The variable with the `pg_config` of a newer PostgreSQL, for tests of `pg_upgrade`.
pub const NEWER_VARIABLE: &str = "PG_CONFIG_NEWER";

const DESCRIPTION: &str = "installation";

/// A relocated PostgreSQL with the extension installed. It remains while this value lives.
#[derive(Debug)]
pub struct Installation {
    root: PathBuf,
    bin: PathBuf,
    share: PathBuf,
    modules: PathBuf,
    major: u32,
    version: String,
    _used: Flock<File>,
}

impl Installation {
    /// The installation that a parent process has prepared, or else a copy of the PostgreSQL that was found, with a
    /// development build of the extension as it is in the workspace.
    pub fn current() -> Result<Installation> {
        match env::var_os(INSTALLATION_VARIABLE) {
            Some(root) => Installation::open(Path::new(&root)),
            None => Installation::prepare(&PgConfig::find()?, Profile::Dev),
        }
    }

    /// The newer PostgreSQL to upgrade to, if [`NEWER_VARIABLE`] names one.
    pub fn newer() -> Result<Option<Installation>> {
        let Some(path) = env::var_os(NEWER_VARIABLE).filter(|path| !path.is_empty()) else {
            return Ok(None);
        };
        let pg = PgConfig::at(Path::new(&path))?;
        ensure!(pg.has_server(), "{NEWER_VARIABLE} names {}, which has no server", pg.path().display());
        Installation::prepare(&pg, Profile::Dev).map(Some)
    }

    /// Builds the extension and installs it into a copy of the server. Does either only if something has changed.
    pub fn prepare(pg: &PgConfig, profile: Profile) -> Result<Installation> {
        Installation::prepare_with(pg, profile, &[])
    }

    /// The same, with other packages for this server. Each folder is one into which a package was unpacked as if it
    /// were the root of the file system. Its name must contain the package's version.
    pub fn prepare_with(pg: &PgConfig, profile: Profile, packages: &[PathBuf]) -> Result<Installation> {
        let cache = cache_of(pg)?;
        let _one_at_a_time = lock(&cache.join("lock"), FlockArg::LockExclusive)?;
        let library = cargo::build_extension(pg, profile)?;
        let mut hasher = DefaultHasher::new();
        (fingerprint(&library)?, packages).hash(&mut hasher);
        let name = format!("with-{:016x}", hasher.finish());
        let root = cache.join(&name);
        if !root.join(DESCRIPTION).is_file() {
            let layout = Layout::of(pg)?;
            let plain = plain_copy(&cache, pg, &layout)?;
            in_one_step(&cache, &root, |new| {
                copy_tree(&plain, new, Make::Link)?;
                for package in packages {
                    add_package(package, &layout, new)?;
                }
                add_extension(
                    &library,
                    &new.join(&layout.library),
                    &new.join(&layout.share).join("extension"),
                )?;
                let text = format!(
                    "version={}\nmajor={}\nbin={}\nshare={}\nmodules={}\n",
                    pg.version(),
                    pg.major(),
                    layout.bin.display(),
                    layout.share.display(),
                    layout.library.display()
                );
                fs::write(new.join(DESCRIPTION), text)?;
                Ok(())
            })?;
        }
        let installation = Installation::open(&root)?;
        remove_unused(&cache, &name);
        Ok(installation)
    }

    /// A copy whose library can be replaced, because nothing else uses it.
    pub fn own_copy(&self) -> Result<Installation> {
        static COPIES: AtomicU32 = AtomicU32::new(0);
        let _one_at_a_time = lock(&self.cache().join("lock"), FlockArg::LockExclusive)?;
        let number = COPIES.fetch_add(1, Ordering::Relaxed);
        let root = self.cache().join(format!("with-own-{}-{number}", process::id()));
        in_one_step(self.cache(), &root, |new| copy_tree(&self.root, new, Make::Link))?;
        Installation::open(&root)
    }

    /// The extension's library.
    pub fn library(&self) -> PathBuf {
        self.modules.join(cargo::LIBRARY.trim_start_matches("lib"))
    }

    /// Replaces the extension's library, as a package does: a server that has loaded the old one goes on with it.
    pub fn replace_library(&self, library: &Path) -> Result<()> {
        let new = self.modules.join("new");
        fs::copy(library, &new)?;
        fs::set_permissions(&new, Permissions::from_mode(0o644))?;
        Ok(fs::rename(&new, self.library())?)
    }

    /// Opens an installation that was prepared before.
    pub fn open(root: &Path) -> Result<Installation> {
        let used = lock(&lock_of(root), FlockArg::LockShared)?;
        let text = fs::read_to_string(root.join(DESCRIPTION))
            .with_context(|| format!("{} is no prepared installation", root.display()))?;
        let value = |name: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            found.with_context(|| format!("{} does not tell its {name}", root.display()))
        };
        Ok(Installation {
            root: root.to_path_buf(),
            bin: root.join(value("bin")?),
            share: root.join(value("share")?),
            modules: root.join(value("modules")?),
            major: value("major")?.parse().context("a major version is a number")?,
            version: value("version")?.to_owned(),
            _used: used,
        })
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// One of its programs.
    pub fn bin(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// The major version, such as 15.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The full version, such as `15.8`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether `CREATE EXTENSION audit_algolia` finds an install script.
    pub fn has_install_script(&self) -> bool {
        self.share.join("extension").join(script_name()).is_file()
    }

    /// Whether `CREATE EXTENSION` finds another extension.
    pub fn has_extension(&self, name: &str) -> bool {
        self.share.join("extension").join(format!("{name}.control")).is_file()
    }

    /// Whether the server finds a module, such as a plug-in for logical decoding.
    pub fn has_module(&self, name: &str) -> bool {
        ["so", "dylib"].iter().any(|ending| self.modules.join(format!("{name}.{ending}")).is_file())
    }

    /// The folder for what is cached per PostgreSQL, such as a cluster fresh from initdb.
    pub(super) fn cache(&self) -> &Path {
        self.root.parent().unwrap_or(&self.root)
    }
}

/// The cache folder for one PostgreSQL. It is below the target folder, or, if the server's user cannot enter that
/// because the clone is in a private folder, in a folder of the system for temporary files that survive a reboot.
fn cache_of(pg: &PgConfig) -> Result<PathBuf> {
    let target = cargo::target_dir();
    let mut hasher = DefaultHasher::new();
    let program = fs::metadata(pg.folder("bindir")?.join("postgres"))?;
    (pg.path(), program.mtime(), program.len()).hash(&mut hasher);
    let name = format!("{}-{:08x}", pg.version(), hasher.finish() as u32);
    let home = if Account::for_servers()?.reaches(&target) {
        target
    } else {
        let mut hasher = DefaultHasher::new();
        target.hash(&mut hasher);
        let mine = PathBuf::from(format!("/var/tmp/audit_algolia-{}", geteuid()));
        own_folder(&mine)?;
        mine.join(format!("{:016x}", hasher.finish()))
    };
    let cache = home.join("pg").join(name);
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    for folder in [&home, &home.join("pg"), &cache] {
        let mode = fs::metadata(folder)?.mode();
        if mode & 0o755 != 0o755 {
            fs::set_permissions(folder, Permissions::from_mode(mode | 0o755))?;
        }
    }
    Ok(cache)
}

fn lock_of(root: &Path) -> PathBuf {
    root.with_extension("lock")
}

/// Removes copies of earlier builds that nobody uses. If that fails, the next process will do it.
fn remove_unused(cache: &Path, current: &str) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("with-") || name.ends_with(".lock") || name == current {
            continue;
        }
        if let Some(_unused) = try_lock(&lock_of(&path)) {
            let _ = fs::remove_dir_all(&path);
            let _ = fs::remove_file(lock_of(&path));
        }
    }
}
