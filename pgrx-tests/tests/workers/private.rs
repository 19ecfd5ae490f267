//! Gateways in internal networks: a private certificate authority is trusted when `ca_file` names it, and only then.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::standin::Standin;
use audit_algolia_tests::wait::wait_until;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::*;

/// A certificate for 127.0.0.1 in use, and the PEM of the authority that signed it.
fn certified() -> (Arc<ServerConfig>, String) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = ca.self_signed(&ca_key).unwrap().pem();
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &rcgen::Issuer::new(ca, ca_key)).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    (Arc::new(config), pem)
}

/// Speaks TLS with whoever comes and plain HTTP with the stand-in; returns the URL.
fn gateway(standin: &Standin, config: Arc<ServerConfig>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let behind = standin.base_urls()[0].trim_start_matches("http://").to_owned();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, behind) = (Arc::clone(&config), behind.clone());
            thread::spawn(move || {
                relay(StreamOwned::new(ServerConnection::new(config).unwrap(), stream), &behind)
            });
        }
    });
    url
}

/// Passes one request on, and its answer back; nothing when the other side does not like the certificate.
fn relay(mut client: StreamOwned<ServerConnection, TcpStream>, behind: &str) -> Option<()> {
    let (mut head, mut length) = (String::new(), 0);
    let mut reader = BufReader::new(&mut client);
    while !head.ends_with("\r\n\r\n") {
        let start = head.len();
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
        if let Some(value) = head[start..].to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut server = TcpStream::connect(behind).ok()?;
    let head = head.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
    server.write_all(&[head.as_bytes(), &body].concat()).ok()?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).ok()?;
    client.write_all(&answer).ok()?;
    client.conn.send_close_notify();
    client.flush().ok()
}

#[test]
fn a_private_authority_is_trusted_when_it_is_named_and_not_before() {
    let stage = Stage::builder()
        .setting("audit_algolia.retry_min", "50ms")
        .setting("audit_algolia.retry_max", "200ms")
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    let (config, pem) = certified();
    let url = gateway(&stage.standin, config);
    stage.cluster.set(&[("audit_algolia.hosts", &url)]).unwrap();
    wait_until("the setting", SOON, || one::<String>(&mut db, "show audit_algolia.hosts") == url);
    insert(&mut db, "log", 1..=10);
    wait_until("a refusal", SOON, || queue(&mut db, "log").last_error.contains("unknown authority"));
    let told = queue(&mut db, "log").last_error;
    assert!(told.contains("audit_algolia.ca_file"), "{told}");
    assert_eq!(stage.standin.request_count(), 0, "nothing is said to a host that cannot prove who it is");
    let file = KeyFile::new(&stage, &pem, 0o644);
    stage.cluster.set(&[("audit_algolia.ca_file", file.path())]).unwrap();
    stage.wait_for_records("log", 10);
    wait_for_empty_queue(&mut db);
    insert(&mut db, "log", 11..=20);
    stage.wait_for_records("log", 20);
}
