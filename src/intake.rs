//! One request, top to bottom, in the order of contracts 2.1. Every line that can refuse ends in `?`, and what
//! it refuses leaves no trace: the sender's retry is new. What is accepted is durable before the answer.

mod accept;
mod answer;
mod ask;
mod batch;
mod delivery;
mod event;
mod foresee;
mod headers;
mod keyed;
mod know;
mod known;
mod outside;
mod passed;
pub mod plain;
mod records;
mod repeats;
mod shape;
mod told;
mod traced;
mod wait;
mod watched;

use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use bytes::Bytes;
use hyper::body::Body;
use hyper::{HeaderMap, Request, Uri};
use smallvec::SmallVec;
use tokio::time::Instant;

pub use answer::{Answer, RequestId, panicked};
use batch::Gathered;
use event::Said;
use know::{Beside, Found};
pub use passed::AskUpstream;
pub use told::Sample;
use told::{Facts, Told};
use wait::{On, Sought, Underway};
use watched::Watched;

use crate::awaited::Awaiting;
use crate::body::{self, Budget, CappedBody, Expected, Reserved, Room};
use crate::claim::Accepted;
use crate::dedup::Dedup;
use crate::dialect::{self, Dialect, Ending, Judged, RequestIdForm, Route, Takes};
use crate::event::trace::Trace;
use crate::event::{Incident, Key};
use crate::gate::{Integration, Keys, Rate, UnauthenticatedBucket};
use crate::metrics::{DialectMeter, Metrics, Ticket};
use crate::outcome::{Outcome, Reason, Refusal};
use crate::sns::Amazon;
use crate::spans::Spans;
use crate::store::Store;
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
    awaiting: Arc<Awaiting>,
    questions: passed::Questions,
    answered: repeats::Answered,
    /// The part of it for bodies of which nobody knows yet who sends them.
    strangers: Arc<Budget>,
    /// Whether the paced line of an integration's unknown resolves is full (contracts 5.5).
    unknown_line_is_full: UnknownLineIsFull,
    meters: Vec<DialectMeter>,
    headers: answer::Headers,
    told: Told,
    tap: Arc<Tap>,
    amazon: Arc<Amazon>,
    spans: Spans,
}

/// Asks the forwarder, whom intake does not know.
pub type UnknownLineIsFull = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// Most requests hold one event: no allocation for it.
type Few<T> = SmallVec<[T; 1]>;

/// How one event ended, with what its answer shows.
struct Ended {
    /// `None`: an element of a batch that was no event.
    outcome: Option<Outcome>,
    incident: Option<Incident>,
    key: Option<Key>,
}

/// Where and when a request came. One value by reference: each argument of each stage would stand in every connection.
struct Came<'p> {
    /// Its number; there are as many as cores.
    worker: u16,
    source: IpAddr,
    at: Instant,
    peer: &'p Arc<dyn Peer>,
}

impl Came<'_> {
    fn worker(&self) -> usize {
        usize::from(self.worker)
    }
}

/// The connection that a request came on.
pub trait Peer: Send + Sync {
    /// Ready when its other side has closed, and may be gone; for a request that waits long. It may be pending for ever.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()>;
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
    /// What answers show of the incident of its one event; of dialects with ids, which take no batches.
    view: Option<Box<Bytes>>,
    /// What is known of the delivery; of integrations whose answers wait for it.
    delivery: Option<Box<delivery::Known>>,
    /// Body bytes were left unread.
    close: bool,
    /// The sender is to lose its connection.
    leaves: bool,
    /// For those who watch; `None` while nobody does.
    watched: Option<Box<Watched>>,
    /// The trace that the request belongs to.
    trace: Option<Arc<Trace>>,
    /// Template of its path, where it has one.
    route: Option<&'static Route>,
}

impl Trail {
    /// An event ended; `is_stored`: the log has it.
    fn end(&mut self, ended: Ended, is_stored: bool) {
        if let (Some(watched), Some(outcome)) = (&mut self.watched, ended.outcome) {
            watched.ends(outcome, is_stored);
        }
        self.ended.push(ended);
    }

    /// Of many events now this one is being decided, by its place among those that are watched.
    fn turn_to(&mut self, place: usize) {
        if let Some(watched) = &mut self.watched {
            watched.turn_to(place);
        }
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
    /// `None`: nothing but the body says anything.
    beside: Option<Box<Beside>>,
}

/// What the head of a request decides.
enum Begun<'i> {
    /// Its body is wanted.
    Wanted(Known, Ticket, Announced<'i>),
    KeyInBody(know::Routed, &'static str),
    Question(Known),
    Refused(Refusal),
}

/// What a request came to.
enum Taken {
    /// Its events are in the trail.
    Events(Known),
    /// A question was answered.
    Answer(Box<ask::Read>),
}

/// What a head announces of its body, within the limits.
struct Announced<'i> {
    content: headers::Content,
    expected: Expected<'i>,
}

impl Intake {
    #[allow(clippy::too_many_arguments)] // Each is another room.
    pub fn new(
        terms: Terms,
        dedup: Arc<Dedup>,
        store: Arc<Store>,
        metrics: Arc<Metrics>,
        awaiting: Arc<Awaiting>,
        unknown_line_is_full: UnknownLineIsFull,
        ask_upstream: AskUpstream,
        tap: Arc<Tap>,
        amazon: Arc<Amazon>,
        spans: Spans,
    ) -> Self {
        let meters = dialect::DIALECTS.iter().map(|dialect| metrics.dialect(dialect.name()));
        // Paths of no dialect are counted under a name of their own.
        let meters = meters.chain([metrics.dialect("none")]).collect();
        let budget = Budget::new(terms.limits.body_bytes_in_flight);
        let strangers = Budget::part(&budget, keyed::part_of(terms.limits.body_bytes_in_flight));
        Self {
            terms: ArcSwap::from_pointee(terms),
            dedup,
            store,
            metrics,
            budget,
            awaiting,
            questions: passed::Questions::new(ask_upstream),
            answered: repeats::Answered::default(),
            strangers,
            unknown_line_is_full,
            meters,
            headers: answer::Headers::new(),
            told: Told::new(),
            tap,
            amazon,
            spans,
        }
    }

    /// The integrations as they are configured now.
    pub fn integrations(&self) -> Vec<Arc<Integration>> {
        self.terms.load().keys.integrations()
    }

    /// Takes the terms of a reloaded configuration: requests whose key is not yet known are held to them.
    pub fn change(&self, terms: Terms) {
        self.budget.resize(terms.limits.body_bytes_in_flight);
        self.strangers.resize(keyed::part_of(terms.limits.body_bytes_in_flight));
        self.terms.store(Arc::new(terms));
    }

    /// Answers one request that came to `worker` from `source`. Never fails: every ending is an answer.
    pub fn answer<B>(
        &self,
        worker: usize,
        source: IpAddr,
        peer: &Arc<dyn Peer>,
        request: &mut Request<B>,
    ) -> impl Future<Output = Answer>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let worker = u16::try_from(worker).unwrap_or(u16::MAX);
        // Boxed: with all that a trail has, a request would hold more than it may (`listen/serve.rs`).
        let came = Came { worker, source, at: Instant::now(), peer };
        // No `async fn`: that would hold its arguments twice, in each connection.
        async move {
            let trace = self.trace_of(request.headers());
            let mut trail = Trail { watched: Watched::if_wanted(&self.tap), trace, ..Trail::default() };
            let taken = self.take_in(&came, request, &mut trail).await;
            self.respond(&came, trail, taken)
        }
    }

    /// Takes an event of a known sender into the books.
    fn receive(&self, came: &Came, integration: &Integration) -> Ticket {
        self.metrics.receive(came.worker()).of(integration.tally().page(came.worker()), came.at)
    }

    /// What was refused last for each reason.
    pub fn refusal_samples(&self) -> Vec<(Reason, Sample)> {
        self.told.samples()
    }

    /// The answer to a request, counted.
    fn respond(&self, came: &Came<'_>, mut trail: Trail, taken: Result<Taken, Refusal>) -> Answer {
        let index = trail.matched.map_or(self.meters.len() - 1, usize::from);
        let dialect = dialect::DIALECTS.get(index).copied();
        let form = dialect.map_or(RequestIdForm::Hex, |dialect| dialect.request_id());
        let request_id = match &taken {
            Ok(Taken::Answer(read)) => read.request_id,
            Ok(Taken::Events(known)) if form == RequestIdForm::Telling => answer::telling_id(known, &trail.ended),
            _ => RequestId::new(form),
        };
        let request_id = request_id.as_str();
        let response = match &taken {
            Ok(Taken::Events(known)) => {
                let named = self.named(known, &trail.ended);
                answer::accepted(&self.headers, known, &trail, named.as_deref(), request_id)
            }
            Ok(Taken::Answer(read)) => read.response(request_id),
            Err(refusal) => {
                let refused = trail.refused.as_deref();
                let who = refused.map(|(integration, _)| &*integration.config.name).unwrap_or_default();
                let limit = refused.and_then(|(_, limit)| *limit);
                answer::refused(dialect, who, limit, refusal, request_id)
            }
        };
        let response = match &trail.delivery {
            Some(known) => known.told(response),
            None => response,
        };
        let response = match dialect {
            Some(dialect) if dialect.tells_time() => answer::timed(dialect, response, came.at.elapsed()),
            _ => response,
        };
        let status = response.status().as_u16();
        if let Err(refusal) = &taken {
            let facts = Facts {
                dialect: dialect.map(Dialect::name),
                integration: trail.refused.as_ref().map(|refused| &refused.0.config.name),
                source: came.source,
                status,
                request_id,
                trace: trail.trace.as_deref(),
            };
            self.told.refused(refusal, &facts, came.at, &self.metrics);
        }
        let refusal = taken.as_ref().err();
        self.count(came, &mut trail, refusal, status, request_id);
        Answer { response, close: trail.close, leaves: trail.leaves }
    }

    /// An answer of this status is about to leave.
    fn count(&self, came: &Came<'_>, trail: &mut Trail, refusal: Option<&Refusal>, status: u16, request_id: &str) {
        let index = trail.matched.map_or(self.meters.len() - 1, usize::from);
        let dialect = dialect::DIALECTS.get(index).map(|dialect| dialect.name());
        self.record_span(came, trail, dialect, refusal, status);
        if let Some(watched) = trail.watched.take() {
            let reason = refusal.map(|refusal| refusal.reason);
            watched.tell(&self.tap, request_id, dialect, reason, status, trail.trace.as_deref());
        }
        if let Some(meter) = self.meters.get(index) {
            meter.answered(status);
            meter.seconds.observe(came.at.elapsed().as_secs_f64());
        }
    }

    /// The way of a request (DESIGN 1). What is in here at an `await`, every connection that waits there holds: what few
    /// requests need is boxed, and stands elsewhere.
    async fn take_in<B>(&self, came: &Came<'_>, request: &mut Request<B>, trail: &mut Trail) -> Result<Taken, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (mut known, ticket, announced) = match self.begin(came, request, trail) {
            Begun::Wanted(known, ticket, announced) => (known, ticket, announced),
            otherwise => return Box::pin(self.otherwise(came, otherwise, request, trail)).await,
        };
        // All that the head says is known: a body that comes slowly must not hold its room too.
        *request.headers_mut() = HeaderMap::new();
        *request.uri_mut() = Uri::default();
        let read = body::read(request.body_mut(), &announced.expected).await;
        // A body that was not read to its end leaves the connection unusable.
        trail.close |= read.is_err() && !request.body().is_end_stream();
        if let Ok(body) = &read
            && let Some(route) = known.dialect.belongs_to(known.route.endpoint, body.bytes())
        {
            known.route = route;
        }
        let decided = ticket
            .check(read)
            .and_then(|(ticket, body)| self.decide(came, &known, announced.content, body, ticket, trail));
        let decided = match decided {
            // What most requests wait for.
            Ok(Some(Underway { on: On::Log(waits, key), _reserved })) => Ended::stored(waits.await, key).map(|ended| {
                trail.end(ended, true);
                None
            }),
            decided => decided,
        };
        match decided {
            Ok(None) => Ok(Taken::Events(known)),
            decided => Box::pin(self.end(came, known, decided, trail)).await,
        }
    }

    /// What the head alone decides: steps 1 to 6.
    fn begin<'i, B>(&'i self, came: &Came<'_>, request: &Request<B>, trail: &mut Trail) -> Begun<'i> {
        let known = match self.know(request.method(), request.uri(), request.headers(), came.at, trail) {
            Ok(Found::Known(known)) => known,
            Ok(Found::InBody(routed, member)) => return Begun::KeyInBody(routed, member),
            Err(refusal) => return Begun::Refused(refusal),
        };
        if let Some(watched) = &mut trail.watched {
            watched.knows(&known.integration.config.name);
        }
        if known.route.reads {
            return Begun::Question(known);
        }
        // The sender is known: from here on what is refused is counted.
        let ticket = self.receive(came, &known.integration);
        match ticket.check(self.announced(came, &known, request.headers())) {
            Ok((ticket, announced)) => Begun::Wanted(known, ticket, announced),
            Err(refusal) => {
                trail.refused_for(&known.integration, &refusal);
                Begun::Refused(refusal)
            }
        }
    }

    /// What is no event of a known sender.
    async fn otherwise<B>(
        &self,
        came: &Came<'_>,
        begun: Begun<'_>,
        request: &mut Request<B>,
        trail: &mut Trail,
    ) -> Result<Taken, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        match begun {
            Begun::KeyInBody(routed, member) => self.take_in_keyed(came, routed, member, request, trail).await,
            Begun::Question(known) => self.answer_question(came, &known, request, trail).await,
            Begun::Refused(refusal) => Err(self.unread(request, trail, refusal).await),
            Begun::Wanted(known, ..) => Ok(Taken::Events(known)),
        }
    }

    /// Waits for what was decided, if there is anything to wait for.
    async fn end(
        &self,
        came: &Came<'_>,
        known: Known,
        decided: Result<Option<Underway>, Refusal>,
        trail: &mut Trail,
    ) -> Result<Taken, Refusal> {
        let taken = match decided {
            Ok(None) => Ok(()),
            Ok(Some(Underway { on: On::DryRun(unread), _reserved })) => {
                let foreseen = self.foresee(&known, *unread).await;
                return foreseen.inspect_err(|refusal| trail.refused_for(&known.integration, refusal));
            }
            Ok(Some(Underway { on: On::Batch(batch), _reserved })) => {
                self.take_batch(came, &known, *batch, trail).await
            }
            Ok(Some(Underway { on: On::Outside(unread), _reserved })) => {
                self.prove(came, &known, *unread, _reserved, trail).await
            }
            Ok(Some(Underway { on, _reserved })) => self.wait_for(came, &known, on, trail).await,
            Err(refusal) => Err(refusal),
        };
        match taken {
            Ok(()) => Ok(Taken::Events(known)),
            Err(refusal) => {
                trail.refused_for(&known.integration, &refusal);
                Err(refusal)
            }
        }
    }

    /// Steps 4 to 6: what the head says of the body, and the request limit.
    fn announced(&self, came: &Came<'_>, known: &Known, headers: &HeaderMap) -> Result<Announced<'_>, Refusal> {
        let integration = &known.integration;
        let limits = self.terms.load().limits;
        let cap = known.body_bytes_max(&limits);
        let said = headers::Said::of(headers);
        integration.allows(&known.allowed_as(), came.source)?;
        body::precheck(said.length, cap)?;
        let content = match known.route.takes {
            Takes::Nothing => headers::Content::NONE,
            Takes::Perhaps if said.is_empty() => headers::Content::NONE,
            _ => said.content(limits.gzip, known.dialect.form(headers))?,
        };
        integration.take_request(came.at)?;
        Ok(Announced::new(said.length, content, cap, self))
    }

    /// Steps 8 to 12, as far as there is nothing to wait for.
    fn decide(
        &self,
        came: &Came<'_>,
        known: &Known,
        content: headers::Content,
        body: CappedBody,
        ticket: Ticket,
        trail: &mut Trail,
    ) -> Result<Option<Underway>, Refusal> {
        let (ticket, ()) = ticket.check(known.verify(body.bytes()))?;
        let (ticket, tolerated) = ticket.check(content.tolerate(body.bytes()))?;
        if known.is_dry_run() {
            let (raw, reserved) = body.into_parts();
            let on = On::DryRun(Box::new(outside::Unread { raw, tolerated, ticket }));
            return Ok(Some(Underway { on, _reserved: reserved }));
        }
        if outside::asks(known, body.bytes()) {
            let (raw, reserved) = body.into_parts();
            let on = On::Outside(Box::new(outside::Unread { raw, tolerated, ticket }));
            return Ok(Some(Underway { on, _reserved: reserved }));
        }
        if known.takes_batch() {
            let (bytes, reserved) = body.into_parts();
            let on = On::Batch(Box::new(Gathered { bytes, tolerated, ticket }));
            return Ok(Some(Underway { on, _reserved: reserved }));
        }
        let (ticket, heard) = ticket.check(self.hear(known, body.bytes()))?;
        let (raw, reserved) = body.into_parts();
        self.act(came, known, heard, (Said { raw, tolerated, envelope: None }, reserved), ticket, trail)
    }

    /// Steps 10 to 12 for what was heard of a body.
    fn act(
        &self,
        came: &Came<'_>,
        known: &Known,
        heard: Option<Judged>,
        (body, reserved): (Said, Reserved),
        ticket: Ticket,
        trail: &mut Trail,
    ) -> Result<Option<Underway>, Refusal> {
        let Some(heard) = heard else {
            // It says nothing that this proxy acts on (contracts 8, row 39).
            ticket.absorb(Outcome::Ignored);
            trail.end(Ended { outcome: Some(Outcome::Ignored), incident: None, key: None }, false);
            return Ok(None);
        };
        let names = self.names_elsewhere(known, &heard);
        if !names.is_empty() {
            let on = On::Elsewhere(Box::new(Sought { names, body, heard, ticket }));
            return Ok(Some(Underway { on, _reserved: reserved }));
        }
        let on = self.accept(came, known, body, heard, ticket, trail)?;
        Ok(on.map(|on| Underway { on, _reserved: reserved }))
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
}

impl body::Bounds for Intake {
    fn limits(&self) -> body::Limits {
        self.terms.load().limits
    }

    fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }
}

impl<'i> Announced<'i> {
    /// `cap`: most decoded bytes.
    fn new(declared: Option<u64>, content: headers::Content, cap: usize, bounds: &'i Intake) -> Self {
        let encoding = content.encoding;
        Self { content, expected: Expected { declared, encoding, cap, room: Room::Whole, bounds } }
    }
}

impl Ended {
    /// How the log ended it.
    fn stored(stored: Result<Accepted, Reason>, key: Option<Key>) -> Result<Self, Refusal> {
        let Accepted { outcome, incident } = stored.map_err(|reason| Refusal::new(reason, answer::why(reason)))?;
        Ok(Self { outcome: Some(outcome), incident, key })
    }

    fn ending<'a>(&'a self, view: Option<&'a [u8]>) -> Ending<'a> {
        Ending { outcome: self.outcome, incident: self.incident.as_ref(), key: self.key.as_ref(), view, named: None }
    }
}
