//! What happens meanwhile: the scenario's events in the order of their time, done on a thread of its own, so that no wait
//! for a process holds up the load. Called by `drive.rs`.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::results::Happening;
use crate::scenario::{Event, Scenario, ServerAct};
use crate::server::redis::Redis;
use crate::server::{Servers, fetch};

/// The longest sleep: how late it may see that it was stopped.
const LONGEST_SLEEP: Duration = Duration::from_millis(20);
/// An event that comes again and again, at most so often.
const REPEATS_AT_MOST: usize = 100_000;

/// What events are done to.
pub(super) struct Things {
    pub(super) servers: Arc<Servers>,
    pub(super) upstream: Option<SocketAddr>,
    pub(super) redis: Option<Redis>,
}

/// The running thread.
pub(super) struct Timeline {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    happened: Arc<Mutex<Vec<Happening>>>,
}

/// The events of a run by time; phases begin at these offsets.
pub(super) fn plan(scenario: &Scenario, starts: &[Duration], length: Duration) -> Vec<(Duration, Event)> {
    let mut planned = Vec::new();
    for event in &scenario.events {
        let phase = event.phase.as_ref().and_then(|name| scenario.phases.iter().position(|phase| phase.name == *name));
        let base = phase.and_then(|phase| starts.get(phase)).copied().unwrap_or_default();
        let mut at = base + event.at.0;
        planned.push((at, event.clone()));
        if let Some(every) = event.every.filter(|every| !every.0.is_zero()) {
            for _ in 0..REPEATS_AT_MOST {
                at += every.0;
                if at >= length {
                    break;
                }
                planned.push((at, event.clone()));
            }
        }
    }
    planned.sort_by_key(|(at, _)| *at);
    planned
}

impl Timeline {
    pub(super) fn start(planned: Vec<(Duration, Event)>, start: Instant, mut things: Things) -> anyhow::Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let happened = Arc::<Mutex<Vec<Happening>>>::default();
        let thread = std::thread::Builder::new()
            .name("timeline".to_owned())
            .spawn({
                let (stop, happened) = (Arc::clone(&stop), Arc::clone(&happened));
                move || {
                    for (at, event) in planned {
                        while let Some(wait) = (start + at).checked_duration_since(Instant::now()) {
                            if stop.load(Ordering::Relaxed) {
                                return;
                            }
                            std::thread::sleep(wait.min(LONGEST_SLEEP));
                        }
                        let began = start.elapsed().as_secs_f64();
                        let outcome = things.act(&event);
                        let what = match outcome {
                            Ok(what) => what,
                            Err(error) => format!("FAILED: {error:#}"),
                        };
                        let mut happened = happened.lock().unwrap_or_else(PoisonError::into_inner);
                        happened.push(Happening { at_s: began, what });
                    }
                    // Redis lives as long as the run.
                    while !stop.load(Ordering::Relaxed) {
                        std::thread::sleep(LONGEST_SLEEP);
                    }
                }
            })
            .context("cannot start the timeline")?;
        Ok(Self { thread, stop, happened })
    }

    /// What happened so far.
    pub(super) fn happened(&self) -> Vec<Happening> {
        self.happened.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it; an event that is being done is waited for.
    pub(super) fn stop(self) -> Vec<Happening> {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        std::mem::take(&mut self.happened.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Things {
    /// Does it, and says what was done.
    fn act(&mut self, event: &Event) -> anyhow::Result<String> {
        if let Some(faults) = &event.upstream {
            let upstream = self.upstream.context("there is no upstream of ours")?;
            let body = serde_json::json!({ "faults": faults }).to_string();
            let answer = fetch::post(upstream, "/faults", &body).context("the upstream does not answer")?;
            ensure!(answer.status == 200, "the upstream refuses the faults: {}", answer.body);
            return Ok(if faults.is_empty() {
                "upstream: well again".to_owned()
            } else {
                format!("upstream: {}", faults.join(" "))
            });
        }
        if let Some(act) = event.redis {
            self.redis.as_mut().context("there is no Redis of ours")?.act(act)?;
            return Ok(format!("redis: {act:?}").to_lowercase());
        }
        let down = event.down.unwrap_or_default().0;
        let replica = event.replica;
        let Some(act) = event.surgegate else {
            return Ok("nothing".to_owned());
        };
        let before = Instant::now();
        match act {
            ServerAct::Kill => self.servers.end_and_start(replica, true, down)?,
            ServerAct::Stop => self.servers.end_and_start(replica, false, down)?,
            ServerAct::Reload => self.servers.reload(replica)?,
            ServerAct::ScaleOut => self.servers.add()?,
        }
        let took = before.elapsed().as_millis();
        Ok(match act {
            ServerAct::Kill => format!("server {replica}: killed, ready again after {took} ms"),
            ServerAct::Stop => format!("server {replica}: stopped, ready again after {took} ms"),
            ServerAct::Reload => format!("server {replica}: told to reload"),
            ServerAct::ScaleOut => format!("one more server, ready after {took} ms"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_stand_at_their_times_in_their_phases_and_come_again() {
        let scenario = crate::scenario::parse(
            "name: n\nmix: [{ dialect: squadcast }]\nphases:\n\
             - { name: a, duration: 10s, arrivals: { constant: 1 } }\n- { name: b, duration: 10s, arrivals: { constant: 1 } }\n\
             events:\n- { at: 2s, phase: b, upstream: [] }\n- { at: 1s, every: 8s, surgegate: reload }\n",
        )
        .expect("a scenario");
        let starts = [Duration::ZERO, Duration::from_secs(10)];
        let planned = plan(&scenario, &starts, Duration::from_secs(20));
        let seconds: Vec<u64> = planned.iter().map(|(at, _)| at.as_secs()).collect();
        assert_eq!(seconds, [1, 9, 12, 17]);
    }
}
