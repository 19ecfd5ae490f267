//! Which certificates are trusted.
#![forbid(unsafe_code)]

use super::*;

/// A server with a certificate of its own authority, and that authority's PEM certificate.
fn serve_tls() -> (HostUrl, String) {
    serve_certificate("127.0.0.1", |_| ())
}

/// The same, with another name or a modified certificate.
fn serve_certificate(name: &str, change: impl FnOnce(&mut rcgen::CertificateParams)) -> (HostUrl, String) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut leaf = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    change(&mut leaf);
    (serve_with(&leaf.signed_by(&key, &issuer).unwrap(), &key), ca_pem)
}

fn serve_with(certificate: &rcgen::Certificate, key: &rcgen::KeyPair) -> HostUrl {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    let config = Arc::new(config);
    let plain = serve(move |_, stream| {
        let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, stream);
        while read_request(&mut stream).is_some() {
            stream.write_all(OK).unwrap();
        }
    });
    let url = plain.as_str().replace("http://", "https://");
    parse_hosts(&url).unwrap().remove(0)
}

/// The error for a host whose authority is trusted.
#[track_caller]
fn refusal(host: &HostUrl, ca_pem: &str) -> String {
    let trusting = HttpClient::new(1, Some(ca_pem.as_bytes())).unwrap();
    match post(&trusting, host).unwrap_err() {
        TransportError::Tls(text) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_certificate_for_another_name_is_refused_and_told() {
    let (host, ca_pem) = serve_certificate("elsewhere.example", |_| ());
    let text = refusal(&host, &ca_pem);
    assert!(text.contains("for another name"), "{text}");
}

#[test]
fn a_certificate_past_its_time_or_before_it_is_refused_and_told() {
    let (host, ca_pem) =
        serve_certificate("127.0.0.1", |leaf| leaf.not_after = rcgen::date_time_ymd(2001, 1, 1));
    assert_eq!(refusal(&host, &ca_pem), "certificate has expired");
    let (host, ca_pem) =
        serve_certificate("127.0.0.1", |leaf| leaf.not_before = rcgen::date_time_ymd(4000, 1, 1));
    assert_eq!(refusal(&host, &ca_pem), "certificate is not valid yet");
}

#[test]
fn a_self_signed_certificate_is_refused_unless_it_is_trusted_by_name() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "a gateway");
    let certificate = params.self_signed(&key).unwrap();
    let host = serve_with(&certificate, &key);
    let (_, other_pem) = serve_tls();
    let text = refusal(&host, &other_pem);
    assert!(text.contains("audit_algolia.ca_file"), "{text}");
    let trusting = HttpClient::new(1, Some(certificate.pem().as_bytes())).unwrap();
    assert_eq!(post(&trusting, &host).unwrap().status, 200);
}

#[test]
fn an_unknown_authority_is_refused_and_a_given_one_accepted() {
    let (host, ca_pem) = serve_tls();
    let error = post(&client(), &host).unwrap_err();
    assert!(matches!(error, TransportError::Tls(_)), "{error:?}");
    let trusting = HttpClient::new(4, Some(ca_pem.as_bytes())).unwrap();
    assert_eq!(post(&trusting, &host).unwrap().status, 200);
    let (_, other_pem) = serve_tls();
    let mistaken = HttpClient::new(4, Some(other_pem.as_bytes())).unwrap();
    assert!(matches!(post(&mistaken, &host).unwrap_err(), TransportError::Tls(_)));
}

#[test]
fn a_host_without_tls_is_refused() {
    let (plain, _asked) = echo(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    let host = parse_hosts(&plain.as_str().replace("http://", "https://")).unwrap().remove(0);
    let error = post_with(&client(), &host, |r| r.request_timeout = Duration::from_millis(400)).unwrap_err();
    assert!(!matches!(error, TransportError::Other(_)), "{error:?}");
}

#[test]
fn a_text_without_certificates_makes_no_client() {
    for pem in ["", "hello", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"] {
        assert!(
            matches!(HttpClient::new(1, Some(pem.as_bytes())), Err(ClientError::BadCertificate(_))),
            "{pem}"
        );
    }
}

#[test]
fn a_machine_without_authorities_gets_a_clear_word() {
    let error = rustls_error("No CA certificates were loaded from the system");
    assert_eq!(
        error,
        "this machine has no certificate authorities; install them or set audit_algolia.ca_file"
    );
}

fn rustls_error(text: &str) -> String {
    let error = ureq::Error::Rustls(rustls::Error::General(text.to_owned()));
    let host = parse_hosts("https://a").unwrap().remove(0);
    let key = Secret::default();
    let request = Request {
        method: Method::Post,
        host: &host,
        path: "/",
        headers: &[],
        api_key: &key,
        body: &[],
        connect_timeout: Duration::ZERO,
        request_timeout: Duration::ZERO,
        answer_timeout: Duration::ZERO,
        response_limit: 0,
        fresh_connection: false,
    };
    explain(error, &request).to_string()
}
