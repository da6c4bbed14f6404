//! Keys as upstreams see them (contracts 5.6).

use super::UpstreamConfig;
use crate::store::Stored;

/// An event's key as a keyed upstream sees it: stateless and free of generations.
/// `native`: the intake dialects that the upstream speaks itself.
pub(super) fn out_key(stored: &Stored, native: &[&str], upstream: &UpstreamConfig, fits: Fits) -> String {
    let event = &stored.event;
    let Some(key) = &event.key else {
        return stored.incident.map_or(event.uid, |incident| incident.iid).to_string();
    };
    if native.contains(&&*event.dialect) && !upstream.shared {
        return key.canon().to_owned();
    }
    let long = format!("{}:{}:{}", event.integration, event.family, key.canon());
    if fits.takes(&long) { long } else { sha256_hex(&[&long]) }
}

/// The key of a target that creates once and for ever (incident.io incidents): bound to the generation, for a key that is
/// opened anew must call somebody; from the same dialect the sender's own, which the vendor knows.
pub(super) fn create_once_key(stored: &Stored, native: &[&str], upstream: &UpstreamConfig, fits: Fits) -> String {
    let event = &stored.event;
    if native.contains(&&*event.dialect) && event.key.is_some() {
        return out_key(stored, native, upstream, fits);
    }
    stored.incident.map_or(event.uid, |incident| incident.iid).to_string()
}

/// What an upstream takes as a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fits {
    Bytes(usize),
    Characters(usize),
}

impl Fits {
    fn takes(self, key: &str) -> bool {
        let short = match self {
            Self::Bytes(most) => key.len() <= most,
            Self::Characters(most) => key.chars().nth(most).is_none(),
        };
        short && !key.chars().any(char::is_control)
    }
}

/// Lower-case hexadecimal SHA-256 of the parts, one after the other.
pub(super) fn sha256_hex(parts: &[&str]) -> String {
    use sha2::{Digest, Sha256};
    use std::fmt::Write;

    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Action, Event, Key, KeyKind, State};
    use crate::sink::{Kind, samples};

    const NATIVE: &[&str] = &["incidentio_v1", "incidentio_v2"];

    fn stored(dialect: &'static str, key: Option<&str>, generation: u32) -> Stored {
        let family = if dialect == "squadcast" { dialect } else { "incidentio_incident" };
        let event =
            Event { dialect: dialect.into(), family: family.into(), ..samples::event(Action::Trigger, key, "{}") };
        samples::stored(1, event, Some(samples::incident(generation, State::Open)))
    }

    #[test]
    fn a_create_once_target_gets_a_fresh_key_for_each_generation_but_from_its_own_dialect() {
        let upstream = samples::upstream("incidents", Kind::IncidentIo);
        let key = |stored: &Stored| create_once_key(stored, NATIVE, &upstream, Fits::Bytes(512));
        let iid = |generation| samples::incident(generation, State::Open).iid.to_string();
        assert_eq!(key(&stored("squadcast", Some("disk"), 1)), iid(1));
        assert_eq!(key(&stored("squadcast", Some("disk"), 2)), iid(2));
        assert_eq!(key(&stored("squadcast", None, 1)), iid(1));
        assert_eq!(key(&stored("incidentio_v1", Some("disk"), 2)), "disk");
        let shared = super::UpstreamConfig { shared: true, ..upstream.clone() };
        let key = create_once_key(&stored("incidentio_v1", Some("disk"), 2), NATIVE, &shared, Fits::Bytes(512));
        assert_eq!(key, "payments:incidentio_incident:disk");
    }

    #[test]
    fn limits_count_bytes_or_characters() {
        let upstream = samples::upstream("pager", Kind::PagerDuty);
        let key = |text: &str, fits| out_key(&stored("squadcast", Some(text), 1), &["pagerduty_v2"], &upstream, fits);
        let prefix = "payments:squadcast:".len();
        let text = "ä".repeat(255 - prefix);
        assert_eq!(key(&text, Fits::Characters(255)), format!("payments:squadcast:{text}"));
        assert_eq!(key(&(text.clone() + "b"), Fits::Characters(255)).len(), 64);
        assert_eq!(key(&text, Fits::Bytes(255)).len(), 64);
    }

    #[test]
    fn a_long_key_of_pagerdutys_goes_back_whole_and_to_others_as_its_hash() {
        let key = Key::parse_long(&"\u{1F600}".repeat(255), KeyKind::String);
        let stored = |dialect: &'static str| {
            let mut stored = stored(dialect, None, 1);
            stored.event.key.clone_from(&key);
            stored
        };
        let upstream = samples::upstream("pager", Kind::PagerDuty);
        let canon = key.as_ref().unwrap().canon();
        for dialect in ["pagerduty_v2", "pagerduty_v1"] {
            let own = out_key(&stored(dialect), &["pagerduty_v2", "pagerduty_v1"], &upstream, Fits::Characters(255));
            assert_eq!(own, canon);
        }
        let shared = super::UpstreamConfig { shared: true, ..upstream };
        let told = out_key(&stored("pagerduty_v2"), &["pagerduty_v2"], &shared, Fits::Characters(255));
        assert_eq!(told.len(), 64, "with its integration's name it is too long even there");
        assert_eq!(out_key(&stored("pagerduty_v2"), &["squadcast"], &shared, Fits::Bytes(512)).len(), 64);
    }
}
