//! How a cluster comes about: made anew, as the standby of another, or by an upgrade of it.

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

/// What a cluster is to be like, and what is to be started beside it. The defaults suit tests: preloaded, and not safe
/// against a power cut.
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
    /// Makes the cluster, starts it and returns when it takes connections.
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

    /// Whether `shared_preload_libraries` names the extension; it does unless said otherwise.
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

    /// How many bytes of address space each process of the server may have, shared memory included: where a server
    /// without much memory is to be had. There is no limit unless said otherwise.
    #[must_use]
    pub fn address_space(mut self, bytes: u64) -> Self {
        self.address_space = Some(bytes);
        self
    }

    /// Has the server find a locale, such as `de_DE`, in UTF-8, whether the machine has it or not. It is compiled from the
    /// sources in Debian's package `locales`; without them there is no such server.
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

    /// Which PostgreSQL to run; the current one unless said otherwise.
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
        // From here on, the cluster's drop cleans up.
        let cluster = Cluster::new(installation, account, folder, settings, self.address_space);
        for locale in &self.locales {
            compile_locale(account, locale, &cluster.locales())?;
        }
        cluster.fill()?;
        cluster.start_on_free_port()?;
        Ok(cluster)
    }
}

/// Makes a locale in UTF-8 below `folder`, by the name the C library looks for it under.
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
    /// A cluster to be: preloaded and quick unless said otherwise.
    pub fn builder() -> Builder {
        Builder::new(())
    }

    /// A streaming standby of a running cluster; returns when it takes read-only connections.
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

    /// What `pg_upgrade` makes of a stopped cluster, not started yet. It runs the newer PostgreSQL that
    /// [`PG_CONFIG_NEWER`](super::NEWER_VARIABLE) names, else the same.
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

/// One installation for all clusters of the process, for as long as one of them needs it.
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
