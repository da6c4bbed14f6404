//! What an operator may change while it runs: the configuration, read again, and the level of the log. `app` does it;
//! `routes` leads here.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use hyper::StatusCode;
use serde::Serialize;
use tracing::Level;

use super::dispatch::Call;
use super::{Answered, error, json, shown};
use crate::event::Micros;

/// From few lines to many.
pub(super) const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

/// Those who can change the running process; `app` has them.
pub trait Operator: Send + Sync {
    /// Reads the configuration again and takes it, or changes nothing. Goes on when nobody waits for it any more: a
    /// configuration is never taken by half.
    fn reload(self: Arc<Self>, trigger: Trigger) -> BoxFuture<'static, Reload>;

    /// The last time the configuration was read.
    fn last_reload(&self) -> Reload;

    /// From which level on lines are written.
    fn log_level(&self) -> Level;

    /// Until the next start, or the next change in the configuration.
    fn set_log_level(&self, level: Level);

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

impl Trigger {
    /// As the API and the log write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Signal => "signal",
            Self::Api => "api",
            Self::File => "file",
        }
    }
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

impl Reload {
    /// What was read is in force.
    pub(super) fn is_taken(&self) -> bool {
        self.status == ReloadStatus::Reloaded
    }
}

#[cfg(test)]
impl Default for Reload {
    fn default() -> Self {
        Self { status: ReloadStatus::Reloaded, trigger: Trigger::Start, at: Micros(0), message: None, findings: vec![] }
    }
}

pub(super) async fn reload(call: Call<'_>) -> Answered {
    let reload = Arc::clone(&call.desk.operator).reload(Trigger::Api).await;
    let status = match reload.status {
        ReloadStatus::Reloaded => StatusCode::OK,
        ReloadStatus::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        ReloadStatus::Failed => StatusCode::CONFLICT,
    };
    let mut answered = shown(&reload);
    if answered.status() == StatusCode::OK {
        *answered.status_mut() = status;
    }
    answered
}

pub(super) fn log_level(call: &Call<'_>) -> Answered {
    json(StatusCode::OK, &serde_json::json!({ "level": name(call.desk.operator.log_level()) }))
}

pub(super) fn set_log_level(call: &Call<'_>) -> Answered {
    let asked = serde_json::from_slice::<serde_json::Value>(&call.body).ok();
    let asked = asked.as_ref().and_then(|body| body.get("level")?.as_str());
    // By their names alone: the library takes numbers, too.
    let Some(level) = LEVELS.into_iter().find(|level| asked.is_some_and(|asked| asked == name(*level))) else {
        return error(StatusCode::BAD_REQUEST, r#"send {"level": "error"}, or "warn", "info", "debug", "trace""#);
    };
    call.desk.operator.set_log_level(level);
    log_level(call)
}

pub(super) fn name(level: Level) -> String {
    level.as_str().to_ascii_lowercase()
}
