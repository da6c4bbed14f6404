//! Events and upstreams for the tests of the sinks and of `forward`.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;

use super::{Ask, Kind, Mode, Other, Others, Reader, Said, UpstreamConfig, VendorConfig};
use crate::claim::Pacing;
use crate::event::{
    Action, Content, Event, Incident, Key, KeyKind, Micros, Severity, State, StateKey, Tag, TagType, Tolerated, Uid,
};
use crate::outcome::Outcome;
use crate::store::{LaneKey, Stored};

/// 2026-11-20T10:00:00.000001Z.
pub(crate) const AT: Micros = Micros(1_795_168_800_000_001);

pub(crate) fn upstream(name: &str, kind: Kind) -> UpstreamConfig {
    UpstreamConfig {
        name: name.into(),
        kind,
        url: Some(hyper::Uri::from_static("http://127.0.0.1:1/hook")),
        credential: None,
        mode: Mode::Verbatim,
        pace: None,
        timeout: Duration::from_secs(10),
        connections: 64,
        give_up_after: Duration::from_secs(86_400),
        redeliver_after: Duration::from_secs(300),
        batch: None,
        shared: false,
        emit_priority: true,
        vendor: VendorConfig::default(),
    }
}

/// A Squadcast trigger of `payments` on `disk-db-7`.
pub(crate) fn event(action: Action, key: Option<&str>, raw: &str) -> Event {
    Event {
        uid: Uid(0x0193_4ABC_0000_0000_0000_0000_0000_0001),
        received_at: AT,
        integration: "payments".into(),
        dialect: Cow::Borrowed("squadcast"),
        endpoint: Cow::Borrowed("v2/incidents/api"),
        family: Cow::Borrowed("squadcast"),
        action,
        key: key.and_then(|key| Key::parse(key, KeyKind::String)),
        severity: Severity::new(4),
        target: None,
        envelope: None,
        view: None,
        trace: None,
        tolerated: Tolerated::default(),
        raw: Bytes::copy_from_slice(raw.as_bytes()),
    }
}

pub(crate) fn incident(generation: u32, state: State) -> Incident {
    Incident {
        iid: Uid(0x0193_4ABC_0000_0000_0000_0000_0001_0000 + u128::from(generation)),
        number: 8912,
        generation,
        state,
        severity: None,
        count: 1,
        last_seen: AT,
        changed_at: AT,
    }
}

pub(crate) fn stored(sequence: u64, event: Event, incident: Option<Incident>) -> Stored {
    let lane = event.state_key().unwrap_or(StateKey(incident.map_or(event.uid.0, |incident| incident.iid.0)));
    Stored {
        sequence,
        lane: LaneKey(lane.0),
        event,
        incident,
        before: None,
        outcome: Outcome::Created,
        pacing: Pacing::default(),
    }
}

pub(crate) fn said<'a>() -> Said<'a> {
    let text = |value: &'a str| Tag { value: value.into(), kind: TagType::String, color: None, bare: false };
    Said {
        content: Content {
            title: Some("disk full on db-7".into()),
            description: Some("volume /data at 99 %".into()),
            severity: Severity::new(4),
            tags: vec![
                ("team".into(), text("storage")),
                ("classification".into(), Tag { color: Some("#FF0000".into()), ..text("backend") }),
            ],
            ..Content::default()
        },
        extra: Vec::new(),
    }
}

/// Knows no other incident.
pub(crate) struct NoOthers;

impl Others for NoOthers {
    fn by_number(&self, _number: u64) -> Other {
        Other::Unknown
    }
}

/// What a sink is asked of an event whose incident has no remote id.
pub(crate) fn ask<'a>(stored: &'a Stored, said: &'a Said<'a>, upstream: &'a UpstreamConfig) -> Ask<'a> {
    Ask { stored, said, remote: None, upstream, others: &NoOthers }
}

/// Says the same of every event.
pub(crate) struct SameReader;

impl Reader for SameReader {
    fn read<'a>(&self, _event: &'a Event) -> Said<'a> {
        said()
    }
}
