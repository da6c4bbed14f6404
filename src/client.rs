//! A client of the admin API (INTERFACE 4) of a running process, for the verbs of `cli` that speak to one: one
//! HTTP/1 exchange a connection, JSON both ways, and the stream of `/api/v1/tap`.
//!
//! Everything is bounded: 2 s to connect, 30 s to an answer and all of its body, 32 MiB of it, 64 KiB for a line of a
//! stream. Where it went wrong is told apart, since a script does different things about each: see [`Error`].

mod base;
mod connect;
mod query;
mod stream;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::forward::wire::chain;

pub use base::{Base, Token};
pub use connect::Tls;
pub use query::Query;
pub use stream::{Message, Stream};

/// Time to connect, the name's look-up and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time to the whole of an answer: a forwarder at work may take its while over many dead letters.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Most of an answer's body: an event of 4 MiB, escaped, with room.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// Most of a message that an answer without our JSON is quoted with, in characters.
const QUOTE_CHARS_MAX: usize = 200;

/// Why there is no answer to work with. `Display` says it to whoever typed the command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address, a token's file or a certificate's that cannot be used.
    #[error("{0}")]
    Usage(String),
    /// Nothing was asked: there is no connection.
    #[error("the admin listener of {base} cannot be reached: {why}")]
    Unreachable { base: String, why: String },
    /// The process said no; `message` is its own word.
    #[error("{message}")]
    Refused { status: StatusCode, message: String },
    /// It stands there, and is not the admin listener, or not of a version that knows this.
    #[error("{0}")]
    Stranger(String),
    /// The exchange broke, or took too long: what was asked may have been done.
    #[error("{0}")]
    Broken(String),
}

/// An answer with its body read.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Value,
}

/// Where the admin listener stands, and who asks.
pub struct Client {
    base: Base,
    token: Option<Token>,
    tls: Tls,
}

impl Client {
    pub fn new(base: Base, token: Option<Token>, tls: Tls) -> Self {
        Self { base, token, tls }
    }

    /// The listener's address, as it is shown.
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// Whether a token is sent.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Reads what `query` names.
    ///
    /// # Errors
    /// As [`Client::exchange`]; any status but 2xx is `Refused` or `Stranger`.
    pub async fn get(&self, query: &Query) -> Result<Value, Error> {
        self.ask(Method::GET, query, None).await
    }

    /// Asks, and takes 2xx for an answer.
    ///
    /// # Errors
    /// As [`Client::exchange`]; any status but 2xx is `Refused` or `Stranger`.
    pub async fn ask(&self, method: Method, query: &Query, body: Option<&Value>) -> Result<Value, Error> {
        let answer = self.exchange(method, query, body).await?;
        if answer.status.is_success() { Ok(answer.body) } else { Err(self.refusal(&answer)) }
    }

    /// Asks once, and takes any status with a JSON body for an answer.
    ///
    /// # Errors
    /// Nobody to be reached, somebody else there, no answer in time, one that is no JSON or too long.
    pub async fn exchange(&self, method: Method, query: &Query, body: Option<&Value>) -> Result<Answer, Error> {
        let is_write = method != Method::GET;
        let exchanged = self.exchange_once(method, query, body).await;
        exchanged.map_err(|error| match error {
            Error::Broken(why) if is_write => {
                Error::Broken(format!("{why}; what was asked for may have been done: look before you ask again"))
            }
            error => error,
        })
    }

    async fn exchange_once(&self, method: Method, query: &Query, body: Option<&Value>) -> Result<Answer, Error> {
        let deadline = Instant::now() + CONNECT_TIMEOUT + ANSWER_TIMEOUT;
        let response = self.send(method, query, body, "application/json").await?;
        let (head, body) = response.into_parts();
        let read = timeout_at(deadline, read(body)).await.map_err(|_| self.late())?;
        let text = read.map_err(|why| Error::Broken(format!("the answer of {} broke off: {why}", self.base)))?;
        match serde_json::from_slice(&text) {
            Ok(body) => Ok(Answer { status: head.status, body }),
            Err(_) => Err(self.stranger(head.status, &text)),
        }
    }

    /// Opens the stream of server-sent events at `query`.
    ///
    /// # Errors
    /// As [`Client::get`], and where the answer is no such stream.
    pub async fn stream(&self, query: &Query) -> Result<Stream, Error> {
        let response = self.send(Method::GET, query, None, "text/event-stream").await?;
        let (head, body) = response.into_parts();
        let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if head.status.is_success() && kind.starts_with("text/event-stream") {
            return Ok(Stream::new(body));
        }
        let read = tokio::time::timeout(ANSWER_TIMEOUT, read(body)).await.map_err(|_| self.late())?;
        let text = read.unwrap_or_default();
        match serde_json::from_slice(&text) {
            Ok(body) if !head.status.is_success() => Err(self.refusal(&Answer { status: head.status, body })),
            _ => Err(self.stranger(head.status, &text)),
        }
    }

    /// Connects, asks, and waits for the head of the answer.
    async fn send(
        &self,
        method: Method,
        query: &Query,
        body: Option<&Value>,
        accept: &'static str,
    ) -> Result<Response<Incoming>, Error> {
        let mut sender = connect::connect(&self.base, &self.tls, CONNECT_TIMEOUT).await?;
        let request = self.request(method, query, body, accept)?;
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let answer = timeout_at(deadline, sender.send_request(request)).await.map_err(|_| self.late())?;
        answer.map_err(|error| {
            if error.is_parse() {
                return Error::Stranger(format!("{} does not speak HTTP: is it the admin listener?", self.base));
            }
            Error::Broken(format!("{} closed the connection without an answer: {}", self.base, chain(&error)))
        })
    }

    fn request(
        &self,
        method: Method,
        query: &Query,
        body: Option<&Value>,
        accept: &'static str,
    ) -> Result<Request<Full<Bytes>>, Error> {
        let text = body.map(Value::to_string);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{query}", self.base.prefix()))
            .header(HOST, self.base.authority())
            .header(USER_AGENT, concat!("surgegate/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, accept);
        if text.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.reveal()))
                .map_err(|_| Error::Usage("the token holds what no header may".to_owned()))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let body = Full::new(Bytes::from(text.unwrap_or_default()));
        request.body(body).map_err(|error| Error::Usage(format!("not to be asked for: {error}")))
    }

    fn late(&self) -> Error {
        Error::Broken(format!("no answer from {} within {} s", self.base, ANSWER_TIMEOUT.as_secs()))
    }

    /// What an answer that says no comes to.
    pub fn refusal(&self, answer: &Answer) -> Error {
        let Answer { status, body } = answer;
        let status = *status;
        let message = body["message"].as_str().unwrap_or_default();
        // The other two listeners answer in JSON, too.
        let other = match (status, body["reason"].as_str()) {
            (StatusCode::NOT_FOUND, Some("no_route")) => Some("ingest"),
            (StatusCode::NOT_FOUND, _) if message.contains("/livez") => Some("observe"),
            // The admin API names the method a path takes; the observe listener takes one alone.
            (StatusCode::METHOD_NOT_ALLOWED, None) if message == "use GET" => Some("observe"),
            (StatusCode::METHOD_NOT_ALLOWED, Some("wrong_method")) => Some("ingest"),
            _ => None,
        };
        match other {
            Some(name) => Error::Stranger(format!(
                "{} is the {name} listener: name the one of `listen.admin.address` with --admin",
                self.base
            )),
            None if message.is_empty() => self.stranger(status, body.to_string().as_bytes()),
            None => Error::Refused { status, message: message.to_owned() },
        }
    }

    /// An answer that is not of this API.
    fn stranger(&self, status: StatusCode, text: &[u8]) -> Error {
        let text = String::from_utf8_lossy(text);
        let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("with an empty body");
        let mut quote: String = line.chars().filter(|character| !character.is_control()).collect();
        if let Some((end, _)) = quote.char_indices().nth(QUOTE_CHARS_MAX) {
            quote.truncate(end);
            quote.push('…');
        }
        let base = &self.base;
        Error::Stranger(format!("{base} answers {status} and not as the admin listener does: {quote}"))
    }
}

/// The whole body, or why there is none.
async fn read(mut body: Incoming) -> Result<Bytes, String> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| chain(&error))?;
        let Ok(data) = frame.into_data() else { continue };
        if read.len() + data.len() > ANSWER_BYTES_MAX {
            return Err(format!("it is longer than {} MiB", ANSWER_BYTES_MAX >> 20));
        }
        read.extend_from_slice(&data);
    }
    Ok(read.freeze())
}

#[cfg(test)]
mod tests;
