//! The way to an upstream: verified TLS, no redirects, no proxy variables, one deadline over the whole
//! exchange and a shorter one for an answer's body, of at most 64 KiB. `stdout` has a writer thread instead.

use std::future::Future;
use std::io::Write;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::calls::Calls;
use crate::sink::{self, Answer, Kind, Parcel, Sink, UpstreamConfig};
use crate::spans::Spans;

/// Most of an answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// The rest of an answer is waited for so long behind its head, which has the verdict. Shorter than any hang that is
/// noticed (`circuit`): an upstream that says 200 and no more takes events.
const BODY_WAIT_MAX: Duration = Duration::from_secs(2);
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

    /// Who knows the upstream's language; `None` where nobody does yet.
    fn sink(&self, config: &UpstreamConfig) -> Option<&'static dyn Sink> {
        sink::of(config.kind)
    }
}

/// Dials the real upstreams.
pub struct Dialer {
    tls: Arc<rustls::ClientConfig>,
    stdout: Mutex<Option<mpsc::Sender<Line>>>,
    spans: Spans,
}

impl Dialer {
    /// Trusts the web's public authorities, or what `tls` says (own authorities, client certificates).
    ///
    /// # Errors
    /// The crypto provider does not do TLS 1.2 and 1.3.
    pub fn new(tls: Option<rustls::ClientConfig>) -> Result<Self, rustls::Error> {
        let tls = match tls {
            Some(tls) => tls,
            None => public_trust()?,
        };
        Ok(Self { tls: Arc::new(tls), stdout: Mutex::new(None), spans: Spans::default() })
    }

    /// With a span for each request, where somebody collects them.
    #[must_use]
    pub fn traced(self, spans: Spans) -> Self {
        Self { spans, ..self }
    }

    /// The way to an address that is no upstream.
    pub fn to(&self, url: hyper::Uri, timeout: Duration) -> Arc<dyn Wire> {
        Arc::new(Http::new("", url, timeout, 1, self))
    }

    /// The one writer of the process's standard output, started at first use.
    fn stdout(&self) -> mpsc::Sender<Line> {
        let mut stdout = self.stdout.lock().unwrap_or_else(PoisonError::into_inner);
        stdout.get_or_insert_with(|| writer(Box::new(std::io::stdout()))).clone()
    }
}

/// Names a PEM file of authorities that are trusted instead of the web's, as most programs take it: a network that has its
/// own, or a proxy in between that signs anew.
const AUTHORITIES: &str = "SSL_CERT_FILE";

/// Verifies servers against the web's public authorities, or against those of the file that [`AUTHORITIES`] names.
///
/// # Errors
/// The crypto provider does not do TLS 1.2 and 1.3, or that file holds no authority.
pub fn public_trust() -> Result<rustls::ClientConfig, rustls::Error> {
    use hyper_rustls::ConfigBuilderExt;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let named = std::env::var_os(AUTHORITIES).filter(|file| !file.is_empty());
    let builder = match named {
        None => builder.with_webpki_roots(),
        Some(file) => builder.with_root_certificates(authorities(Path::new(&file))?),
    };
    Ok(builder.with_no_client_auth())
}

fn authorities(file: &Path) -> Result<rustls::RootCertStore, rustls::Error> {
    let wrong =
        |why: &dyn std::fmt::Display| rustls::Error::General(format!("{AUTHORITIES} names {}: {why}", file.display()));
    let mut roots = rustls::RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))?;
    // Some of a system's own store are of kinds that nobody asks for any more.
    roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    if roots.is_empty() {
        return Err(wrong(&"it holds no certificate in PEM form"));
    }
    Ok(roots)
}

impl Dial for Dialer {
    fn dial(&self, config: &UpstreamConfig) -> Arc<dyn Wire> {
        let timeout = config.timeout;
        match (config.kind, &config.url) {
            (Kind::Stdout, _) | (_, None) => Arc::new(Lines { to: self.stdout(), timeout }),
            (_, Some(url)) => Arc::new(Http::new(&config.name, url.clone(), timeout, config.connections, self)),
        }
    }
}

struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: hyper::Uri,
    timeout: Duration,
    calls: Calls,
}

impl Http {
    fn new(upstream: &str, url: hyper::Uri, timeout: Duration, connections: usize, dialer: &Dialer) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let https = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(rustls::ClientConfig::clone(&dialer.tls))
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(connections)
            .build(https);
        let calls = Calls::new(upstream, &url, dialer.spans.clone());
        Self { client, url, timeout, calls }
    }
}

impl Wire for Http {
    fn send(&self, parcel: Parcel) -> Exchange {
        let Some(url) = joined(&self.url, parcel.path.as_deref()) else {
            let text = "no address can be made of the upstream's URL and the request's path".to_owned();
            return Box::pin(async { Err(Failure { text, perhaps_sent: false }) });
        };
        let mut request = Request::new(Full::new(parcel.body));
        *request.method_mut() = parcel.method;
        *request.uri_mut() = url;
        *request.headers_mut() = parcel.headers;
        let agent = HeaderValue::from_static(concat!("surgegate/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(USER_AGENT, agent);
        let call = self.calls.begin(parcel.traces, &mut request);
        // The client does not begin before the future is polled, and drops the connection with it.
        let exchange = self.client.request(request);
        let timeout = self.timeout;
        let deadline = Instant::now() + timeout;
        Box::pin(async move {
            let response = timeout_at(deadline, exchange).await.map_err(|_| late(timeout)).and_then(|answered| {
                answered.map_err(|error| Failure { perhaps_sent: !error.is_connect(), text: chain(cause(&error)) })
            });
            if let Some(call) = call {
                call.ends(response.as_ref().map(hyper::Response::status).map_err(|failure| failure.text.as_str()));
            }
            let (head, body) = response?.into_parts();
            // The head has the verdict: a body that hangs cannot turn a success into a failure.
            let deadline = deadline.min(Instant::now() + BODY_WAIT_MAX);
            let (body, complete) = timeout_at(deadline, read(body)).await.unwrap_or_default();
            Ok(Answer { status: head.status, headers: head.headers, body, complete })
        })
    }
}

/// The configured URL, or one below it. A sender's words stand in a path only percent-encoded, so they cannot leave it.
fn joined(base: &hyper::Uri, path: Option<&str>) -> Option<hyper::Uri> {
    let Some(path) = path else { return Some(base.clone()) };
    let mut parts = base.clone().into_parts();
    let below = format!("{}{path}", base.path().trim_end_matches('/'));
    parts.path_and_query = Some(below.parse().ok()?);
    hyper::Uri::from_parts(parts).ok()
}

fn late(timeout: Duration) -> Failure {
    Failure { text: format!("no answer within {timeout:?}"), perhaps_sent: true }
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

/// What a client's error is about: its own words say only that it is one.
fn cause(error: &hyper_util::client::legacy::Error) -> &dyn std::error::Error {
    std::error::Error::source(error).unwrap_or(error)
}

/// An error and its causes in one line; none of them names the address.
pub fn chain(error: &dyn std::error::Error) -> String {
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
        let timeout = self.timeout;
        Box::pin(async move {
            let failed = |perhaps_sent| Failure { text: "standard output cannot be written".to_owned(), perhaps_sent };
            handed_over.map_err(|_| failed(false))?;
            match tokio::time::timeout(timeout, written).await {
                Ok(Ok(true)) => Ok(Answer::new(StatusCode::OK)),
                Ok(Ok(false) | Err(_)) => Err(failed(true)),
                Err(_) => Err(late(timeout)),
            }
        })
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::Response;
    use hyper::header::{HOST, LOCATION};
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::sink::samples;

    type Requests = Arc<Mutex<Vec<(hyper::http::request::Parts, Bytes)>>>;

    /// A server on this machine that answers by `rule`, and what it was asked.
    async fn serve(rule: fn(&str) -> Response<Full<Bytes>>) -> (String, Requests, Arc<Mutex<usize>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
        let (requests, connections): (Requests, Arc<Mutex<usize>>) = Default::default();
        let (seen, opened) = (Arc::clone(&requests), Arc::clone(&connections));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                *opened.lock().unwrap() += 1;
                let seen = Arc::clone(&seen);
                let service = service_fn(move |request: Request<Incoming>| {
                    let seen = Arc::clone(&seen);
                    async move {
                        let (head, body) = request.into_parts();
                        let answer = rule(head.uri.path());
                        let body = body.collect().await.unwrap().to_bytes();
                        seen.lock().unwrap().push((head, body));
                        Ok::<_, Infallible>(answer)
                    }
                });
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        (address, requests, connections)
    }

    fn wire(url: &str, timeout: Duration) -> Arc<dyn Wire> {
        let url = Some(url.parse().unwrap());
        let config = UpstreamConfig { url, timeout, ..samples::upstream("up", Kind::Webhook) };
        Dialer::new(None).unwrap().dial(&config)
    }

    fn parcel() -> Parcel {
        let mut headers = hyper::HeaderMap::new();
        headers.insert("webhook-id", HeaderValue::from_static("1"));
        Parcel { headers, body: Bytes::from_static(b"{\"a\":1}"), ..Parcel::default() }
    }

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_request_is_a_post_with_our_headers_alone_and_connections_are_used_again() {
        let (address, requests, connections) = serve(|_| Response::new(Full::from("fine"))).await;
        let wire = wire(&format!("http://{address}/hook?x=1"), LONG);
        for _ in 0..5 {
            let answer = wire.send(parcel()).await.unwrap();
            assert_eq!((answer.status, &*answer.body, answer.complete), (StatusCode::OK, &b"fine"[..], true));
        }
        assert_eq!(*connections.lock().unwrap(), 1);
        let requests = requests.lock().unwrap();
        let (head, body) = &requests[0];
        assert_eq!((&head.method, head.uri.to_string()), (&hyper::Method::POST, "/hook?x=1".to_owned()));
        assert_eq!(body, "{\"a\":1}");
        let mut names: Vec<&str> = head.headers.keys().map(hyper::header::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "host", "user-agent", "webhook-id"]);
        assert_eq!(head.headers[HOST], *address);
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_is_not_followed() {
        let redirect =
            |_: &str| Response::builder().status(307).header(LOCATION, "/other").body(Full::default()).unwrap();
        let (address, requests, _) = serve(redirect).await;
        let answer = wire(&format!("http://{address}/hook"), LONG).send(parcel()).await.unwrap();
        assert_eq!(answer.status, StatusCode::TEMPORARY_REDIRECT);
        assert_eq!(requests.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn an_answer_is_read_to_64_kib_and_no_further() {
        let sized = |path: &str| Response::new(Full::from(vec![b'x'; path.trim_start_matches('/').parse().unwrap()]));
        let (address, _, _) = serve(sized).await;
        let whole = wire(&format!("http://{address}/65536"), LONG).send(parcel()).await.unwrap();
        assert_eq!((whole.body.len(), whole.complete), (65_536, true));
        let cut = wire(&format!("http://{address}/1000000"), LONG).send(parcel()).await.unwrap();
        assert!(cut.body.len() <= ANSWER_BYTES_MAX && !cut.complete);
    }

    /// A server that reads a request, sends `answer` and then closes, or with `hold` never does.
    async fn raw(answer: &'static [u8], hold: bool) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await.unwrap();
                stream.write_all(answer).await.unwrap();
                if hold {
                    tokio::spawn(async move {
                        let _stream = stream;
                        std::future::pending::<()>().await;
                    });
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn a_success_whose_body_is_cut_is_still_a_success_but_says_so() {
        for (hold, timeout) in [(false, LONG), (true, Duration::from_millis(200))] {
            let address = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", hold).await;
            let answer = wire(&format!("http://{address}/"), timeout).send(parcel()).await.unwrap();
            assert_eq!((answer.status, answer.complete), (StatusCode::OK, false));
        }
    }

    #[tokio::test]
    async fn failures_tell_whether_the_request_may_have_arrived_and_never_the_address() {
        let closes = raw(b"", false).await;
        let hangs = raw(b"", true).await;
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let short = Duration::from_millis(200);
        for (url, timeout, perhaps_sent) in [
            (format!("http://{free}/secret-key"), LONG, false),
            (format!("http://{closes}/secret-key"), LONG, true),
            (format!("http://{hangs}/secret-key"), short, true),
            // Not TLS at all: nothing is ever sent without it.
            (format!("https://{}/secret-key", raw(b"HTTP/1.1 200 OK\r\n\r\n", false).await), LONG, false),
        ] {
            let failure = wire(&url, timeout).send(parcel()).await.unwrap_err();
            assert_eq!(failure.perhaps_sent, perhaps_sent, "{url}: {}", failure.text);
            assert!(!failure.text.contains("secret-key"), "{}", failure.text);
        }
    }

    #[derive(Clone, Default)]
    struct Paper {
        text: Arc<Mutex<Vec<u8>>>,
        torn: bool,
    }

    impl Write for Paper {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            if self.torn {
                return Err(std::io::ErrorKind::BrokenPipe.into());
            }
            self.text.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn lines_are_written_whole_and_a_broken_output_fails_them() {
        let paper = Paper::default();
        let lines = Lines { to: writer(Box::new(paper.clone())), timeout: LONG };
        let line = |text: &'static [u8]| lines.send(Parcel { body: Bytes::from_static(text), ..Parcel::default() });
        let (a, b) = (line(b"{\"a\":1}\n"), line(b"{\"b\":2}\n"));
        assert!(a.await.is_ok() && b.await.is_ok());
        assert_eq!(&*paper.text.lock().unwrap(), b"{\"a\":1}\n{\"b\":2}\n");
        let torn = Lines { to: writer(Box::new(Paper { torn: true, ..Paper::default() })), timeout: LONG };
        let failure = torn.send(parcel()).await.unwrap_err();
        assert!(failure.perhaps_sent);
    }
}
