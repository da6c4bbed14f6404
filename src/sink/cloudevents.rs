//! Upstream kind `cloudevents`: CloudEvents 1.0 in structured mode (contracts/others.md 4, 7). An event of that dialect goes on
//! as it came; of any other the data is the normalized event of INTERFACE 5, and what a reader looks for first stands in
//! attributes and extensions, as the intake of the same dialect reads them.

use hyper::header::{CONTENT_TYPE, HeaderValue};

use super::container::object;
use super::keys::{Fits, out_key};
use super::text::quoted;
use super::{Answer, Ask, Encoded, Kind, Parcel, Sink, Statement, Unsaid, Verdict, verbatim, webhook};
use crate::event::{Action, Micros};
use crate::vendor;

/// The dialect its receivers read.
const DIALECT: &str = "cloudevents";
const KEY_BYTES_MAX: usize = 512;
const STRUCTURED: HeaderValue = HeaderValue::from_static("application/cloudevents+json");
/// Before the action in `type`, unless the configuration says otherwise.
const TYPE_PREFIX: &str = "io.surgegate.incident";

/// Statuses no repetition will change (contracts 7.1).
const PERMANENT: [u16; 6] = [400, 404, 410, 413, 415, 422];

pub struct CloudEvents;

impl Sink for CloudEvents {
    fn kind(&self) -> Kind {
        Kind::CloudEvents
    }

    fn expresses(&self, _statement: Statement<'_>) -> bool {
        true
    }

    fn encode(&self, ask: &Ask<'_>) -> Result<Encoded, Unsaid> {
        let event = &ask.stored.event;
        let body = match verbatim::is_allowed(ask, &[DIALECT], usize::MAX) {
            true => event.raw.clone(),
            false => encoded(ask)?.into(),
        };
        let mut parcel = Parcel::json(body).authorized("Bearer", ask.upstream);
        parcel.headers.insert(CONTENT_TYPE, STRUCTURED);
        Ok(Encoded::new(event.uid, parcel))
    }

    fn read_answer(&self, answer: &Answer, now: Micros) -> Verdict {
        super::answer::judge(answer, &PERMANENT, now)
    }
}

/// The last word of `type`. Those that end or acknowledge are what this dialect's intake knows.
fn word(action: Action) -> &'static str {
    match action {
        Action::Trigger => "triggered",
        Action::Acknowledge => "acknowledged",
        Action::Unacknowledge => "unacknowledged",
        Action::Resolve => "resolved",
        Action::Update => "updated",
        Action::Admin => "operated",
        Action::Change => "changed",
    }
}

fn encoded(ask: &Ask<'_>) -> Result<String, Unsaid> {
    let (event, vendor) = (&ask.stored.event, &ask.upstream.vendor);
    let data = webhook::normalized(ask.stored, ask.said)?.call.body;
    let data = String::from_utf8(data.to_vec()).map_err(|_| Unsaid::NotExpressible(event.action))?;
    let prefix = vendor.type_prefix.as_deref().unwrap_or(TYPE_PREFIX);
    let source = vendor.source.as_deref().map_or_else(|| format!("/surgegate/{}", event.integration), str::to_owned);
    let key = out_key(ask.stored, &[DIALECT], ask.upstream, Fits::Bytes(KEY_BYTES_MAX));
    let mut members = vec![
        ("specversion", quoted("1.0")),
        ("id", quoted(&event.uid.to_string())),
        ("source", quoted(&source)),
        ("type", quoted(&format!("{prefix}.{}", word(event.action)))),
        ("subject", quoted(&key)),
        ("time", quoted(&event.received_at.to_string())),
        ("datacontenttype", quoted("application/json")),
        ("dedupkey", quoted(&key)),
    ];
    if matches!(event.action, Action::Trigger | Action::Acknowledge | Action::Resolve) {
        members.push(("alertaction", quoted(event.action.name())));
    }
    if let Some(severity) = event.severity.or(ask.said.content.severity) {
        members.push(("severity", quoted(vendor::word_of(severity))));
    }
    members.push(("data", data));
    Ok(object(members.into_iter()))
}
