//! What arrived: counts, the event_uids seen, and the log of events. Called by `serve.rs`.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde::Serialize;

use super::received::{Received, ReceivedEvent};

/// Event_uids that are told apart; beyond, new ones count as `untracked`.
const UIDS_AT_MOST: usize = 10_000_000;

/// `GET /stats`. An event is *delivered* by an answer of 2xx.
#[derive(Debug, Default, Clone, Serialize)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) events: u64,
    /// Different event_uids.
    pub(super) distinct: u64,
    /// Events whose event_uid had arrived before, for whatever reason.
    pub(super) repeats: u64,
    /// Those of them that had been delivered before: a repeat without need, or a lost answer.
    pub(super) repeats_after_delivery: u64,
    pub(super) delivered_events: u64,
    pub(super) delivered_distinct: u64,
    pub(super) without_uid: u64,
    pub(super) untracked: u64,
    pub(super) not_json: u64,
    pub(super) log_errors: u64,
    /// Requests by what they got: a status, or hang, reset, truncate.
    pub(super) answers: BTreeMap<String, u64>,
}

pub(super) struct Books {
    pub(super) counts: Counts,
    /// Hash of an event_uid → delivered. 64 bits over 10 M: a mix-up every few hundred thousand runs.
    seen: HashMap<u64, bool>,
    hasher: RandomState,
    log: Option<File>,
    print: bool,
    line: Vec<u8>,
}

/// One line of the log.
#[derive(Serialize)]
struct LogLine<'a> {
    event_uid: Option<&'a str>,
    key: Option<&'a str>,
    action: Option<&'a str>,
    /// Wall clock, microseconds since 1970.
    at_us: u128,
    path: &'a str,
    /// Of the whole request, also for an event of a batch.
    body_bytes: usize,
    answer: &'a str,
}

impl Books {
    pub(super) fn open(log: Option<&Path>, print: bool) -> anyhow::Result<Self> {
        let log = log
            .map(|path| {
                OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(path)
                    .with_context(|| format!("cannot open the log {}", path.display()))
            })
            .transpose()?;
        Ok(Self {
            counts: Counts::default(),
            seen: HashMap::new(),
            hasher: RandomState::new(),
            log,
            print,
            line: Vec::new(),
        })
    }

    /// Enters a request. `answer` is the status it gets, or the name of its fault.
    pub(super) fn enter(&mut self, received: &Received, path: &str, bytes: usize, answer: &str) {
        let delivered = answer.starts_with('2');
        self.counts.requests += 1;
        self.counts.not_json += u64::from(!received.is_json);
        match self.counts.answers.get_mut(answer) {
            Some(count) => *count += 1,
            None => {
                self.counts.answers.insert(answer.to_owned(), 1);
            }
        }
        for event in &received.events {
            self.count(event, delivered);
        }
        if self.log.is_some() || self.print {
            self.write_lines(received, path, bytes, answer);
        }
    }

    fn count(&mut self, event: &ReceivedEvent, delivered: bool) {
        let counts = &mut self.counts;
        counts.events += 1;
        counts.delivered_events += u64::from(delivered);
        let Some(uid) = &event.event_uid else {
            counts.without_uid += 1;
            return;
        };
        let hash = self.hasher.hash_one(uid);
        if let Some(was_delivered) = self.seen.get_mut(&hash) {
            counts.repeats += 1;
            counts.repeats_after_delivery += u64::from(*was_delivered);
            counts.delivered_distinct += u64::from(delivered && !*was_delivered);
            *was_delivered |= delivered;
        } else if self.seen.len() < UIDS_AT_MOST {
            counts.distinct += 1;
            counts.delivered_distinct += u64::from(delivered);
            self.seen.insert(hash, delivered);
        } else {
            counts.untracked += 1;
        }
    }

    /// One write for the request's events, so that a reader never sees half a line for long.
    fn write_lines(&mut self, received: &Received, path: &str, body_bytes: usize, answer: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if let Some(log) = &mut self.log {
            self.line.clear();
            for event in &received.events {
                let line = LogLine {
                    event_uid: event.event_uid.as_deref(),
                    key: event.key.as_deref(),
                    action: event.action.as_deref(),
                    at_us: now.as_micros(),
                    path,
                    body_bytes,
                    answer,
                };
                // Into memory: neither of the two can fail.
                let _ = serde_json::to_writer(&mut self.line, &line);
                self.line.push(b'\n');
            }
            if log.write_all(&self.line).is_err() {
                self.counts.log_errors += 1;
            }
        }
        if self.print {
            let mut out = std::io::stdout().lock();
            for event in &received.events {
                let text = |member: &Option<String>| member.clone().unwrap_or_else(|| "-".into());
                // Whoever closed the other end does not want to read on.
                let _ = writeln!(
                    out,
                    "{}.{:06} {path} {answer} {} {} uid={} {body_bytes} B",
                    now.as_secs(),
                    now.subsec_micros(),
                    text(&event.action),
                    text(&event.key),
                    text(&event.event_uid),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::received::read;

    #[test]
    fn repeats_before_and_after_delivery_are_told_apart() {
        let mut books = Books::open(None, false).expect("books");
        let body = br#"{"event_uid":"u1"}"#;
        for answer in ["503", "200", "200"] {
            books.enter(&read(body, None), "/hook", body.len(), answer);
        }
        let counts = &books.counts;
        assert_eq!((counts.events, counts.distinct, counts.repeats), (3, 1, 2));
        assert_eq!((counts.repeats_after_delivery, counts.delivered_distinct), (1, 1));
        assert_eq!(counts.answers["200"], 2);
    }
}
