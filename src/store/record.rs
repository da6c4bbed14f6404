//! What stands inside a frame: the payload of each kind of record, written and read by hand, little endian.
//! Texts and bodies are preceded by their length (u32). Reading never panics, whatever the bytes are;
//! bytes after the last known member are left for later versions.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use super::frame::Kind;
use super::reader::bare;
use super::remotes::{self, Learned, put_learned};
use super::{Ending, LaneKey, Shown, Stored};
use crate::claim::{ById, Claim, Pacing, Position, Scope, TakenBack};
use crate::event::trace::Trace;
use crate::event::{
    Action, Event, Incident, Key, KeyKind, Micros, Severity, State, StateKey, Target, TargetKind, Tolerated, Uid,
};
use crate::outcome::{DeadReason, DropReason, Outcome};

/// Version of every payload below; stands in the frame.
pub(super) const VERSION: u8 = 1;

const HAS_INCIDENT: u8 = 1;
/// The claim held the key in the state table.
const TRACKED: u8 = 2;
/// The event addresses an incident by id, which stands behind its upstreams.
const HAS_TARGET: u8 = 4;
/// What its batch says of all its events stands behind the body.
const HAS_ENVELOPE: u8 = 8;
/// What answers show of the incident stands behind that.
const HAS_VIEW: u8 = 16;
/// The incident is addressed by id.
const HAS_IDS: u8 = 64;
/// In place of what its batch says stands the offset of the record that says it, in the same segment.
const ENVELOPE_AT: u8 = 32;
/// The trace that it belongs to stands behind all that.
const HAS_TRACE: u8 = 128;
/// In the last byte of the head's first eight: the key of its transport's own id stands behind the trace.
const HAS_REPLAY: u8 = 1;
/// Bytes of a trace beside its state.
const TRACE_BYTES: usize = 25;
/// Bytes of a note that is there.
pub(super) const NOTE_BYTES: usize = 17;

/// The lane of an event (DESIGN 5.2), also where its key is not tracked.
pub(super) fn lane(event: &Event, claim: &Claim) -> LaneKey {
    let key = claim.key().or_else(|| event.state_key());
    LaneKey(match (key, claim.next) {
        (Some(key), _) => key.0,
        (None, Some(incident)) => incident.iid.0,
        (None, None) => event.uid.0,
    })
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    // A text this long makes the payload too large, and the frame refuses that.
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text);
}

/// Bytes of an incident.
const INCIDENT_BYTES: usize = 50;
/// Bytes before the incident in the payload of an event.
const HEAD_BYTES: usize = 56;

pub(super) fn put_incident(out: &mut Vec<u8>, incident: &Incident) {
    let mut bytes = [0; INCIDENT_BYTES];
    bytes[..16].copy_from_slice(&incident.iid.0.to_le_bytes());
    bytes[16..24].copy_from_slice(&incident.number.to_le_bytes());
    bytes[24..28].copy_from_slice(&incident.generation.to_le_bytes());
    bytes[28..30].copy_from_slice(&[incident.state as u8, level(incident.severity)]);
    bytes[30..34].copy_from_slice(&incident.count.to_le_bytes());
    bytes[34..42].copy_from_slice(&incident.last_seen.0.to_le_bytes());
    bytes[42..].copy_from_slice(&incident.changed_at.0.to_le_bytes());
    out.extend_from_slice(&bytes);
}

/// 0 is none.
fn level(severity: Option<Severity>) -> u8 {
    severity.map_or(0, Severity::level)
}

/// Bytes of the payload that [`put_accepted`] appends with a reference to the envelope, if there is one.
pub(super) fn accepted_bytes(event: &Event, claim: &Claim) -> usize {
    let texts = [&*event.integration, &*event.dialect, &*event.endpoint, &*event.family];
    let texts = texts.into_iter().chain([event.key.as_ref().map_or("", Key::canon)]);
    let text = |bytes: usize| size_of::<u32>() + bytes;
    let lengths = texts.map(str::len).chain(claim.targets.iter().map(|target| target.name.len()));
    HEAD_BYTES
        + claim.next.map_or(0, |_| INCIDENT_BYTES)
        + lengths.map(text).sum::<usize>()
        + size_of::<u32>()
        + event.target.as_ref().map_or(0, |target| 1 + text(target.value.len()))
        + text(event.raw.len())
        + event.envelope.as_ref().map_or(0, |_| size_of::<u32>())
        + event.view.as_ref().map_or(0, |view| text(view.len()))
        + event.trace.as_ref().map_or(0, |trace| TRACE_BYTES + text(trace.state.len()))
        + claim.replay_key().map_or(0, |_| size_of::<u128>())
}

/// Appends the payload of an accepted event. `envelope`: where its envelope stands in the segment; else it stands in it.
pub(super) fn put_accepted(
    out: &mut Vec<u8>,
    event: &Event,
    claim: &Claim,
    pacing: Pacing,
    lane: LaneKey,
    envelope: Option<u32>,
) {
    let tracked = if claim.key().is_some() { TRACKED } else { 0 };
    let has_incident = if claim.next.is_some() { HAS_INCIDENT } else { 0 };
    let has_target = if event.target.is_some() { HAS_TARGET } else { 0 };
    let has_envelope = match (&event.envelope, envelope) {
        (None, _) => 0,
        (Some(_), None) => HAS_ENVELOPE,
        (Some(_), Some(_)) => ENVELOPE_AT,
    };
    let has_view = if event.view.is_some() { HAS_VIEW } else { 0 };
    let has_trace = if event.trace.is_some() { HAS_TRACE } else { 0 };
    let has_ids = if claim.scope.is_some() { HAS_IDS } else { 0 };
    let has_replay = if claim.replay_key().is_some() { HAS_REPLAY } else { 0 };
    out.reserve(512 + event.raw.len());
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(&[
        tracked | has_incident | has_target | has_envelope | has_view | has_ids | has_trace,
        event.action as u8,
        claim.outcome as u8,
        pacing.0,
        event.tolerated.0,
        level(event.severity),
        event.key.as_ref().map_or(0, |key| key.kind as u8),
        has_replay,
    ]);
    head[8..24].copy_from_slice(&event.uid.0.to_le_bytes());
    head[24..32].copy_from_slice(&event.received_at.0.to_le_bytes());
    head[32..48].copy_from_slice(&lane.0.to_le_bytes());
    head[48..].copy_from_slice(&claim.before.map_or(0, |at| bare(at).0).to_le_bytes());
    out.extend_from_slice(&head);
    if let Some(incident) = &claim.next {
        put_incident(out, incident);
    }
    put_text(out, event.integration.as_bytes());
    put_text(out, event.dialect.as_bytes());
    put_text(out, event.endpoint.as_bytes());
    put_text(out, event.family.as_bytes());
    put_text(out, event.key.as_ref().map_or("", Key::canon).as_bytes());
    out.extend_from_slice(&u32::try_from(claim.targets.len()).unwrap_or(u32::MAX).to_le_bytes());
    for target in claim.targets.iter() {
        put_text(out, target.name.as_bytes());
    }
    if let Some(target) = &event.target {
        out.push(target.kind as u8);
        put_text(out, target.value.as_bytes());
    }
    put_text(out, &event.raw);
    match (&event.envelope, envelope) {
        (None, _) => {}
        (Some(envelope), None) => put_text(out, envelope),
        (Some(_), Some(at)) => out.extend_from_slice(&at.to_le_bytes()),
    }
    if let Some(view) = &event.view {
        put_text(out, view);
    }
    if let Some(trace) = &event.trace {
        out.extend_from_slice(&trace.id.to_le_bytes());
        out.extend_from_slice(&trace.span.to_le_bytes());
        out.push(trace.flags);
        put_text(out, trace.state.as_bytes());
    }
    if let Some(replay) = claim.replay_key() {
        out.extend_from_slice(&replay.0.to_le_bytes());
    }
}

/// Bounds-checked steps over a payload.
pub(super) struct Steps<'a>(pub(super) &'a [u8]);

impl<'a> Steps<'a> {
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub(super) fn u128(&mut self) -> Option<u128> {
        self.take().map(u128::from_le_bytes)
    }

    pub(super) fn micros(&mut self) -> Option<Micros> {
        self.take().map(|bytes| Micros(i64::from_le_bytes(bytes)))
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
}

/// What the batch of an event says of all its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Envelope<'a> {
    Here(&'a [u8]),
    /// In the record at this offset of the segment. `from`: where in the payload that is said.
    At {
        offset: u32,
        from: usize,
    },
}

/// The payload of an event with its envelope in it, in place of the reference at `from`. `None`: it is lost.
pub(super) fn with_envelope(payload: &[u8], from: usize, envelope: Option<&[u8]>) -> Option<Vec<u8>> {
    let (head, rest) = payload.split_at_checked(from)?;
    let mut whole = Vec::with_capacity(payload.len() + envelope.map_or(0, <[u8]>::len));
    whole.extend_from_slice(head);
    if let Some(envelope) = envelope {
        put_text(&mut whole, envelope);
    }
    whole.extend_from_slice(rest.get(size_of::<u32>()..)?);
    let flags = whole.first_mut()?;
    *flags = *flags & !ENVELOPE_AT | if envelope.is_some() { HAS_ENVELOPE } else { 0 };
    Some(whole)
}

/// An accepted event, read in place.
pub(super) struct Accepted<'a> {
    pub(super) uid: Uid,
    pub(super) received_at: Micros,
    pub(super) lane: LaneKey,
    /// Set when the state table held the key.
    pub(super) state_key: Option<StateKey>,
    pub(super) incident: Option<Incident>,
    pub(super) before: Option<Position>,
    pub(super) outcome: Outcome,
    pub(super) pacing: Pacing,
    pub(super) integration: &'a str,
    action: Action,
    tolerated: Tolerated,
    severity: Option<Severity>,
    dialect: &'a str,
    endpoint: &'a str,
    family: &'a str,
    key: Option<(&'a str, KeyKind)>,
    targets: Steps<'a>,
    target_count: u32,
    target: Option<(TargetKind, &'a str)>,
    raw: &'a [u8],
    pub(super) envelope: Option<Envelope<'a>>,
    view: Option<&'a [u8]>,
    /// Id, span, flags and state.
    trace: Option<(u128, u64, u8, &'a str)>,
    has_ids: bool,
    /// Where it is kept that its transport's own id was seen.
    pub(super) replay: Option<StateKey>,
    /// What stands behind the event: in a copy, who needs it.
    pub(super) rest: &'a [u8],
}

pub(super) fn incident(steps: &mut Steps<'_>) -> Option<Incident> {
    Some(Incident {
        iid: Uid(steps.u128()?),
        number: steps.u64()?,
        generation: steps.u32()?,
        state: State::from_code(steps.u8()?)?,
        severity: Severity::new(steps.u8()?),
        count: steps.u32()?,
        last_seen: steps.micros()?,
        changed_at: steps.micros()?,
    })
}

impl<'a> Accepted<'a> {
    pub(super) fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut steps = Steps(payload);
        let [flags, action, outcome, pacing, tolerated, severity, key_kind, more] = steps.take()?;
        let uid = Uid(steps.u128()?);
        let received_at = steps.micros()?;
        let lane = LaneKey(steps.u128()?);
        let before = Some(steps.u64()?).filter(|at| *at != 0).map(Position);
        let incident = if flags & HAS_INCIDENT == 0 { None } else { Some(incident(&mut steps)?) };
        let [integration, dialect, endpoint, family, canon] =
            [steps.text()?, steps.text()?, steps.text()?, steps.text()?, steps.text()?];
        let target_count = steps.u32()?;
        let targets = Steps(steps.0);
        for _ in 0..target_count {
            steps.text()?;
        }
        let target =
            if flags & HAS_TARGET == 0 { None } else { Some((TargetKind::from_code(steps.u8()?)?, steps.text()?)) };
        let raw = steps.bytes()?;
        let envelope = if flags & ENVELOPE_AT != 0 {
            let from = payload.len() - steps.0.len();
            Some(Envelope::At { offset: steps.u32()?, from })
        } else if flags & HAS_ENVELOPE != 0 {
            Some(Envelope::Here(steps.bytes()?))
        } else {
            None
        };
        let view = if flags & HAS_VIEW == 0 { None } else { Some(steps.bytes()?) };
        let trace =
            if flags & HAS_TRACE == 0 { None } else { Some((steps.u128()?, steps.u64()?, steps.u8()?, steps.text()?)) };
        let replay = if more & HAS_REPLAY == 0 { None } else { Some(StateKey(steps.u128()?)) };
        let key = if key_kind == 0 { None } else { Some((canon, KeyKind::from_code(key_kind)?)) };
        Some(Self {
            uid,
            received_at,
            lane,
            state_key: (flags & TRACKED != 0).then_some(StateKey(lane.0)),
            incident,
            before,
            outcome: Outcome::from_code(outcome)?,
            pacing: Pacing(pacing),
            integration,
            action: Action::from_code(action)?,
            tolerated: Tolerated(tolerated),
            severity: Severity::new(severity),
            dialect,
            endpoint,
            family,
            key,
            targets,
            target_count,
            target,
            raw,
            envelope,
            view,
            trace,
            has_ids: flags & HAS_IDS != 0,
            replay,
            rest: steps.0,
        })
    }

    /// Where its incident stands, if that is addressed by id.
    pub(super) fn by_id(&self) -> Option<ById> {
        let (incident, key) = (self.incident.filter(|_| self.has_ids)?, self.state_key?);
        let scope = Scope::of(self.integration, self.family);
        (incident.generation > 0).then_some(ById { scope, number: incident.number, iid: incident.iid, key })
    }

    /// Whether this is its canonical key.
    pub(super) fn has_key(&self, canon: &str) -> bool {
        self.key.is_some_and(|(key, _)| key == canon)
    }

    /// Names of the upstreams the event goes to.
    pub(super) fn targets(&self) -> impl Iterator<Item = &'a str> {
        let mut steps = Steps(self.targets.0);
        (0..self.target_count).map_while(move |_| steps.text())
    }

    /// Where in its segment the record of its envelope stands, if it is not in this one.
    pub(super) fn envelope_at(&self) -> Option<u32> {
        match self.envelope {
            Some(Envelope::At { offset, .. }) => Some(offset),
            Some(Envelope::Here(_)) | None => None,
        }
    }

    /// The event on its own; what [`Self::envelope_at`] tells of is to be put in by who reads it.
    pub(super) fn to_stored(&self, sequence: u64) -> Option<Stored> {
        let key = match self.key {
            Some((canon, kind)) => Some(Key::parse_long(canon, kind)?),
            None => None,
        };
        Some(Stored {
            sequence,
            lane: self.lane,
            event: Event {
                uid: self.uid,
                received_at: self.received_at,
                integration: self.integration.into(),
                dialect: Cow::Owned(self.dialect.to_owned()),
                endpoint: Cow::Owned(self.endpoint.to_owned()),
                family: Cow::Owned(self.family.to_owned()),
                action: self.action,
                key,
                target: self.target.map(|(kind, value)| Target { kind, value: value.into() }),
                severity: self.severity,
                tolerated: self.tolerated,
                raw: Bytes::copy_from_slice(self.raw),
                envelope: match self.envelope {
                    Some(Envelope::Here(envelope)) => Some(Bytes::copy_from_slice(envelope)),
                    Some(Envelope::At { .. }) | None => None,
                },
                view: self.view.map(Bytes::copy_from_slice),
                trace: self
                    .trace
                    .and_then(|(id, span, flags, state)| Trace::stored(id, span, flags, state))
                    .map(Arc::new),
            },
            incident: self.incident,
            before: self.before,
            outcome: self.outcome,
            pacing: self.pacing,
        })
    }
}

/// What is shown of an incident, without the body that it came with.
#[derive(Clone, Copy)]
pub(super) struct Snapshot<'a> {
    pub(super) key: StateKey,
    /// Where it was copied from: it counts for a state that is still there.
    pub(super) from: Position,
    pub(super) incident: Incident,
    uid: Uid,
    received_at: Micros,
    integration: &'a str,
    dialect: &'a str,
    endpoint: &'a str,
    family: &'a str,
    canon: Option<(&'a str, KeyKind)>,
    view: &'a [u8],
}

impl<'a> Snapshot<'a> {
    /// Of an event that changed the state of an incident and tells what is shown of it.
    pub(super) fn of(event: &Accepted<'a>) -> Option<Self> {
        Some(Self {
            key: event.state_key?,
            from: Position(0),
            incident: event.incident?,
            uid: event.uid,
            received_at: event.received_at,
            integration: event.integration,
            dialect: event.dialect,
            endpoint: event.endpoint,
            family: event.family,
            canon: event.key,
            view: event.view?,
        })
    }

    /// As a state has it now.
    pub(super) fn of_state(self, key: StateKey, incident: Incident, from: Position) -> Self {
        Self { key, incident, from, ..self }
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key.0.to_le_bytes());
        out.extend_from_slice(&self.from.0.to_le_bytes());
        put_incident(out, &self.incident);
        out.extend_from_slice(&self.uid.0.to_le_bytes());
        out.extend_from_slice(&self.received_at.0.to_le_bytes());
        out.push(self.canon.map_or(0, |(_, kind)| kind as u8));
        let canon = self.canon.map_or("", |(canon, _)| canon);
        for text in [self.integration, self.dialect, self.endpoint, self.family, canon] {
            put_text(out, text.as_bytes());
        }
        put_text(out, self.view);
    }

    pub(super) fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut steps = Steps(payload);
        let (key, from, incident) = (StateKey(steps.u128()?), Position(steps.u64()?), incident(&mut steps)?);
        let (uid, received_at, kind) = (Uid(steps.u128()?), steps.micros()?, steps.u8()?);
        let [integration, dialect, endpoint, family, canon] =
            [steps.text()?, steps.text()?, steps.text()?, steps.text()?, steps.text()?];
        let canon = if kind == 0 { None } else { Some((canon, KeyKind::from_code(kind)?)) };
        let view = steps.bytes()?;
        Some(Self { key, from, incident, uid, received_at, integration, dialect, endpoint, family, canon, view })
    }

    pub(super) fn to_shown(self, raw: Option<Bytes>) -> Option<Shown> {
        Some(Shown {
            uid: self.uid,
            received_at: self.received_at,
            integration: self.integration.into(),
            dialect: self.dialect.into(),
            endpoint: self.endpoint.into(),
            family: self.family.into(),
            key: match self.canon {
                Some((canon, kind)) => Some(Key::parse_long(canon, kind)?),
                None => None,
            },
            incident: Some(self.incident),
            view: Some(Bytes::copy_from_slice(self.view)),
            raw,
        })
    }
}

impl Accepted<'_> {
    pub(super) fn has_view(&self) -> bool {
        self.view.is_some()
    }

    pub(super) fn to_raw(&self) -> Bytes {
        Bytes::copy_from_slice(self.raw)
    }

    /// What a state's record tells, where nothing is shown of the incident.
    pub(super) fn to_shown(&self) -> Option<Shown> {
        let Stored { event, incident, .. } = self.to_stored(0)?;
        Some(Shown {
            uid: event.uid,
            received_at: event.received_at,
            integration: event.integration,
            dialect: self.dialect.into(),
            endpoint: self.endpoint.into(),
            family: self.family.into(),
            key: event.key,
            incident,
            view: event.view,
            raw: Some(event.raw),
        })
    }
}

/// The kind of record that says `ending`.
pub(super) fn kind_of(ending: Ending) -> Kind {
    match ending {
        Ending::Delivered { .. } | Ending::Dropped(_) => Kind::Settled,
        Ending::Dead { .. } => Kind::Dead,
        Ending::Replayed => Kind::Replayed,
    }
}

/// Appends the payload of an ending at `upstream`. `tag`: of the event's integration.
pub(super) fn put_ending(
    out: &mut Vec<u8>,
    upstream: &str,
    tag: u32,
    (ending, learned): (Ending, Option<&Learned>),
    at: Micros,
) {
    out.extend_from_slice(&at.0.to_le_bytes());
    out.extend_from_slice(&tag.to_le_bytes());
    match ending {
        Ending::Delivered { .. } => out.push(0),
        Ending::Dropped(reason) => out.push(reason as u8),
        Ending::Dead { reason, status, attempts } => {
            out.push(reason as u8);
            // No upstream answers with status 0.
            out.extend_from_slice(&u32::from(status.unwrap_or(0)).to_le_bytes());
            out.extend_from_slice(&attempts.to_le_bytes());
        }
        Ending::Replayed => {}
    }
    put_text(out, upstream.as_bytes());
    if let Ending::Delivered { status, attempts } = ending {
        // Behind the name: what was written before it was known reads as well.
        out.extend_from_slice(&status.unwrap_or(0).to_le_bytes());
        out.extend_from_slice(&attempts.to_le_bytes());
        put_learned(out, learned);
    }
}

/// Appends the payload of a refusal that its sender is told of: the ending, and behind it what is taken back.
pub(super) fn put_refused(out: &mut Vec<u8>, upstream: &str, tag: u32, taken: Option<&TakenBack>, at: Micros) {
    put_ending(out, upstream, tag, (Ending::Dropped(DropReason::Refused), None), at);
    let Some(TakenBack { key, iid, before }) = taken else { return out.push(0) };
    out.push(if before.is_some() { 2 } else { 1 });
    out.extend_from_slice(&key.0.to_le_bytes());
    out.extend_from_slice(&iid.0.to_le_bytes());
    if let Some((incident, at)) = before {
        put_incident(out, incident);
        out.extend_from_slice(&at.0.to_le_bytes());
    }
}

fn taken_back(steps: &mut Steps<'_>) -> Option<TakenBack> {
    let has_before = match steps.u8()? {
        1 => false,
        2 => true,
        _ => return None,
    };
    let (key, iid) = (StateKey(steps.u128()?), Uid(steps.u128()?));
    let before = if has_before { Some((incident(steps)?, Position(steps.u64()?))) } else { None };
    Some(TakenBack { key, iid, before })
}

/// How an event ended at one upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended<'a> {
    pub(super) upstream: &'a str,
    pub(super) tag: u32,
    pub(super) ending: Ending,
    pub(super) at: Micros,
    /// What its answer taught of the incident.
    pub(super) learned: Option<Learned>,
    /// What it had done to its key never was.
    pub(super) taken_back: Option<TakenBack>,
}

impl<'a> Ended<'a> {
    /// `None` also when `kind` is not one of an ending.
    pub(super) fn decode(kind: Kind, payload: &'a [u8]) -> Option<Self> {
        let mut steps = Steps(payload);
        let at = steps.micros()?;
        let tag = steps.u32()?;
        let mut ending = match kind {
            Kind::Settled => match steps.u8()? {
                0 => Ending::DELIVERED,
                reason => Ending::Dropped(DropReason::from_code(reason)?),
            },
            Kind::Dead => Ending::Dead {
                reason: DeadReason::from_code(steps.u8()?)?,
                status: u16::try_from(steps.u32()?).ok().filter(|status| *status != 0),
                attempts: steps.u32()?,
            },
            Kind::Replayed => Ending::Replayed,
            _ => return None,
        };
        let upstream = steps.text()?;
        let mut learned = None;
        if let Ending::Delivered { status, attempts } = &mut ending
            && let (Some(answered), Some(tries)) = (steps.take().map(u16::from_le_bytes), steps.u32())
        {
            (*status, *attempts) = (Some(answered).filter(|status| *status != 0), tries);
            learned = remotes::learned(&mut steps);
        }
        let refused = ending == Ending::Dropped(DropReason::Refused);
        let taken_back = if refused { taken_back(&mut steps) } else { None };
        Some(Self { upstream, tag, ending, at, learned, taken_back })
    }
}

/// Events that one upstream took with the same answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivered<'a> {
    pub(super) upstream: &'a str,
    pub(super) status: Option<u16>,
    pub(super) attempts: u32,
    /// When the log was told, up to 50 ms after the first of them was taken.
    pub(super) at: Micros,
    /// As [`Self::put_row`] made them.
    pub(super) rows: &'a [u8],
}

impl<'a> Delivered<'a> {
    const ROW_BYTES: usize = 12;

    /// Appends an event; `tag`: of its integration.
    pub(super) fn put_row(rows: &mut Vec<u8>, sequence: u64, tag: u32) {
        let mut row = [0; Self::ROW_BYTES];
        row[..8].copy_from_slice(&sequence.to_le_bytes());
        row[8..].copy_from_slice(&tag.to_le_bytes());
        rows.extend_from_slice(&row);
    }

    /// Appends the payload.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.at.0.to_le_bytes());
        // No upstream answers with status 0.
        out.extend_from_slice(&self.status.unwrap_or(0).to_le_bytes());
        out.extend_from_slice(&self.attempts.to_le_bytes());
        put_text(out, self.upstream.as_bytes());
        out.extend_from_slice(self.rows);
    }

    pub(super) fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut steps = Steps(payload);
        let at = steps.micros()?;
        let status = Some(u16::from_le_bytes(steps.take()?)).filter(|status| *status != 0);
        let (attempts, upstream) = (steps.u32()?, steps.text()?);
        let rows = steps.0;
        (rows.len() % Self::ROW_BYTES == 0).then_some(Self { upstream, status, attempts, at, rows })
    }

    pub(super) fn ending(&self) -> Ending {
        Ending::Delivered { status: self.status, attempts: self.attempts }
    }

    /// The events, with the tags of their integrations.
    pub(super) fn events(&self) -> impl Iterator<Item = (u64, u32)> {
        self.rows.chunks_exact(Self::ROW_BYTES).filter_map(|row| {
            let mut steps = Steps(row);
            Some((steps.u64()?, steps.u32()?))
        })
    }
}

/// A change of an incident that the log is told now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Touched {
    pub(super) key: StateKey,
    pub(super) iid: Uid,
    pub(super) count: u32,
    pub(super) last_seen: Micros,
}

impl Touched {
    pub(super) fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key.0.to_le_bytes());
        out.extend_from_slice(&self.iid.0.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.last_seen.0.to_le_bytes());
    }

    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        let mut steps = Steps(payload);
        Some(Self {
            key: StateKey(steps.u128()?),
            iid: Uid(steps.u128()?),
            count: steps.u32()?,
            last_seen: steps.micros()?,
        })
    }
}

/// How a dead letter ended; the event itself stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadNote {
    pub reason: DeadReason,
    pub status: Option<u16>,
    pub attempts: u32,
    pub at: Micros,
}

/// Who needs a copied event, at the time it is copied: stands behind the event in its record, so that the copy speaks
/// for itself where all that was before it is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) upstream: Arc<str>,
    /// `None`: it waits.
    pub(super) dead: Option<DeadNote>,
}

impl Need {
    pub(super) fn put_all(needs: &[Self], out: &mut Vec<u8>) {
        out.extend_from_slice(&u32::try_from(needs.len()).unwrap_or(u32::MAX).to_le_bytes());
        for Self { upstream, dead } in needs {
            put_text(out, upstream.as_bytes());
            put_note(out, dead.as_ref());
        }
    }

    /// As many as can be read.
    pub(super) fn decode_all(rest: &[u8]) -> Vec<Self> {
        let mut steps = Steps(rest);
        let count = steps.u32().unwrap_or(0);
        let mut next = || Some(Self { upstream: steps.text()?.into(), dead: note(&mut steps)? });
        (0..count).map_while(|_| next()).collect()
    }
}

pub(super) fn put_note(out: &mut Vec<u8>, note: Option<&DeadNote>) {
    let Some(DeadNote { reason, status, attempts, at }) = note else { return out.push(0) };
    out.push(*reason as u8);
    // No upstream answers with status 0.
    out.extend_from_slice(&u32::from(status.unwrap_or(0)).to_le_bytes());
    out.extend_from_slice(&attempts.to_le_bytes());
    out.extend_from_slice(&at.0.to_le_bytes());
}

/// `None` inside: no note was put.
pub(super) fn note(steps: &mut Steps<'_>) -> Option<Option<DeadNote>> {
    let code = steps.u8()?;
    if code == 0 {
        return Some(None);
    }
    Some(Some(DeadNote {
        reason: DeadReason::from_code(code)?,
        status: u16::try_from(steps.u32()?).ok().filter(|status| *status != 0),
        attempts: steps.u32()?,
        at: steps.micros()?,
    }))
}

/// An event goes to `to` instead of `from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reassigned<'a> {
    pub(super) integration: &'a str,
    pub(super) from: &'a str,
    pub(super) to: &'a str,
    pub(super) at: Micros,
}

impl<'a> Reassigned<'a> {
    pub(super) fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.at.0.to_le_bytes());
        [self.integration, self.from, self.to].iter().for_each(|name| put_text(out, name.as_bytes()));
    }

    pub(super) fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut steps = Steps(payload);
        let at = steps.micros()?;
        Some(Self { integration: steps.text()?, from: steps.text()?, to: steps.text()?, at })
    }
}

/// Appends the payload of a void: accepted records from the frame's sequence to `last` never were.
pub(super) fn put_void(out: &mut Vec<u8>, last: u64) {
    out.extend_from_slice(&last.to_le_bytes());
}

/// The end of a void range that begins at `first`. One of more sequences than can ever wait for the disk was not
/// written by a log: it would void what comes later, and leave no numbers for it.
pub(super) fn void_last(first: u64, payload: &[u8]) -> Option<u64> {
    Steps(payload).u64().filter(|last| last.saturating_sub(first) <= u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::claim::Admitted;
    use crate::store::Remote;
    use crate::store::doubles::{Event as Sample, admitted};

    fn put_sample(out: &mut Vec<u8>, admitted: &Admitted) {
        put_accepted(out, &admitted.event, &admitted.claim, admitted.pacing, LaneKey(1), None);
    }

    #[test]
    fn an_accepted_event_reads_back_as_it_was() {
        for (sample, whole) in
            [(Sample::keyed("disk-full"), false), (Sample::keyless(), false), (Sample::keyless(), true)]
        {
            let mut admitted = admitted(&sample);
            if whole {
                admitted.claim.before = Some(Position(1 << 63 | 4_096));
                admitted.event.target = Some(Target { kind: TargetKind::TinyId, value: "17".into() });
                admitted.event.envelope = Some(Bytes::from_static(b"{\"receiver\":\"r\"}"));
                admitted.event.view = Some(Bytes::from_static(b"{}"));
            }
            let mut payload = vec![];
            let lane = lane(&admitted.event, &admitted.claim);
            put_accepted(&mut payload, &admitted.event, &admitted.claim, admitted.pacing, lane, None);
            let read = Accepted::decode(&payload).unwrap();
            assert_eq!(read.targets().collect::<Vec<_>>(), ["pager", "archive"]);
            assert_eq!(read.state_key, admitted.claim.key());
            let stored = read.to_stored(5).unwrap();
            assert_eq!(format!("{:?}", stored.event), format!("{:?}", admitted.event));
            assert_eq!((stored.sequence, stored.lane), (5, lane));
            assert_eq!(stored.incident, admitted.claim.next);
            assert_eq!((stored.outcome, stored.pacing), (admitted.claim.outcome, admitted.pacing));
            // Whether something is shown of the incident there is not its matter.
            assert_eq!(stored.before, whole.then_some(Position(4_096)));
        }
    }

    /// With every member that an event may have.
    fn whole() -> Admitted {
        let mut admitted = admitted(&Sample::keyed("disk-full"));
        admitted.event.target = Some(Target { kind: TargetKind::TinyId, value: "17".into() });
        admitted.event.envelope = Some(Bytes::from_static(b"{\"receiver\":\"r\"}"));
        admitted.event.view = Some(Bytes::from_static(b"{}"));
        admitted
    }

    #[test]
    fn an_event_takes_as_many_bytes_as_it_is_said_to() {
        let keyless = admitted(&Sample { targets: vec![], ..Sample::keyless() });
        for admitted in [whole(), admitted(&Sample::keyed("a")), keyless] {
            let mut payload = vec![];
            let lane = lane(&admitted.event, &admitted.claim);
            put_accepted(&mut payload, &admitted.event, &admitted.claim, admitted.pacing, lane, Some(8192));
            assert_eq!(payload.len(), accepted_bytes(&admitted.event, &admitted.claim));
        }
        let note = DeadNote { reason: DeadReason::InvalidEvent, status: None, attempts: 0, at: Micros(1) };
        let mut noted = vec![];
        put_note(&mut noted, Some(&note));
        assert_eq!(noted.len(), NOTE_BYTES);
    }

    #[test]
    fn an_envelope_takes_the_place_of_the_reference_to_it() {
        let admitted = whole();
        let (mut inside, mut beside) = (vec![], vec![]);
        put_accepted(&mut inside, &admitted.event, &admitted.claim, admitted.pacing, LaneKey(1), None);
        put_accepted(&mut beside, &admitted.event, &admitted.claim, admitted.pacing, LaneKey(1), Some(77));
        let read = Accepted::decode(&beside).unwrap();
        assert_eq!(read.envelope_at(), Some(77));
        assert_eq!(read.to_stored(1).unwrap().event.view, admitted.event.view);
        let Some(Envelope::At { from, .. }) = read.envelope else { panic!("it stands elsewhere") };
        assert_eq!(with_envelope(&beside, from, admitted.event.envelope.as_deref()), Some(inside));
        let lost = with_envelope(&beside, from, None).unwrap();
        let lost = Accepted::decode(&lost).unwrap().to_stored(1).unwrap().event;
        assert_eq!((lost.envelope, lost.view), (None, admitted.event.view));
    }

    #[test]
    fn what_is_shown_of_an_incident_is_copied_without_the_body() {
        let admitted = whole();
        let mut payload = vec![];
        put_sample(&mut payload, &admitted);
        let event = Accepted::decode(&payload).unwrap();
        let snapshot = Snapshot { from: Position(77), ..Snapshot::of(&event).unwrap() };
        let mut copied = vec![];
        snapshot.put(&mut copied);
        for cut in 0..copied.len() {
            assert!(Snapshot::decode(&copied[..cut]).is_none(), "{cut}");
        }
        let read = Snapshot::decode(&copied).unwrap();
        assert_eq!((Some(read.key), read.from), (event.state_key, Position(77)));
        let shown = read.to_shown(None).unwrap();
        assert_eq!((shown.view, shown.incident), (admitted.event.view.clone(), admitted.claim.next));
        assert_eq!((shown.key, shown.uid, shown.raw), (admitted.event.key, admitted.event.uid, None));
        assert_eq!((&*shown.integration, &*shown.dialect, &*shown.family), ("fleet", "squadcast", "squadcast"));
    }

    #[test]
    fn an_untracked_key_still_makes_the_lane() {
        let admitted = admitted(&Sample { tracked: false, ..Sample::keyed("a") });
        assert_eq!(admitted.claim.key(), None);
        assert_eq!(Some(lane(&admitted.event, &admitted.claim).0), admitted.event.state_key().map(|key| key.0));
    }

    #[test]
    fn a_cut_payload_is_refused_at_every_byte() {
        let admitted = admitted(&Sample::keyed("a"));
        let mut payload = vec![];
        put_sample(&mut payload, &admitted);
        for cut in 0..payload.len() {
            assert!(Accepted::decode(&payload[..cut]).is_none(), "{cut}");
        }
    }

    #[test]
    fn endings_read_back_as_they_were() {
        let dead = |status| Ending::Dead { reason: DeadReason::GaveUp, status, attempts: 9 };
        for ending in [
            Ending::DELIVERED,
            Ending::Delivered { status: Some(202), attempts: 3 },
            Ending::Dropped(DropReason::Operator),
            dead(Some(422)),
            dead(None),
            Ending::Replayed,
        ] {
            let mut payload = vec![];
            put_ending(&mut payload, "pager", 9, (ending, None), Micros(77));
            let read = Ended::decode(kind_of(ending), &payload);
            assert_eq!(
                read,
                Some(Ended { upstream: "pager", tag: 9, ending, at: Micros(77), learned: None, taken_back: None })
            );
        }
    }

    #[test]
    fn deliveries_told_together_read_back_as_they_were() {
        for (status, events) in [(Some(202), vec![(7, 1), (u64::MAX, u32::MAX)]), (None, vec![])] {
            let mut rows = vec![];
            events.iter().for_each(|(sequence, tag)| Delivered::put_row(&mut rows, *sequence, *tag));
            let told = Delivered { upstream: "pager", status, attempts: 3, at: Micros(77), rows: &rows };
            let mut payload = vec![];
            told.put(&mut payload);
            let read = Delivered::decode(&payload).unwrap();
            assert_eq!((read, read.events().collect::<Vec<_>>()), (told, events.clone()));
            assert_eq!(read.ending(), Ending::Delivered { status, attempts: 3 });
            let whole = payload.len() - rows.len();
            for cut in (0..payload.len()).filter(|cut| *cut < whole || (cut - whole) % 12 != 0) {
                assert_eq!(Delivered::decode(&payload[..cut]), None, "{cut}");
            }
        }
    }

    #[test]
    fn a_delivery_tells_what_it_taught_and_older_ones_read_without() {
        let ending = Ending::Delivered { status: Some(200), attempts: 1 };
        for url in [None, Some("https://app.example.com/8912")] {
            let remote = Remote::new("8912", url).unwrap();
            let learned = Learned { lane: LaneKey(5), iid: Uid(6), remote };
            let mut payload = vec![];
            put_ending(&mut payload, "pager", 9, (ending, Some(&learned)), Micros(77));
            let read = Ended::decode(Kind::Settled, &payload).unwrap();
            assert_eq!((read.ending, read.learned.as_ref()), (ending, Some(&learned)));
            let mut before = vec![];
            put_ending(&mut before, "pager", 9, (ending, None), Micros(77));
            for cut in before.len() - 1..payload.len() {
                let read = Ended::decode(Kind::Settled, &payload[..cut]).unwrap();
                assert_eq!((read.ending, read.learned), (ending, None), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_copy_of_an_event_tells_who_needs_it() {
        let dead = DeadNote { reason: DeadReason::GaveUp, status: None, attempts: 9, at: Micros(7) };
        let needs =
            vec![Need { upstream: "pager".into(), dead: None }, Need { upstream: "archive".into(), dead: Some(dead) }];
        let mut payload = vec![];
        put_sample(&mut payload, &admitted(&Sample::keyed("a")));
        let length = payload.len();
        Need::put_all(&needs, &mut payload);
        let event = Accepted::decode(&payload).unwrap();
        assert_eq!((Need::decode_all(event.rest), payload.len() - event.rest.len()), (needs, length));
        assert!(Need::decode_all(&payload[length..length + 8]).is_empty());
    }

    #[test]
    fn what_the_log_is_told_of_incidents_and_upstreams_reads_back() {
        let touched = Touched { key: StateKey(5), iid: Uid(6), count: 7, last_seen: Micros(8) };
        let mut payload = vec![];
        touched.put(&mut payload);
        assert_eq!(Touched::decode(&payload), Some(touched));
        let reassigned = Reassigned { integration: "payments", from: "old", to: "new", at: Micros(9) };
        payload.clear();
        reassigned.put(&mut payload);
        assert_eq!(Reassigned::decode(&payload), Some(reassigned));
    }

    proptest! {
        #[test]
        fn any_payload_is_read_without_panic(payload: Vec<u8>, flips: Vec<(usize, u8)>) {
            let decode = |payload: &[u8]| {
                if let Some(accepted) = Accepted::decode(payload) {
                    accepted.targets().count();
                    accepted.to_stored(1);
                }
                for kind in [Kind::Settled, Kind::Dead, Kind::Replayed, Kind::Void] {
                    Ended::decode(kind, payload);
                }
                void_last(1, payload);
                Touched::decode(payload);
                Reassigned::decode(payload);
                Delivered::decode(payload).iter().for_each(|delivered| assert!(delivered.events().count() <= payload.len()));
            };
            decode(&payload);
            let mut damaged = vec![];
            put_sample(&mut damaged, &admitted(&Sample::keyed("a")));
            for (at, value) in flips {
                let at = at % damaged.len();
                damaged[at] = value;
            }
            decode(&damaged);
        }
    }
}
