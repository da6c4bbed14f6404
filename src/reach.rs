//! The way to a server that a URL names, as far as a connection goes: its name, TCP, and TLS verified as `forward`
//! verifies it. Nothing is sent. Called by `preflight` and by `surgegate probe`.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use rustls::CertificateError;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::forward::wire;

/// Where a URL leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    pub tls: bool,
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
}

impl Server {
    /// `None`: no absolute http or https URL.
    pub fn of(url: &Uri) -> Option<Self> {
        let tls = match url.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let host = url.host()?.trim_start_matches('[').trim_end_matches(']');
        let port = url.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Some(Self { tls, host: host.to_owned(), port })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Why there is no connection. Names the server at most by its host and port: a path may hold a key.
#[derive(Debug, thiserror::Error)]
pub enum Unreached {
    #[error("the name {0} is not known to DNS")]
    Name(String),
    #[error("{}: {}", .0, plain(.1))]
    Connect(Server, io::Error),
    #[error("{0}: no connection within {1:?}")]
    Late(Server, Duration),
    #[error("{}: TLS failed: {}", .0, plain(.1))]
    Tls(Server, io::Error),
    /// It answers, and is not who it should be.
    #[error("{}: its certificate is refused: {}", .0, refused(.1))]
    Certificate(Server, CertificateError),
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// The machine's words without its number.
fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused: nothing listens there".to_owned(),
        io::ErrorKind::UnexpectedEof => "the connection was closed: perhaps it does not speak TLS".to_owned(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or(&text).to_owned()
        }
    }
}

fn refused(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet: is this machine's clock right?".to_owned()
        }
        CertificateError::UnknownIssuer => "no public authority has issued it".to_owned(),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another name".to_owned()
        }
        CertificateError::Revoked => "it was revoked".to_owned(),
        other => other.to_string(),
    }
}

/// A connection that bytes can be sent on.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What a connection to a server may trust. Made once for many.
pub struct Trust(TlsConnector);

impl Trust {
    /// The web's public authorities, as for upstreams.
    ///
    /// # Errors
    /// The crypto provider does not do TLS 1.2 and 1.3.
    pub fn public() -> Result<Self, Unreached> {
        Ok(Self(TlsConnector::from(Arc::new(wire::public_trust()?))))
    }
}

/// Connects, no longer than `most` in all.
///
/// # Errors
/// What keeps it from being spoken to.
pub async fn connect(server: &Server, trust: &Trust, most: Duration) -> Result<Box<dyn Stream>, Unreached> {
    let all = async {
        let tcp = tcp(server).await?;
        if !server.tls {
            return Ok(Box::new(tcp) as Box<dyn Stream>);
        }
        let name = ServerName::try_from(server.host.clone()).map_err(|_| Unreached::Name(server.host.clone()))?;
        let tls = trust.0.connect(name, tcp).await.map_err(|error| untrusted(server, error))?;
        Ok(Box::new(tls) as Box<dyn Stream>)
    };
    timeout(most, all).await.unwrap_or_else(|_| Err(Unreached::Late(server.clone(), most)))
}

/// To the first of its addresses that answers.
async fn tcp(server: &Server) -> Result<TcpStream, Unreached> {
    let addresses = tokio::net::lookup_host((server.host.as_str(), server.port)).await;
    let mut last = None;
    for address in addresses.map_err(|_| Unreached::Name(server.host.clone()))? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(match last {
        Some(error) => Unreached::Connect(server.clone(), error),
        None => Unreached::Name(server.host.clone()),
    })
}

/// A certificate that fails is told apart from a handshake that does.
fn untrusted(server: &Server, error: io::Error) -> Unreached {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(wrong)) => Unreached::Certificate(server.clone(), wrong.clone()),
        _ => Unreached::Tls(server.clone(), error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Option<String> {
        Server::of(&url.parse().unwrap()).map(|server| format!("{} {server}", server.tls))
    }

    #[test]
    fn a_url_names_a_server_and_its_usual_port() {
        assert_eq!(server("http://a.example/x").as_deref(), Some("false a.example:80"));
        assert_eq!(server("https://a.example").as_deref(), Some("true a.example:443"));
        assert_eq!(server("https://[::1]:8443/").as_deref(), Some("true [::1]:8443"));
        assert_eq!(server("ftp://a.example/"), None);
        assert_eq!(server("/path"), None);
    }

    #[tokio::test]
    async fn a_certificate_of_nobodys_is_told_apart_from_a_server_that_does_not_speak_tls() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            // The client breaks it off.
            let _ = acceptor.accept(stream).await;
            let (stream, _) = listener.accept().await.unwrap();
            drop(stream);
        });
        let trust = Trust::public().unwrap();
        let server = Server { tls: true, host: "localhost".to_owned(), port };
        let most = Duration::from_secs(60);
        let first = connect(&server, &trust, most).await.err().unwrap();
        assert!(matches!(first, Unreached::Certificate(..)), "{first}");
        assert!(first.to_string().contains("no public authority has issued it"), "{first}");
        let second = connect(&server, &trust, most).await.err().unwrap();
        assert!(matches!(second, Unreached::Tls(..)), "{second}");
    }
}
