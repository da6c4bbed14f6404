//! Dialects that carry the key in the body (PagerDuty): steps 4, 5, 7 and 8 of contracts 2.1 come before 3, and 6 after it.
//! Until the key is known a sender is held to what any sender may do, and to a part of the budget of body bytes. The key
//! is overwritten before anything is stored (`mask`).

mod mask;

use std::sync::Arc;

use hyper::body::Body;
use hyper::{HeaderMap, Request, Uri};

use super::event::Said;
use super::know::{Beside, Routed};
use super::known::not_json;
use super::{Announced, Came, Intake, Known, Taken, Trail, headers};
use crate::body::{self, Bounds, Budget, CappedBody, Expected, Limits, Room};
use crate::dialect::json::{self, Kind};
use crate::dialect::{Args, Form, Judged};
use crate::metrics::Ticket;
use crate::outcome::{Reason, Refusal};

/// Of the budget of body bytes as much may be held by senders whom nobody knows yet. The rest is for keys that stand in a
/// head: no stranger can take it from them.
pub(super) const fn part_of(body_bytes_in_flight: usize) -> usize {
    body_bytes_in_flight / 2
}

/// The limits of bodies whose senders nobody knows yet.
struct Strangers<'i>(&'i Intake);

impl Bounds for Strangers<'_> {
    fn limits(&self) -> Limits {
        self.0.limits()
    }

    fn budget(&self) -> &Arc<Budget> {
        let Self(intake) = self;
        let Intake { strangers, .. } = intake;
        strangers
    }
}

/// What a body with a good key says, or why it may not.
struct Opened {
    known: Known,
    key: String,
    heard: Result<(Ticket, Option<Judged>), Refusal>,
}

impl Intake {
    pub(super) async fn take_in_keyed<B>(
        &self,
        came: &Came<'_>,
        routed: Routed,
        member: &'static str,
        request: &mut Request<B>,
        trail: &mut Trail,
    ) -> Result<Taken, Refusal>
    where
        B: Body<Data = bytes::Bytes> + Unpin,
    {
        let announced = match self.announced_of_anyone(request.headers()) {
            Ok(announced) => announced,
            Err(refusal) => return Err(self.unread(request, trail, refusal).await),
        };
        let beside = Beside::of(routed.route, &Args::new(), request.uri().query(), request.headers());
        *request.headers_mut() = HeaderMap::new();
        *request.uri_mut() = Uri::default();
        let read = {
            let strangers = Strangers(self);
            let expected = Expected { room: Room::AsItComes, bounds: &strangers, ..announced.expected };
            body::read(request.body_mut(), &expected).await
        };
        trail.close |= read.is_err() && !request.body().is_end_stream();
        let body = read?;
        let tolerated = announced.content.tolerate(body.bytes())?;
        let Opened { mut known, key, heard } = self.open(came, routed, member, &body, trail)?;
        known.beside = beside;
        if known.is_dry_run() {
            let (raw, _reserved) = body.into_parts();
            let raw = mask::masked(&raw, &key).body;
            let foreseen = heard.and_then(|(ticket, heard)| self.foresee_one(&known, heard, raw, tolerated, ticket));
            return foreseen.inspect_err(|refusal| trail.refused_for(&known.integration, refusal));
        }
        let decided = heard.and_then(|(ticket, heard)| {
            let (raw, reserved) = body.into_parts();
            let masked = mask::masked(&raw, &key);
            // What was read may hold the key too, and is stored with the event: then it is read again.
            let (ticket, heard) =
                if masked.beside { ticket.check(self.hear(&known, &masked.body))? } else { (ticket, heard) };
            let said = Said { raw: masked.body, tolerated, envelope: None };
            self.act(came, &known, heard, (said, reserved), ticket, trail)
        });
        self.end(came, known, decided, trail).await
    }

    /// What may be announced while nobody knows who sends: the largest that any integration may send.
    fn announced_of_anyone(&self, said: &HeaderMap) -> Result<Announced<'_>, Refusal> {
        let terms = self.terms.load();
        let cap = terms.keys.body_bytes_max().max(terms.limits.body_bytes);
        let said = headers::Said::of(said);
        body::precheck(said.length, cap)?;
        Ok(Announced::new(said.length, said.content(terms.limits.gzip, Form::Json)?, cap, self))
    }

    /// Steps 8, 3, 6 and 9: the body is parsed once, for its key and for what it says.
    fn open(
        &self,
        came: &Came<'_>,
        routed: Routed,
        member: &'static str,
        body: &CappedBody,
        trail: &mut Trail,
    ) -> Result<Opened, Refusal> {
        let opened = json::with_document(body.bytes(), |document| {
            if !document.root.is_object() {
                return Err(Refusal::new(Reason::InvalidJson, "the body must be a JSON object"));
            }
            let key = match document.root.member(member).map(json::Value::kind) {
                Some(Kind::String(text)) => text,
                _ => "",
            };
            let terms = self.terms.load();
            let Some(integration) = terms.keys.find(key) else { return Err(self.unknown(came.at, trail)) };
            let Routed { dialect, route } = routed;
            let known = Known { dialect, route, integration: Arc::clone(integration), beside: None };
            if let Some(watched) = &mut trail.watched {
                watched.knows(&known.integration.config.name);
            }
            // The sender is known: from here on what is refused is counted.
            let ticket = self.receive(came, &known.integration);
            let heard = ticket
                .check(self.may_send(came, &known, body))
                .and_then(|(ticket, ())| ticket.check(known.hear(document)));
            Ok(Opened { key: key.to_owned(), known, heard })
        });
        opened.map_err(not_json)?
    }

    fn may_send(&self, came: &Came<'_>, known: &Known, body: &CappedBody) -> Result<(), Refusal> {
        known.integration.allows(&known.allowed_as(), came.source)?;
        body::precheck(Some(body.bytes().len() as u64), known.event_bytes_max(&self.terms.load().limits))?;
        known.integration.take_request(came.at)
    }
}
