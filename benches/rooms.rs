//! Bodies and rooms as the running product has them, for both benches: made from a configuration, joined as `app`
//! joins them, with nothing behind the log.

// Each bench takes what it needs of it.
#![allow(dead_code)]
// A bench that cannot be set up has nothing to measure.
#![allow(clippy::unwrap_used)]

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use surgegate::claim::{Admitted, Targets};
use surgegate::config::{self, Config};
use surgegate::dedup::{self, Claimed, Dedup};
use surgegate::event::{Action, Event, Key, KeyKind, Micros, StateKey, Tolerated, Uid};
use surgegate::forward::wire;
use surgegate::gate::{Integration, Keys, UnauthenticatedBucket};
use surgegate::intake::{Intake, Terms};
use surgegate::machine::{KeyLife, Policy};
use surgegate::metrics::Metrics;
use surgegate::sns::Amazon;
use surgegate::spans::Spans;
use surgegate::store::{self, Durability, Store};

/// The key in the path of every request.
pub(crate) const KEY: &str = "k0123456789abcdef0123456789abcdef";

/// Sizes of the goals: what the load tester sends, a body with a long text, and one just below the limit.
pub(crate) const SIZES: [(&str, usize); 3] = [("362 B", 362), ("2 KB", 2048), ("29 KB", 29 * 1024)];

/// A Squadcast body of exactly `bytes` bytes, as the load tester sends it.
pub(crate) fn body(event_id: &str, bytes: usize) -> Bytes {
    const FILLER: &str = "volume /data at 99 % on host db-7.eu-central-1, read latency above 250 ms; ";
    let start = format!(
        r##"{{"message":"disk full on db-7","event_id":"{event_id}","status":"trigger","tags":{{"severity":"high","team":{{"value":"storage","color":"#ff0000"}},"region":"eu-central-1"}},"description":""##
    );
    let filler = bytes - start.len() - 2;
    let text: String = FILLER.chars().cycle().take(filler).collect();
    format!("{start}{text}\"}}").into()
}

/// 24 bytes, as the load tester's.
pub(crate) fn event_id(number: u64) -> String {
    format!("lt-00000000-{number:012x}")
}

fn config() -> Config {
    // Limits no bench can reach.
    let text = format!(
        "integrations:\n  - name: fleet\n    keys: [{{ key: {KEY} }}]\n    rate_limit: {{ requests_per_second: 1000000 }}\n    upstreams: [pager]\n\
         upstreams:\n  - name: pager\n    kind: webhook\n    url: http://127.0.0.1:9/\n"
    );
    config::load_text("bench.yaml", &text, &|_| None).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Everything an event meets before the log.
pub(crate) struct Desk {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) targets: Targets,
    pub(crate) config: dedup::Config,
    raw: Bytes,
    integration: Arc<str>,
}

impl Desk {
    pub(crate) fn new(body_bytes: usize) -> Self {
        let metrics = Metrics::new(1).unwrap();
        let targets = Arc::from([metrics.upstream("pager")]);
        let config = config().dedup;
        Self { metrics, targets, config, raw: body(&event_id(0), body_bytes), integration: "fleet".into() }
    }

    /// A trigger on the key of that number.
    pub(crate) fn event(&self, number: u64) -> Event {
        let now = Micros::now();
        Event {
            uid: Uid::new(now),
            received_at: now,
            integration: Arc::clone(&self.integration),
            dialect: Cow::Borrowed("squadcast"),
            endpoint: Cow::Borrowed("v2/incidents/api"),
            family: Cow::Borrowed("squadcast"),
            action: Action::Trigger,
            key: Key::parse(&event_id(number), KeyKind::String),
            target: None,
            envelope: None,
            view: None,
            trace: None,
            severity: None,
            tolerated: Tolerated::default(),
            raw: self.raw.clone(),
        }
    }

    pub(crate) const RULES: dedup::Rules = dedup::Rules::keyed(
        KeyLife::OpenUntilResolved,
        Policy {
            forward_duplicates: surgegate::machine::ForwardDuplicates::SeverityIncrease,
            unknown_resolve: surgegate::machine::UnknownResolve::ForwardIfKeyed,
        },
    );

    /// A table in which the first `keys` keys are open.
    pub(crate) fn dedup(&self, keys: u64) -> Arc<Dedup> {
        let dedup = Dedup::new(self.config.clone(), Arc::clone(&self.metrics));
        let Claimed::Owned(claim, _) = dedup.claim(&self.event(u64::MAX), &self.targets, Self::RULES) else {
            panic!("a fresh key is owned");
        };
        let incident = claim.next.unwrap();
        drop(claim);
        for number in 0..keys {
            let key = StateKey::of(&self.integration, "squadcast", &event_id(number));
            dedup.restore(key, incident, surgegate::claim::Position(number + 1));
        }
        dedup
    }

    /// A fresh event that stands before the log.
    pub(crate) fn admitted(&self, dedup: &Arc<Dedup>, number: u64) -> Admitted {
        let event = self.event(number);
        match dedup.claim(&event, &self.targets, Self::RULES) {
            Claimed::Owned(claim, pacing) => Admitted { claim, event, pacing, ticket: self.metrics.receive(0) },
            _ => panic!("key {number} is not fresh"),
        }
    }
}

/// Intake before a log of that durability, which is open and not written: no other thread runs.
pub(crate) fn intake(directory: &Path, durability: Durability) -> Intake {
    let config = config();
    let metrics = Metrics::new(1).unwrap();
    let dedup = Dedup::new(config.dedup, Arc::clone(&metrics));
    let store = store::Config { directory: directory.into(), durability, ..config.spool };
    let (store, _) = Store::open(store, &metrics, 1, Arc::new(store::NoStates)).unwrap();
    let integrations = config.integrations.into_iter().map(|one| {
        let targets: Targets = one.upstreams.iter().map(|name| metrics.upstream(name)).collect();
        Arc::new(Integration::new(one, Box::new(targets), None))
    });
    Intake::new(
        Terms {
            keys: Keys::new(integrations),
            limits: config.body,
            uri_bytes_max: config.ingest.uri_bytes,
            unauthenticated: UnauthenticatedBucket::new(NonZeroU32::MAX),
        },
        dedup,
        store,
        Arc::clone(&metrics),
        Arc::default(),
        Box::new(|_| false),
        Box::new(|_| Box::pin(std::future::ready(None))),
        Arc::default(),
        Arc::new(Amazon::new(wire::public_trust().unwrap())),
        Spans::default(),
    )
}
