//! Looks up host names, and remembers them for a minute.
//!
//! ureq asks for the address before every request, even when a connection is open. Without this cache each batch would
//! wait for a name server, and a name server that fails for a moment would stop a delivery whose connections work.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{mpsc, Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use ureq::Error;

use crate::delivery::host_url::HostUrl;

/// How long an address is used without another look-up. If an attempt cannot connect, the address is forgotten earlier.
const FRESH_FOR: Duration = Duration::from_secs(60);

/// As many addresses as ureq keeps per name.
const MAX_ADDRESSES: usize = 16;

/// The addresses that were looked up. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct DnsCache {
    known: Arc<Mutex<HashMap<String, CachedAddresses>>>,
}

#[derive(Clone, Debug)]
struct CachedAddresses {
    addresses: Vec<IpAddr>,
    since: Instant,
}

impl DnsCache {
    /// Forgets a host, so that its next request looks it up again.
    pub(super) fn forget(&self, host: &HostUrl) {
        if let Ok(uri) = host.as_str().parse::<Uri>() {
            if let Some((name, _)) = target(&uri) {
                self.known().remove(&name);
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, CachedAddresses>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The addresses of a name.
    fn look_up(&self, name: String, timeout: NextTimeout) -> Result<Vec<IpAddr>, Error> {
        if let Ok(address) = name.trim_matches(['[', ']']).parse() {
            return Ok(vec![address]);
        }
        let known = self.known().get(&name).cloned();
        let fresh = |known: &&CachedAddresses| known.since.elapsed() < FRESH_FOR;
        if let Some(known) = known.as_ref().filter(fresh) {
            return Ok(known.addresses.clone());
        }
        match ask(&name, timeout) {
            Ok(addresses) => {
                let since = Instant::now();
                self.known().insert(name, CachedAddresses { addresses: addresses.clone(), since });
                Ok(addresses)
            }
            // An old address is better than none.
            Err(error) => known.map(|known| known.addresses).ok_or(error),
        }
    }
}

/// Asks the system in a separate thread, because a look-up cannot be cancelled. The thread ends when the system gives
/// up.
fn ask(name: &str, timeout: NextTimeout) -> Result<Vec<IpAddr>, Error> {
    let (answer, wait) = mpsc::sync_channel(1);
    let asked = (name.to_owned(), 0u16);
    let question = move || {
        let found = asked.to_socket_addrs();
        let found = found.map(|found| found.map(|a| a.ip()).take(MAX_ADDRESSES).collect::<Vec<_>>());
        // After the timeout, nobody receives this.
        let _ = answer.send(found);
    };
    thread::Builder::new().name("audit_algolia name".to_owned()).spawn(question).map_err(Error::Io)?;
    match wait.recv_timeout(*timeout.after) {
        Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
        Err(mpsc::RecvTimeoutError::Timeout) => Err(Error::Timeout(timeout.reason)),
        _ => Err(Error::HostNotFound),
    }
}

impl Resolver for DnsCache {
    fn resolve(&self, uri: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let (name, port) = target(uri).ok_or(Error::HostNotFound)?;
        let mut result = self.empty();
        for address in self.look_up(name, timeout)?.into_iter().take(MAX_ADDRESSES) {
            result.push(SocketAddr::new(address, port));
        }
        Ok(result)
    }
}

/// Host name and port of a URL. Without a port, the scheme's default.
fn target(uri: &Uri) -> Option<(String, u16)> {
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
    Some((uri.host()?.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::host_url::parse_hosts;

    fn resolve(dns_cache: &DnsCache, url: &str) -> Result<Vec<SocketAddr>, Error> {
        let timeout = NextTimeout { after: Duration::from_secs(5).into(), ..NextTimeout::default() };
        dns_cache.resolve(&url.parse().unwrap(), &Config::default(), timeout).map(|found| found.to_vec())
    }

    #[test]
    fn addresses_need_no_name_server() {
        let dns_cache = DnsCache::default();
        assert_eq!(resolve(&dns_cache, "http://127.0.0.1:81/x").unwrap(), ["127.0.0.1:81".parse().unwrap()]);
        assert_eq!(resolve(&dns_cache, "https://[::1]/").unwrap(), ["[::1]:443".parse().unwrap()]);
        assert!(dns_cache.known().is_empty());
    }

    #[test]
    fn a_known_name_is_not_asked_for_again_until_it_is_forgotten() {
        let dns_cache = DnsCache::default();
        let known = CachedAddresses { addresses: vec!["192.0.2.1".parse().unwrap()], since: Instant::now() };
        dns_cache.known().insert("algolia.invalid".to_owned(), known);
        assert_eq!(
            resolve(&dns_cache, "https://Algolia.invalid").unwrap(),
            ["192.0.2.1:443".parse().unwrap()]
        );
        dns_cache.forget(&parse_hosts("https://algolia.invalid").unwrap()[0]);
        assert!(resolve(&dns_cache, "https://algolia.invalid").is_err());
    }
}
