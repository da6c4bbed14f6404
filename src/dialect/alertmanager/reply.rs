//! The answer of section 1: how many there were and what they came to. The senders do not read it, people do.

use bytes::Bytes;
use hyper::StatusCode;

use crate::dialect::Replying;
use crate::outcome::Outcome;

pub(super) fn reply(replying: &Replying<'_>) -> (StatusCode, Bytes) {
    let (mut created, mut duplicate, mut resolved, mut rejected, mut other) =
        (0_usize, 0_usize, 0_usize, 0_usize, 0_usize);
    for ending in replying.endings {
        let count = match ending.outcome {
            Some(Outcome::Created) => &mut created,
            Some(Outcome::Duplicate | Outcome::Escalated | Outcome::DuplicateResolve) => &mut duplicate,
            Some(Outcome::Resolved) => &mut resolved,
            None => &mut rejected,
            // A resolve of what is not known here, most of all.
            Some(_) => &mut other,
        };
        *count += 1;
    }
    let mut body = serde_json::json!({
        "status": "ok",
        "received": replying.endings.len(),
        "created": created,
        "duplicate": duplicate,
        "resolved": resolved,
        "rejected": rejected,
    });
    if other > 0 {
        body["other"] = other.into();
    }
    body["request_id"] = replying.request_id.into();
    if let [one] = replying.endings {
        // A Grafana before version 9 sends one, and its answer is that of the other hooks too.
        body["outcome"] = one.outcome.map(Outcome::name).into();
        if let Some(incident) = one.incident {
            body["incident_id"] = incident.iid.to_string().into();
        }
    }
    (replying.status, body.to_string().into())
}
