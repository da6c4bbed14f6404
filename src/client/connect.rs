//! The way to the admin listener: TCP, TLS where it is asked for, and HTTP/1 on top.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Base, Error, chain};

/// Whom https trusts.
#[derive(Default)]
pub struct Tls {
    /// The web's public authorities where it is `None`.
    authorities: Option<rustls::RootCertStore>,
}

impl Tls {
    /// Trusts the authorities of a PEM file and no others.
    ///
    /// # Errors
    /// `Usage`: the file cannot be read or holds no certificate.
    pub fn trusting(file: &Path) -> Result<Self, Error> {
        let wrong = |why: &dyn std::fmt::Display| Error::Usage(format!("--ca-file {}: {why}", file.display()));
        let mut authorities = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))? {
            let certificate = certificate.map_err(|error| wrong(&error))?;
            authorities.add(certificate).map_err(|error| wrong(&error))?;
        }
        if authorities.is_empty() {
            return Err(wrong(&"it holds no certificate in PEM form"));
        }
        Ok(Self { authorities: Some(authorities) })
    }

    fn connector(&self) -> Result<TlsConnector, rustls::Error> {
        let public = || rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.authorities.clone().unwrap_or_else(public))
            .with_no_client_auth();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection that takes one request.
///
/// # Errors
/// `Unreachable`: no connection within `timeout`. `Stranger`: no TLS there, or a certificate that is not trusted.
pub(super) async fn connect(base: &Base, tls: &Tls, timeout: Duration) -> Result<SendRequest<Full<Bytes>>, Error> {
    let opened = tokio::time::timeout(timeout, open(base, tls)).await;
    let stream = opened.map_err(|_| unreachable(base, format!("no connection within {} s", timeout.as_secs())))??;
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(base, chain(&error)))?;
    // Ends with the answer's body, or with the process.
    tokio::spawn(connection);
    Ok(sender)
}

async fn open(base: &Base, tls: &Tls) -> Result<Box<dyn Duplex>, Error> {
    let tcp = TcpStream::connect((base.host(), base.port())).await;
    let tcp = tcp.map_err(|error| unreachable(base, error.to_string()))?;
    // A request is one write: nothing is gained without it.
    let _ = tcp.set_nodelay(true);
    if !base.is_https() {
        return Ok(Box::new(tcp));
    }
    let failed = |why: String| Error::Stranger(format!("no TLS with {base}: {why}"));
    let name = ServerName::try_from(base.host().to_owned()).map_err(|error| failed(error.to_string()))?;
    let connector = tls.connector().map_err(|error| failed(error.to_string()))?;
    let stream = connector.connect(name, tcp).await.map_err(|error| failed(spoken(&error)))?;
    Ok(Box::new(stream))
}

/// Why a handshake failed; a plain HTTP listener's answer is told as what it is.
fn spoken(error: &std::io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidMessage(_)) => "it does not speak TLS; http:// may be meant".to_owned(),
        _ => error.to_string(),
    }
}

fn unreachable(base: &Base, why: String) -> Error {
    Error::Unreachable { base: base.to_string(), why }
}
