//! What bodies of Amazon SNS ask of Amazon itself (contracts/others.md 3): the certificate that a body is signed with, and a
//! visit that confirms a subscription. The only requests that a sender can bring about, so they are held tight: `https` to
//! Amazon's hosts for SNS alone (`dialect::sns_envelope`), no redirects, 5 s, small answers, few at a time.
//!
//! Called by `intake` for integrations that want signatures checked or subscriptions confirmed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::signature::{self, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::dialect::sns_envelope::Signed;

/// Of a request, from the name to the last byte.
const FETCH_TIME_MAX: Duration = Duration::from_secs(5);
/// Of an answer: a certificate, or a short confirmation.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Certificates that are kept: SNS has one a region, and changes it once a year.
const CERTIFICATES_MAX: usize = 64;
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// A certificate that could not be had is not asked for again so soon.
const KEPT_FAILURE: Duration = Duration::from_secs(10);
/// Requests at a time; who finds none free waits no longer than a request takes.
const FETCHES_MAX: usize = 8;

/// Why a signature was not found good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    #[error("the signature is not Amazon's")]
    Wrong,
    #[error("the certificate cannot be had just now")]
    NoCertificate,
}

/// Where a host listens; another one in tests.
type Resolve = Box<dyn Fn(&str) -> (String, u16) + Send + Sync>;

/// A public key, or that it could not be had, and since when that is known.
struct Kept {
    key: Option<Arc<[u8]>>,
    at: Instant,
}

/// The way to Amazon.
pub struct Amazon {
    tls: TlsConnector,
    resolve: Resolve,
    keys: Mutex<HashMap<String, Kept>>,
    fetches: Semaphore,
}

impl Amazon {
    /// `tls`: whom `https` trusts.
    pub fn new(tls: rustls::ClientConfig) -> Self {
        Self::at(tls, Box::new(|host| (host.to_owned(), 443)))
    }

    fn at(tls: rustls::ClientConfig, resolve: Resolve) -> Self {
        let tls = TlsConnector::from(Arc::new(tls));
        Self { tls, resolve, keys: Mutex::default(), fetches: Semaphore::new(FETCHES_MAX) }
    }

    /// Whether Amazon signed this.
    ///
    /// # Errors
    /// It did not, or nobody can tell just now.
    pub async fn verify(&self, signed: &Signed) -> Result<(), Unproven> {
        let key = self.key(&signed.certificate).await?;
        let tag = STANDARD.decode(&signed.signature).map_err(|_| Unproven::Wrong)?;
        let algorithm: &dyn signature::VerificationAlgorithm = match signed.version {
            1 => &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
            _ => &signature::RSA_PKCS1_2048_8192_SHA256,
        };
        let key = UnparsedPublicKey::new(algorithm, &*key);
        key.verify(signed.text.as_bytes(), &tag).map_err(|_| Unproven::Wrong)
    }

    /// Visits a URL that confirms a subscription.
    ///
    /// # Errors
    /// What to tell the operator.
    pub async fn confirm(&self, url: &Uri) -> Result<(), String> {
        self.fetch(url).await.map(drop)
    }

    /// The public key of the certificate at this URL, as X.509 has it.
    async fn key(&self, url: &Uri) -> Result<Arc<[u8]>, Unproven> {
        let name = url.to_string();
        if let Some(known) = self.known(&name) {
            return known.ok_or(Unproven::NoCertificate);
        }
        let fetched = match self.fetch(url).await {
            Ok(pem) => key_of(&pem).ok_or_else(|| "no certificate in PEM form".to_owned()),
            Err(error) => Err(error),
        };
        if let Err(error) = &fetched {
            tracing::warn!(error, host = url.host(), "the certificate of SNS cannot be had");
        }
        let key = fetched.ok();
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= CERTIFICATES_MAX
            && let Some(oldest) = keys.iter().min_by_key(|(_, kept)| kept.at).map(|(name, _)| name.clone())
        {
            keys.remove(&oldest);
        }
        keys.insert(name, Kept { key: key.clone(), at: Instant::now() });
        key.ok_or(Unproven::NoCertificate)
    }

    /// What is known of a certificate and still counts.
    fn known(&self, name: &str) -> Option<Option<Arc<[u8]>>> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = keys.get(name)?;
        let counts_for = if kept.key.is_some() { KEPT } else { KEPT_FAILURE };
        (kept.at.elapsed() < counts_for).then(|| kept.key.clone())
    }

    async fn fetch(&self, url: &Uri) -> Result<Bytes, String> {
        let fetch = async {
            let _place = self.fetches.acquire().await.map_err(|error| error.to_string())?;
            self.get(url).await
        };
        let late = |_| format!("no answer within {} s", FETCH_TIME_MAX.as_secs());
        tokio::time::timeout(FETCH_TIME_MAX, fetch).await.map_err(late)?
    }

    /// A GET of its own connection; anything but 200 is none, a redirect too.
    async fn get(&self, url: &Uri) -> Result<Bytes, String> {
        let host = url.host().ok_or("no host")?;
        let (address, port) = (self.resolve)(host);
        let tcp = TcpStream::connect((address, port)).await.map_err(|error| error.to_string())?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let stream = self.tls.connect(name, tcp).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::get(path).header(HOST, host).header(CONNECTION, "close").body(Empty::<Bytes>::new());
        let request = request.map_err(|error| error.to_string())?;
        let asked = async {
            let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
            if answer.status() != StatusCode::OK {
                return Err(format!("status {}", answer.status().as_u16()));
            }
            #[allow(clippy::disallowed_methods)] // Limited.
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            Ok(body.map_err(|error| error.to_string())?.to_bytes())
        };
        tokio::pin!(asked);
        tokio::pin!(connection);
        // The connection lives as long as its one request.
        tokio::select! {
            answer = &mut asked => answer,
            ended = &mut connection => match ended {
                Ok(()) => asked.await,
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

/// The key of the first certificate in a PEM text.
fn key_of(pem: &[u8]) -> Option<Arc<[u8]>> {
    let certificate = CertificateDer::from_pem_slice(pem).ok()?;
    let parsed = rustls::server::ParsedCertificate::try_from(&certificate).ok()?;
    Some(Arc::from(parsed.subject_public_key_info().as_ref()))
}

#[cfg(test)]
mod tests;
