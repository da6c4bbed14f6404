//! One request, top to bottom, in the order of contracts 2.1. Every line that can refuse ends in `?`, and what
//! it refuses leaves no trace: the sender's retry is new. What is accepted is durable before the answer.

mod answer;
mod ask;
mod batch;
mod headers;
mod keyed;
mod know;
mod records;
mod told;
mod wait;
mod watched;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use hyper::body::Body;
use hyper::{HeaderMap, Request, Uri};
use smallvec::SmallVec;
use tokio::time::Instant;

use answer::RequestId;
pub use answer::{Answer, panicked};
use batch::Gathered;
use know::{Beside, Found};
use told::{Facts, Told};
use wait::{Contended, On, Underway};
use watched::Watched;

use crate::body::{self, Budget, CappedBody, Expected, Reserved, Room};
use crate::claim::{Accepted, Pacing};
use crate::dedup::{self, Claimed, Dedup};
use crate::dialect::{self, Asked, Dialect, Ending, Judged, Route, Rules, Takes, json};
use crate::event::{Action, Event, Incident, Key, Micros, StateKey, Tolerated, Uid};
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
    /// The part of it for bodies of which nobody knows yet who sends them.
    strangers: Arc<Budget>,
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
    /// `None`: an element of a batch that was no event.
    outcome: Option<Outcome>,
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
    /// What answers show of the incident of its one event; of dialects with ids, which take no batches.
    view: Option<Box<Bytes>>,
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
        if let (Some(watched), Some(outcome)) = (&mut self.watched, ended.outcome) {
            watched.ends(outcome, is_stored);
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

impl Known {
    fn asked<'a>(&'a self, envelope: Option<json::Document<'a>>) -> Asked<'a> {
        let config = &self.integration.config;
        let rules = Rules {
            require_description: config.require_description,
            judge_only: true,
            settings: Some(&config.settings),
        };
        let endpoint = self.route.endpoint;
        match &self.beside {
            None => Asked { endpoint, args: &[], query: "", headers: None, envelope, rules },
            Some(beside) => Asked {
                endpoint,
                args: &beside.args,
                query: &beside.query,
                headers: beside.headers.as_ref(),
                envelope,
                rules,
            },
        }
    }

    /// What a parsed body says.
    fn hear(&self, document: json::Document<'_>) -> Result<Option<Judged>, Refusal> {
        let mut heard = None;
        let mut each = |said: dialect::Decoded<'_>| heard = Some(self.with_default(said.judged));
        self.dialect.decode(&self.asked(None), document, &mut each).map_err(invalid)?;
        Ok(heard)
    }

    fn with_default(&self, judged: Judged) -> Judged {
        Judged { severity: judged.severity.or(self.integration.config.default_severity), ..judged }
    }

    fn args(&self) -> &[Box<str>] {
        self.beside.as_ref().map_or(&[], |beside| &beside.args)
    }

    fn takes_batch(&self) -> bool {
        self.route.takes == Takes::Batch
    }
}

/// What a head announces of its body, within the limits.
struct Announced<'i> {
    content: headers::Content,
    expected: Expected<'i>,
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
        let strangers = Budget::part(&budget, keyed::part_of(terms.limits.body_bytes_in_flight));
        Self {
            terms: ArcSwap::from_pointee(terms),
            dedup,
            store,
            metrics,
            budget,
            strangers,
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
        self.strangers.resize(keyed::part_of(terms.limits.body_bytes_in_flight));
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
    fn respond(&self, came: &Came, trail: Trail, taken: Result<Taken, Refusal>) -> Answer {
        let index = trail.matched.map_or(self.meters.len() - 1, usize::from);
        let dialect = dialect::DIALECTS.get(index).copied();
        let form = dialect.map_or(dialect::RequestIdForm::Hex, |dialect| dialect.request_id());
        let request_id = match &taken {
            Ok(Taken::Answer(read)) => read.request_id,
            _ => RequestId::new(form),
        };
        let request_id = request_id.as_str();
        let response = match &taken {
            Ok(Taken::Events(known)) => answer::accepted(&self.headers, known, &trail, request_id),
            Ok(Taken::Answer(read)) => read.response(request_id),
            Err(refusal) => {
                let limit = trail.refused.as_ref().and_then(|refused| refused.1);
                answer::refused(dialect, limit, refusal, request_id)
            }
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

    /// The way of a request (DESIGN 1). What is in here at an `await`, every connection that waits there holds: what few
    /// requests need is boxed, and stands elsewhere.
    async fn take_in<B>(&self, came: &Came, request: &mut Request<B>, trail: &mut Trail) -> Result<Taken, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (known, ticket, announced) = match self.begin(came, request, trail) {
            Begun::Wanted(known, ticket, announced) => (known, ticket, announced),
            otherwise => return Box::pin(self.otherwise(came, otherwise, request, trail)).await,
        };
        // All that the head says is known: a body that comes slowly must not hold its room too.
        *request.headers_mut() = HeaderMap::new();
        *request.uri_mut() = Uri::default();
        let read = body::read(request.body_mut(), &announced.expected).await;
        // A body that was not read to its end leaves the connection unusable.
        trail.close |= read.is_err() && !request.body().is_end_stream();
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
    fn begin<'i, B>(&'i self, came: &Came, request: &Request<B>, trail: &mut Trail) -> Begun<'i> {
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
        let ticket = self.metrics.receive(came.worker);
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
        came: &Came,
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
        came: &Came,
        known: Known,
        decided: Result<Option<Underway>, Refusal>,
        trail: &mut Trail,
    ) -> Result<Taken, Refusal> {
        let taken = match decided {
            Ok(None) => Ok(()),
            Ok(Some(Underway { on: On::Batch(batch), _reserved })) => {
                self.take_batch(came, &known, *batch, trail).await
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
    fn announced(&self, came: &Came, known: &Known, headers: &HeaderMap) -> Result<Announced<'_>, Refusal> {
        let integration = &known.integration;
        let limits = self.terms.load().limits;
        let cap = known.body_bytes_max(&limits);
        let said = headers::Said::of(headers);
        integration.allows(known.dialect.name(), came.source)?;
        body::precheck(said.length, cap)?;
        let content = match known.route.takes {
            Takes::Nothing => headers::Content::NONE,
            Takes::Perhaps if said.is_empty() => headers::Content::NONE,
            _ => said.content(limits.gzip)?,
        };
        integration.take_request(came.at)?;
        Ok(Announced::new(said.length, content, cap, self))
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
        came: &Came,
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

    /// Steps 8 and 9: parse and validate. `None`: a body that says nothing.
    fn hear(&self, known: &Known, body: &Bytes) -> Result<Option<Judged>, Refusal> {
        let asked = known.asked(None);
        if let Some(judged) = known.dialect.judge(asked.endpoint, body, asked.rules) {
            return Ok(Some(known.with_default(judged)));
        }
        let is_empty = body.iter().all(u8::is_ascii_whitespace);
        let text: &[u8] = match known.route.takes {
            Takes::Nothing => b"{}",
            Takes::Perhaps if is_empty => b"{}",
            _ => body,
        };
        json::with_document(text, |document| known.hear(document)).map_err(not_json)?
    }

    /// Steps 10 to 12: claim, event limit, log. What ended is in `trail`; else what it waits for comes back.
    fn accept(
        &self,
        came: &Came,
        known: &Known,
        body: Said,
        heard: Judged,
        ticket: Ticket,
        trail: &mut Trail,
    ) -> Result<Option<On>, Refusal> {
        let Known { integration, .. } = known;
        let (event, rules) = match self.event(known, body, heard) {
            Ok(made) => made,
            Err(Unaddressed::Unknown) => {
                ticket.absorb(Outcome::Unknown);
                trail.end(Ended { outcome: Some(Outcome::Unknown), incident: None, key: None }, false);
                return Ok(None);
            }
            Err(Unaddressed::Absorbed(outcome)) => {
                ticket.absorb(outcome);
                trail.end(Ended { outcome: Some(outcome), incident: None, key: None }, false);
                return Ok(None);
            }
            Err(Unaddressed::Refused(refusal)) => {
                ticket.reject(refusal.reason);
                return Err(refusal);
            }
        };
        if let Some(watched) = &mut trail.watched {
            watched.begins(&event);
        }
        let targets = integration.targets(&event);
        if event.action == Action::Change && targets.is_empty() {
            // No incident, and nobody to tell (contracts/pagerduty.md 6).
            ticket.absorb(Outcome::Ignored);
            trail.end(Ended { outcome: Some(Outcome::Ignored), incident: None, key: event.key }, false);
            return Ok(None);
        }
        match self.dedup.claim(&event, targets, rules) {
            Claimed::Contended(line) => Ok(Some(On::Line(Box::new(Contended { line, event, rules, ticket })))),
            claimed => self.admit(came, known, claimed, event, rules, ticket, trail),
        }
    }

    /// Step 11, and the hand-over to the log.
    #[allow(clippy::too_many_arguments)] // Each is another stage's.
    fn admit(
        &self,
        came: &Came,
        known: &Known,
        claimed: Claimed,
        mut event: Event,
        rules: dedup::Rules,
        ticket: Ticket,
        trail: &mut Trail,
    ) -> Result<Option<On>, Refusal> {
        let Known { dialect, integration, .. } = known;
        let (claim, pacing) = match claimed {
            Claimed::Owned(claim, pacing) if self.is_beyond_the_unknown_line(pacing, integration) => {
                // The claim is released: a resolve of a key nobody knows changes nothing here.
                self.metrics.unknown_absorbed.inc();
                ticket.absorb(claim.outcome);
                trail.end(Ended { outcome: Some(claim.outcome), incident: None, key: event.key }, false);
                return Ok(None);
            }
            Claimed::Owned(claim, pacing) => (claim, pacing),
            Claimed::Absorbed { outcome, incident } => {
                ticket.absorb(outcome);
                if rules.has_ids {
                    trail.view = self.view_now(&event, rules);
                }
                trail.end(Ended { outcome: Some(outcome), incident, key: event.key }, false);
                return Ok(None);
            }
            Claimed::Refused => {
                ticket.reject(Reason::UnknownResolve);
                let refusal = Refusal::new(Reason::UnknownResolve, "no open incident has this key");
                return Err(refusal.with_errors(vec!["event_id: names no open incident".into()]));
            }
            Claimed::NotOpen => {
                ticket.reject(Reason::NotOpen);
                return Err(Refusal::new(Reason::NotOpen, "the incident is resolved"));
            }
            Claimed::Contended(_) => {
                ticket.reject(Reason::KeyContended);
                return Err(Refusal::new(Reason::KeyContended, "too many changes of this key at once"));
            }
        };
        if rules.has_ids {
            let before = claim.before.and_then(|at| self.store.shown(at).ok()).and_then(|shown| shown.view);
            event.view = records::fold(*dialect, before.as_ref(), &event);
            trail.view = event.view.clone().map(Box::new);
        }
        let key = event.key.clone();
        let worker = came.worker;
        let now = Instant::now();
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

impl<'i> Announced<'i> {
    /// `cap`: most decoded bytes.
    fn new(declared: Option<u64>, content: headers::Content, cap: usize, bounds: &'i Intake) -> Self {
        let encoding = content.encoding;
        Self { content, expected: Expected { declared, encoding, cap, room: Room::Whole, bounds } }
    }
}

/// A body as the log keeps it.
struct Said {
    raw: Bytes,
    tolerated: Tolerated,
    envelope: Option<Bytes>,
}

/// Why an event that addresses an incident by id goes no further.
enum Unaddressed {
    /// The id names nothing, and its dialect's senders are told so later.
    Unknown,
    /// Of an incident that another one of its key followed: it is resolved, and stays so.
    Absorbed(Outcome),
    Refused(Refusal),
}

impl Intake {
    /// The event of a statement, and the rules it is decided by.
    fn event(&self, known: &Known, body: Said, heard: Judged) -> Result<(Event, dedup::Rules), Unaddressed> {
        let Known { dialect, route, integration, .. } = known;
        let Judged { action, key, target, severity, notes, needs_open, closes, view } = heard;
        let mut rules = dedup::Rules {
            notes,
            needs_open,
            closes,
            has_ids: dialect.has_ids(),
            ..dedup::Rules::keyed(dialect.key_life(), integration.config.policy)
        };
        let received_at = Micros::now();
        let mut event = Event {
            uid: Uid::new(received_at),
            received_at,
            integration: Arc::clone(&integration.config.name),
            dialect: dialect.name().into(),
            endpoint: route.endpoint.into(),
            family: dialect.family(known.args()),
            action,
            key,
            target,
            severity,
            tolerated: body.tolerated,
            raw: body.raw,
            envelope: body.envelope,
            view: view.and_then(|view| serde_json::to_vec(&*view).ok()).map(Bytes::from),
        };
        if event.target.is_some() {
            rules.addressed = Some(self.address(*dialect, &mut event, needs_open)?);
        }
        Ok((event, rules))
    }

    /// The state of the incident that an event addresses by id; the event takes that incident's key.
    fn address(&self, dialect: &dyn Dialect, event: &mut Event, needs_open: bool) -> Result<StateKey, Unaddressed> {
        let known = records::Known::new(&self.dedup, &self.store, &event.integration, &event.family);
        let Some(row) = event.target.as_ref().and_then(|target| known.find(target)) else {
            if dialect.takes_unknown_targets() {
                return Err(Unaddressed::Unknown);
            }
            return Err(Unaddressed::Refused(Refusal::new(Reason::NotFound, "no incident has this id")));
        };
        if known.was_followed(&row) {
            if needs_open {
                return Err(Unaddressed::Refused(Refusal::new(Reason::NotOpen, "the incident is resolved")));
            }
            let outcome = if event.action == Action::Resolve { Outcome::DuplicateResolve } else { Outcome::Noop };
            return Err(Unaddressed::Absorbed(outcome));
        }
        event.key = records::key_of(&known, &row);
        Ok(row.key)
    }

    /// What answers show of the incident of an event that changed nothing.
    fn view_now(&self, event: &Event, rules: dedup::Rules) -> Option<Box<Bytes>> {
        let key = rules.addressed.or_else(|| event.state_key())?;
        let known = records::Known::new(&self.dedup, &self.store, &event.integration, &event.family);
        known.shown(key).and_then(|(_, shown)| shown.view).map(Box::new)
    }
}

impl Known {
    /// Most decoded bytes of a body.
    fn body_bytes_max(&self, limits: &body::Limits) -> usize {
        if self.takes_batch() { limits.batch_body_bytes } else { self.event_bytes_max(limits) }
    }

    /// Most decoded bytes of one event.
    fn event_bytes_max(&self, limits: &body::Limits) -> usize {
        self.integration.config.body_bytes.unwrap_or(limits.body_bytes)
    }
}

fn invalid(faults: dialect::Faults) -> Refusal {
    Refusal::new(Reason::InvalidEvent, "the body breaks the rules of this API").with_errors(faults)
}

fn not_json(error: json::JsonError) -> Refusal {
    Refusal::new(Reason::InvalidJson, error.to_string()).with_errors(vec![format!("body: {error}")])
}

impl Ended {
    /// How the log ended it.
    fn stored(stored: Result<Accepted, Reason>, key: Option<Key>) -> Result<Self, Refusal> {
        let Accepted { outcome, incident } = stored.map_err(|reason| Refusal::new(reason, answer::why(reason)))?;
        Ok(Self { outcome: Some(outcome), incident, key })
    }

    fn ending<'a>(&'a self, view: Option<&'a [u8]>) -> Ending<'a> {
        Ending { outcome: self.outcome, incident: self.incident.as_ref(), key: self.key.as_ref(), view }
    }
}
