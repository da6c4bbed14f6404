//! One request, top to bottom, in the order of contracts 2.1. Every line that can refuse ends in `?`, and what
//! it refuses leaves no trace: the sender's retry is new. What is accepted is durable before the answer.

mod answer;
mod headers;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use hyper::body::Body;
use hyper::{HeaderMap, Method, Request, StatusCode, Uri};
use smallvec::SmallVec;
use tokio::time::Instant;

use answer::RequestId;
pub use answer::{Answer, panicked};

use crate::body::{self, Budget, Expected};
use crate::claim::Pacing;
use crate::dedup::{self, Claimed, Dedup};
use crate::dialect::{self, Dialect, Ending, Judged, Matched, Route, Rules, json};
use crate::event::{Event, Incident, Key, Micros, Tolerated, Uid};
use crate::gate::{Integration, Keys, Rate, UnauthenticatedBucket};
use crate::metrics::{DialectMeter, Metrics, Ticket};
use crate::outcome::{Outcome, Reason, Refusal};
use crate::store::{Append, Store};

/// Longest time an event stands in its key's line (DESIGN 5.1).
const LINE_WAIT_MAX: Duration = Duration::from_secs(10);

/// What taking a request in needs.
pub struct Intake {
    /// Changed as a whole when the configuration is reloaded.
    pub keys: ArcSwap<Keys>,
    pub dedup: Arc<Dedup>,
    pub store: Arc<Store>,
    pub metrics: Arc<Metrics>,
    pub limits: body::Limits,
    /// Path and query together.
    pub uri_bytes_max: usize,
    pub budget: Arc<Budget>,
    pub unauthenticated: UnauthenticatedBucket,
    /// Whether the paced line of an integration's unknown resolves is full (contracts 5.5).
    unknown_line_is_full: UnknownLineIsFull,
    meters: Vec<DialectMeter>,
    headers: answer::Headers,
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

/// Where an event stands after its claim.
enum Step {
    Decided(Result<Decided, Refusal>),
    Contended(Box<Contended>),
}

/// An event whose key another one holds.
struct Contended {
    line: dedup::Line,
    event: Event,
    rules: dedup::Rules,
    ticket: Ticket,
}

/// How an event goes on.
enum Decided {
    Ended(Ended),
    /// In the log's hands; with its key for the answer.
    Stored(Append, Option<Key>),
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
    matched: Option<(usize, &'static dyn Dialect)>,
    /// What its events came to, in order.
    ended: Few<Ended>,
    /// The limit that refused it.
    limit: Option<Rate>,
    /// Body bytes were left unread, or the sender is to lose its connection.
    close: bool,
}

/// A request that may be taken in: how it speaks, for whom, and what body it announces.
struct Known {
    dialect: &'static dyn Dialect,
    route: &'static Route,
    integration: Arc<Integration>,
}

impl Intake {
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        keys: Keys,
        dedup: Arc<Dedup>,
        store: Arc<Store>,
        metrics: Arc<Metrics>,
        limits: body::Limits,
        uri_bytes_max: usize,
        unauthenticated: UnauthenticatedBucket,
        unknown_line_is_full: UnknownLineIsFull,
    ) -> Self {
        let meters = dialect::DIALECTS.iter().map(|dialect| metrics.dialect(dialect.name()));
        // Paths of no dialect are counted under a name of their own.
        let meters = meters.chain([metrics.dialect("none")]).collect();
        let budget = Budget::new(limits.body_bytes_in_flight);
        Self {
            keys: ArcSwap::from_pointee(keys),
            dedup,
            store,
            metrics,
            limits,
            uri_bytes_max,
            budget,
            unauthenticated,
            unknown_line_is_full,
            meters,
            headers: answer::Headers::new(),
        }
    }

    /// Answers one request that came to `worker` from `source`. Never fails: every ending is an answer.
    pub async fn answer<B>(&self, worker: usize, source: IpAddr, request: &mut Request<B>) -> Answer
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let came = Came { worker, source, at: Instant::now() };
        let request_id = RequestId::new();
        let request_id = request_id.as_str();
        let mut trail = Trail::default();
        let taken = self.take_in(&came, request, &mut trail).await;
        let (index, dialect) = match trail.matched {
            Some((index, dialect)) => (index, Some(dialect)),
            None => (self.meters.len() - 1, None),
        };
        let response = match (taken, dialect) {
            (Ok(success), Some(dialect)) => answer::accepted(&self.headers, dialect, &trail.ended, success, request_id),
            (Err(refusal), _) => answer::refused(dialect, trail.limit, &refusal, request_id),
            (Ok(_), None) => answer::refused(None, None, &Refusal::new(Reason::Internal, "no dialect"), request_id),
        };
        if let Some(meter) = self.meters.get(index) {
            meter.answered(response.status().as_u16());
            meter.seconds.observe(came.at.elapsed().as_secs_f64());
        }
        Answer { response, close: trail.close }
    }

    /// The way of a request (DESIGN 1).
    async fn take_in<B>(&self, came: &Came, request: &mut Request<B>, trail: &mut Trail) -> Result<StatusCode, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let known = match self.know(request.method(), request.uri(), came.at, trail) {
            Ok(known) => known,
            Err(refusal) => return Err(Box::pin(self.unread(request, trail, refusal)).await),
        };
        let taken = self.take_known(came, &known, request, trail).await;
        if let Err(refusal) = &taken {
            trail.limit = known.integration.limit_of(refusal.reason);
        }
        taken
    }

    /// From step 4 on: the sender is known, so what is refused is counted.
    async fn take_known<B>(
        &self,
        came: &Came,
        known: &Known,
        request: &mut Request<B>,
        trail: &mut Trail,
    ) -> Result<StatusCode, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let ticket = self.metrics.receive(came.worker);
        let integration = &*known.integration;
        let cap = integration.config.body_bytes.unwrap_or(self.limits.body_bytes);
        let said = headers::Said::of(request.headers());
        let checked = integration
            .allows(known.dialect.name(), came.source)
            .and_then(|()| body::precheck(said.length, cap))
            .and_then(|()| said.content(self.limits.gzip))
            .and_then(|content| integration.take_request(came.at).map(|()| content));
        let declared = said.length;
        let (ticket, content) = match ticket.check(checked) {
            Ok(passed) => passed,
            Err(refusal) => return Err(Box::pin(self.unread(request, trail, refusal)).await),
        };
        // All that the head says is known: a body that comes slowly must not hold its room too.
        *request.headers_mut() = HeaderMap::new();
        *request.uri_mut() = Uri::default();
        let encoding = content.encoding;
        let expected = Expected { declared, encoding, cap, limits: &self.limits, budget: &self.budget };
        let read = body::read(request.body_mut(), &expected).await;
        // A body that was not read to its end leaves the connection unusable.
        trail.close |= read.is_err() && !request.body().is_end_stream();
        let (ticket, body) = ticket.check(read)?;
        let (ticket, tolerated) = ticket.check(content.tolerate(body.bytes()))?;
        let (ticket, heard) = ticket.check(self.hear(known, body.bytes()))?;
        // The place in the budget is held until the answer.
        let (raw, _reserved) = body.into_parts();
        let mut heard = heard.into_iter();
        if let Some(first) = heard.next() {
            let rest = if heard.len() > 0 { Some((raw.clone(), heard)) } else { None };
            let step = self.accept(came, known, raw, tolerated, first, ticket);
            trail.ended.push(self.end(came.worker, known, step).await?);
            if let Some((raw, heard)) = rest {
                // Boxed: what few requests need must not make every connection larger.
                Box::pin(self.accept_more(came, known, raw, tolerated, heard, &mut trail.ended)).await?;
            }
        }
        Ok(StatusCode::from_u16(integration.config.success_status).unwrap_or(StatusCode::ACCEPTED))
    }

    /// The events of a request behind its first, in order.
    async fn accept_more(
        &self,
        came: &Came,
        known: &Known,
        raw: Bytes,
        tolerated: Tolerated,
        heard: impl Iterator<Item = Judged>,
        ended: &mut Few<Ended>,
    ) -> Result<(), Refusal> {
        for heard in heard {
            let ticket = self.metrics.receive(came.worker);
            let step = self.accept(came, known, raw.clone(), tolerated, heard, ticket);
            ended.push(self.end(came.worker, known, step).await?);
        }
        Ok(())
    }

    /// Waits for an event's end, where there is something to wait for.
    async fn end(&self, worker: usize, known: &Known, step: Step) -> Result<Ended, Refusal> {
        let decided = match step {
            Step::Decided(decided) => decided?,
            // Boxed: what waits rarely must not make every request's future larger.
            Step::Contended(waits) => Box::pin(self.stand_in_line(worker, known, waits)).await?,
        };
        match decided {
            Decided::Ended(ended) => Ok(ended),
            Decided::Stored(append, key) => match append.await {
                Ok(accepted) => Ok(Ended { outcome: accepted.outcome, incident: accepted.incident, key }),
                Err(reason) => Err(Refusal::new(reason, answer::why(reason))),
            },
        }
    }

    /// Steps 1 to 3: path, method, key.
    fn know(&self, method: &Method, uri: &Uri, now: Instant, trail: &mut Trail) -> Result<Known, Refusal> {
        let uri_bytes = uri.path_and_query().map_or(0, |path| path.as_str().len());
        if uri_bytes > self.uri_bytes_max {
            let message = format!("the path is longer than {} bytes", self.uri_bytes_max);
            return Err(Refusal::new(Reason::UriTooLong, message));
        }
        let no_route = || Refusal::new(Reason::NoRoute, "no such path");
        let Matched { index, dialect, route, key } = dialect::route(uri.path()).ok_or_else(no_route)?;
        trail.matched = Some((index, dialect));
        if method != route.method {
            return Err(Refusal::new(Reason::WrongMethod, format!("use {}", route.method)));
        }
        let keys = self.keys.load();
        let Some(integration) = keys.find(key) else {
            // Same answer to all; only those beyond the global bucket lose their connection (DESIGN 5.8).
            trail.close |= !self.unauthenticated.take(now);
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
        trail.close |= waits || !body::discard_ready(request.body_mut(), self.limits.body_bytes).await;
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

    /// Steps 10 to 12: claim, event limit, log.
    fn accept(
        &self,
        came: &Came,
        known: &Known,
        raw: Bytes,
        tolerated: Tolerated,
        heard: Judged,
        ticket: Ticket,
    ) -> Step {
        let Known { dialect, route, integration } = known;
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
        match self.dedup.claim(&event, &integration.targets, rules) {
            Claimed::Contended(line) => Step::Contended(Box::new(Contended { line, event, rules, ticket })),
            claimed => Step::Decided(self.admit(came.worker, came.at, known, claimed, event, ticket)),
        }
    }

    /// Another change of the key is in flight: waits for the turn and claims again. Who waited in vain claims
    /// once more, and is refused if that fails too.
    async fn stand_in_line(&self, worker: usize, known: &Known, waits: Box<Contended>) -> Result<Decided, Refusal> {
        let Contended { mut line, event, rules, ticket } = *waits;
        let deadline = Instant::now() + LINE_WAIT_MAX;
        loop {
            let in_time = line.wait(deadline.saturating_duration_since(Instant::now())).await;
            match self.dedup.claim(&event, &known.integration.targets, rules) {
                Claimed::Contended(next) if in_time => line = next,
                claimed => return self.admit(worker, Instant::now(), known, claimed, event, ticket),
            }
        }
    }

    /// Step 11, and the hand-over to the log.
    fn admit(
        &self,
        worker: usize,
        now: Instant,
        known: &Known,
        claimed: Claimed,
        event: Event,
        ticket: Ticket,
    ) -> Result<Decided, Refusal> {
        let Known { dialect, integration, .. } = known;
        let (claim, pacing) = match claimed {
            Claimed::Owned(claim, pacing) if self.is_beyond_the_unknown_line(pacing, integration) => {
                // The claim is released: a resolve of a key nobody knows changes nothing here.
                self.metrics.unknown_absorbed.inc();
                ticket.absorb(claim.outcome);
                return Ok(Decided::Ended(Ended { outcome: claim.outcome, incident: None, key: event.key }));
            }
            Claimed::Owned(claim, pacing) => (claim, pacing),
            Claimed::Absorbed { outcome, incident } => {
                ticket.absorb(outcome);
                return Ok(Decided::Ended(Ended { outcome, incident, key: event.key }));
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
            Ok(admitted) => Ok(Decided::Stored(self.store.append(worker, admitted), key)),
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

impl Ended {
    fn ending(&self) -> Ending<'_> {
        Ending { outcome: self.outcome, incident: self.incident.as_ref(), key: self.key.as_ref() }
    }
}
