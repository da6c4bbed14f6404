//! What a run found out, as it is written to `results.json`: the one shape that the report, `compare`, `knee`
//! and scripts read. `surgegate-loadtest schema results` prints its JSON Schema.
//! Made by [`crate::drive`], judged by [`crate::threshold`]. Times end in `_us` (microseconds) or `_s` (seconds).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::latency::Summary;

/// Grows when a member changes its meaning; new members alone do not change it.
pub const SCHEMA: u32 = 1;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    Passed,
    /// A threshold was missed: exit code 99.
    Missed,
    /// The generator was the bottleneck: the figures are not the server's. Exit code 1.
    Invalid,
    /// A threshold under `abort_when` was met, or INT came: exit code 99.
    Aborted,
}

/// A whole run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Results {
    pub schema: u32,
    pub scenario: String,
    pub about: String,
    pub verdict: Verdict,
    /// What led to the verdict, a sentence each; empty for PASSED.
    pub why: Vec<String>,
    pub environment: Environment,
    /// All phases but warm-ups.
    pub total: Section,
    pub phases: Vec<Phase>,
    /// By entry of the mix, warm-ups left out.
    pub sources: Vec<Source>,
    /// Absent where the run had no upstream of its own.
    pub ledger: Option<LedgerCounts>,
    pub generator: Generator,
    /// Absent where the server is not a process that this run started.
    pub server: Option<Server>,
    pub thresholds: Vec<Checked>,
    /// What was done to server, upstream and Redis, and when.
    pub happenings: Vec<Happening>,
    pub series: Vec<Point>,
}

/// Where and how it ran.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// RFC 3339.
    pub started_at: String,
    pub seconds: f64,
    pub processor: String,
    pub cores: usize,
    pub memory_bytes: u64,
    pub kernel: String,
    /// Over the last minute before the run.
    pub load_average: f64,
    /// What the server says of itself, or of the tree it runs from.
    pub commit: Option<String>,
    pub version: String,
    pub command: Vec<String>,
    pub target: String,
    pub seed: u64,
    /// The scenario as it was understood, keys masked.
    pub scenario: serde_json::Value,
    /// The server's configuration where this run wrote it, keys masked.
    pub configuration: Option<serde_json::Value>,
}

/// Requests of a phase or of the whole run. Abuse is not among them: it has rows in `sources`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Section {
    pub seconds: f64,
    /// Requests that the schedule holds, HA twins left out.
    pub planned: u64,
    pub started: u64,
    /// Answered with any status.
    pub answered: u64,
    /// Answered 2xx.
    pub accepted: u64,
    /// Answered otherwise.
    pub refused: u64,
    /// Ended without an answer.
    pub failed: u64,
    pub unfinished: u64,
    /// Started more than 1 ms late because every connection was waiting for its answer.
    pub held_up: u64,
    pub retries: u64,
    pub statuses: BTreeMap<u16, u64>,
    pub failures: BTreeMap<String, u64>,
    /// From the intended start.
    pub latency: Summary,
    /// From the real start.
    pub service_time: Summary,
    /// `latency` by percentile, for plots.
    pub curve: Vec<CurvePoint>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
pub struct CurvePoint {
    /// 0 to 1.
    pub quantile: f64,
    pub us: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Phase {
    pub name: String,
    pub warm_up: bool,
    pub start_s: f64,
    pub section: Section,
    /// The generator's own lateness in this phase.
    pub lateness: Summary,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    pub name: String,
    /// Dialect, or kind of abuse.
    pub kind: String,
    pub abuse: bool,
    /// Twins among them, retries not.
    pub requests: u64,
    /// Of all answers, those to retries among them; so with failures and outcomes.
    pub statuses: BTreeMap<u16, u64>,
    pub failures: BTreeMap<String, u64>,
    /// `X-Surgegate-Outcome` of answers, where there was one.
    pub outcomes: BTreeMap<String, u64>,
    /// Abuse that was answered otherwise than the contract says.
    pub unexpected: u64,
    pub latency: Summary,
}

/// The ledger: statements (a trigger or resolve of one incident, however often it was sent) by what became of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LedgerCounts {
    /// Different statements that were sent at least once.
    pub statements: u64,
    /// Sent again: duplicates, HA twins and retries.
    pub sent_again: u64,
    /// Statements answered 2xx at least once.
    pub accepted: u64,
    /// Statements that the upstream answered 2xx.
    pub delivered: u64,
    /// Accepted and never delivered.
    pub lost: u64,
    /// Accepted, and all the upstream did was to break off in the middle of a 2xx: whoever asked may take it for delivered.
    pub broken_off: u64,
    /// Deliveries of one `event_uid` after it had been answered 2xx.
    pub repeated: u64,
    /// Deliveries of a statement under another `event_uid`: a duplicate that was not absorbed.
    pub missed_duplicates: u64,
    /// First deliveries behind a later statement of the same key.
    pub reordered: u64,
    /// Deliveries whose key, action, integration, dialect or raw body is not what was sent.
    pub wrong: u64,
    /// Never answered (the answer was lost) and delivered: allowed.
    pub unanswered_delivered: u64,
    /// Refused by every answer and delivered all the same.
    pub refused_delivered: u64,
    /// Deliveries that carry no mark of this run.
    pub foreign: u64,
    /// Memory of the ledger.
    pub bytes: u64,
    /// From a statement's intended start to the first 2xx of the upstream.
    pub delivery: Summary,
    /// Up to ten statements for each fault, to look for in logs.
    pub examples: BTreeMap<String, Vec<String>>,
}

/// The generator about itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Generator {
    /// From the moment a request could have started to its real start.
    pub lateness: Summary,
    pub lateness_bound_us: u64,
    /// Shares of the time its thread ran, and waited for a core; absent where the kernel does not tell.
    pub running: Option<f64>,
    pub waiting: Option<f64>,
    /// All its threads, the upstream's among them.
    pub cpu_s: f64,
    pub valid: bool,
}

/// The processes this run started, over the whole run.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Server {
    pub cpu_s: f64,
    pub rss_max_bytes: u64,
    pub descriptors_max: u64,
    /// Accepted requests for a second of its CPU time.
    pub accepted_per_cpu_s: Option<f64>,
    pub starts: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Checked {
    /// As written in the scenario.
    pub threshold: String,
    /// What it came out as; absent where the run could not know.
    pub value: Option<f64>,
    /// The same with its unit.
    pub shown: String,
    pub met: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Happening {
    pub at_s: f64,
    pub what: String,
}

/// One stretch of time; the stretches grow as a run gets longer, so that there are at most 1,200.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Point {
    pub at_s: f64,
    pub seconds: f64,
    pub due: u64,
    pub started: u64,
    pub accepted: u64,
    pub refused: u64,
    pub failed: u64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
    /// Delivered in this stretch.
    pub delivered: u64,
    /// Accepted and not yet delivered at its end.
    pub owed: u64,
    /// The server's, where it is ours: cores in use, resident bytes, descriptors.
    pub cpu_cores: Option<f64>,
    pub rss_bytes: Option<u64>,
    pub descriptors: Option<u64>,
    /// From `/metrics` of the observe listener, labels added up.
    pub metrics: BTreeMap<String, f64>,
}

/// The JSON Schema of `results.json`.
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Results).to_value()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A run of nothing.
    pub(crate) fn empty() -> Results {
        Results {
            schema: SCHEMA,
            scenario: "empty".to_owned(),
            about: String::new(),
            verdict: Verdict::Passed,
            why: Vec::new(),
            environment: Environment::default(),
            total: Section::default(),
            phases: Vec::new(),
            sources: Vec::new(),
            ledger: None,
            generator: Generator::default(),
            server: None,
            thresholds: Vec::new(),
            happenings: Vec::new(),
            series: Vec::new(),
        }
    }

    #[test]
    fn the_schema_is_one_and_takes_what_is_written_and_nothing_else() {
        let schema = schema();
        jsonschema::meta::validate(&schema).expect("a schema");
        let validator = jsonschema::validator_for(&schema).expect("a validator");
        let mut results = empty();
        results.ledger = Some(LedgerCounts::default());
        results.server = Some(Server::default());
        results.series.push(Point::default());
        let mut value = serde_json::to_value(&results).expect("JSON");
        assert!(
            validator.is_valid(&value),
            "{:?}",
            validator.iter_errors(&value).map(|e| e.to_string()).collect::<Vec<_>>()
        );
        value["verdict"] = "PERHAPS".into();
        assert!(!validator.is_valid(&value));
        value["verdict"] = "PASSED".into();
        value["total"]["latency"]["p99_us"] = "fast".into();
        assert!(!validator.is_valid(&value));
    }
}
