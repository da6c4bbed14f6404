//! One request, top to bottom, in the order of contracts 2.1. Every line that can refuse ends in `?`, and what
//! it refuses leaves no trace: the sender's retry is new. What is accepted is durable before the answer.

mod answer;
mod headers;
mod told;
mod wait;
mod watched;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use hyper::body::Body;
use hyper::{HeaderMap, Method, Request, StatusCode, Uri};
use smallvec::SmallVec;
use tokio::time::Instant;

use answer::RequestId;
pub use answer::{Answer, panicked};
use told::{Facts, Told};
use wait::{Contended, On, Rest, Underway};
use watched::Watched;

use crate::body::{self, Budget, CappedBody, Expected};
use crate::claim::{Accepted, Pacing};
use crate::dedup::{self, Claimed, Dedup};
use crate::dialect::{self, Dialect, Ending, Judged, Matched, Route, Rules, json};
use crate::event::{Event, Incident, Key, Micros, Tolerated, Uid};
use crate::gate::{Integration, Keys, Rate, UnauthenticatedBucket};
use crate::metrics::{DialectMeter, Metrics, Ticket};
use crate::outcome::{Outcome, Reason, Refusal};
use crate::store::{Append, Store};
use crate::tap::Tap;

/// What requests are held to; changed as a whole when the configuration is reloaded.
pub struct Terms {
    pub keys: Keys,
    pub limits: body::Limits,
    /// Path and query together.
    pub uri_bytes_max: usize,
    pub unauthenticated: UnauthenticatedBucket,
}

/// What taking a request in needs.
pub struct Intake {
    pub terms: ArcSwap<Terms>,
    pub dedup: Arc<Dedup>,
    pub store: Arc<Store>,
    pub metrics: Arc<Metrics>,
    pub budget: Arc<Budget>,
    /// Whether the paced line of an integration's unknown resolves is full (contracts 5.5).
    unknown_line_is_full: UnknownLineIsFull,
    meters: Vec<DialectMeter>,
    headers: answer::Headers,
    told: Told,
    tap: Arc<Tap>,
}

/// Asks the forwarder, whom intake does not know.
pub type UnknownLineIsFull = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// Most requests hold one event: no allocation for it.
type Few<T> = SmallVec<[T; 1]>;

/// How one event ended, with what its answer shows.
struct Ended {
    outcome: Outcome,
    incident: Option<Incident>,
    key: Option<Key>,
}

/// Where and when a request came. One value by reference: each argument of each stage would stand in every connection.
struct Came {
    worker: usize,
    source: IpAddr,
    at: Instant,
}

/// A request's way so far, for its answer.
#[derive(Default)]
struct Trail {
    /// Place of its dialect in the list.
    matched: Option<u8>,
    /// What its events came to, in order.
    ended: Few<Ended>,
    /// Who it was refused for, and the limit that refused it.
    refused: Option<Box<(Arc<Integration>, Option<Rate>)>>,
    /// Body bytes were left unread.
    close: bool,
    /// The sender is to lose its connection.
    leaves: bool,
    /// For those who watch; `None` while nobody does.
    watched: Option<Box<Watched>>,
}

impl Trail {
    /// An event ended; `is_stored`: the log has it.
    fn end(&mut self, ended: Ended, is_stored: bool) {
        if let Some(watched) = &mut self.watched {
            watched.ends(ended.outcome, is_stored);
        }
        self.ended.push(ended);
    }

    fn refused_for(&mut self, integration: &Arc<Integration>, refusal: &Refusal) {
        self.refused = Some(Box::new((Arc::clone(integration), integration.limit_of(refusal.reason))));
    }
}

/// A request that may be taken in: how it speaks, for whom, and what body it announces.
struct Known {
    dialect: &'static dyn Dialect,
    route: &'static Route,
    integration: Arc<Integration>,
}

/// What a head announces of its body, within the limits.
#[derive(Clone, Copy)]
struct Announced {
    declared: Option<u64>,
    content: headers::Content,
    /// Most decoded bytes.
    cap: usize,
}

impl Intake {
    pub fn new(
        terms: Terms,
        dedup: Arc<Dedup>,
        store: Arc<Store>,
        metrics: Arc<Metrics>,
        unknown_line_is_full: UnknownLineIsFull,
        tap: Arc<Tap>,
    ) -> Self {
        let meters = dialect::DIALECTS.iter().map(|dialect| metrics.dialect(dialect.name()));
        // Paths of no dialect are counted under a name of their own.
        let meters = meters.chain([metrics.dialect("none")]).collect();
        let budget = Budget::new(terms.limits.body_bytes_in_flight);
        Self {
            terms: ArcSwap::from_pointee(terms),
            dedup,
            store,
            metrics,
            budget,
            unknown_line_is_full,
            meters,
            headers: answer::Headers::new(),
            told: Told::new(),
            tap,
        }
    }

    /// The integrations as they are configured now.
    pub fn integrations(&self) -> Vec<Arc<Integration>> {
        self.terms.load().keys.integrations()
    }

    /// Takes the terms of a reloaded configuration: requests whose key is not yet known are held to them.
    pub fn change(&self, terms: Terms) {
        self.budget.resize(terms.limits.body_bytes_in_flight);
        self.terms.store(Arc::new(terms));
    }

    /// Answers one request that came to `worker` from `source`. Never fails: every ending is an answer.
    pub fn answer<B>(&self, worker: usize, source: IpAddr, request: &mut Request<B>) -> impl Future<Output = Answer>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let came = Came { worker, source, at: Instant::now() };
        // No `async fn`: that would hold its arguments twice, in each connection.
        async move {
            let mut trail = Trail { watched: Watched::if_wanted(&self.tap), ..Trail::default() };
            let taken = self.take_in(&came, request, &mut trail).await;
            self.respond(&came, trail, taken)
        }
    }

    /// The answer to a request, counted.
    fn respond(&self, came: &Came, trail: Trail, taken: Result<StatusCode, Refusal>) -> Answer {
        let request_id = RequestId::new();
        let request_id = request_id.as_str();
        let index = trail.matched.map_or(self.meters.len() - 1, usize::from);
        let dialect = dialect::DIALECTS.get(index).copied();
        let response = match (&taken, dialect) {
            (Ok(success), Some(dialect)) => {
                answer::accepted(&self.headers, dialect, &trail.ended, *success, request_id)
            }
            (Err(refusal), _) => {
                let limit = trail.refused.as_ref().and_then(|refused| refused.1);
                answer::refused(dialect, limit, refusal, request_id)
            }
            (Ok(_), None) => answer::refused(None, None, &Refusal::new(Reason::Internal, "no dialect"), request_id),
        };
        let status = response.status().as_u16();
        if let Err(refusal) = &taken {
            let facts = Facts {
                dialect: dialect.map(Dialect::name),
                integration: trail.refused.as_ref().map(|refused| &*refused.0.config.name),
                source: came.source,
                status,
                request_id,
            };
            self.told.refused(refusal, &facts, came.at, &self.metrics);
        }
        if let Some(watched) = trail.watched {
            let reason = taken.err().map(|refusal| refusal.reason);
            watched.tell(&self.tap, request_id, dialect.map(Dialect::name), reason, status);
        }
        if let Some(meter) = self.meters.get(index) {
            meter.answered(status);
            meter.seconds.observe(came.at.elapsed().as_secs_f64());
        }
        Answer { response, close: trail.close, leaves: trail.leaves }
    }

    /// The way of a request (DESIGN 1). What is in here at an `await`, every connection that waits there holds.
    async fn take_in<B>(&self, came: &Came, request: &mut Request<B>, trail: &mut Trail) -> Result<StatusCode, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let known = match self.know(request.method(), request.uri(), came.at, trail) {
            Ok(known) => known,
            Err(refusal) => return Err(Box::pin(self.unread(request, trail, refusal)).await),
        };
        if let Some(watched) = &mut trail.watched {
            watched.knows(&known.integration.config.name);
        }
        // The sender is known: from here on what is refused is counted.
        let ticket = self.metrics.receive(came.worker);
        let (ticket, announced) = match ticket.check(self.announced(came, &known, request.headers())) {
            Ok(passed) => passed,
            Err(refusal) => {
                trail.refused_for(&known.integration, &refusal);
                return Err(Box::pin(self.unread(request, trail, refusal)).await);
            }
        };
        // All that the head says is known: a body that comes slowly must not hold its room too.
        *request.headers_mut() = HeaderMap::new();
        *request.uri_mut() = Uri::default();
        let read = {
            let expected = announced.expected(self);
            body::read(request.body_mut(), &expected).await
        };
        // A body that was not read to its end leaves the connection unusable.
        trail.close |= read.is_err() && !request.body().is_end_stream();
        let decided = match ticket.check(read) {
            Ok((ticket, body)) => self.decide(came, &known, announced.content, body, ticket, trail),
            Err(refusal) => Err(refusal),
        };
        let taken = match decided {
            Ok(None) => Ok(()),
            Ok(Some(Underway { on: Some(On::Log(waits, key)), rest: None, _reserved })) => {
                Ended::stored(waits.await, key).map(|ended| trail.end(ended, true))
            }
            // Boxed: what few requests wait for must not make every connection larger.
            Ok(Some(underway)) => Box::pin(self.wait(came, &known, underway, trail)).await,
            Err(refusal) => Err(refusal),
        };
        let success = known.integration.config.success_status;
        match taken {
            Ok(()) => Ok(StatusCode::from_u16(success).unwrap_or(StatusCode::ACCEPTED)),
            Err(refusal) => {
                trail.refused_for(&known.integration, &refusal);
                Err(refusal)
            }
        }
    }

    /// Steps 4 to 6: what the head says of the body, and the request limit.
    fn announced(&self, came: &Came, known: &Known, headers: &HeaderMap) -> Result<Announced, Refusal> {
        let integration = &known.integration;
        let limits = self.terms.load().limits;
        let cap = integration.config.body_bytes.unwrap_or(limits.body_bytes);
        let said = headers::Said::of(headers);
        integration.allows(known.dialect.name(), came.source)?;
        body::precheck(said.length, cap)?;
        let content = said.content(limits.gzip)?;
        integration.take_request(came.at)?;
        Ok(Announced { declared: said.length, content, cap })
    }

    /// Steps 8 to 12, as far as there is nothing to wait for.
    fn decide(
        &self,
        came: &Came,
        known: &Known,
        content: headers::Content,
        body: CappedBody,
        ticket: Ticket,
        trail: &mut Trail,
    ) -> Result<Option<Underway>, Refusal> {
        let (ticket, tolerated) = ticket.check(content.tolerate(body.bytes()))?;
        let (ticket, heard) = ticket.check(self.hear(known, body.bytes()))?;
        let (raw, reserved) = body.into_parts();
        let mut heard = heard.into_iter();
        let Some(first) = heard.next() else { return Ok(None) };
        let rest = if heard.len() > 0 { Some(Box::new(Rest { raw: raw.clone(), tolerated, heard })) } else { None };
        let on = self.accept(came, known, raw, tolerated, first, ticket, trail)?;
        if on.is_none() && rest.is_none() {
            return Ok(None);
        }
        Ok(Some(Underway { on, rest, _reserved: reserved }))
    }

    /// Steps 1 to 3: path, method, key.
    fn know(&self, method: &Method, uri: &Uri, now: Instant, trail: &mut Trail) -> Result<Known, Refusal> {
        let terms = self.terms.load();
        let no_route = || Refusal::new(Reason::NoRoute, "no such path");
        let Matched { index, dialect, route, key } = dialect::route(uri.path()).ok_or_else(no_route)?;
        trail.matched = u8::try_from(index).ok();
        let uri_bytes = uri.path_and_query().map_or(0, |path| path.as_str().len());
        if uri_bytes > terms.uri_bytes_max {
            let message = format!("the path is longer than {} bytes", terms.uri_bytes_max);
            return Err(Refusal::new(Reason::UriTooLong, message));
        }
        if method != route.method {
            return Err(Refusal::new(Reason::WrongMethod, format!("use {}", route.method)));
        }
        let Some(integration) = terms.keys.find(key) else {
            // Same answer to all; only those beyond the global bucket lose their connection (DESIGN 5.8).
            trail.leaves |= !terms.unauthenticated.take(now);
            return Err(Refusal::new(Reason::UnknownKey, "unknown key or path"));
        };
        Ok(Known { dialect, route, integration: Arc::clone(integration) })
    }

    /// An answer before the body was wanted: takes what is here, else the connection closes after it.
    async fn unread<B>(&self, request: &mut Request<B>, trail: &mut Trail, refusal: Refusal) -> Refusal
    where
        B: Body<Data = Bytes> + Unpin,
    {
        // Looking at the body of an expectant client would send it the 100 (DESIGN 5.8).
        let waits = request.headers().contains_key(hyper::header::EXPECT);
        let at_most = self.terms.load().limits.body_bytes;
        trail.close |= waits || !body::discard_ready(request.body_mut(), at_most).await;
        refusal
    }

    /// Steps 8 and 9: parse and validate.
    fn hear(&self, known: &Known, body: &Bytes) -> Result<Few<Judged>, Refusal> {
        let config = &known.integration.config;
        let rules = Rules { require_description: config.require_description, judge_only: true };
        if let Some(judged) = known.dialect.judge(known.route.endpoint, body, rules) {
            let severity = judged.severity.or(config.default_severity);
            return Ok(Few::from_buf([Judged { severity, ..judged }]));
        }
        let mut heard = Few::new();
        let decoded = json::with_document(body, |document| {
            known.dialect.decode(known.route.endpoint, document, rules, &mut |said| {
                heard.push(Judged {
                    action: said.action,
                    key: said.key,
                    severity: said.content.severity.or(config.default_severity),
                    notes: said.notes,
                });
            })
        });
        match decoded {
            Ok(Ok(())) => Ok(heard),
            Ok(Err(faults)) => {
                Err(Refusal::new(Reason::InvalidEvent, "the body breaks the rules of this API").with_errors(faults))
            }
            Err(error) => {
                Err(Refusal::new(Reason::InvalidJson, error.to_string()).with_errors(vec![format!("body: {error}")]))
            }
        }
    }

    /// Steps 10 to 12: claim, event limit, log. What ended is in `trail`; else what it waits for comes back.
    #[allow(clippy::too_many_arguments)] // Each is another stage's.
    fn accept(
        &self,
        came: &Came,
        known: &Known,
        raw: Bytes,
        tolerated: Tolerated,
        heard: Judged,
        ticket: Ticket,
        trail: &mut Trail,
    ) -> Result<Option<On>, Refusal> {
        let Known { dialect, route, integration, .. } = known;
        let rules = dedup::Rules { life: dialect.key_life(), policy: integration.config.policy, notes: heard.notes };
        let received_at = Micros::now();
        let event = Event {
            uid: Uid::new(received_at),
            received_at,
            integration: Arc::clone(&integration.config.name),
            dialect: dialect.name().into(),
            endpoint: route.endpoint.into(),
            family: dialect.family().into(),
            action: heard.action,
            key: heard.key,
            severity: heard.severity,
            tolerated,
            raw,
        };
        if let Some(watched) = &mut trail.watched {
            watched.begins(&event);
        }
        match self.dedup.claim(&event, &integration.targets, rules) {
            Claimed::Contended(line) => Ok(Some(On::Line(Box::new(Contended { line, event, rules, ticket })))),
            claimed => self.admit(came.worker, came.at, known, claimed, event, ticket, trail),
        }
    }

    /// Step 11, and the hand-over to the log.
    #[allow(clippy::too_many_arguments)] // Each is another stage's.
    fn admit(
        &self,
        worker: usize,
        now: Instant,
        known: &Known,
        claimed: Claimed,
        event: Event,
        ticket: Ticket,
        trail: &mut Trail,
    ) -> Result<Option<On>, Refusal> {
        let Known { dialect, integration, .. } = known;
        let (claim, pacing) = match claimed {
            Claimed::Owned(claim, pacing) if self.is_beyond_the_unknown_line(pacing, integration) => {
                // The claim is released: a resolve of a key nobody knows changes nothing here.
                self.metrics.unknown_absorbed.inc();
                ticket.absorb(claim.outcome);
                trail.end(Ended { outcome: claim.outcome, incident: None, key: event.key }, false);
                return Ok(None);
            }
            Claimed::Owned(claim, pacing) => (claim, pacing),
            Claimed::Absorbed { outcome, incident } => {
                ticket.absorb(outcome);
                trail.end(Ended { outcome, incident, key: event.key }, false);
                return Ok(None);
            }
            Claimed::Refused => {
                ticket.reject(Reason::UnknownResolve);
                let refusal = Refusal::new(Reason::UnknownResolve, "no open incident has this key");
                return Err(refusal.with_errors(vec!["event_id: names no open incident".into()]));
            }
            Claimed::Contended(_) => {
                ticket.reject(Reason::KeyContended);
                return Err(Refusal::new(Reason::KeyContended, "too many changes of this key at once"));
            }
        };
        let key = event.key.clone();
        match integration.admit(claim, event, ticket, dialect.retries_overload(), pacing, now) {
            // From here on the log alone decides, whether or not this request lives (DESIGN 5.1).
            Ok(admitted) => match self.store.append(worker, admitted) {
                Append::Ended(stored) => {
                    trail.end(Ended::stored(stored, key)?, true);
                    Ok(None)
                }
                Append::Waits(waits) => Ok(Some(On::Log(waits, key))),
            },
            Err((refusal, ticket)) => {
                ticket.reject(refusal.reason);
                Err(refusal)
            }
        }
    }

    fn is_beyond_the_unknown_line(&self, pacing: Pacing, integration: &Integration) -> bool {
        pacing.has(Pacing::UNKNOWN) && (self.unknown_line_is_full)(&integration.config.name)
    }
}

impl body::Bounds for Intake {
    fn limits(&self) -> body::Limits {
        self.terms.load().limits
    }

    fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }
}

impl Announced {
    fn expected<'l>(&self, bounds: &'l dyn body::Bounds) -> Expected<'l> {
        let Self { declared, content, cap } = *self;
        Expected { declared, encoding: content.encoding, cap, bounds }
    }
}

impl Ended {
    /// How the log ended it.
    fn stored(stored: Result<Accepted, Reason>, key: Option<Key>) -> Result<Self, Refusal> {
        let Accepted { outcome, incident } = stored.map_err(|reason| Refusal::new(reason, answer::why(reason)))?;
        Ok(Self { outcome, incident, key })
    }

    fn ending(&self) -> Ending<'_> {
        Ending { outcome: self.outcome, incident: self.incident.as_ref(), key: self.key.as_ref() }
    }
}
