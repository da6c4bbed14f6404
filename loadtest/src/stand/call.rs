//! One request to a stand-in and its answer. Made by `upstream/serve.rs`, read by every vendor.

use std::time::Instant;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::{HeaderMap, Method};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

/// A request as it arrived.
pub(crate) struct Call<'a> {
    /// From 1 on, in the order of arrival; never used twice.
    pub(crate) number: u64,
    pub(crate) at: Timestamp,
    pub(crate) now: Instant,
    pub(crate) method: &'a Method,
    /// Not decoded.
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
}

/// Which request, and when it took effect.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    pub(super) request: u64,
    /// Microseconds since 1970.
    pub(super) at_us: i64,
}

impl From<&Call<'_>> for Stamp {
    fn from(call: &Call<'_>) -> Self {
        Self { request: call.number, at_us: call.at_us() }
    }
}

/// What the vendor answers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Value,
}

impl Reply {
    pub(super) fn new(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Call<'_> {
    pub(super) fn request_id(&self) -> String {
        uuid(0xa, self.number)
    }

    pub(super) fn at_us(&self) -> i64 {
        self.at.as_microsecond()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// What stands behind the scheme in `Authorization`; None when it is another scheme or nothing.
    pub(super) fn authorization(&self, scheme: &str) -> Option<&str> {
        let (word, rest) = self.header("authorization")?.split_once(' ')?;
        let rest = rest.trim();
        (word.eq_ignore_ascii_case(scheme) && !rest.is_empty()).then_some(rest)
    }

    /// The password of `Authorization: Basic`.
    pub(super) fn basic_password(&self) -> Option<String> {
        let pair = BASE64_STANDARD.decode(self.authorization("basic")?).ok()?;
        let pair = String::from_utf8(pair).ok()?;
        pair.split_once(':').map(|(_, password)| password.to_owned())
    }

    /// Whether the body is said to be JSON, in UTF-8 and not compressed.
    pub(super) fn says_json(&self) -> bool {
        let mut parts = self.header("content-type").unwrap_or_default().split(';').map(str::trim);
        let is_json = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
        let charset = parts.find_map(|part| part.to_ascii_lowercase().strip_prefix("charset=").map(str::to_owned));
        let is_utf8 = charset.is_none_or(|charset| charset.trim_matches('"') == "utf-8");
        is_json && is_utf8 && self.header("content-encoding").is_none_or(|coding| coding == "identity")
    }

    /// The body as a JSON object.
    pub(super) fn object(&self) -> Option<Map<String, Value>> {
        serde_json::from_slice(self.body).ok()
    }

    /// The segments of the path, decoded; a slash at the end makes none.
    pub(super) fn segments(&self) -> Vec<String> {
        let path = self.path.strip_prefix('/').unwrap_or(self.path);
        path.strip_suffix('/').unwrap_or(path).split('/').map(decoded).collect()
    }

    pub(super) fn query_value(&self, name: &str) -> Option<String> {
        query_value(self.query, name)
    }
}

/// The first value of a parameter, decoded.
pub(super) fn query_value(query: Option<&str>, name: &str) -> Option<String> {
    let pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (decoded(key), decoded(value))).find(|(key, _)| key == name).map(|(_, value)| value)
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// An id in the form of a UUID of version 4, the `index`-th of its `family`.
pub(super) fn uuid(family: u32, index: u64) -> String {
    format!("{family:08x}-5a4d-4000-8000-{index:012x}")
}
