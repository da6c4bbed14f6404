//! The admin API (INTERFACE 4) against the running proxy: every operation answers as its own document says, an event is
//! told through its whole life, dead letters are seen, replayed and dropped as was meant, and writes leave a trace.

mod contract;
mod dead_letters;
mod history;
mod refusals;
mod tap;
mod writes;

use serde_json::Value;

use crate::faults::Upstream;
use crate::harness::{KEY, Surgegate, ask};

/// What a read answers; it must be 200.
fn get(surgegate: &Surgegate, path: &str) -> Value {
    let answer = surgegate.admin(path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// What a write answers; it must have this status.
fn write(surgegate: &Surgegate, method: &str, path: &str, status: u16) -> Value {
    let answer = ask(surgegate.admin_address(), method, path, &[]).unwrap();
    assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
    answer.json()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

/// One integration and these upstreams, at one server.
fn to(upstream: &Upstream, names: &[&str]) -> String {
    let url = upstream.url();
    let rows: String = names
        .iter()
        .map(|name| format!("  - {{ name: {name}, kind: webhook, url: '{url}', timeout: 5s }}\n"))
        .collect();
    format!(
        "integrations:\n  - name: payments\n    keys: [{{ key: '{KEY}' }}]\n    upstreams: [{}]\nupstreams:\n{rows}",
        names.join(", ")
    )
}
