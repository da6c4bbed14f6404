//! `?dry_run=1` on any route: what a request would come to. It is read and judged as any other, then nothing is claimed, no
//! token taken and nothing written; the books have it as ignored. The answer has the dialect's success status, or its error.
//!
//! ```json
//! {"dry_run": true, "events": [{"outcome": "created", "action": "trigger", "key": "disk-db-7", "upstreams": ["pager"],
//!   "incident": {"state": "OPEN", "generation": 1, "count": 1, "severity": 4}, "event": {"title": "..."}, "warnings": []}]}
//! ```
//!
//! Elements of a batch that name one key, or one id of their transport, are told in their order, each as those before it leave the
//! key. An element of a batch that would be refused alone has `rejected` with its reasons in place of all that.

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::answer::RequestId;
use super::ask::Read;
use super::event::{Said, Unaddressed};
use super::outside::Unread;
use super::{Intake, Known, Taken};
use crate::dedup::{Foreseen, Foretold};
use crate::dialect::{self, Judged};
use crate::event::{Incident, Tolerated};
use crate::metrics::Ticket;
use crate::outcome::{Outcome, Reason, Refusal};

impl Known {
    /// Whether only what would happen is asked for.
    pub(super) fn is_dry_run(&self) -> bool {
        let query = self.beside.as_ref().map_or("", |beside| &*beside.query);
        !query.is_empty()
            && form_urlencoded::parse(query.as_bytes())
                .any(|(name, value)| name == "dry_run" && matches!(&*value, "1" | "true"))
    }
}

impl Intake {
    /// What a body would come to.
    ///
    /// # Errors
    /// It would be refused.
    pub(super) async fn foresee(&self, known: &Known, unread: Unread) -> Result<Taken, Refusal> {
        let Unread { raw, tolerated, ticket } = unread;
        if !known.takes_batch() {
            let (ticket, heard) = ticket.check(self.hear(known, &raw))?;
            return self.foresee_one(known, heard, raw, tolerated, ticket);
        }
        let (ticket, batch) = ticket.check(self.elements(known, &raw).await)?;
        let mut events = Vec::with_capacity(batch.all.len());
        let mut foretold = Foretold::default();
        for element in batch.all {
            let said = Said { raw: element.raw, tolerated, envelope: batch.envelope.clone() };
            events.push(match element.heard {
                Ok(heard) => {
                    let foreseen = self.foreseen(known, heard, said, &mut foretold);
                    foreseen.unwrap_or_else(|refusal| rejected(&refusal))
                }
                Err(bad) => json!({ "rejected": bad.faults }),
            });
        }
        ticket.absorb(Outcome::Ignored);
        Ok(told(known, events))
    }

    /// The same for what was heard of a body.
    ///
    /// # Errors
    /// It would be refused.
    pub(super) fn foresee_one(
        &self,
        known: &Known,
        heard: Option<Judged>,
        raw: Bytes,
        tolerated: Tolerated,
        ticket: Ticket,
    ) -> Result<Taken, Refusal> {
        let foreseen = self.foreseen(known, heard, Said { raw, tolerated, envelope: None }, &mut Foretold::default());
        let (ticket, event) = ticket.check(foreseen)?;
        ticket.absorb(Outcome::Ignored);
        Ok(told(known, vec![event]))
    }

    /// `foretold`: of the elements before it in its body.
    fn foreseen(
        &self,
        known: &Known,
        heard: Option<Judged>,
        said: Said,
        foretold: &mut Foretold,
    ) -> Result<Value, Refusal> {
        let Some(heard) = heard else { return Ok(ended(Outcome::Ignored)) };
        if let Some(outcome) = heard.ends {
            return Ok(ended(outcome));
        }
        let (event, rules) = match self.event(known, said, heard) {
            Ok(made) => made,
            Err(Unaddressed::Unknown) => return Ok(ended(Outcome::Unknown)),
            Err(Unaddressed::Absorbed(outcome, _)) => return Ok(ended(outcome)),
            Err(Unaddressed::Refused(refusal)) => return Err(refusal),
        };
        let integration = &known.integration;
        let (outcome, incident, goes) = match self.dedup.foresee(&event, rules, foretold) {
            Foreseen::Ends { outcome, incident, goes } => (outcome, incident, goes),
            Foreseen::Refused => {
                return Err(Refusal::new(Reason::UnknownResolve, "no open incident has this key"));
            }
            Foreseen::NotOpen => return Err(Refusal::new(Reason::NotOpen, "the incident is resolved")),
        };
        let targets = match outcome {
            Outcome::Escalated => integration.raised(&event),
            _ => integration.targets(&event),
        };
        let upstreams: Vec<&str> = targets.iter().filter(|_| goes).map(|target| &*target.name).collect();
        let mut shown = json!({
            "outcome": outcome.name(),
            "action": event.action.name(),
            "key": event.key.as_ref().map(crate::event::Key::canon),
            "upstreams": upstreams,
            "incident": incident.map(|incident| of_incident(&incident)),
        });
        let content = dialect::reread(&event).and_then(|reread| serde_json::to_value(&reread.content).ok());
        let mut content = content.unwrap_or_else(|| json!({}));
        shown["warnings"] = content.as_object_mut().and_then(|all| all.remove("warnings")).unwrap_or_else(|| json!([]));
        if let Some(severity) = event.severity {
            content["severity"] = severity.level().into();
        }
        shown["event"] = content;
        Ok(shown)
    }
}

/// As it would be; what names a new one is not given away.
fn of_incident(incident: &Incident) -> Value {
    let mut shown = json!({
        "state": incident.state,
        "generation": incident.generation,
        "count": incident.count,
        "severity": incident.severity,
    });
    if incident.number > 0 {
        shown["iid"] = incident.iid.to_string().into();
        shown["number"] = incident.number.into();
    }
    shown
}

fn ended(outcome: Outcome) -> Value {
    json!({ "outcome": outcome.name(), "upstreams": [] })
}

fn rejected(refusal: &Refusal) -> Value {
    let errors = if refusal.errors.is_empty() { vec![refusal.message.clone()] } else { refusal.errors.clone() };
    json!({ "rejected": errors })
}

fn told(known: &Known, events: Vec<Value>) -> Taken {
    let config = &known.integration.config;
    let status = if known.dialect.name() == "squadcast" { config.success_status } else { known.route.success };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let body = json!({ "dry_run": true, "events": events }).to_string().into();
    let request_id = RequestId::new(known.dialect.request_id());
    Taken::Answer(Box::new(Read { request_id, status, headers: HeaderMap::new(), body }))
}
