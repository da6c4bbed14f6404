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
use hyper::http::request::Parts;
use hyper::{Request, StatusCode};
use tokio::time::Instant;

use answer::RequestId;
pub use answer::{Answer, panicked};

use crate::body::{self, Budget};
use crate::claim::Pacing;
use crate::dedup::{self, Claimed, Dedup};
use crate::dialect::{self, Dialect, Ending, Matched, Rules, json};
use crate::event::{Action, Event, Incident, Key, Micros, Severity, Tolerated, Uid};
use crate::gate::{Integration, Keys, Rate, UnauthenticatedBucket};
use crate::metrics::{DialectMeter, Metrics, Ticket};
use crate::outcome::{Outcome, Reason, Refusal};
use crate::store::Store;

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
}

/// Asks the forwarder, whom intake does not know.
pub type UnknownLineIsFull = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// A statement in a body, as far as deciding needs it.
struct Heard {
    action: Action,
    key: Option<Key>,
    severity: Option<Severity>,
    notes: bool,
}

/// How one event ended, with what its answer shows.
struct Ended {
    outcome: Outcome,
    incident: Option<Incident>,
    key: Option<Key>,
}

/// A request's way so far, for its answer: who speaks, and whether body bytes were left unread.
#[derive(Default)]
struct Trail {
    matched: Option<(usize, &'static dyn Dialect)>,
    /// The limit that refused it.
    limit: Option<Rate>,
    close: bool,
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
        }
    }

    /// Answers one request that came to `worker` from `source`. Never fails: every ending is an answer.
    pub async fn answer<B>(&self, worker: usize, source: IpAddr, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let began = Instant::now();
        let request_id = RequestId::new();
        let request_id = request_id.as_str();
        let mut trail = Trail::default();
        let taken = self.take_in(worker, source, request, &mut trail).await;
        let (index, dialect) = match trail.matched {
            Some((index, dialect)) => (index, Some(dialect)),
            None => (self.meters.len() - 1, None),
        };
        let answer = match (taken, dialect) {
            (Ok((ended, success)), Some(dialect)) => answer::accepted(dialect, &ended, success, request_id),
            (Err(refusal), _) => answer::refused(dialect, trail.limit, &refusal, request_id),
            (Ok(_), None) => answer::refused(None, None, &Refusal::new(Reason::Internal, "no dialect"), request_id),
        };
        if let Some(meter) = self.meters.get(index) {
            meter.answered(answer.response.status().as_u16());
            meter.seconds.observe(began.elapsed().as_secs_f64());
        }
        Answer { close: trail.close, ..answer }
    }

    /// The way of a request (DESIGN 1).
    async fn take_in<B>(
        &self,
        worker: usize,
        source: IpAddr,
        request: Request<B>,
        trail: &mut Trail,
    ) -> Result<(Vec<Ended>, StatusCode), Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (head, body) = request.into_parts();
        let (matched, integration) = match self.know(&head, trail) {
            Ok(known) => known,
            Err(refusal) => return Err(Box::pin(self.unread(&head, body, trail, refusal)).await),
        };
        let taken = self.take_known(worker, source, &matched, &integration, &head, body, trail).await;
        if let Err(refusal) = &taken {
            trail.limit = integration.limit_of(refusal.reason);
        }
        taken
    }

    /// From step 4 on: the sender is known, so what is refused is counted.
    #[allow(clippy::too_many_arguments)]
    async fn take_known<B>(
        &self,
        worker: usize,
        source: IpAddr,
        matched: &Matched<'_>,
        integration: &Arc<Integration>,
        head: &Parts,
        mut body: B,
        trail: &mut Trail,
    ) -> Result<(Vec<Ended>, StatusCode), Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let ticket = self.metrics.receive(worker);
        let cap = integration.config.body_bytes.unwrap_or(self.limits.body_bytes);
        let declared = headers::content_length(head);
        let checked = integration
            .allows(matched.dialect.name(), source)
            .and_then(|()| body::precheck(declared, cap))
            .and_then(|()| headers::content(head, self.limits.gzip))
            .and_then(|content| integration.take_request().map(|()| content));
        let (ticket, content) = match ticket.check(checked) {
            Ok(passed) => passed,
            Err(refusal) => return Err(Box::pin(self.unread(head, body, trail, refusal)).await),
        };
        let read = body::read(&mut body, declared, content.encoding, cap, &self.limits, &self.budget).await;
        // A body that was not read to its end leaves the connection unusable.
        trail.close |= read.is_err() && !body.is_end_stream();
        let (ticket, body) = ticket.check(read)?;
        let (ticket, tolerated) = ticket.check(content.tolerate(body.bytes()))?;
        let (ticket, heard) = ticket.check(self.hear(matched, integration, body.bytes()))?;
        let ended = self.accept_all(worker, matched, integration, body.bytes(), tolerated, heard, ticket).await?;
        let success = StatusCode::from_u16(integration.config.success_status).unwrap_or(StatusCode::ACCEPTED);
        Ok((ended, success))
    }

    /// Steps 1 to 3: path, method, key.
    fn know<'p>(&self, head: &'p Parts, trail: &mut Trail) -> Result<(Matched<'p>, Arc<Integration>), Refusal> {
        let uri_bytes = head.uri.path_and_query().map_or(0, |path| path.as_str().len());
        if uri_bytes > self.uri_bytes_max {
            return Err(Refusal::new(
                Reason::UriTooLong,
                format!("the path is longer than {} bytes", self.uri_bytes_max),
            ));
        }
        let no_route = || Refusal::new(Reason::NoRoute, "no such path");
        let matched = dialect::route(head.uri.path()).ok_or_else(no_route)?;
        trail.matched = dialect::DIALECTS
            .iter()
            .position(|dialect| dialect.name() == matched.dialect.name())
            .map(|index| (index, matched.dialect));
        if head.method != matched.route.method {
            return Err(Refusal::new(Reason::WrongMethod, format!("use {}", matched.route.method)));
        }
        let keys = self.keys.load();
        let Some(integration) = keys.find(matched.key) else {
            // Same answer to all; only those beyond the global bucket lose their connection (DESIGN 5.8).
            trail.close |= !self.unauthenticated.take();
            return Err(Refusal::new(Reason::UnknownKey, "unknown key or path"));
        };
        Ok((matched, Arc::clone(integration)))
    }

    /// An answer before the body was wanted: takes what is here, else the connection closes after it.
    async fn unread<B>(&self, head: &Parts, body: B, trail: &mut Trail, refusal: Refusal) -> Refusal
    where
        B: Body<Data = Bytes> + Unpin,
    {
        // Looking at the body of an expectant client would send it the 100 (DESIGN 5.8).
        let waits = head.headers.contains_key(hyper::header::EXPECT);
        trail.close |= waits || !body::discard_ready(body, self.limits.body_bytes).await;
        refusal
    }

    /// Steps 8 and 9: parse and validate.
    fn hear(&self, matched: &Matched<'_>, integration: &Integration, body: &Bytes) -> Result<Vec<Heard>, Refusal> {
        let rules = Rules { require_description: integration.config.require_description, judge_only: true };
        let mut heard = Vec::with_capacity(1);
        let decoded = json::with_document(body, |document| {
            matched.dialect.decode(matched.route.endpoint, document, rules, &mut |said| {
                heard.push(Heard {
                    action: said.action,
                    key: said.key,
                    severity: said.content.severity.or(integration.config.default_severity),
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

    /// Every event of the request, in order.
    #[allow(clippy::too_many_arguments)]
    async fn accept_all(
        &self,
        worker: usize,
        matched: &Matched<'_>,
        integration: &Arc<Integration>,
        raw: &Bytes,
        tolerated: Tolerated,
        heard: Vec<Heard>,
        first: Ticket,
    ) -> Result<Vec<Ended>, Refusal> {
        let mut ended = Vec::with_capacity(heard.len());
        let mut first = Some(first);
        for heard in heard {
            let ticket = first.take().unwrap_or_else(|| self.metrics.receive(worker));
            let now = Micros::now();
            let rules = dedup::Rules {
                life: matched.dialect.key_life(),
                policy: integration.config.policy,
                notes: heard.notes,
            };
            let event = Event {
                uid: Uid::new(now),
                received_at: now,
                integration: Arc::clone(&integration.config.name),
                dialect: matched.dialect.name().into(),
                endpoint: matched.route.endpoint.into(),
                family: matched.dialect.family().into(),
                action: heard.action,
                key: heard.key,
                severity: heard.severity,
                tolerated,
                raw: raw.clone(),
            };
            ended.push(self.accept(worker, matched.dialect, integration, rules, event, ticket).await?);
        }
        Ok(ended)
    }

    /// Steps 10 to 12: claim, event limit, log.
    async fn accept(
        &self,
        worker: usize,
        dialect: &dyn Dialect,
        integration: &Integration,
        rules: dedup::Rules,
        event: Event,
        ticket: Ticket,
    ) -> Result<Ended, Refusal> {
        let (claim, pacing) = match self.claim(integration, rules, &event).await {
            Ok(Decided::Ours(claim, pacing)) if self.is_beyond_the_unknown_line(pacing, integration) => {
                // The claim is released: a resolve of a key nobody knows changes nothing here.
                self.metrics.unknown_absorbed.inc();
                ticket.absorb(claim.outcome);
                return Ok(Ended { outcome: claim.outcome, incident: None, key: event.key });
            }
            Ok(Decided::Ours(claim, pacing)) => (claim, pacing),
            Ok(Decided::Absorbed(outcome, incident)) => {
                ticket.absorb(outcome);
                return Ok(Ended { outcome, incident, key: event.key });
            }
            Err(refusal) => {
                ticket.reject(refusal.reason);
                return Err(refusal);
            }
        };
        let key = event.key.clone();
        let admitted = match integration.admit(claim, event, ticket, dialect.retries_overload(), pacing) {
            Ok(admitted) => admitted,
            Err((refusal, ticket)) => {
                ticket.reject(refusal.reason);
                return Err(refusal);
            }
        };
        // From here on the log alone decides, whether or not this request lives (DESIGN 5.1).
        match self.store.append(worker, admitted).await {
            Ok(accepted) => Ok(Ended { outcome: accepted.outcome, incident: accepted.incident, key }),
            Err(reason) => Err(Refusal::new(reason, answer::why(reason))),
        }
    }

    fn is_beyond_the_unknown_line(&self, pacing: Pacing, integration: &Integration) -> bool {
        pacing.has(Pacing::UNKNOWN) && (self.unknown_line_is_full)(&integration.config.name)
    }

    /// Claims the event's key, waiting in its line where another change is in flight.
    async fn claim(&self, integration: &Integration, rules: dedup::Rules, event: &Event) -> Result<Decided, Refusal> {
        let mut deadline = None;
        loop {
            match self.dedup.claim(event, &integration.targets, rules) {
                Claimed::Owned(claim, pacing) => return Ok(Decided::Ours(claim, pacing)),
                Claimed::Absorbed { outcome, incident } => return Ok(Decided::Absorbed(outcome, incident)),
                Claimed::Refused => {
                    let refusal = Refusal::new(Reason::UnknownResolve, "no open incident has this key");
                    return Err(refusal.with_errors(vec!["event_id: names no open incident".into()]));
                }
                Claimed::Contended(line) => {
                    let deadline = *deadline.get_or_insert_with(|| Instant::now() + LINE_WAIT_MAX);
                    // Boxed: what waits rarely must not make every request's future larger.
                    if !Box::pin(line.wait(deadline.saturating_duration_since(Instant::now()))).await {
                        return Err(Refusal::new(Reason::KeyContended, "too many changes of this key at once"));
                    }
                }
            }
        }
    }
}

/// A claim that did not have to wait any longer.
enum Decided {
    Ours(crate::claim::Claim, Pacing),
    Absorbed(Outcome, Option<Incident>),
}

impl Ended {
    fn ending(&self) -> Ending<'_> {
        Ending { outcome: self.outcome, incident: self.incident.as_ref(), key: self.key.as_ref() }
    }
}
