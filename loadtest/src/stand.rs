//! Stand-ins for vendors: each answers as its contract says and keeps the vendor's state, so that a
//! sink can be tested against what the vendor would hold afterwards.
//!
//! A request's life: `upstream/serve.rs` makes a [`Call`] of it, asks the script of faults (with
//! [`Stand::names`]) and hands both to [`Stand::take`]. The vendor's file checks path, method and
//! credential ([`contract`]), the rate is asked ([`rate`]), the vendor's file does what the request
//! says to the incidents in the [`ledger`], and the [`journal`] notes it. `GET /_stand/...` shows
//! both. The format is in `loadtest/README.md`.

mod call;
mod contract;
mod credentials;
mod incidentio;
mod journal;
mod ledger;
mod members;
mod opsgenie;
mod pagerduty;
pub mod rate;
mod squadcast;
mod taskcall;

use std::time::{Duration, Instant};

use hyper::Method;
use jiff::Timestamp;
use serde_json::json;

pub(crate) use call::{Call, Reply};

use crate::units;
use crate::upstream::fault::{Effect, RetryAfter, RetryAfterForm};
use contract::Contract;
use journal::{Journal, Shown};
use ledger::Ledger;
use rate::{Rate, Usage, Windows};

/// Below this path the stand-in shows itself.
const OWN_PATHS: &str = "/_stand/";

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Vendor {
    Squadcast,
    Incidentio,
    Taskcall,
    Pagerduty,
    Opsgenie,
}

/// The options of a stand-in.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Stand in for a vendor: its paths, credentials, rules, answers and state. What happened is at
    /// GET /_stand/incidents and /_stand/requests; POST /_stand/reset forgets it
    #[arg(long, value_enum, value_name = "NAME")]
    vendor: Option<Vendor>,
    /// A credential that is accepted, repeatable; without it any is
    #[arg(long = "credential", value_name = "TEXT", requires = "vendor")]
    credentials: Vec<String>,
    /// incident.io: an alert source that exists, repeatable; without it every id is one
    #[arg(long = "alert-source", value_name = "ID=SECRET", requires = "vendor", value_parser = alert_source)]
    alert_sources: Vec<(String, String)>,
    /// incident.io: so many severities, 1 to 10
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=10))]
    severities: u8,
    /// incident.io: the id of a severity, repeatable, the mildest first; in place of --severities
    #[arg(long = "severity-id", value_name = "ID", requires = "vendor")]
    severity_ids: Vec<String>,
    /// incident.io: one more status, repeatable
    #[arg(long = "incident-status", value_name = "CATEGORY=ID", requires = "vendor", value_parser = incident_status)]
    incident_statuses: Vec<(String, String)>,
    /// At most so many requests of a credential in any such time, e.g. 120/60s
    #[arg(long, value_name = "N/DURATION", requires = "vendor", value_parser = rate::parse)]
    rate: Option<Rate>,
    /// Opsgenie: between the answer and the request's taking effect
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = units::parse_duration)]
    processing: Duration,
    /// TaskCall: a suppressed create is answered without instance_id
    #[arg(long, requires = "vendor")]
    suppressed_without_id: bool,
}

fn alert_source(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((id, secret)) if !id.is_empty() && !secret.is_empty() => Ok((id.to_owned(), secret.to_owned())),
        _ => Err(format!("`{text}` is not of the form ID=SECRET")),
    }
}

fn incident_status(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((category, id)) if incidentio::is_category(category) && !id.is_empty() => {
            Ok((category.to_owned(), id.to_owned()))
        }
        _ => Err(format!("`{text}` is not of the form closed=ID")),
    }
}

/// A running stand-in.
pub(crate) struct Stand {
    options: Options,
    vendor: Vendor,
    contract: Box<dyn Contract>,
    ledger: Ledger,
    journal: Journal,
    windows: Windows,
    requests: u64,
}

impl Options {
    /// The stand-in, if one is wished.
    pub(crate) fn stand(&self) -> Option<Stand> {
        let vendor = self.vendor?;
        Some(Stand {
            options: self.clone(),
            vendor,
            contract: contract(vendor, self),
            ledger: Ledger::default(),
            journal: Journal::default(),
            windows: Windows::default(),
            requests: 0,
        })
    }
}

fn contract(vendor: Vendor, options: &Options) -> Box<dyn Contract> {
    match vendor {
        Vendor::Squadcast => Box::new(squadcast::Squadcast::new(options)),
        Vendor::Incidentio => Box::new(incidentio::IncidentIo::new(options)),
        Vendor::Taskcall => Box::new(taskcall::TaskCall::new(options)),
        Vendor::Pagerduty => Box::new(pagerduty::PagerDuty::new(options)),
        Vendor::Opsgenie => Box::new(opsgenie::Opsgenie::new(options)),
    }
}

impl Stand {
    pub(crate) fn is_own_path(path: &str) -> bool {
        path.starts_with(OWN_PATHS)
    }

    /// The number of the next request.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    /// Names of the incident that the request addresses by an id.
    pub(crate) fn names(&mut self, call: &Call<'_>) -> Vec<String> {
        self.contract.settle(call.now, call.at, &mut self.ledger);
        self.contract.addressed(call, &self.ledger)
    }

    /// Takes a request with the fault it meets, `processed` or not. The reply is the one to send,
    /// unless the effect is to hang, reset or truncate.
    pub(crate) fn take(&mut self, call: &Call<'_>, effect: Option<Effect>, processed: bool) -> Reply {
        let (mut reply, mut was_processed) = match effect {
            Some(_) if !processed => (Reply::new(200, json!(null)), false),
            _ => self.process(call),
        };
        if let Some(Effect::Status { code, retry_after }) = effect {
            reply = self.scripted(call, code, retry_after);
            was_processed &= processed;
        }
        reply.headers.push(("x-request-id", call.request_id()));
        let answer = effect.map_or_else(|| reply.status.to_string(), Effect::label);
        let mut shown = Shown {
            path: call.path.to_owned(),
            query: call.query.map(str::to_owned),
            body: String::from_utf8_lossy(call.body).into_owned(),
        };
        self.contract.hide(call, &mut shown);
        self.journal.enter(call, shown, &answer, was_processed);
        reply
    }

    /// The reply, and whether the vendor looked at the request.
    fn process(&mut self, call: &Call<'_>) -> (Reply, bool) {
        let scope = match self.contract.admit(call) {
            Ok(scope) => scope,
            Err(reply) => return (reply, true),
        };
        let mut usage = None;
        if let Some(rate) = self.options.rate {
            match self.windows.take(rate, &scope, call.now) {
                Ok(used) => usage = Some(used),
                Err(used) => return (self.above_rate(call, &used), false),
            }
        }
        if *call.method != Method::GET && !self.ledger.takes(call.body.len()) {
            return (self.contract.refusal(call, 503, None), false);
        }
        let mut reply = self.contract.apply(call, &scope, &mut self.ledger);
        self.contract.settle(call.now, call.at, &mut self.ledger);
        if let Some(usage) = usage {
            reply.headers.extend(self.contract.rate_headers(&usage, call.at));
        }
        (reply, true)
    }

    fn above_rate(&self, call: &Call<'_>, usage: &Usage) -> Reply {
        let status = self.contract.status_above_rate(call);
        let retry_after = RetryAfter { seconds: usage.reset_seconds, form: RetryAfterForm::Seconds };
        let mut reply = self.contract.refusal(call, status, Some(retry_after));
        reply.headers.extend(self.contract.rate_headers(usage, call.at));
        reply
    }

    fn scripted(&self, call: &Call<'_>, status: u16, retry_after: Option<RetryAfter>) -> Reply {
        let mut reply = self.contract.refusal(call, status, retry_after);
        if status == 429 {
            let per = Duration::from_secs(60);
            let (requests, per) = self.options.rate.map_or((1200, per), |rate| (rate.requests, rate.per));
            let reset_seconds = retry_after.map_or(60, |retry_after| retry_after.seconds.max(1));
            let usage = Usage { limit: requests, used: requests, per, reset_seconds };
            reply.headers.extend(self.contract.rate_headers(&usage, call.at));
        }
        reply
    }

    /// What is below `/_stand/`.
    pub(crate) fn inspect(&mut self, method: &Method, path: &str, query: Option<&str>) -> Reply {
        self.contract.settle(Instant::now(), Timestamp::now(), &mut self.ledger);
        let parameter = |name| call::query_value(query, name);
        match (method.as_str(), path.strip_prefix(OWN_PATHS).unwrap_or_default()) {
            ("GET", "incidents") => {
                let vendor = <Vendor as clap::ValueEnum>::to_possible_value(&self.vendor);
                let vendor = vendor.as_ref().map_or("", |value| value.get_name());
                let (key, state) = (parameter("key"), parameter("state"));
                Reply::new(200, self.ledger.overview(vendor, key.as_deref(), state.as_deref()))
            }
            ("GET", "requests") => match parameter("last").map_or(Ok(usize::MAX), |last| last.parse()) {
                Ok(last) => Reply::new(200, self.journal.view(last)),
                Err(_) => Reply::new(400, json!({ "error": "`last` is not a whole number" })),
            },
            ("POST", "reset") => {
                self.ledger.reset();
                self.journal = Journal::default();
                self.windows = Windows::default();
                self.contract = contract(self.vendor, &self.options);
                Reply::new(200, json!({ "reset": true }))
            }
            _ => Reply::new(
                404,
                json!({ "error": "there are GET /_stand/incidents, GET /_stand/requests and POST /_stand/reset" }),
            ),
        }
    }
}
