//! What comes and goes a second, and what that means for the spool: looked at once a second, whether or not anybody
//! watches, so that a page tells rates at its first sight. 60 s of the flow, one figure of a few for each integration and
//! upstream: nothing here grows with events.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// Seconds after which a change has come through to two thirds.
const SMOOTHING_S: f64 = 5.0;
/// Below this a rate is none: what is left of one that ended.
const LEAST: f64 = 0.02;
/// Looks that the flow's line shows.
const LINE_LOOKS: usize = 60;
/// Dead letters are compared with those of so many marks ago,
const MARKS: usize = 10;
/// each of so many looks: five minutes.
const LOOKS_A_MARK: u32 = 30;

/// A counter's change a second.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    last: Option<u64>,
    per_second: f64,
}

impl Pace {
    fn see(&mut self, total: u64, seconds: f64) {
        if let Some(more) = self.last.and_then(|last| total.checked_sub(last)).filter(|_| seconds > 0.0) {
            let weight = 1.0 - (-seconds / SMOOTHING_S).exp();
            self.per_second += (more as f64 / seconds - self.per_second) * weight;
            if more == 0 && self.per_second < LEAST {
                self.per_second = 0.0;
            }
        }
        self.last = Some(total);
    }
}

/// Totals of the process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) received: u64,
    pub(super) accepted: u64,
    pub(super) absorbed: u64,
    pub(super) rejected: u64,
    pub(super) delivered: u64,
    /// Bytes written to the log.
    pub(super) placed: u64,
}

/// Totals of one upstream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flow {
    pub(super) enqueued: u64,
    pub(super) delivered: u64,
    pub(super) dead_lettered: u64,
}

#[derive(Debug, Default)]
struct Stream {
    enqueued: Pace,
    delivered: Pace,
    dead: VecDeque<u64>,
    dead_now: u64,
}

/// The same a second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PerSecond {
    pub(super) received: f64,
    pub(super) accepted: f64,
    pub(super) absorbed: f64,
    pub(super) rejected: f64,
    pub(super) delivered: f64,
    /// Bytes a second that stay: what was written for the upstream that takes the least of it.
    pub(super) kept_bytes: f64,
}

/// One upstream's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OfUpstream {
    pub(super) enqueued: f64,
    pub(super) delivered: f64,
    /// Became dead letters in the last five minutes.
    pub(super) dead_lettered_lately: u64,
}

#[derive(Default)]
struct Inner {
    at: Option<Instant>,
    looks: u32,
    all: [Pace; 6],
    upstreams: HashMap<Arc<str>, Stream>,
    integrations: HashMap<Arc<str>, Pace>,
    line: VecDeque<[f32; 2]>,
    disk_free: Option<u64>,
}

/// The rates of the process.
#[derive(Default)]
pub(super) struct Rates(Mutex<Inner>);

impl Rates {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the totals; what is named no more is forgotten.
    pub(super) fn see(
        &self,
        now: Instant,
        totals: Totals,
        upstreams: &[(Arc<str>, Flow)],
        integrations: &[(Arc<str>, u64)],
    ) {
        let mut inner = self.lock();
        let seconds = inner.at.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        let before = inner.all.map(|pace| pace.last);
        let Totals { received, accepted, absorbed, rejected, delivered, placed } = totals;
        let all = [received, accepted, absorbed, rejected, delivered, placed];
        inner.all.iter_mut().zip(all).for_each(|(pace, total)| pace.see(total, seconds));
        let more = |at: usize| before[at].and_then(|last| all[at].checked_sub(last)).unwrap_or(0) as f64;
        if seconds > 0.0 {
            if inner.line.len() >= LINE_LOOKS {
                inner.line.pop_front();
            }
            inner.line.push_back([(more(0) / seconds) as f32, (more(4) / seconds) as f32]);
        }
        let is_mark = inner.looks.is_multiple_of(LOOKS_A_MARK);
        (inner.at, inner.looks) = (Some(now), inner.looks.wrapping_add(1));
        for (name, flow) in upstreams {
            let stream = inner.upstreams.entry(Arc::clone(name)).or_default();
            stream.enqueued.see(flow.enqueued, seconds);
            stream.delivered.see(flow.delivered, seconds);
            stream.dead_now = flow.dead_lettered;
            if is_mark || stream.dead.is_empty() {
                if stream.dead.len() >= MARKS {
                    stream.dead.pop_front();
                }
                stream.dead.push_back(flow.dead_lettered);
            }
        }
        for (name, total) in integrations {
            inner.integrations.entry(Arc::clone(name)).or_default().see(*total, seconds);
        }
        if inner.integrations.len() > integrations.len() {
            inner.integrations.retain(|name, _| integrations.iter().any(|(known, _)| known == name));
        }
    }

    /// Room on the spool's disk, as it was found.
    pub(super) fn disk_has(&self, free: Option<u64>) {
        self.lock().disk_free = free;
    }

    pub(super) fn disk_free(&self) -> Option<u64> {
        self.lock().disk_free
    }

    pub(super) fn all(&self) -> PerSecond {
        let inner = self.lock();
        let [received, accepted, absorbed, rejected, delivered, placed] = inner.all.map(|pace| pace.per_second);
        let stays = |stream: &Stream| {
            let (came, went) = (stream.enqueued.per_second, stream.delivered.per_second);
            if came > 0.0 { ((came - went) / came).clamp(0.0, 1.0) } else { 0.0 }
        };
        let part = inner.upstreams.values().map(stays).fold(0.0, f64::max);
        PerSecond { received, accepted, absorbed, rejected, delivered, kept_bytes: placed * part }
    }

    pub(super) fn upstream(&self, name: &str) -> OfUpstream {
        let inner = self.lock();
        inner.upstreams.get(name).map_or_else(OfUpstream::default, |stream| OfUpstream {
            enqueued: stream.enqueued.per_second,
            delivered: stream.delivered.per_second,
            dead_lettered_lately: stream.dead.front().map_or(0, |then| stream.dead_now.saturating_sub(*then)),
        })
    }

    pub(super) fn integration(&self, name: &str) -> f64 {
        self.lock().integrations.get(name).map_or(0.0, |pace| pace.per_second)
    }

    /// Received and delivered in each second of the last minute, oldest first.
    pub(super) fn line(&self) -> Vec<[f32; 2]> {
        self.lock().line.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn after(rates: &Rates, seconds: u64, of: impl Fn(u64) -> (Totals, Flow)) {
        let began = rates.lock().at.unwrap_or_else(Instant::now);
        for second in 1..=seconds {
            let (totals, flow) = of(second);
            let upstreams = [(Arc::from("pager"), flow)];
            rates.see(
                began + Duration::from_secs(second),
                totals,
                &upstreams,
                &[(Arc::from("payments"), totals.received)],
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rates_follow_the_counters_and_an_outage_keeps_what_is_written() {
        let rates = Rates::default();
        after(&rates, 60, |s| {
            let totals = Totals { received: 100 * s, delivered: 100 * s, placed: 50_000 * s, ..Totals::default() };
            (totals, Flow { enqueued: 100 * s, delivered: 100 * s, dead_lettered: 0 })
        });
        let (all, pager) = (rates.all(), rates.upstream("pager"));
        assert!((99.0..=100.1).contains(&all.received) && all.kept_bytes < 1.0, "{all:?}");
        assert!((99.0..=100.1).contains(&rates.integration("payments")) && pager.dead_lettered_lately == 0);
        assert_eq!(rates.line().len(), 59);
        // Nothing is delivered any more: all that is written stays.
        after(&rates, 60, |s| {
            let totals = Totals {
                received: 6000 + 100 * s,
                delivered: 6000,
                placed: 3_000_000 + 50_000 * s,
                ..Totals::default()
            };
            (totals, Flow { enqueued: 6000 + 100 * s, delivered: 6000, dead_lettered: s })
        });
        let (all, pager) = (rates.all(), rates.upstream("pager"));
        assert!((49_000.0..=50_100.0).contains(&all.kept_bytes), "{all:?}");
        assert_eq!(pager.delivered, 0.0);
        assert_eq!((pager.dead_lettered_lately, rates.line().len()), (60, LINE_LOOKS));
        // Five minutes later they are old news.
        after(&rates, 331, |_| {
            (Totals { received: 12_000, ..Totals::default() }, Flow { dead_lettered: 60, ..Flow::default() })
        });
        assert_eq!((rates.upstream("pager").dead_lettered_lately, rates.integration("payments")), (0, 0.0));
    }
}
