//! `/livez`, `/readyz`, `/metrics`: for probes and Prometheus.

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};

use super::{Answered, Desk, error, json, text};
use crate::store::Durability;

pub(super) fn answer(desk: &Desk, request: &Request<Incoming>) -> Answered {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return error(StatusCode::METHOD_NOT_ALLOWED, "use GET");
    }
    match request.uri().path() {
        // The process answers: that is all it says (INTERFACE 4).
        "/livez" => text(StatusCode::OK, "text/plain; charset=utf-8", "ok\n"),
        "/readyz" => ready(desk),
        "/metrics" => metrics(desk),
        _ => error(
            StatusCode::NOT_FOUND,
            "try /livez, /readyz or /metrics; the status page and its API are at listen.admin.address, and events go to \
             listen.ingest.address",
        ),
    }
}

fn ready(desk: &Desk) -> Answered {
    let durability = durability(desk.durability);
    match desk.ready() {
        Ok(()) => {
            let mut body = serde_json::json!({ "ready": true, "durability": durability });
            if desk.redis.as_ref().is_some_and(|(_, replica)| replica.is_taken()) {
                // It serves on: two that both went down for it would serve nothing.
                body["replica_id_taken"] = true.into();
            }
            json(StatusCode::OK, &body)
        }
        Err(reason) => {
            let body = serde_json::json!({ "ready": false, "durability": durability, "reason": reason.label() });
            json(StatusCode::SERVICE_UNAVAILABLE, &body)
        }
    }
}

pub(super) fn durability(durability: Durability) -> &'static str {
    match durability {
        Durability::Fsync => "fsync",
        Durability::Memory => "memory",
    }
}

fn metrics(desk: &Desk) -> Answered {
    desk.metrics.dedup_entries.set(i64::try_from(desk.dedup.entries()).unwrap_or(i64::MAX));
    let dropped = desk.operator.log_lines_dropped();
    desk.metrics.log_lines_dropped.inc_by(dropped.saturating_sub(desk.metrics.log_lines_dropped.get()));
    match desk.metrics.text() {
        Ok(page) => text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", page),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            super::error(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written")
        }
    }
}
