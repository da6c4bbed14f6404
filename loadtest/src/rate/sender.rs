//! One connection of an open-loop run, and the records all of them write.
//! Called by `run.rs`, one task a connection, all on one thread.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::Semaphore;

use super::pacer::Schedule;
use super::plan::Plan;
use crate::connection::{Connection, Failure};
use crate::latency::Latencies;
use crate::template::Templates;

/// A start this long after its time, because no connection was free, counts as held up.
const HELD_UP_AFTER: Duration = Duration::from_millis(1);

pub(super) struct Shared {
    pub(super) address: SocketAddr,
    pub(super) templates: Templates,
    pub(super) schedule: Schedule,
    pub(super) timeout: Duration,
    /// One permit a request whose time has come; waiting tasks get them in order.
    pub(super) due: Arc<Semaphore>,
    pub(super) records: RefCell<Records>,
}

/// What happened. Times are microseconds in the histograms.
pub(super) struct Records {
    plan: Plan,
    claimed: u64,
    pub(super) started: u64,
    pub(super) held_up: u64,
    pub(super) statuses: BTreeMap<u16, u64>,
    pub(super) failures: BTreeMap<String, u64>,
    pub(super) latency: Latencies,
    pub(super) service_time: Latencies,
    pub(super) lateness: Latencies,
    accepted_log: Option<BufWriter<File>>,
    accepted_log_error: Option<std::io::Error>,
}

impl Records {
    pub(super) fn new(plan: Plan, accepted_log: Option<BufWriter<File>>) -> anyhow::Result<Self> {
        Ok(Self {
            plan,
            claimed: 0,
            started: 0,
            held_up: 0,
            statuses: BTreeMap::new(),
            failures: BTreeMap::new(),
            latency: Latencies::new()?,
            service_time: Latencies::new()?,
            lateness: Latencies::new()?,
            accepted_log,
            accepted_log_error: None,
        })
    }

    pub(super) fn distinct_events(&self) -> u64 {
        self.plan.events()
    }

    /// The next request nobody has taken yet.
    fn claim(&mut self, requests: u64) -> Option<u64> {
        let request = self.claimed;
        self.claimed += 1;
        (request < requests).then_some(request)
    }

    fn log_accepted(&mut self, event_id: &[u8]) {
        let Some(log) = self.accepted_log.as_mut() else {
            return;
        };
        if let Err(error) = log.write_all(event_id).and_then(|()| log.write_all(b"\n")) {
            self.accepted_log_error.get_or_insert(error);
        }
    }

    /// A log with a gap would later read as lost events: the first error ends in the exit code.
    pub(super) fn flush_accepted_log(&mut self) -> anyhow::Result<()> {
        let flushed = self.accepted_log.as_mut().map_or(Ok(()), Write::flush);
        self.accepted_log_error.take().map_or(flushed, Err).context("cannot write the accepted log")
    }
}

/// Takes requests from the schedule until none is left.
pub(super) async fn send_when_due(shared: Rc<Shared>, mut connection: Option<Connection>) {
    let mut request = Vec::new();
    loop {
        let free_at = Instant::now();
        let next = shared.records.borrow_mut().claim(shared.schedule.requests());
        let Some(index) = next else {
            return;
        };
        let Ok(permit) = shared.due.acquire().await else {
            return;
        };
        permit.forget();
        let intended = shared.schedule.intended_start(index);
        let started = Instant::now();
        let event = {
            let mut records = shared.records.borrow_mut();
            records.started += 1;
            // What the generator owes: from the first moment the request could have started.
            records.lateness.record(started.saturating_duration_since(intended.max(free_at)));
            if free_at.saturating_duration_since(intended) > HELD_UP_AFTER {
                records.held_up += 1;
            }
            records.plan.next_event()
        };
        shared.templates.fill(event, &mut request);
        let answer = tokio::time::timeout(shared.timeout, exchange(&shared, &mut connection, &request)).await;
        let now = Instant::now();
        let mut records = shared.records.borrow_mut();
        match answer {
            Ok(Ok(status)) => {
                *records.statuses.entry(status).or_default() += 1;
                if (200..300).contains(&status) {
                    records.log_accepted(&shared.templates.event_id(event));
                }
            }
            Ok(Err(failure)) => {
                connection = None;
                *records.failures.entry(failure.to_string()).or_default() += 1;
                // A refused connection is quick; its time would flatter the server.
                continue;
            }
            Err(_elapsed) => {
                connection = None;
                *records.failures.entry("timed out".to_owned()).or_default() += 1;
            }
        }
        records.latency.record(now - intended);
        records.service_time.record(now - started);
    }
}

/// One request on the kept connection, or on a new one where that is gone.
async fn exchange(shared: &Shared, kept: &mut Option<Connection>, request: &[u8]) -> Result<u16, Failure> {
    let mut connection = match kept.take() {
        Some(connection) if !connection.is_stale() => connection,
        _ => Connection::open(shared.address).await?,
    };
    let head = connection.exchange(request).await?;
    if !head.close {
        *kept = Some(connection);
    }
    Ok(head.status)
}
