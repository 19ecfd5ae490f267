//! The certificate for TLS: for 127.0.0.1, signed by an authority that is created for it.

use std::io;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, Issuer, KeyPair};
use tokio_rustls::rustls::{crypto, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// A new certificate, and the PEM certificate of its authority, which nobody trusts by default.
pub(super) fn certified() -> io::Result<(TlsAcceptor, String)> {
    let (authority_key, key) = (pair()?, pair()?);
    let mut authority = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
    authority.is_ca = rcgen::IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = authority.self_signed(&authority_key).map_err(io::Error::other)?.pem();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).map_err(io::Error::other)?;
    let leaf = leaf.signed_by(&key, &Issuer::new(authority, authority_key)).map_err(io::Error::other)?;
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key.serialize_der().try_into().map_err(io::Error::other)?)
        .map_err(io::Error::other)?;
    Ok((TlsAcceptor::from(Arc::new(config)), pem))
}

fn pair() -> io::Result<KeyPair> {
    KeyPair::generate().map_err(io::Error::other)
}
