//! The event of a statement: from what its body says and, where it addresses an incident by id, from what is known of that.

use std::sync::Arc;

use bytes::Bytes;

use super::{Intake, Known, records};
use crate::dedup;
use crate::dialect::{Dialect, Judged};
use crate::event::{Action, Event, Incident, Micros, StateKey, Target, Tolerated, Uid};
use crate::gate::IntegrationConfig;
use crate::machine::UnknownResolve;
use crate::outcome::{Outcome, Reason, Refusal};

/// A body as the log keeps it.
pub(super) struct Said {
    pub(super) raw: Bytes,
    pub(super) tolerated: Tolerated,
    pub(super) envelope: Option<Bytes>,
}

/// Why an event that addresses an incident by id goes no further.
pub(super) enum Unaddressed {
    /// The id names nothing, and its dialect's senders are told so later.
    Unknown,
    /// Of an incident that another one of its key followed: it is resolved, and stays so.
    Absorbed(Outcome, Option<Incident>),
    Refused(Refusal),
}

impl Intake {
    /// The event of a statement, and the rules it is decided by.
    pub(super) fn event(&self, known: &Known, body: Said, heard: Judged) -> Result<(Event, dedup::Rules), Unaddressed> {
        let Known { dialect, route, integration, .. } = known;
        let Judged { action, key, target, severity, notes, needs_open, closes, opens, other, fills, view, .. } = heard;
        let mut policy = integration.config.policy;
        if heard.drops_unknown {
            policy.unknown_resolve = UnknownResolve::Drop;
        }
        let family = dialect.family(known.args());
        let replay = heard.replay.map(|id| StateKey::of_replay(&integration.config.name, &family, &id));
        let mut rules = dedup::Rules {
            notes,
            needs_open,
            closes,
            has_ids: dialect.has_ids(),
            replay,
            ..dedup::Rules::keyed(dialect.key_life(), policy)
        };
        let received_at = Micros::now();
        let mut event = Event {
            uid: Uid::new(received_at),
            received_at,
            integration: Arc::clone(&integration.config.name),
            dialect: dialect.name().into(),
            endpoint: route.endpoint.into(),
            family,
            action,
            key,
            target,
            severity,
            tolerated: body.tolerated,
            raw: body.raw,
            envelope: body.envelope.or(fills),
            view: view.and_then(|view| serde_json::to_vec(&*view).ok()).map(Bytes::from),
            trace: None,
        };
        if event.target.is_some() {
            match self.address(*dialect, &integration.config, &mut event, needs_open) {
                Err(Unaddressed::Refused(refusal))
                    if refusal.reason == Reason::NotFound && integration.config.passes_ids =>
                {
                    rules.passes = true;
                    return Ok((event, rules));
                }
                addressed => rules.addressed = Some(addressed?),
            }
        }
        let other = other.map(|other| self.other(&integration.config, &event, &other, needs_open && !opens));
        if opens {
            // Of its own, without a key: it begins as what it was a part of.
            event.key = None;
            rules.opens_from = other.and_then(Result::ok).or(rules.addressed);
        } else {
            other.transpose()?;
        }
        Ok((event, rules))
    }

    /// The state of another incident that an event speaks of.
    pub(super) fn other(
        &self,
        config: &IntegrationConfig,
        event: &Event,
        other: &Target,
        needs_open: bool,
    ) -> Result<StateKey, Unaddressed> {
        let known = records::Known::new(&self.dedup, &self.store, config, &event.family);
        let Some(row) = known.find(other) else {
            return Err(Unaddressed::Refused(Refusal::new(Reason::NotFound, "no incident has this id")));
        };
        if needs_open && (known.was_followed(&row) || known.is_resolved(&row)) {
            return Err(Unaddressed::Refused(Refusal::new(Reason::NotOpen, "the other incident is resolved")));
        }
        Ok(row.key)
    }

    /// The state of the incident that an event addresses by id; the event takes that incident's key.
    pub(super) fn address(
        &self,
        dialect: &dyn Dialect,
        config: &IntegrationConfig,
        event: &mut Event,
        needs_open: bool,
    ) -> Result<StateKey, Unaddressed> {
        let known = records::Known::new(&self.dedup, &self.store, config, &event.family);
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
            // Its key's state may have been given up to make room: then nobody knows it any longer.
            let incident = known.incident(&row);
            if incident.is_none() && !dialect.takes_unknown_targets() {
                return Err(Unaddressed::Refused(Refusal::new(Reason::NotFound, "no incident has this id")));
            }
            return Err(Unaddressed::Absorbed(outcome, incident));
        }
        event.key = records::key_of(&known, &row);
        Ok(row.key)
    }

    /// What answers show of the incident of an event that changed nothing.
    pub(super) fn view_now(
        &self,
        config: &IntegrationConfig,
        event: &Event,
        rules: dedup::Rules,
    ) -> Option<Box<Bytes>> {
        let key = rules.opens_from.or(rules.addressed).or_else(|| event.state_key())?;
        let known = records::Known::new(&self.dedup, &self.store, config, &event.family);
        known.shown(key).and_then(|(_, shown)| shown.view).map(Box::new)
    }
}
