//! The last requests, without their credentials: what `GET /_stand/requests` shows.
//! Written by `stand.rs`.

use std::collections::VecDeque;

use serde::Serialize;
use serde_json::{Map, Value};

use super::call::Call;

const REQUESTS_AT_MOST: usize = 10_000;
/// Of paths, headers and bodies together.
const BYTES_AT_MOST: usize = 64 * 1024 * 1024;
/// What stands where a credential stood.
pub(super) const HIDDEN: &str = "***";

/// The parts of a request that may hold a credential, as they are shown.
pub(super) struct Shown {
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) body: String,
}

struct Entry {
    bytes: usize,
    number: u64,
    at_us: i64,
    method: String,
    shown: Shown,
    headers: Map<String, Value>,
    body_bytes: usize,
    answer: String,
    processed: bool,
}

#[derive(Serialize)]
struct EntryView<'a> {
    number: u64,
    at_us: i64,
    method: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    headers: &'a Map<String, Value>,
    body: Option<Value>,
    body_text: &'a str,
    body_bytes: usize,
    answer: &'a str,
    processed: bool,
}

#[derive(Default)]
pub(super) struct Journal {
    entries: VecDeque<Entry>,
    bytes: usize,
    taken: u64,
}

impl Journal {
    pub(super) fn enter(&mut self, call: &Call<'_>, shown: Shown, answer: &str, processed: bool) {
        self.taken += 1;
        let head_bytes: usize = call.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let bytes = head_bytes + call.path.len() + call.query.map_or(0, str::len) + shown.body.len();
        self.bytes += bytes;
        self.entries.push_back(Entry {
            bytes,
            number: call.number,
            at_us: call.at_us(),
            method: call.method.to_string(),
            shown,
            headers: headers(call),
            body_bytes: call.body.len(),
            answer: answer.to_owned(),
            processed,
        });
        while self.entries.len() > REQUESTS_AT_MOST || self.bytes > BYTES_AT_MOST {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.bytes;
        }
    }

    pub(super) fn view(&self, last: usize) -> Value {
        let skipped = self.entries.len().saturating_sub(last);
        let views: Vec<_> = self.entries.iter().skip(skipped).map(Entry::view).collect();
        let left_off = self.taken - views.len() as u64;
        serde_json::json!({ "taken": self.taken, "left_off": left_off, "requests": views })
    }
}

impl Entry {
    fn view(&self) -> EntryView<'_> {
        EntryView {
            number: self.number,
            at_us: self.at_us,
            method: &self.method,
            path: &self.shown.path,
            query: self.shown.query.as_deref(),
            headers: &self.headers,
            body: serde_json::from_str(&self.shown.body).ok(),
            body_text: &self.shown.body,
            body_bytes: self.body_bytes,
            answer: &self.answer,
            processed: self.processed,
        }
    }
}

/// Lower-case names; the scheme stays of an `Authorization`.
fn headers(call: &Call<'_>) -> Map<String, Value> {
    let text = |name: &str, value: &str| match name {
        "authorization" | "proxy-authorization" => match value.split_once(' ') {
            Some((scheme, _)) => format!("{scheme} {HIDDEN}"),
            None => HIDDEN.to_owned(),
        },
        "cookie" => HIDDEN.to_owned(),
        _ => value.to_owned(),
    };
    call.headers
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.as_str().to_owned(), Value::from(text(name.as_str(), &value)))
        })
        .collect()
}
