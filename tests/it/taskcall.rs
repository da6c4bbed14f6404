//! TaskCall's API from outside (contracts/taskcall.md): ids, states, what is shown, what nobody can do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::harness::{Answer, Recorded, Recorder, Reply, Surgegate, request};

/// Each integration its own key.
const KEYS: [&str; 3] = ["5ca1ab1e-a", "5ca1ab1e-b", "5ca1ab1e-c"];

/// The vendor as an upstream: gives its instances numbers of its own, from 700,000,001 on.
pub struct Vendor(Recorder);

impl Vendor {
    pub fn start() -> Self {
        let next = Arc::new(AtomicU64::new(700_000_001));
        Self(Recorder::scripted(move |asked| match operation(asked) {
            "create" | "unmerge" => {
                let number = next.fetch_add(1, Ordering::SeqCst);
                let body = json!({ "instance_id": number, "timestamp": "2026-03-01T10:02:11.343825" });
                Reply::Json(200, body)
            }
            _ => Reply::Json(200, "Success".into()),
        }))
    }

    pub fn into_recorder(self) -> Recorder {
        self.0
    }

    /// Its line among the upstreams.
    pub fn upstream(&self, name: &str) -> String {
        let pace = "rate_limit: { requests_per_second: 1000 }";
        format!(
            "  - {{ name: {name}, kind: taskcall, url: '{}', credential: k, service_ref_id: SRV, {pace} }}\n",
            self.0.url()
        )
    }
}

fn operation(asked: &Recorded) -> &str {
    asked.path.rsplit('/').next().unwrap_or_default()
}

/// The form of every answer (sections 3 and 4).
pub fn check_form(answer: &Answer, place: &str) {
    let body = answer.json();
    if answer.status < 300 {
        assert_eq!(answer.status, 200, "{place}");
        return;
    }
    let names: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(names, ["error", "message"], "{place}: {body}");
    let code = body["error"].as_str().unwrap();
    let codes: &[&str] = match answer.status {
        400 => &["bad_request", "incident_not_open"],
        401 => &["unauthorized"],
        403 => &["forbidden"],
        404 => &["not_found"],
        405 => &["method_not_allowed"],
        413 => &["payload_too_large"],
        415 => &["unsupported_media_type"],
        429 => &["rate_limited"],
        501 => &["not_supported"],
        503 => &["unavailable"],
        other => panic!("{place}: {other}"),
    };
    assert!(codes.contains(&code), "{place}: {body}");
    assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{place}");
    assert_eq!(answer.header("www-authenticate"), (answer.status == 401).then_some("token"), "{place}");
}
