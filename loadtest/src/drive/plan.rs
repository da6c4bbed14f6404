//! What the entries of the mix send, ready to be filled in: templates and credentials of each, and the wheel that picks
//! one by weight. Called by `drive.rs` and the senders.

use std::sync::Arc;

use bytes::Bytes;

use super::abuse::prepare;
use crate::dialect::{self, Context, Dialect, Piece, Template};
use crate::random::unit;
use crate::scenario::{Abuse, Phase, Scenario, Source};
use crate::server::configuration::Credentials;
use crate::witness::Expected;

/// Bytes of a description where the scenario does not say.
const TEXT_BYTES: usize = 120;

/// One entry of the mix.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) weight: f64,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Spoken(Box<Spoken>),
    Abuse { abuse: Abuse, body: Bytes },
}

/// A dialect with credentials.
pub(super) struct Spoken {
    pub(super) dialect: &'static Dialect,
    pub(super) duplicates: f64,
    pub(super) resolves: f64,
    pub(super) reopens: f64,
    pub(super) pairs: f64,
    pub(super) batch: u16,
    pub(super) text_bytes: usize,
    pub(super) credentials: Credentials,
    path: Template,
    resolve_path: Template,
    authorization: Option<Template>,
    trigger: Template,
    resolve: Template,
    firing: Template,
    resolved: Template,
}

/// A request as text, before its protocol.
#[derive(Debug, Default)]
pub(super) struct Text {
    pub(super) path: Vec<u8>,
    /// Empty where there is none.
    pub(super) authorization: Vec<u8>,
    pub(super) body: Vec<u8>,
}

/// Which statements a request says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said<'a> {
    pub(super) run: u32,
    /// The first of `batch` statements of as many keys.
    pub(super) statement: u32,
    pub(super) key: u32,
    pub(super) integration: u16,
    pub(super) resolve: bool,
    pub(super) remote: Option<&'a str>,
}

impl Spoken {
    fn new(source: &Source, dialect: &'static Dialect, credentials: Credentials) -> Self {
        let resolve = dialect.resolve.as_ref();
        let envelope = dialect.envelope.as_ref();
        Self {
            dialect,
            duplicates: source.duplicates,
            resolves: source.resolves,
            reopens: source.reopens,
            pairs: source.pairs,
            batch: source.batch,
            text_bytes: source.text_bytes.map_or(TEXT_BYTES, |size| size.0 as usize),
            credentials,
            path: Template::parse(dialect.path),
            resolve_path: Template::parse(resolve.and_then(|own| own.path).unwrap_or(dialect.path)),
            authorization: dialect.authorization.map(Template::parse),
            trigger: Template::parse(dialect.trigger),
            resolve: Template::parse(resolve.map_or("", |own| own.body)),
            firing: Template::parse(envelope.map_or("{alerts}", |own| own.firing)),
            resolved: Template::parse(envelope.map_or("{alerts}", |own| own.resolved)),
        }
    }

    /// Fills a request.
    pub(super) fn fill(&self, said: &Said<'_>, text: &mut Text) {
        let index = usize::from(said.integration);
        let of = |list: &'_ Arc<[String]>| list.get(index).cloned().unwrap_or_default();
        let (key, source) = (of(&self.credentials.keys), of(&self.credentials.ids));
        let mut context = Context {
            run: said.run,
            statement: u64::from(said.statement),
            event: said.key,
            key: &key,
            source: &source,
            remote: said.remote,
            text_bytes: self.text_bytes,
        };
        text.path.clear();
        text.authorization.clear();
        text.body.clear();
        (if said.resolve { &self.resolve_path } else { &self.path }).fill(&context, &mut text.path);
        if let Some(authorization) = &self.authorization {
            authorization.fill(&context, &mut text.authorization);
        }
        let (envelope, element) =
            if said.resolve { (&self.resolved, &self.resolve) } else { (&self.firing, &self.trigger) };
        for piece in envelope.pieces() {
            match piece {
                Piece::Literal(bytes) => text.body.extend_from_slice(bytes),
                _ => {
                    for number in 0..u32::from(self.batch) {
                        if number > 0 {
                            text.body.push(b',');
                        }
                        context.statement = u64::from(said.statement + number);
                        context.event = said.key + number;
                        element.fill(&context, &mut text.body);
                    }
                }
            }
        }
    }

    fn expected(&self) -> Expected {
        Expected {
            dialect: self.dialect,
            trigger: self.trigger.clone(),
            resolve: self.resolve.clone(),
            text_bytes: self.text_bytes,
            integrations: self.credentials.names.clone(),
            keys: Arc::clone(&self.credentials.keys),
        }
    }
}

/// The entries of a scenario, in its order.
pub(super) fn entries(scenario: &Scenario, credentials: &[Option<Credentials>], body_limit: usize) -> Vec<Entry> {
    let kind = |source: &Source, credentials: &Option<Credentials>| {
        let dialect = source.dialect.as_deref().and_then(dialect::named);
        match (dialect, source.abuse) {
            (Some(dialect), _) => {
                Some(Kind::Spoken(Box::new(Spoken::new(source, dialect, credentials.clone().unwrap_or_default()))))
            }
            (None, Some(abuse)) => {
                let body_bytes = source.text_bytes.map_or(body_limit + 1, |size| size.0 as usize);
                Some(Kind::Abuse { abuse, body: prepare(abuse, body_bytes) })
            }
            (None, None) => None,
        }
    };
    scenario
        .mix
        .iter()
        .zip(credentials)
        .filter_map(|(source, credentials)| {
            Some(Entry { name: source.name().to_owned(), weight: source.weight, kind: kind(source, credentials)? })
        })
        .collect()
}

/// What the witness must know of each entry.
pub(super) fn expected(entries: &[Entry]) -> Vec<Option<Expected>> {
    entries
        .iter()
        .map(|entry| match &entry.kind {
            Kind::Spoken(spoken) => Some(spoken.expected()),
            Kind::Abuse { .. } => None,
        })
        .collect()
}

/// Picks an entry by weight.
#[derive(Debug, Clone)]
pub(super) struct Wheel {
    /// Sums of the weights so far, as fractions of all.
    ends: Vec<f64>,
}

impl Wheel {
    /// With the weights of this phase; `None` where all are zero.
    pub(super) fn new(entries: &[Entry], phase: &Phase) -> Option<Self> {
        let weights: Vec<f64> =
            entries.iter().map(|entry| phase.weights.get(&entry.name).copied().unwrap_or(entry.weight)).collect();
        let all: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let ends = weights
            .iter()
            .map(|weight| {
                sum += weight;
                sum / all
            })
            .collect();
        (all > 0.0).then_some(Self { ends })
    }

    pub(super) fn pick(&self, seed: u64, index: u64) -> usize {
        let at = unit(seed, index);
        self.ends.partition_point(|end| *end <= at).min(self.ends.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(text: &str) -> Scenario {
        crate::scenario::parse(text).expect("a scenario")
    }

    #[test]
    fn the_wheel_keeps_the_weights_of_mix_and_phase() {
        let scenario = scenario(
            "name: n\nphases:\n- { name: a, duration: 1s, arrivals: { constant: 1 } }\n- { name: b, duration: 1s, arrivals: { constant: 1 }, weights: { taskcall: 0, squadcast: 1 } }\n\
             mix: [{ dialect: squadcast, weight: 3 }, { dialect: taskcall, weight: 1 }, { abuse: bad_json, weight: 0 }]\n",
        );
        let entries = entries(&scenario, &[None, None, None], 30_720);
        let counts = |phase: usize| {
            let wheel = Wheel::new(&entries, &scenario.phases[phase]).expect("weights");
            let mut counts = [0; 3];
            (0..10_000).for_each(|index| counts[wheel.pick(9, index)] += 1);
            counts
        };
        let [squadcast, taskcall, bad] = counts(0);
        assert!((7_300..7_700).contains(&squadcast) && bad == 0 && squadcast + taskcall == 10_000);
        assert_eq!(counts(1), [10_000, 0, 0]);
    }

    #[test]
    fn a_batch_has_as_many_statements_as_it_says() {
        let scenario = scenario(
            "name: n\nphases: [{ name: a, duration: 1s, arrivals: { constant: 1 } }]\nmix: [{ dialect: alertmanager, batch: 3 }]\n",
        );
        let source = &scenario.mix[0];
        let dialect = dialect::named("alertmanager").expect("a dialect");
        let credentials = crate::server::configuration::credentials(0, source, dialect, 1);
        let spoken = Spoken::new(source, dialect, credentials);
        let mut text = Text::default();
        let said = Said { run: 1, statement: 10, key: 20, integration: 0, resolve: false, remote: None };
        spoken.fill(&said, &mut text);
        let json: serde_json::Value = serde_json::from_slice(&text.body).expect("JSON");
        let fingerprints: Vec<_> = json["alerts"]
            .as_array()
            .expect("alerts")
            .iter()
            .map(|alert| alert["fingerprint"].as_str().expect("text"))
            .collect();
        assert_eq!(fingerprints, ["lt-00000001-00000014", "lt-00000001-00000015", "lt-00000001-00000016"]);
    }
}
