//! Creates clusters: new ones, standbys and upgrades of others.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::{ensure, Context, Result};

use super::account::Account;
use super::cluster::Cluster;
use super::files::{copy_tree, Make};
use super::folder::Folder;
use super::install::Installation;
use super::port::free_port;
use super::settings::{base_settings, include_settings, write_settings, Settings};
use super::template::template;

/// Describes a cluster, and what is started beside it. The defaults suit tests: the extension is preloaded, and data is
/// not safe against a power cut.
#[derive(Debug)]
pub struct Builder<T = ()> {
    installation: Option<Arc<Installation>>,
    preload: bool,
    durable: bool,
    address_space: Option<u64>,
    locales: Vec<String>,
    settings: Settings,
    pub(crate) beside: T,
}

impl Builder {
    /// Creates and starts the cluster, and returns when it accepts connections.
    pub fn start(self) -> Result<Cluster> {
        self.start_cluster()
    }
}

impl<T> Builder<T> {
    pub(crate) fn new(beside: T) -> Self {
        Builder {
            installation: None,
            preload: true,
            durable: false,
            address_space: None,
            locales: Vec::new(),
            settings: Settings::new(),
            beside,
        }
    }

    /// Whether `shared_preload_libraries` names the extension. Default: true.
    #[must_use]
    pub fn preload(mut self, preload: bool) -> Self {
        self.preload = preload;
        self
    }

    /// Whether commits reach the disk, as in production: for benchmarks and crash tests.
    #[must_use]
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// The address space that each process of the server may have, in bytes, including shared memory; for tests in
    /// which memory runs out. Default: no limit.
    #[must_use]
    pub fn address_space(mut self, bytes: u64) -> Self {
        self.address_space = Some(bytes);
        self
    }

    /// Provides the server with a locale in UTF-8, such as `de_DE`, even if the machine does not have it. It is
    /// compiled from the sources in Debian's package `locales`, which must be installed.
    #[must_use]
    pub fn locale(mut self, name: &str) -> Self {
        self.locales.push(name.to_owned());
        self
    }

    /// One line of `postgresql.conf`.
    #[must_use]
    pub fn setting(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.insert(name.to_owned(), value.to_string());
        self
    }

    /// The PostgreSQL to run. Default: the current one.
    #[must_use]
    pub fn installation(mut self, installation: Arc<Installation>) -> Self {
        self.installation = Some(installation);
        self
    }

    pub(crate) fn start_cluster(self) -> Result<Cluster> {
        let account = Account::for_servers()?;
        let installation = self.installation.map_or_else(shared_installation, Ok)?;
        let folder = Folder::new(account)?;
        let settings = base_settings(self.durable, self.preload).into_iter().chain(self.settings).collect();
        // From here on, dropping the cluster cleans up.
        let cluster = Cluster::new(installation, account, folder, settings, self.address_space);
        for locale in &self.locales {
            compile_locale(account, locale, &cluster.locales())?;
        }
        cluster.fill()?;
        cluster.start_on_free_port()?;
        Ok(cluster)
    }
}

/// Compiles a locale in UTF-8 below `folder`, under the name by which the C library looks for it.
fn compile_locale(account: Account, name: &str, folder: &Path) -> Result<()> {
    if !folder.exists() {
        fs::create_dir(folder)?;
        account.give(folder)?;
    }
    let output = account
        .command(Path::new("localedef"))
        .args(["-i", name, "-f", "UTF-8"])
        .arg(folder.join(format!("{name}.UTF-8")))
        .output()
        .context("localedef could not be started")?;
    ensure!(
        output.status.success(),
        "locale {name} could not be compiled, is Debian's package locales there? {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

impl Cluster {
    /// Describes a new cluster.
    pub fn builder() -> Builder {
        Builder::new(())
    }

    /// Creates a streaming standby of a running cluster, and returns when it accepts read-only connections.
    pub fn standby_of(primary: &Cluster) -> Result<Cluster> {
        let mut settings = primary.settings();
        settings.insert("cluster_name".into(), "standby".into());
        let cluster = Cluster::like(primary, Arc::clone(&primary.installation), settings)?;
        let output = cluster
            .account
            .command(&cluster.bin("pg_basebackup"))
            .args(["--write-recovery-conf", "--no-sync", "--checkpoint=fast", "--wal-method=stream"])
            .args(["-h".as_ref(), primary.socket_dir().as_os_str()])
            .args(["-p", &primary.port().to_string(), "-U", "postgres", "-D"])
            .arg(cluster.data_dir())
            .output()
            .context("pg_basebackup could not be started")?;
        ensure!(output.status.success(), "pg_basebackup failed: {}", String::from_utf8_lossy(&output.stderr));
        cluster.start_on_free_port()?;
        Ok(cluster)
    }

    /// Upgrades a stopped cluster with `pg_upgrade`, without starting the result. It runs the newer PostgreSQL that
    /// [`PG_CONFIG_NEWER`](super::NEWER_VARIABLE) names, or else the same.
    pub fn upgrade_of(old: &Cluster) -> Result<Cluster> {
        let installation = Installation::newer()?.map_or_else(|| Arc::clone(&old.installation), Arc::new);
        let cluster = Cluster::like(old, installation, old.settings())?;
        let (data, work) = (cluster.data_dir(), cluster.socket_dir());
        cluster.fill()?;
        write_settings(cluster.account, &data, &old.settings())?;
        let [from, to] = [old, &cluster].map(|one| one.bin("").into_os_string());
        let output = cluster
            .account
            .command(&cluster.bin("pg_upgrade"))
            .current_dir(work)
            .args(["-U", "postgres", "-p", &free_port()?.to_string(), "-P", &free_port()?.to_string()])
            .args(["-b".as_ref(), from.as_os_str(), "-B".as_ref(), to.as_os_str()])
            .args(["-s".as_ref(), work.as_os_str(), "-d".as_ref(), old.data_dir().as_os_str()])
            .args(["-D".as_ref(), data.as_os_str()])
            .output()
            .context("pg_upgrade could not be started")?;
        ensure!(output.status.success(), "pg_upgrade failed: {}", String::from_utf8_lossy(&output.stdout));
        Ok(cluster)
    }

    fn like(other: &Cluster, installation: Arc<Installation>, settings: Settings) -> Result<Cluster> {
        let account = Account::for_servers()?;
        Ok(Cluster::new(installation, account, Folder::new(account)?, settings, other.address_space))
    }

    /// Fills the data folder as initdb would.
    fn fill(&self) -> Result<()> {
        let data = self.data_dir();
        copy_tree(&template(&self.installation, self.account)?, &data, Make::CopyFor(self.account))?;
        include_settings(&data)
    }
}

/// The installation that all clusters of the process share while one of them exists.
fn shared_installation() -> Result<Arc<Installation>> {
    static SHARED: Mutex<Weak<Installation>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(installation) = shared.upgrade() {
        return Ok(installation);
    }
    let installation = Arc::new(Installation::current()?);
    *shared = Arc::downgrade(&installation);
    Ok(installation)
}
