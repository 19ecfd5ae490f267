//! How a cluster is asked for.

use std::collections::BTreeMap;
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
use super::template::template;

/// The file of settings that the harness writes and `postgresql.conf` includes.
const SETTINGS: &str = "harness.conf";

/// What a cluster is to be like. The defaults suit tests: preloaded, and not safe against a power cut.
#[derive(Debug)]
pub struct Builder {
    installation: Option<Arc<Installation>>,
    preload: bool,
    durable: bool,
    address_space: Option<u64>,
    locales: Vec<String>,
    settings: Settings,
}

/// Settings by name.
pub(super) type Settings = BTreeMap<String, String>;

impl Builder {
    pub(super) fn new() -> Builder {
        Builder {
            installation: None,
            preload: true,
            durable: false,
            address_space: None,
            locales: Vec::new(),
            settings: Settings::new(),
        }
    }

    /// Whether `shared_preload_libraries` names the extension; it does unless said otherwise.
    #[must_use]
    pub fn preload(mut self, preload: bool) -> Builder {
        self.preload = preload;
        self
    }

    /// Whether commits reach the disk, as in production: for benchmarks and crash tests.
    #[must_use]
    pub fn durable(mut self, durable: bool) -> Builder {
        self.durable = durable;
        self
    }

    /// How many bytes of address space each process of the server may have, shared memory included: where a server
    /// without much memory is to be had. There is no limit unless said otherwise.
    #[must_use]
    pub fn address_space(mut self, bytes: u64) -> Builder {
        self.address_space = Some(bytes);
        self
    }

    /// Has the server find a locale, such as `de_DE`, in UTF-8, whether the machine has it or not. It is compiled from the
    /// sources in Debian's package `locales`; without them there is no such server.
    #[must_use]
    pub fn locale(mut self, name: &str) -> Builder {
        self.locales.push(name.to_owned());
        self
    }

    /// One line of `postgresql.conf`.
    #[must_use]
    pub fn setting(mut self, name: &str, value: impl ToString) -> Builder {
        self.settings.insert(name.to_owned(), value.to_string());
        self
    }

    /// Which PostgreSQL to run; the current one unless said otherwise.
    #[must_use]
    pub fn installation(mut self, installation: Arc<Installation>) -> Builder {
        self.installation = Some(installation);
        self
    }

    /// Makes the cluster, starts it and returns when it takes connections.
    pub fn start(self) -> Result<Cluster> {
        let account = Account::for_servers()?;
        let installation = self.installation.map_or_else(shared_installation, Ok)?;
        let folder = Folder::new(account)?;
        let data = folder.path().join("data");
        let settings = base_settings(self.durable, self.preload).into_iter().chain(self.settings).collect();
        // From here on, the cluster's drop cleans up.
        let cluster = Cluster::new(installation, account, folder, settings, self.address_space);
        for locale in &self.locales {
            compile_locale(account, locale, &cluster.locales())?;
        }
        copy_tree(&template(cluster.installation(), account)?, &data, Make::CopyFor(account))?;
        include_settings(&data)?;
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

/// A copy of `primary` that follows it.
pub(super) fn standby_of(primary: &Cluster) -> Result<Cluster> {
    let account = Account::for_servers()?;
    let folder = Folder::new(account)?;
    let data = folder.path().join("data");
    let mut settings = primary.settings();
    settings.insert("cluster_name".into(), "standby".into());
    let installation = primary.shared_installation();
    let cluster = Cluster::new(installation, account, folder, settings, primary.address_space());
    let output = account
        .command(&cluster.bin("pg_basebackup"))
        .args(["--write-recovery-conf", "--no-sync", "--checkpoint=fast", "--wal-method=stream"])
        .args(["-h".as_ref(), primary.socket_dir().as_os_str()])
        .args(["-p", &primary.port().to_string(), "-U", "postgres", "-D"])
        .arg(&data)
        .output()
        .context("pg_basebackup could not be started")?;
    ensure!(output.status.success(), "pg_basebackup failed: {}", String::from_utf8_lossy(&output.stderr));
    cluster.start_on_free_port()?;
    Ok(cluster)
}

/// What `pg_upgrade` makes of a stopped cluster.
pub(super) fn upgrade_of(old: &Cluster) -> Result<Cluster> {
    let account = Account::for_servers()?;
    let installation = Installation::newer()?.map_or_else(|| old.shared_installation(), Arc::new);
    let folder = Folder::new(account)?;
    let (data, work) = (folder.path().join("data"), folder.path().to_path_buf());
    let settings = old.settings();
    let cluster = Cluster::new(installation, account, folder, settings.clone(), old.address_space());
    copy_tree(&template(cluster.installation(), account)?, &data, Make::CopyFor(account))?;
    include_settings(&data)?;
    write_settings(account, &data, &settings)?;
    let [from, to] = [old, &cluster].map(|one| one.bin("").into_os_string());
    let output = account
        .command(&cluster.bin("pg_upgrade"))
        .current_dir(&work)
        .args(["-U", "postgres", "-p", &free_port()?.to_string(), "-P", &free_port()?.to_string()])
        .args(["-b".as_ref(), from.as_os_str(), "-B".as_ref(), to.as_os_str()])
        .args(["-s".as_ref(), work.as_os_str(), "-d".as_ref(), old.data_dir().as_os_str()])
        .args(["-D".as_ref(), data.as_os_str()])
        .output()
        .context("pg_upgrade could not be started")?;
    ensure!(output.status.success(), "pg_upgrade failed: {}", String::from_utf8_lossy(&output.stdout));
    Ok(cluster)
}

/// Writes the settings where the server reads them.
pub(super) fn write_settings(account: Account, data: &Path, settings: &Settings) -> Result<()> {
    let mut text = String::new();
    for (name, value) in settings {
        text.push_str(&format!("{name} = '{}'\n", value.replace('\\', "\\\\").replace('\'', "''")));
    }
    let new = data.join("harness.conf.new");
    fs::write(&new, text).with_context(|| format!("cannot write {}", new.display()))?;
    account.give(&new)?;
    fs::rename(&new, data.join(SETTINGS))?;
    Ok(())
}

fn include_settings(data: &Path) -> Result<()> {
    let path = data.join("postgresql.conf");
    let text = fs::read_to_string(&path)?;
    fs::write(&path, format!("{text}\ninclude '{SETTINGS}'\n"))?;
    Ok(())
}

fn base_settings(durable: bool, preload: bool) -> Settings {
    let switch = if durable { "on" } else { "off" };
    let all = [
        ("cluster_name", "primary"),
        ("fsync", switch),
        ("full_page_writes", switch),
        ("listen_addresses", "127.0.0.1"),
        ("log_checkpoints", "off"),
        ("log_line_prefix", "%m [%p] %q%u@%d "),
        ("log_timezone", "UTC"),
        ("max_prepared_transactions", "10"),
        ("shared_preload_libraries", if preload { "audit_algolia" } else { "" }),
        ("timezone", "UTC"),
        ("wal_level", "replica"),
    ];
    all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
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
