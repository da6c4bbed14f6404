//! The way to an upstream: verified TLS, no redirects, no proxy variables, one deadline over the whole
//! exchange, an answer of at most 64 KiB. `stdout` has a writer thread instead.

use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::{mpsc, oneshot};

use crate::sink::{Answer, Kind, Parcel, UpstreamConfig};

/// Most of an answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// An idle connection is closed after this: before common servers close theirs (5 s) under a request.
const IDLE_MAX: Duration = Duration::from_secs(4);
/// Lines that wait for the writer of `stdout`.
const LINES_MAX: usize = 1024;

/// Why there is no answer.
#[derive(Clone, Debug)]
pub struct Failure {
    /// For the log and the status page; holds no address and no body.
    pub text: String,
    /// The request may have reached the upstream: a repetition may be one for it.
    pub perhaps_sent: bool,
}

pub type Exchange = Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send>>;

/// One upstream's way.
pub trait Wire: Send + Sync {
    /// Sends and waits for the answer, no longer than the upstream's timeout.
    fn send(&self, parcel: Parcel) -> Exchange;
}

/// Makes the way to an upstream. Tests bring their own.
pub trait Dial: Send + Sync {
    fn dial(&self, config: &UpstreamConfig) -> Arc<dyn Wire>;
}

/// Dials the real upstreams.
pub struct Dialer {
    tls: Arc<rustls::ClientConfig>,
    stdout: Mutex<Option<mpsc::Sender<Line>>>,
}

impl Dialer {
    /// Trusts the web's public authorities, or what `tls` says (own authorities, client certificates).
    ///
    /// # Errors
    /// The crypto provider does not do TLS 1.2 and 1.3.
    pub fn new(tls: Option<rustls::ClientConfig>) -> Result<Self, rustls::Error> {
        let tls = match tls {
            Some(tls) => tls,
            None => {
                use hyper_rustls::ConfigBuilderExt;
                let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
                rustls::ClientConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()?
                    .with_webpki_roots()
                    .with_no_client_auth()
            }
        };
        Ok(Self { tls: Arc::new(tls), stdout: Mutex::new(None) })
    }

    /// The one writer of the process's standard output, started at first use.
    fn stdout(&self) -> mpsc::Sender<Line> {
        let mut stdout = self.stdout.lock().unwrap_or_else(PoisonError::into_inner);
        stdout.get_or_insert_with(|| writer(Box::new(std::io::stdout()))).clone()
    }
}

impl Dial for Dialer {
    fn dial(&self, config: &UpstreamConfig) -> Arc<dyn Wire> {
        let timeout = config.timeout;
        match (config.kind, &config.url) {
            (Kind::Stdout, _) | (_, None) => Arc::new(Lines { to: self.stdout(), timeout }),
            (_, Some(url)) => Arc::new(Http::new(url.clone(), timeout, config.connections, &self.tls)),
        }
    }
}

struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: hyper::Uri,
    timeout: Duration,
}

impl Http {
    fn new(url: hyper::Uri, timeout: Duration, connections: usize, tls: &Arc<rustls::ClientConfig>) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let https = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(rustls::ClientConfig::clone(tls))
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(connections)
            .build(https);
        Self { client, url, timeout }
    }
}

impl Wire for Http {
    fn send(&self, parcel: Parcel) -> Exchange {
        let mut request = Request::new(Full::new(parcel.body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        *request.headers_mut() = parcel.headers;
        let agent = HeaderValue::from_static(concat!("surgegate/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(USER_AGENT, agent);
        // The client does not begin before the future is polled, and drops the connection with it.
        let exchange = self.client.request(request);
        Box::pin(within(self.timeout, async move {
            let response =
                exchange.await.map_err(|error| Failure { perhaps_sent: !error.is_connect(), text: chain(&error) })?;
            let (head, body) = response.into_parts();
            let (body, complete) = read(body).await;
            Ok(Answer { status: head.status, headers: head.headers, body, complete })
        }))
    }
}

async fn within(timeout: Duration, exchange: impl Future<Output = Result<Answer, Failure>>) -> Result<Answer, Failure> {
    tokio::time::timeout(timeout, exchange)
        .await
        .unwrap_or_else(|_| Err(Failure { text: format!("no answer within {timeout:?}"), perhaps_sent: true }))
}

/// The body as far as it comes, and whether that is all of it.
async fn read(mut body: Incoming) -> (Bytes, bool) {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) if read.len() + data.len() <= ANSWER_BYTES_MAX => read.extend_from_slice(&data),
            Ok(Err(_trailers)) => {}
            Ok(Ok(_)) | Err(_) => return (read.freeze(), false),
        }
    }
    (read.freeze(), true)
}

/// An error and its causes in one line; none of them names the address.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

struct Line {
    text: Bytes,
    done: oneshot::Sender<bool>,
}

/// Sends to the writer thread: a blocked pipe holds that thread, not the forwarder.
struct Lines {
    to: mpsc::Sender<Line>,
    timeout: Duration,
}

impl Wire for Lines {
    fn send(&self, parcel: Parcel) -> Exchange {
        let (done, written) = oneshot::channel();
        let handed_over = self.to.try_send(Line { text: parcel.body, done });
        Box::pin(within(self.timeout, async move {
            let failed = |perhaps_sent| Failure { text: "standard output cannot be written".to_owned(), perhaps_sent };
            handed_over.map_err(|_| failed(false))?;
            match written.await {
                Ok(true) => Ok(Answer::new(StatusCode::OK)),
                Ok(false) | Err(_) => Err(failed(true)),
            }
        }))
    }
}

/// Writes what has gathered, flushes once, and tells each line's sender.
fn writer(mut output: Box<dyn Write + Send>) -> mpsc::Sender<Line> {
    let (to, mut lines) = mpsc::channel::<Line>(LINES_MAX);
    let run = move || {
        let mut gathered = Vec::new();
        while let Some(first) = lines.blocking_recv() {
            gathered.push(first);
            while let (true, Ok(line)) = (gathered.len() < LINES_MAX, lines.try_recv()) {
                gathered.push(line);
            }
            let text: Vec<&[u8]> = gathered.iter().map(|line| &*line.text).collect();
            let written = output.write_all(&text.concat()).and_then(|()| output.flush()).is_ok();
            for line in gathered.drain(..) {
                // Whoever gave up waiting sends the line again.
                let _ = line.done.send(written);
            }
        }
    };
    // Without the thread the channel is closed, and each send fails and is tried again.
    let _ = std::thread::Builder::new().name("stdout".to_owned()).spawn(run);
    to
}
