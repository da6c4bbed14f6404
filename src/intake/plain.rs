//! A plain request: it came whole, as one event for a key in its path, and says nothing beside its body. It goes the way of
//! every other (contracts 2.1), through the same stages, but in one call: only what waits for the disk is kept. Whatever
//! else it may prove to be is told as [`Taken::Odd`] before anything was done, and comes again the usual way. Heads that are none
//! are answered here too. Called by `listen`.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::StatusCode;
use tokio::time::Instant;

use super::answer::{self, RequestId};
use super::headers::Content;
use super::wait::{On, Underway};
use super::watched::Watched;
use super::{Answer, Came, Ended, Intake, Known, Peer, Trail};
use crate::body::{self, Reserved};
use crate::dialect::{self, Credentials, Matched, RequestIdForm, Takes};
use crate::event::Key;
use crate::outcome::{Outcome, Reason, Refusal};
use crate::store::Waits;

/// A POST of JSON without a query, whole.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    pub path: &'r str,
    pub body: &'r [u8],
}

/// What became of a plain request.
#[must_use]
pub enum Taken {
    /// It is none after all; nothing was done.
    Odd,
    Answered(Reply),
    Waits(Waiting),
}

/// The answer to a plain request.
pub enum Reply {
    /// Its event ended well: all that the answer's head says, without a map of headers.
    Accepted {
        status: StatusCode,
        request_id: RequestId,
        outcome: &'static str,
        body: Bytes,
    },
    Other(Box<Answer>),
}

/// A plain request that waits, nearly always for the disk. Dropped, its event goes on its way.
pub enum Waiting {
    Log(Option<Box<Stored>>),
    /// For another change of its key.
    Other(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

/// On its way to the disk.
pub struct Stored {
    waits: Waits,
    came: Came<'static>,
    known: Known,
    trail: Trail,
    key: Option<Key>,
    _reserved: Reserved,
}

/// What waits for longer than the disk is not plain: nobody asks whether its client is gone.
struct Stays;

impl Peer for Stays {
    fn poll_gone(&self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

static STAYS: LazyLock<Arc<dyn Peer>> = LazyLock::new(|| Arc::new(Stays));

impl Intake {
    /// The answer to a head that nobody can read: what it wanted, of whom, is not known.
    pub fn refuse_head(&self, worker: usize, source: IpAddr, reason: Reason, message: String) -> Answer {
        let worker = u16::try_from(worker).unwrap_or(u16::MAX);
        let came = Came { worker, source, at: Instant::now(), peer: &STAYS };
        let trail = Trail { close: true, ..Trail::default() };
        self.respond(&came, trail, Err(Refusal::new(reason, message)))
    }

    /// Takes one plain request that came to `worker` from `source`.
    pub fn take_plain(self: &Arc<Self>, worker: usize, source: IpAddr, request: Request<'_>) -> Taken {
        let worker = u16::try_from(worker).unwrap_or(u16::MAX);
        let came = Came { worker, source, at: Instant::now(), peer: &STAYS };
        let Some((known, index)) = self.know_plain(&came, request) else { return Taken::Odd };
        let mut trail = Trail {
            matched: u8::try_from(index).ok(),
            route: Some(known.route),
            watched: Watched::if_wanted(&self.tap),
            trace: self.spans.begin().map(Arc::new),
            ..Trail::default()
        };
        if let Some(watched) = &mut trail.watched {
            watched.knows(&known.integration.config.name);
        }
        let decided = self.decide_plain(&came, &known, request.body, &mut trail);
        match decided {
            Ok(None) => Taken::Answered(self.reply(&came, known, trail)),
            Ok(Some(Underway { on: On::Log(waits, key), _reserved })) => {
                Taken::Waits(Waiting::Log(Some(Box::new(Stored { waits, came, known, trail, key, _reserved }))))
            }
            Ok(Some(underway)) => {
                let intake = Arc::clone(self);
                Taken::Waits(Waiting::Other(Box::pin(async move {
                    let taken = intake.end(&came, known, Ok(Some(underway)), &mut trail).await;
                    intake.respond(&came, trail, taken)
                })))
            }
            Err(refusal) => Taken::Answered(self.refuse(&came, &known, trail, refusal)),
        }
    }

    /// Goes on with one that waits; asked again after it was ready, it stays pending.
    pub fn poll_plain(&self, waiting: &mut Waiting, cx: &mut Context<'_>) -> Poll<Reply> {
        let stored = match waiting {
            Waiting::Other(answer) => return answer.as_mut().poll(cx).map(|answer| Reply::Other(Box::new(answer))),
            Waiting::Log(stored) => stored,
        };
        let ended = match stored {
            Some(stored) => std::task::ready!(Pin::new(&mut stored.waits).poll(cx)),
            None => return Poll::Pending,
        };
        let Some(stored) = stored.take() else { return Poll::Pending };
        let Stored { came, known, mut trail, key, .. } = *stored;
        Poll::Ready(match Ended::stored(ended, key) {
            Ok(ended) => {
                trail.end(ended, true);
                self.reply(&came, known, trail)
            }
            Err(refusal) => self.refuse(&came, &known, trail, refusal),
        })
    }

    /// Steps 1 to 5. `None`: it would be refused, or is not for this way.
    fn know_plain(&self, came: &Came<'_>, request: Request<'_>) -> Option<(Known, usize)> {
        let Request { path, body } = request;
        let Matched { index, dialect, route, key, args } = dialect::route("POST", path).ok()?;
        let is_plain = route.credentials == Credentials::Path
            && route.takes == Takes::One
            && !route.reads
            && !route.wants_headers
            && args.is_empty()
            && !dialect.tells_time();
        let terms = self.terms.load();
        if !is_plain || path.len() > terms.uri_bytes_max {
            return None;
        }
        let integration = Arc::clone(terms.keys.find(key)?);
        let known = Known { dialect, route, integration, beside: None };
        if known.integration.config.ack.is_some() {
            return None;
        }
        known.integration.allows(&[dialect.name()], came.source).ok()?;
        body::precheck(Some(body.len() as u64), known.body_bytes_max(&terms.limits)).ok()?;
        Some((known, index))
    }

    /// Steps 6 to 12, as far as there is nothing to wait for.
    fn decide_plain(
        &self,
        came: &Came<'_>,
        known: &Known,
        body: &[u8],
        trail: &mut Trail,
    ) -> Result<Option<Underway>, Refusal> {
        // The sender is known: from here on what is refused is counted.
        let ticket = self.receive(came, &known.integration);
        let (ticket, ()) = ticket.check(known.integration.take_request(came.at))?;
        let (ticket, body) = ticket.check(body::whole(body, self))?;
        self.decide(came, known, Content::NONE, body, ticket, trail)
    }

    fn refuse(&self, came: &Came<'_>, known: &Known, mut trail: Trail, refusal: Refusal) -> Reply {
        trail.refused_for(&known.integration, &refusal);
        Reply::Other(Box::new(self.respond(came, trail, Err(refusal))))
    }

    /// The answer to what was taken, counted.
    fn reply(&self, came: &Came<'_>, known: Known, mut trail: Trail) -> Reply {
        if trail.delivery.is_some() {
            return Reply::Other(Box::new(self.respond(came, trail, Ok(super::Taken::Events(known)))));
        }
        let form = known.dialect.request_id();
        let request_id = match form {
            RequestIdForm::Telling => answer::telling_id(&known, &trail.ended),
            _ => RequestId::new(form),
        };
        let named = self.named(&known, &trail.ended);
        let (status, body, outcome) = answer::accepted_parts(&known, &trail, named.as_deref(), request_id.as_str());
        let outcome = outcome.unwrap_or(Outcome::Ignored.name());
        self.count(came, &mut trail, None, status.as_u16(), request_id.as_str());
        Reply::Accepted { status, request_id, outcome, body }
    }
}
