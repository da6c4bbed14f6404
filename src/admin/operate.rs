//! What an operator may change while it runs: the configuration, read again, and the level of the log. `app` does it;
//! `api` asks here.

use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use serde::Serialize;

use super::{Answered, Desk, error, json};
use crate::event::Micros;

/// Largest body of a request that changes something.
const BODY_BYTES_MAX: usize = 4096;

/// Those who can change the running process; `app` has them.
pub trait Operator: Send + Sync {
    /// Reads the configuration again and takes it, or changes nothing.
    fn reload(&self, trigger: Trigger) -> BoxFuture<'_, Reload>;

    /// The last time the configuration was read.
    fn last_reload(&self) -> Reload;

    /// From which level on lines are written.
    fn log_level(&self) -> tracing::Level;

    /// Until the next start, or the next change in the configuration.
    fn set_log_level(&self, level: tracing::Level);

    /// Lines that were lost because nobody took them fast enough.
    fn log_lines_dropped(&self) -> u64;
}

/// Who wanted the configuration to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    Start,
    /// HUP.
    Signal,
    Api,
    /// A file of the configuration changed.
    File,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReloadStatus {
    /// The new configuration is in force, but for what the findings say needs a restart.
    Reloaded,
    /// The old one is in force: the findings say why.
    Invalid,
    /// The old one is in force: the message says why.
    Failed,
}

/// How reading the configuration ended.
#[derive(Clone, Debug, Serialize)]
pub struct Reload {
    pub status: ReloadStatus,
    pub trigger: Trigger,
    pub at: Micros,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Rows as `surgegate validate --format json` writes them.
    pub findings: Vec<serde_json::Value>,
}

pub(super) async fn reload(desk: &Desk) -> Answered {
    let reload = desk.operator.reload(Trigger::Api).await;
    let status = match reload.status {
        ReloadStatus::Reloaded => StatusCode::OK,
        ReloadStatus::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        ReloadStatus::Failed => StatusCode::CONFLICT,
    };
    tracing::info!(target: "audit", status = ?reload.status, "configuration read again");
    super::api::shown(status, &reload)
}

pub(super) fn log_level(desk: &Desk) -> Answered {
    json(StatusCode::OK, &serde_json::json!({ "level": name(desk.operator.log_level()) }))
}

pub(super) async fn set_log_level(desk: &Desk, request: Request<Incoming>) -> Answered {
    debug_assert_eq!(*request.method(), Method::PUT);
    #[allow(clippy::disallowed_methods)] // Limited.
    let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await else {
        return error(StatusCode::BAD_REQUEST, "the body is too long, or broke off");
    };
    let asked = serde_json::from_slice::<serde_json::Value>(&body.to_bytes()).ok();
    let asked = asked.as_ref().and_then(|body| body.get("level")?.as_str()?.parse::<tracing::Level>().ok());
    let Some(level) = asked else {
        return error(StatusCode::BAD_REQUEST, r#"send {"level": "error"}, or "warn", "info", "debug", "trace""#);
    };
    desk.operator.set_log_level(level);
    tracing::info!(target: "audit", level = name(level), "level of the log changed");
    log_level(desk)
}

fn name(level: tracing::Level) -> String {
    level.as_str().to_ascii_lowercase()
}
