//! One sender's way to a server: HTTP/1.1 by the load tester's own client, or HTTP/2 by hyper's on a connection that
//! several senders share; plain or in TLS. Called by the senders.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use tokio_rustls::TlsConnector;

use super::plan::Text;
use crate::connection::Connection;
use crate::stream::{Stream, connector};

/// An answer, as far as it is looked at.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// `X-Surgegate-Outcome`.
    pub(super) outcome: Option<String>,
    /// Kept where it is asked for.
    pub(super) body: Option<Vec<u8>>,
}

/// How to connect.
pub(super) struct Way {
    pub(super) http1_tls: Option<TlsConnector>,
    pub(super) http2_tls: Option<TlsConnector>,
    /// The `Host` header, where it is not the address.
    pub(super) host: Option<String>,
    pub(super) base_path: String,
}

impl Way {
    /// # Errors
    /// See [`connector`].
    pub(super) fn new(tls: bool, host: Option<String>, base_path: String) -> anyhow::Result<Self> {
        let tls = |protocol| tls.then(|| connector(protocol)).transpose();
        Ok(Self { http1_tls: tls("http/1.1")?, http2_tls: tls("h2")?, host, base_path })
    }

    fn host(&self, address: SocketAddr) -> String {
        self.host.clone().unwrap_or_else(|| address.to_string())
    }
}

/// A connection of HTTP/2 that several senders share.
pub(super) type Shared = Rc<RefCell<Option<(SocketAddr, SendRequest<Full<Bytes>>)>>>;

pub(super) enum Client {
    Http1 { kept: Option<(SocketAddr, Connection)>, request: Vec<u8> },
    Http2(Shared),
}

impl Client {
    pub(super) fn http1() -> Self {
        Self::Http1 { kept: None, request: Vec::new() }
    }

    /// Opens what it will need, so that the first request does not wait for it.
    pub(super) async fn warm(&mut self, way: &Way, address: SocketAddr) {
        match self {
            Self::Http1 { kept, .. } => {
                *kept = Stream::open(address, way.http1_tls.as_ref())
                    .await
                    .ok()
                    .map(|stream| (address, Connection::over(stream)));
            }
            Self::Http2(shared) => {
                let _ = sender_of(shared, way, address).await;
            }
        }
    }

    /// One request and its whole answer.
    pub(super) async fn exchange(
        &mut self,
        way: &Way,
        address: SocketAddr,
        text: &Text,
        keep_body: bool,
    ) -> Result<Answer, String> {
        match self {
            Self::Http1 { kept, request } => {
                write_http1(way, address, text, request);
                let mut connection = match kept.take() {
                    Some((to, connection)) if to == address && !connection.is_stale() => connection,
                    _ => Connection::over(
                        Stream::open(address, way.http1_tls.as_ref())
                            .await
                            .map_err(|error| error.kind().to_string())?,
                    ),
                };
                let head = connection.exchange(request).await.map_err(|failure| failure.to_string())?;
                let bytes = connection.answer(&head);
                let answer = Answer {
                    status: head.status,
                    outcome: outcome_in(&bytes[..head.body_at]),
                    body: keep_body.then(|| bytes[head.body_at..].to_vec()),
                };
                if !head.close {
                    *kept = Some((address, connection));
                }
                Ok(answer)
            }
            Self::Http2(shared) => {
                let mut sender = sender_of(shared, way, address).await.map_err(|error| error.kind().to_string())?;
                let answer = exchange_http2(&mut sender, way, address, text, keep_body).await;
                if answer.is_err() {
                    shared.borrow_mut().take();
                }
                answer
            }
        }
    }

    /// Nothing of this connection can be used again, as an answer may still come.
    pub(super) fn give_up(&mut self) {
        if let Self::Http1 { kept, .. } = self {
            *kept = None;
        }
    }
}

fn write_http1(way: &Way, address: SocketAddr, text: &Text, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(b"POST ");
    out.extend_from_slice(way.base_path.as_bytes());
    out.extend_from_slice(&text.path);
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(way.host(address).as_bytes());
    out.extend_from_slice(b"\r\nContent-Type: application/json\r\n");
    if !text.authorization.is_empty() {
        out.extend_from_slice(b"Authorization: ");
        out.extend_from_slice(&text.authorization);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", text.body.len()).as_bytes());
    out.extend_from_slice(&text.body);
}

/// The outcome's header in a head, however its name is written.
fn outcome_in(head: &[u8]) -> Option<String> {
    let mut rest = head;
    while let Some(at) = memmem::find(rest, b"\r\n") {
        let line = &rest[..at];
        if line.len() > 20 && line[..20].eq_ignore_ascii_case(b"x-surgegate-outcome:") {
            return Some(String::from_utf8_lossy(line[20..].trim_ascii()).into_owned());
        }
        rest = &rest[at + 2..];
    }
    None
}

async fn sender_of(shared: &Shared, way: &Way, address: SocketAddr) -> io::Result<SendRequest<Full<Bytes>>> {
    if let Some((to, sender)) = shared.borrow().as_ref()
        && *to == address
        && !sender.is_closed()
    {
        return Ok(sender.clone());
    }
    let stream = Stream::open(address, way.http2_tls.as_ref()).await?;
    let (sender, connection) = http2::handshake(LocalTasks, TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // It ends with its last sender, or when the server ends it.
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    *shared.borrow_mut() = Some((address, sender.clone()));
    Ok(sender)
}

#[derive(Debug, Clone, Copy)]
struct LocalTasks;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for LocalTasks {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

async fn exchange_http2(
    sender: &mut SendRequest<Full<Bytes>>,
    way: &Way,
    address: SocketAddr,
    text: &Text,
    keep_body: bool,
) -> Result<Answer, String> {
    let scheme = if way.http2_tls.is_some() { "https" } else { "http" };
    let path = String::from_utf8_lossy(&text.path);
    let mut request = hyper::Request::post(format!("{scheme}://{}{}{path}", way.host(address), way.base_path))
        .header(CONTENT_TYPE, "application/json");
    if !text.authorization.is_empty() {
        request = request.header(AUTHORIZATION, &text.authorization[..]);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(&text.body))).map_err(|error| error.to_string())?;
    let short =
        |error: hyper::Error| if error.is_canceled() { "cancelled".to_owned() } else { "HTTP/2 broken off".to_owned() };
    sender.ready().await.map_err(short)?;
    let response = sender.send_request(request).await.map_err(short)?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(short)?.to_bytes();
    let outcome = head.headers.get("x-surgegate-outcome").and_then(|value| value.to_str().ok()).map(str::to_owned);
    Ok(Answer { status: head.status.as_u16(), outcome, body: keep_body.then(|| body.to_vec()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_found_in_any_case_and_nowhere_else() {
        let head = b"HTTP/1.1 202 Accepted\r\nX-Request-Id: 1\r\nx-surgegate-outcome: created\r\n\r\n";
        assert_eq!(outcome_in(head).as_deref(), Some("created"));
        assert_eq!(outcome_in(b"HTTP/1.1 202 Accepted\r\nX: x-surgegate-outcome: created\r\n\r\n"), None);
    }
}
