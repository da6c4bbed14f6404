//! The form of a scenario: its members, their defaults, and the bounds that a schema can tell. Called by `scenario.rs`; the
//! structures are those that all rooms read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Size, Time};
use crate::dialect;

/// A whole scenario.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Short name: the report's title.
    pub name: String,
    /// A sentence or two for readers of the report.
    #[serde(default)]
    pub about: String,
    /// Random choices are repeated with the same seed.
    #[serde(default)]
    pub seed: Option<u64>,
    #[serde(default)]
    pub client: Client,
    /// The Surgegate that is started where no --target is given.
    #[serde(default)]
    pub surgegate: Surgegate,
    #[serde(default)]
    pub upstream: Upstream,
    /// A redis-server that is started beside it, and named in its configuration.
    #[serde(default)]
    pub redis: bool,
    /// One after the other.
    #[schemars(length(min = 1))]
    pub phases: Vec<Phase>,
    /// What is sent, by weight.
    #[schemars(length(min = 1))]
    pub mix: Vec<Source>,
    /// What happens meanwhile.
    #[serde(default)]
    pub events: Vec<Event>,
    /// What must hold in the end, such as `p99 < 5ms`, `storm: p99 < 20ms`, `lost == 0`, `rss < 256MiB`.
    #[serde(default)]
    pub thresholds: Vec<String>,
    /// The run is broken off as soon as one of these holds, such as `lost > 0`, `error_rate > 50%`.
    #[serde(default)]
    pub abort_when: Vec<String>,
    /// After the last phase: how long deliveries are awaited.
    #[serde(default = "default_settle")]
    pub settle: Time,
    /// With --small all rates and all times are multiplied by these.
    #[serde(default)]
    pub small: Small,
}

/// The generator.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Client {
    /// Requests that can be under way at once.
    #[schemars(range(min = 1, max = 20_000))]
    pub connections: u32,
    /// Share of them that speak HTTP/2, 0 to 1.
    #[schemars(range(min = 0, max = 1))]
    pub http2: f64,
    /// Requests that one HTTP/2 connection carries at once.
    #[schemars(range(min = 1, max = 1_000))]
    pub streams: u32,
    /// The listener speaks TLS. A server that is started gets a certificate; that of a --target is not looked at.
    pub tls: bool,
    /// A request without its answer after this long has failed.
    pub timeout: Time,
    /// What is not answered 2xx is sent again so often, as long as the dialect deduplicates.
    #[schemars(range(min = 0, max = 1_000))]
    pub retries: u32,
    /// Between two tries.
    pub retry_wait: Time,
    /// The run is INVALID when the generator's own lateness has a higher p99 in a measured phase.
    pub max_lateness: Time,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            connections: 64,
            http2: 0.0,
            streams: 16,
            tls: false,
            timeout: Time(Duration::from_secs(10)),
            retries: 0,
            retry_wait: Time(Duration::from_millis(200)),
            max_lateness: Time(Duration::from_millis(10)),
        }
    }
}

/// The server that is started.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Surgegate {
    /// Laid over the configuration that is made from the mix: any of Surgegate's keys but listeners.
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// Laid over each integration.
    pub integration: serde_json::Map<String, serde_json::Value>,
}

/// What stands behind the server.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Upstream {
    /// Laid over the upstream's part of the configuration: `batch`, `rate_limit`, `timeout`, ...
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// Wait before each answer.
    pub latency: Option<Time>,
    /// Faults from the beginning, in the grammar of `surgegate-loadtest upstream --fault`.
    pub faults: Vec<String>,
}

/// A stretch of the run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    pub name: String,
    /// Not counted: caches, connections and tables get warm.
    #[serde(default)]
    pub warm_up: bool,
    /// Needed but for recorded arrivals, which end with their file.
    #[serde(default)]
    pub duration: Option<Time>,
    pub arrivals: Arrivals,
    /// Share of repeats in this phase, in place of each entry's own.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1))]
    pub duplicates: Option<f64>,
    /// Weights in this phase by the entry's name, in place of its own.
    #[serde(default)]
    pub weights: BTreeMap<String, f64>,
}

/// When requests start. Exactly one of the profiles; rates are requests a second.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Arrivals {
    /// Evenly.
    #[schemars(range(min = 0, max = 10_000_000))]
    pub constant: Option<f64>,
    /// As independent senders do, at this mean rate.
    #[schemars(range(min = 0, max = 10_000_000))]
    pub poisson: Option<f64>,
    pub ramp: Option<Ramp>,
    pub step: Option<Step>,
    pub burst: Option<Burst>,
    pub recorded: Option<Recorded>,
    /// Ramp, step and burst: random starts around their rate.
    pub random: bool,
}

/// From one rate to another.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ramp {
    pub from: f64,
    pub to: f64,
}

/// In steps of equal length from one rate to another.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub from: f64,
    pub to: f64,
    #[schemars(range(min = 2, max = 1_000))]
    pub steps: u32,
}

/// A rate with bursts.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Burst {
    /// Between bursts.
    pub base: f64,
    /// In a burst.
    pub peak: f64,
    pub every: Time,
    pub lasts: Time,
}

/// Offsets from a file: seconds, one a line, ascending.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// Relative to the scenario's own directory.
    pub file: PathBuf,
    /// 2 plays it twice as fast.
    #[serde(default = "one")]
    pub speed: f64,
}

/// One entry of the mix: a dialect, or a kind of abuse.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Unique; by default the dialect's or the abuse's.
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default = "one")]
    pub weight: f64,
    #[serde(default)]
    #[schemars(schema_with = "dialect_schema")]
    pub dialect: Option<String>,
    #[serde(default)]
    pub abuse: Option<Abuse>,
    /// Share of requests that repeat an open incident's trigger, byte for byte.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1))]
    pub duplicates: f64,
    /// Share of requests that resolve an open incident.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1))]
    pub resolves: f64,
    /// Share of requests that trigger a resolved incident anew (flapping).
    #[serde(default)]
    #[schemars(range(min = 0, max = 1))]
    pub reopens: f64,
    /// Share of requests that are sent twice at once, as a pair of Alertmanagers does.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1))]
    pub pairs: f64,
    /// Alerts in one request, for dialects that send many.
    #[serde(default = "one_alert")]
    #[schemars(range(min = 1, max = 1_000))]
    pub batch: u16,
    /// Size of the description of each trigger; over-size abuse: size of the body.
    #[serde(default)]
    pub text_bytes: Option<Size>,
    /// Integrations it is spread over, in a server that is started.
    #[serde(default = "default_integrations")]
    #[schemars(range(min = 1, max = 100_000))]
    pub integrations: u32,
    /// Keys of a --target's integrations. Never shown.
    #[serde(default)]
    pub keys: Vec<String>,
    /// incident.io alert events of a --target: the source's id, one for each key.
    #[serde(default)]
    pub ids: Vec<String>,
}

/// What bad clients send, each on a connection of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Abuse {
    /// JSON that breaks off: 400.
    BadJson,
    /// A key nobody has: 404, or 429 when there are too many.
    UnknownKey,
    /// `Content-Length` over the limit: 413.
    OversizeDeclared,
    /// A chunked body over the limit: 413.
    OversizeChunked,
    /// A small gzip body that grows over the limit: 413.
    OversizeGzip,
    /// A body that comes a byte at a time: 408, or the connection ends.
    SlowBody,
    /// A head that comes a byte at a time: 408, or the connection ends.
    SlowHead,
}

impl Abuse {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BadJson => "bad_json",
            Self::UnknownKey => "unknown_key",
            Self::OversizeDeclared => "oversize_declared",
            Self::OversizeChunked => "oversize_chunked",
            Self::OversizeGzip => "oversize_gzip",
            Self::SlowBody => "slow_body",
            Self::SlowHead => "slow_head",
        }
    }
}

/// Something that happens at a time. Exactly one of `upstream`, `surgegate`, `redis`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// From the beginning of the run, warm-ups included, or of `phase`.
    pub at: Time,
    #[serde(default)]
    pub phase: Option<String>,
    /// Again and again after this long, to the end of the last phase.
    #[serde(default)]
    pub every: Option<Time>,
    /// New faults of the upstream in place of the old; an empty list ends them.
    #[serde(default)]
    pub upstream: Option<Vec<String>>,
    #[serde(default)]
    pub surgegate: Option<ServerAct>,
    #[serde(default)]
    pub redis: Option<RedisAct>,
    /// Which of the servers, counted from 0.
    #[serde(default)]
    pub replica: usize,
    /// `kill` and `stop`: until it is started again.
    #[serde(default)]
    pub down: Option<Time>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServerAct {
    /// SIGKILL, and a start on the same spool.
    Kill,
    /// TERM, its orderly end, and a start.
    Stop,
    /// HUP, with an integration more in its file.
    Reload,
    /// One more server with a spool of its own; new incidents are spread over all.
    ScaleOut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RedisAct {
    /// SIGKILL.
    Kill,
    /// Starts it again, empty.
    Start,
    /// SIGSTOP: connections stay and nothing answers.
    Pause,
    /// SIGCONT.
    Resume,
}

/// Factors of --small.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Small {
    pub rate: f64,
    pub time: f64,
}

impl Default for Small {
    fn default() -> Self {
        Self { rate: 0.1, time: 0.1 }
    }
}

fn default_settle() -> Time {
    Time(Duration::from_secs(60))
}

fn one() -> f64 {
    1.0
}

fn one_alert() -> u16 {
    1
}

fn default_integrations() -> u32 {
    4
}

fn dialect_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let names: Vec<_> =
        dialect::ALL.iter().map(|dialect| serde_json::json!(dialect.id)).chain([serde_json::Value::Null]).collect();
    schemars::json_schema!({ "enum": names })
}

impl Source {
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().or(self.dialect.as_deref()).or(self.abuse.map(Abuse::name)).unwrap_or("nothing")
    }
}
