//! One connection's worth of a run: takes what is due, decides what it says, sends it, and writes down what came of it.
//! Called by `drive.rs`, one task for each request that can be under way, all on one thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::abuse::{self, Pretence};
use super::client::{Answer, Client, Way};
use super::incidents::{Deed, End, Fresh, Incidents, Request};
use super::pacer::Schedule;
use super::plan::{Entry, Kind, Said, Spoken, Text, Wheel};
use super::records::{HELD_UP_AFTER, Records, TIMED_OUT, Times};
use crate::ledger::Ledger;
use crate::random::unit;
use crate::scenario::{Abuse, Phase};
use crate::server::Servers;

/// Bad clients at once; those beyond are not sent.
const ABUSERS_AT_MOST: u64 = 1000;

/// What the senders share. One thread: no lock but that of the ledger, into which the upstream's thread writes too.
pub(super) struct Shared {
    pub(super) run: u32,
    pub(super) seed: u64,
    pub(super) start: Instant,
    pub(super) timeout: Duration,
    pub(super) retries: u32,
    pub(super) retry_wait: Duration,
    pub(super) phases: Vec<Phase>,
    pub(super) entries: Vec<Entry>,
    pub(super) wheels: Vec<Option<Wheel>>,
    pub(super) pretence: Pretence,
    pub(super) servers: Arc<Servers>,
    pub(super) way: Way,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) incidents: RefCell<Incidents>,
    pub(super) records: RefCell<Records>,
    pub(super) queue: RefCell<Queue>,
    pub(super) abusers: Cell<u64>,
    /// One permit for each request whose time has come; waiting tasks get them in order.
    pub(super) due: Arc<Semaphore>,
}

/// What is still to be sent.
pub(super) struct Queue {
    schedule: Schedule,
    claimed: u64,
    planned: u64,
    /// Twins and retries whose time has come.
    again: VecDeque<Again>,
    /// Retries whose time will come.
    pending: u64,
}

/// A request that goes out once more.
#[derive(Debug, Clone)]
struct Again {
    request: Request,
    phase: usize,
    intended: Instant,
    /// 0 for a twin.
    tries: u32,
    /// The answer to a try before was lost.
    unsure: bool,
}

impl Queue {
    pub(super) fn new(schedule: Schedule) -> Self {
        let planned = schedule.requests();
        Self { schedule, claimed: 0, planned, again: VecDeque::new(), pending: 0 }
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets every sender go when nothing is left to be sent.
    fn close_if_done(&self) {
        let queue = self.queue.borrow();
        if queue.claimed == queue.planned && queue.again.is_empty() && queue.pending == 0 {
            self.due.close();
        }
    }

    fn send_again(&self, again: Again) {
        self.queue.borrow_mut().again.push_back(again);
        self.due.add_permits(1);
    }
}

/// Takes what is due until nothing is left.
pub(super) async fn send_when_due(shared: Rc<Shared>, mut client: Client) {
    let mut text = Text::default();
    loop {
        let free_at = Instant::now();
        let Ok(permit) = shared.due.acquire().await else {
            return;
        };
        permit.forget();
        let again = shared.queue.borrow_mut().again.pop_front();
        let work = match again {
            Some(again) => Some(again),
            None => fresh(&shared, free_at),
        };
        shared.close_if_done();
        if let Some(work) = work {
            send(&shared, &mut client, &mut text, work).await;
            shared.close_if_done();
        }
    }
}

/// The next request of the schedule; `None` when it was abuse, which goes its own way.
fn fresh(shared: &Rc<Shared>, free_at: Instant) -> Option<Again> {
    let (number, phase, intended) = {
        let mut queue = shared.queue.borrow_mut();
        let (phase, offset) = queue.schedule.next()?;
        queue.claimed += 1;
        (queue.claimed, phase, shared.start + offset)
    };
    let now = Instant::now();
    let index = shared.wheels[phase].as_ref()?.pick(shared.seed, number);
    let spoken = match &shared.entries[index].kind {
        Kind::Spoken(spoken) => spoken,
        Kind::Abuse { abuse, body } => {
            let lateness = now.saturating_duration_since(intended.max(free_at));
            shared.records.borrow_mut().phases[phase].lateness.record(lateness);
            start_abuse(shared, phase, index, *abuse, body.clone());
            return None;
        }
    };
    {
        let mut records = shared.records.borrow_mut();
        // What the generator owes: from the first moment the request could have started.
        let lateness = now.saturating_duration_since(intended.max(free_at));
        records.started(phase, lateness, free_at.saturating_duration_since(intended) > HELD_UP_AFTER);
    }
    let request = decide(shared, spoken, index, phase, number, intended)?;
    if unit(shared.seed ^ 0x5AFE, number) < spoken.pairs {
        shared.incidents.borrow_mut().twin(&request, &mut shared.ledger());
        shared.records.borrow_mut().started_again(phase);
        shared.send_again(Again { request, phase, intended, tries: 0, unsure: false });
    }
    Some(Again { request, phase, intended, tries: 0, unsure: false })
}

/// What it says, and of which incident; `None` when the ledger is full.
fn decide(
    shared: &Shared,
    spoken: &Spoken,
    index: usize,
    phase: usize,
    number: u64,
    intended: Instant,
) -> Option<Request> {
    let share = unit(!shared.seed, number);
    let duplicates = match shared.phases[phase].duplicates {
        Some(share) if spoken.dialect.deduplicates => share,
        _ => spoken.duplicates,
    };
    let resolves = duplicates + spoken.resolves;
    let deed = if share < duplicates {
        Deed::Repeat
    } else if share < resolves {
        Deed::Resolve
    } else if share < resolves + spoken.reopens {
        Deed::Reopen
    } else {
        Deed::Trigger
    };
    let fresh = Fresh {
        integrations: spoken.credentials.keys.len() as u32,
        batch: spoken.batch,
        replicas: shared.servers.count() as u8,
        needs_remote: spoken.dialect.remote.is_some(),
    };
    let mut ledger = shared.ledger();
    if ledger.is_full(usize::from(spoken.batch)) {
        return None;
    }
    Some(shared.incidents.borrow_mut().request(deed, index as u8, fresh, &mut ledger, intended))
}

async fn send(shared: &Rc<Shared>, client: &mut Client, text: &mut Text, work: Again) {
    let index = usize::from(work.request.source);
    let Kind::Spoken(spoken) = &shared.entries[index].kind else {
        return;
    };
    let request = work.request;
    {
        let incidents = shared.incidents.borrow();
        let said = Said {
            run: shared.run,
            statement: request.statement,
            key: request.key,
            integration: request.integration,
            resolve: request.resolve,
            remote: incidents.remote(request.incident),
        };
        spoken.fill(&said, text);
    }
    let started = Instant::now();
    let wants_remote = spoken.dialect.remote.is_some() && !request.resolve;
    let answer = match shared.servers.address(usize::from(request.replica)) {
        None => Err("the server is away".to_owned()),
        Some(addresses) => {
            let exchange = client.exchange(&shared.way, addresses.ingest, text, wants_remote);
            tokio::time::timeout(shared.timeout, exchange).await.unwrap_or_else(|_| Err(TIMED_OUT.to_owned()))
        }
    };
    if answer.is_err() {
        client.give_up();
    }
    let now = Instant::now();
    let times = Times { latency: now.saturating_duration_since(work.intended), service: now - started };
    let measured = (!shared.phases[work.phase].warm_up).then_some(index);
    shared.records.borrow_mut().ended(work.phase, measured, times, &answer, work.tries == 0);
    settle(shared, spoken, work, answer);
}

/// Writes down what became of the statements, and sees to the next try.
fn settle(shared: &Rc<Shared>, spoken: &Spoken, work: Again, answer: Result<Answer, String>) {
    let request = work.request;
    let accepted = answer.as_ref().is_ok_and(|answer| (200..300).contains(&answer.status));
    {
        let mut ledger = shared.ledger();
        for number in 0..u32::from(request.batch) {
            match &answer {
                Ok(_) if accepted => ledger.accepted(request.statement + number),
                Ok(_) => ledger.refused(request.statement + number),
                Err(_) => ledger.unanswered(request.statement + number),
            }
        }
    }
    let unsure = work.unsure || answer.is_err();
    if !accepted && work.tries < shared.retries && spoken.dialect.deduplicates {
        shared.queue.borrow_mut().pending += 1;
        shared.ledger().sent_again(u64::from(request.batch));
        let shared = Rc::clone(shared);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(shared.retry_wait).await;
            shared.queue.borrow_mut().pending -= 1;
            shared.send_again(Again { tries: work.tries + 1, unsure, ..work });
        });
        return;
    }
    let end = match answer {
        Ok(answer) if accepted => End::Accepted(remote_in(spoken, answer.body.as_deref())),
        _ => End::NotAccepted,
    };
    shared.incidents.borrow_mut().ended(&request, end, unsure, spoken.reopens > 0.0);
}

/// The id that a later resolve names.
fn remote_in(spoken: &Spoken, body: Option<&[u8]>) -> Option<Box<str>> {
    let value: serde_json::Value = serde_json::from_slice(body?).ok()?;
    match value.pointer(spoken.dialect.remote?)? {
        serde_json::Value::String(text) => Some(text.as_str().into()),
        serde_json::Value::Number(number) => Some(number.to_string().into()),
        _ => None,
    }
}

fn start_abuse(shared: &Rc<Shared>, phase: usize, index: usize, abuse: Abuse, body: Bytes) {
    if shared.abusers.get() >= ABUSERS_AT_MOST {
        return;
    }
    shared.abusers.set(shared.abusers.get() + 1);
    let shared = Rc::clone(shared);
    tokio::task::spawn_local(async move {
        let started = Instant::now();
        let ended = match shared.servers.address(0) {
            Some(addresses) => abuse::commit(abuse, &shared.way, addresses.ingest, &shared.pretence, &body).await,
            None => Err("the server is away".to_owned()),
        };
        shared.abusers.set(shared.abusers.get() - 1);
        // While a server is killed nothing can be expected of it.
        let stands = shared.servers.address(0).is_some();
        let connected = !matches!(&ended, Err(end) if end.contains("refused") || end.contains("away"));
        if !shared.phases[phase].warm_up {
            let mut records = shared.records.borrow_mut();
            let told = &mut records.sources[index];
            told.told.requests += 1;
            told.latency.record(started.elapsed());
            told.told.unexpected += u64::from(stands && connected && !abuse::is_expected(abuse, &ended));
            match ended {
                Ok(status) => *told.told.statuses.entry(status).or_default() += 1,
                Err(end) => *told.told.failures.entry(end).or_default() += 1,
            }
        }
    });
}
