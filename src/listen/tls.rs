//! TLS of the ingest listener: reads certificate, key and client CA, says what is wrong with them, and makes what
//! handshakes are held by. Called at the start, at each reload, and by `validate`.
//!
//! TLS 1.2 and 1.3 with the library's own choice of suites, HTTP/2 or HTTP/1.1 by ALPN, resumption by tickets under
//! keys that change every six hours and at each load, no early data (it could be replayed). With a client CA a client
//! must show a certificate of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::event::Micros;

/// HTTP/2 and HTTP/1.1 as ALPN names them.
pub(super) const ALPN_H2: &[u8] = b"h2";
const ALPN_HTTP_1_1: &[u8] = b"http/1.1";
/// Largest file: some hundred certificates, with room to spare.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Files in PEM (INTERFACE 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The server's own certificate first, then those that lead to its root.
    pub certificate: PathBuf,
    /// PKCS 8, PKCS 1 or SEC 1, not encrypted.
    pub key: PathBuf,
    /// Certificates one of which must have signed a client's; `None`: clients need none.
    pub client_ca: Option<PathBuf>,
}

/// What is wrong with the files. Names them, never tells what they hold.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error("{path} cannot be read: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{path} is larger than {} KiB: not a PEM file", FILE_BYTES_MAX >> 10)]
    TooLarge { path: PathBuf },
    #[error("{path} is not PEM: a section is broken or its text is not base64")]
    NotPem { path: PathBuf },
    #[error("{path} holds no certificate: BEGIN CERTIFICATE is missing")]
    NoCertificate { path: PathBuf },
    #[error("{path}: certificate {number} cannot be decoded")]
    BadCertificate { path: PathBuf, number: usize },
    #[error("{path} holds no private key: BEGIN PRIVATE KEY is missing")]
    NoKey { path: PathBuf },
    #[error("{path} holds an encrypted key: decrypt it, e.g. with openssl pkey, and guard the file instead")]
    EncryptedKey { path: PathBuf },
    #[error("{path}: a key of a kind or size that is not supported; use ECDSA, Ed25519 or RSA of 2048 bits or more")]
    UnusableKey { path: PathBuf },
    #[error("{key} does not belong to the first certificate in {certificate}")]
    Mismatch { key: PathBuf, certificate: PathBuf },
    #[error("{path} holds no certificate that can sign clients' certificates")]
    UnusableAuthority { path: PathBuf },
    #[error("the TLS library refuses its own settings: {0}")]
    Library(#[from] rustls::Error),
}

impl TlsError {
    /// The file it is about.
    pub fn path(&self) -> Option<&PathBuf> {
        match self {
            Self::Unreadable { path, .. }
            | Self::TooLarge { path }
            | Self::NotPem { path }
            | Self::NoCertificate { path }
            | Self::BadCertificate { path, .. }
            | Self::NoKey { path }
            | Self::EncryptedKey { path }
            | Self::UnusableKey { path }
            | Self::Mismatch { key: path, .. }
            | Self::UnusableAuthority { path } => Some(path),
            Self::Library(_) => None,
        }
    }
}

/// Everything that is wrong with the files, at least one thing.
#[derive(Debug)]
pub struct TlsErrors {
    pub all: Vec<TlsError>,
    /// Of the certificate, where that can be read.
    pub facts: Option<CertificateFacts>,
}

impl std::fmt::Display for TlsErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all: Vec<String> = self.all.iter().map(TlsError::to_string).collect();
        f.write_str(&all.join("; "))
    }
}

impl std::error::Error for TlsErrors {}

impl<E: Into<TlsError>> From<E> for TlsErrors {
    fn from(error: E) -> Self {
        Self { all: vec![error.into()], facts: None }
    }
}

/// What the server's own certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Names and addresses it is for; the common name where it has none.
    pub names: Vec<String>,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
    /// Certificates in the file.
    pub chain_len: usize,
}

impl CertificateFacts {
    /// Why a client would refuse it at `now` (seconds since 1970), if it would.
    pub fn complaint(&self, now: i64) -> Option<&'static str> {
        match now {
            _ if now < self.not_before => Some("the certificate is not valid yet"),
            _ if now > self.not_after => Some("the certificate has expired"),
            _ => None,
        }
    }
}

/// All that handshakes need, ready for [`super::Listener::set_tls`].
#[derive(Clone, Debug)]
pub struct Loaded {
    pub(super) server: Arc<ServerConfig>,
    pub facts: CertificateFacts,
    pub(super) certificate: PathBuf,
}

impl Loaded {
    /// Says in the log which certificate is in use, and what clients will say of it.
    pub(super) fn tell(&self) {
        let file = self.certificate.display();
        match self.facts.complaint(Micros::now().0 / 1_000_000) {
            Some(complaint) => tracing::warn!(%file, "{complaint}: clients will refuse it"),
            None => tracing::info!(%file, names = ?self.facts.names, "TLS certificate in use"),
        }
    }
}

/// Reads the files and looks whether handshakes would work with them.
///
/// # Errors
/// As [`load`].
pub fn check(config: &Config) -> Result<CertificateFacts, TlsErrors> {
    load(config).map(|loaded| loaded.facts)
}

/// Reads the files. A certificate that is out of its time is no error: its clients decide.
///
/// # Errors
/// Each file that cannot be read or does not hold what it should, or a key of another certificate.
pub fn load(config: &Config) -> Result<Loaded, TlsErrors> {
    let mut all = Vec::new();
    let mut wrong = |error: TlsError| all.push(error);
    let chain = certificates(&config.certificate);
    let chain = chain.and_then(|chain| Ok((facts(&config.certificate, &chain)?, chain))).map_err(&mut wrong).ok();
    let key = private_key(&config.key).map_err(&mut wrong).ok();
    let verifier = match &config.client_ca {
        Some(path) => clients_of(path).map_err(&mut wrong).ok(),
        None => Some(Arc::new(NoClientAuth) as Arc<dyn ClientCertVerifier>),
    };
    let (facts, chain) = chain.unzip();
    // Whether the two belong together can be asked where both are well.
    let pair = chain.zip(key).and_then(|(chain, key)| certified(config, chain, key).map_err(wrong).ok());
    let (Some(facts), Some(certified), Some(verifier)) = (facts.clone(), pair, verifier) else {
        return Err(TlsErrors { all, facts });
    };
    let mut server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    server.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP_1_1.to_vec()];
    server.ticketer = aws_lc_rs::Ticketer::new()?;
    // All are strong: ours first, which scanners expect.
    server.ignore_client_order = true;
    // One is enough: a client that needs more connections at once has the first.
    server.send_tls13_tickets = 1;
    Ok(Loaded { server: Arc::new(server), facts, certificate: config.certificate.clone() })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |source| TlsError::Unreadable { path: path.into(), source };
    let bytes = crate::file::read(path, FILE_BYTES_MAX).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX { Err(TlsError::TooLarge { path: path.into() }) } else { Ok(bytes) }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    // The library's errors may quote the file.
    let found = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    match found.map_err(|_| TlsError::NotPem { path: path.into() })? {
        none if none.is_empty() => Err(TlsError::NoCertificate { path: path.into() }),
        some => Ok(some),
    }
}

fn facts(path: &Path, chain: &[CertificateDer<'_>]) -> Result<CertificateFacts, TlsError> {
    let bad = |number| TlsError::BadCertificate { path: path.into(), number };
    let decoded = chain.iter().enumerate().map(|(at, one)| Certificate::from_der(one).map_err(|_| bad(at + 1)));
    let decoded = decoded.collect::<Result<Vec<_>, _>>()?;
    let leaf = decoded.first().ok_or_else(|| bad(1))?.tbs_certificate();
    let seconds = |time: x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
    let alternative = leaf.get_extension::<SubjectAltName>().map_err(|_| bad(1))?;
    let mut names: Vec<String> = alternative.iter().flat_map(|(_, names)| &names.0).filter_map(name).collect();
    if names.is_empty() {
        let common = leaf.subject().common_name().ok().flatten();
        names.extend(common.map(|name| name.value().into_owned()));
    }
    Ok(CertificateFacts {
        names,
        not_before: seconds(leaf.validity().not_before),
        not_after: seconds(leaf.validity().not_after),
        chain_len: chain.len(),
    })
}

fn name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::IpAddress(bytes) => match *bytes.as_bytes() {
            [a, b, c, d] => Some(std::net::Ipv4Addr::new(a, b, c, d).to_string()),
            ref bytes => <[u8; 16]>::try_from(bytes).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        },
        _ => None,
    }
}

fn private_key(path: &Path) -> Result<Arc<dyn SigningKey>, TlsError> {
    let bytes = read(path)?;
    let path = || path.to_owned();
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        // As PKCS 8 says it, and as OpenSSL's older forms do.
        _ if [&b"ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"].iter().any(|mark| holds(&bytes, mark)) => {
            TlsError::EncryptedKey { path: path() }
        }
        rustls::pki_types::pem::Error::NoItemsFound => TlsError::NoKey { path: path() },
        _ => TlsError::NotPem { path: path() },
    })?;
    aws_lc_rs::sign::any_supported_type(&key).map_err(|_| TlsError::UnusableKey { path: path() })
}

fn certified(
    config: &Config,
    chain: Vec<CertificateDer<'static>>,
    key: Arc<dyn SigningKey>,
) -> Result<CertifiedKey, TlsError> {
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(_) => Err(TlsError::Mismatch { key: config.key.clone(), certificate: config.certificate.clone() }),
    }
}

fn holds(bytes: &[u8], mark: &[u8]) -> bool {
    memchr::memmem::find(bytes, mark).is_some()
}

/// Demands a certificate that one of the file's has signed.
fn clients_of(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let unusable = || TlsError::UnusableAuthority { path: path.into() };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|_| unusable())?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().map_err(|_| unusable())
}

#[cfg(test)]
mod tests;
