//! The base URL of a host, and the list of them that an operator may set.
#![forbid(unsafe_code)]

use std::fmt;

/// The base URL of a host: scheme, name and optional port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostUrl {
    url: String,
}

impl HostUrl {
    /// The URL of a host with https on the default port. The name is not checked.
    pub(crate) fn https(name: &str) -> Self {
        HostUrl { url: format!("https://{name}") }
    }

    /// The base URL without a trailing slash, to which a path is appended.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// Host and port without the scheme, for reports.
    pub fn name(&self) -> &str {
        self.url.split_once("://").map_or(self.url.as_str(), |(_, name)| name)
    }
}

impl fmt::Display for HostUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// An entry of the list that is not the base URL of a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{part}\" {problem}")]
pub struct HostsError {
    /// The faulty entry as written, but without anything before an `@`, which may be a password.
    pub part: String,
    /// What is wrong with it, as the rest of a sentence.
    pub problem: &'static str,
}

/// Reads a comma-separated list of base URLs: `scheme://host[:port]` with http or https and without a path. An entry
/// may have white space around it and one slash at its end. A list of white space is empty.
///
/// The error names the first faulty entry.
pub fn parse_hosts(list: &str) -> Result<Vec<HostUrl>, HostsError> {
    if list.trim().is_empty() {
        return Ok(Vec::new());
    }
    list.split(',').map(|part| parse_host(part.trim())).collect()
}

fn parse_host(part: &str) -> Result<HostUrl, HostsError> {
    let fault = |problem| Err(HostsError { part: shown(part), problem });
    if part.is_empty() {
        return fault("is not a URL: an entry of the list is empty");
    }
    let Some((scheme, rest)) = part.split_once("://") else {
        return fault("does not start with http:// or https://");
    };
    let scheme = scheme.to_ascii_lowercase();
    if scheme != "http" && scheme != "https" {
        return fault("does not start with http:// or https://");
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains('@') {
        return fault("must not contain a user name or password");
    }
    if authority.contains(['/', '?', '#']) {
        return fault("must not have a path");
    }
    let (host, port) = split_port(authority);
    if let Some(port) = port {
        if !port.bytes().all(|b| b.is_ascii_digit()) || port.parse::<u16>().map_or(true, |port| port == 0) {
            return fault("has a port that is not a number from 1 to 65535");
        }
    }
    if !is_host_name(host) {
        return fault("has no valid host name");
    }
    Ok(HostUrl { url: format!("{scheme}://{authority}") })
}

/// Splits at the colon before the port. An IPv6 address keeps its own colons inside its brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn is_host_name(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[') {
        let address = inner.strip_suffix(']').unwrap_or_default();
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let label = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !host.is_empty()
        && host.len() <= 253
        && host.split('.').all(|part| !part.is_empty() && part.chars().all(label))
}

fn shown(part: &str) -> String {
    let text = match part.rsplit_once('@') {
        Some((_, host)) => format!("{}@{host}", crate::secret::HIDDEN),
        None => part.to_owned(),
    };
    text.escape_default().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hosts_keep_their_order() {
        let hosts =
            parse_hosts(" https://a.example , http://127.0.0.1:8080/,HTTP://[::1]:9,https://gw_1").unwrap();
        let urls: Vec<_> = hosts.iter().map(HostUrl::as_str).collect();
        assert_eq!(urls, ["https://a.example", "http://127.0.0.1:8080", "http://[::1]:9", "https://gw_1"]);
        assert_eq!(hosts[1].name(), "127.0.0.1:8080");
        assert_eq!(parse_hosts("  ").unwrap(), []);
    }

    #[test]
    fn errors_name_the_part_at_fault() {
        for (list, part, word) in [
            ("https://a,ftp://b", "ftp://b", "http://"),
            ("a.example", "a.example", "http://"),
            ("https://a,,https://b", "", "empty"),
            ("https://a/1/indexes", "https://a/1/indexes", "path"),
            ("https://a?x", "https://a?x", "path"),
            ("https://a:0", "https://a:0", "port"),
            ("https://a:+80", "https://a:+80", "port"),
            ("https://a:70000", "https://a:70000", "port"),
            ("https://", "https://", "host name"),
            ("https://a b", "https://a b", "host name"),
            ("https://[::1", "https://[::1", "host name"),
            ("https://[zz]:1", "https://[zz]:1", "host name"),
        ] {
            let error = parse_hosts(list).unwrap_err();
            assert_eq!(error.part, part);
            assert!(error.problem.contains(word), "{list}: {error}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_repeated() {
        let error = parse_hosts("https://user:hunter2@a").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    proptest! {
        #[test]
        fn a_list_is_taken_as_hosts_and_nothing_else_or_refused(
            list in prop_oneof![
                "\\PC{0,60}",
                "( ?(HTTPS?|ftp|https?)://[a-z@/?#:.\\[\\]_-]{0,20}[:/0-9]{0,8},?){0,4}",
            ],
        ) {
            match parse_hosts(&list) {
                Ok(hosts) => {
                    for host in &hosts {
                        prop_assert!(["http", "https"].contains(&host.as_str().split_once("://").unwrap().0));
                        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.:[]".contains(c);
                        prop_assert!(host.name().chars().all(fits), "{}", host);
                    }
                    let again = hosts.iter().map(HostUrl::as_str).collect::<Vec<_>>().join(",");
                    prop_assert_eq!(parse_hosts(&again).unwrap(), hosts);
                }
                Err(error) => prop_assert!(error.part.chars().all(|c| c.is_ascii_graphic() || c == ' ')),
            }
        }

        #[test]
        fn no_error_repeats_a_password(password in "[a-z0-9:!$%&]{4,12}", host in "[a-z]{0,3}") {
            let password = format!("s3cr3t{password}");
            let error = parse_hosts(&format!("https://{host}:{password}@gateway")).unwrap_err();
            prop_assert!(!error.to_string().contains(&password), "{}", error);
        }
    }
}
