//! Ids of requests (contracts/opsgenie.md 4). How a request ended stands in its id itself: which operation, its outcome,
//! which alert, when. So every result is known for its whole day, after a crash too, and none takes memory; the alert is
//! looked up when somebody asks.
//!
//! An id is a UUID of version 8. Its 122 free bits, from the top: seconds since the epoch (32), operation (4), ending (4),
//! number of the alert or 0 (53), random (29). All but the random ones are covered by a mask that follows from those and
//! from the integration: an id that another integration got, or nobody, reads as a time long ago or to come, or as an
//! alert that is none.

use super::FAMILY;
use super::ids;
use super::operation::Operation;
use crate::dialect::{Ending, Replying};
use crate::event::{Micros, State, StateKey, as_uuid};
use crate::outcome::Outcome;

/// A result is told for so long (contracts/opsgenie.md 4).
const KEPT_S: i64 = 24 * 60 * 60;
/// A clock may have been set back by so much since.
const AHEAD_S: i64 = 60;

const VERSION: u8 = 8;
const RANDOM_BITS: u32 = 29;
const NUMBER_BITS: u32 = 53;
const LOW_BITS: u32 = 62;

/// Stands for [`Outcome::Noop`] on an alert that is closed.
const ON_CLOSED: u8 = 14;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) operation: Operation,
    pub(super) end: End,
    /// Of its alert; `None`: there is none.
    pub(super) number: Option<u64>,
    pub(super) at: Micros,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    As(Outcome),
    /// It changed nothing, for its alert is closed.
    OnClosed,
}

const fn low(bits: u32) -> u128 {
    (1 << bits) - 1
}

/// Covers what an id says.
fn mask(integration: &str, random: u128) -> u128 {
    StateKey::of(integration, FAMILY, &format!("request {random}")).0 << RANDOM_BITS & low(122)
}

/// The id of a request that was taken.
pub(super) fn id_of(replying: &Replying<'_>, now: Micros, random: u128) -> u128 {
    let operation = Operation::of(replying.endpoint).unwrap_or(Operation::Create);
    let (end, number) = replying.endings.first().map_or((Outcome::Ignored as u8, 0), |ending| {
        // A tombstone of a close that nobody knew names no alert.
        let incident = ending.incident.filter(|incident| incident.generation > 0);
        (end_of(ending), incident.map_or(0, |incident| incident.number))
    });
    let random = random & low(RANDOM_BITS);
    let said = u128::from(now.seconds()) << 8 | u128::from(operation as u8) << 4 | u128::from(end);
    let said = said << NUMBER_BITS | u128::from(number) & low(NUMBER_BITS);
    let free = (said << RANDOM_BITS | random) ^ mask(replying.integration, random);
    as_uuid((free >> 74) << 80 | (free >> LOW_BITS & 0xFFF) << 64 | free & low(LOW_BITS), VERSION)
}

fn end_of(ending: &Ending<'_>) -> u8 {
    let is_closed = ending.incident.is_none_or(|incident| incident.state == State::Resolved);
    match ending.outcome {
        Some(Outcome::Noop) if is_closed => ON_CLOSED,
        outcome => outcome.unwrap_or(Outcome::Ignored) as u8,
    }
}

/// An id of the form of ours; the vendor's are of another.
pub(super) fn ours(id: &str) -> Option<u128> {
    ids::parse(id).filter(|id| as_uuid(*id, VERSION) == *id)
}

/// What an id tells this integration; `None`: it never got that id, or too long ago.
pub(super) fn told(id: &str, integration: &str, now: Micros) -> Option<Told> {
    let id = ours(id)?;
    let free = (id >> 80) << 74 | (id >> 64 & 0xFFF) << LOW_BITS | id & low(LOW_BITS);
    let random = free & low(RANDOM_BITS);
    let said = (free ^ mask(integration, random)) >> RANDOM_BITS;
    let number = u64::try_from(said & low(NUMBER_BITS)).ok()?;
    let said = said >> NUMBER_BITS;
    let at_s = i64::try_from(said >> 8).ok()?;
    let age_s = i64::from(now.seconds()) - at_s;
    let end = match u8::try_from(said & 0xF).ok()? {
        ON_CLOSED => End::OnClosed,
        code => End::As(Outcome::from_code(code)?),
    };
    let operation = Operation::from_code(u8::try_from(said >> 4 & 0xF).ok()?);
    (-AHEAD_S..=KEPT_S).contains(&age_s).then_some(Told {
        operation,
        end,
        number: Some(number).filter(|number| *number > 0),
        at: Micros(at_s * 1_000_000),
    })
}

impl Told {
    /// Whether it was done, and what a person reads of it.
    pub(super) fn status(&self) -> (bool, &'static str) {
        const MISSING: (bool, &str) = (false, "Alert does not exist");
        const CLOSED: (bool, &str) = (false, "Alert is closed");
        match (self.end, self.number) {
            (End::OnClosed, _) => CLOSED,
            (End::As(Outcome::DuplicateResolve), _) => (true, "Alert is already closed"),
            (End::As(Outcome::Unknown), _) | (End::As(_), None) => MISSING,
            (End::As(Outcome::Duplicate | Outcome::Escalated), _) => (true, "Increased count of alert"),
            (End::As(Outcome::Noop), _) if self.operation == Operation::Acknowledge => {
                (true, "Alert is already acknowledged")
            }
            (End::As(Outcome::Noop), _) => (true, "Alert is as it was"),
            (End::As(_), Some(_)) => (true, self.operation.done()),
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;
    use proptest::prelude::*;

    use super::*;
    use crate::event::{Incident, Uid};
    use crate::gate::Settings;

    const NOW: Micros = Micros(1_795_168_800_000_001);

    fn incident(number: u64, generation: u32, state: State) -> Incident {
        Incident { iid: Uid(7), number, generation, state, severity: None, count: 1, last_seen: NOW, changed_at: NOW }
    }

    fn id(integration: &str, endpoint: &'static str, outcome: Outcome, incident: Option<Incident>) -> String {
        let ending = Ending { outcome: Some(outcome), incident: incident.as_ref(), key: None, view: None, named: None };
        let replying = Replying {
            status: StatusCode::OK,
            endpoint,
            endings: &[ending],
            success: StatusCode::ACCEPTED,
            request_id: "",
            integration,
            settings: &Settings::default(),
        };
        ids::text_of(id_of(&replying, NOW, fastrand::u128(..)))
    }

    fn later(seconds: i64) -> Micros {
        Micros(NOW.0 + seconds * 1_000_000)
    }

    proptest! {
        #[test]
        fn an_id_tells_its_own_integration_what_it_was_made_of_and_others_nothing(
            operation in 0_u8..16,
            outcome in prop::sample::select(Outcome::ALL.to_vec()),
            number in 1_u64..1 << 53,
        ) {
            let operation = Operation::from_code(operation);
            let endpoint = super::super::ROUTES.iter().map(|route| route.endpoint)
                .find(|endpoint| Operation::of(endpoint) == Some(operation)).unwrap();
            let id = id("a", endpoint, outcome, Some(incident(number, 1, State::Open)));
            prop_assert_eq!(&id[14..15], "8");
            let told = told(&id, "a", NOW).unwrap();
            prop_assert_eq!((told.operation, told.end, told.number), (operation, End::As(outcome), Some(number)));
            prop_assert_eq!(told.at.seconds(), NOW.seconds());
            // By chance one of 50,000 reads as a time of the last day, and then names no alert.
            let other = super::told(&id, "b", NOW);
            prop_assert!(other.is_none_or(|other| other.number != Some(number) && other.number.is_some()));
        }
    }

    #[test]
    fn a_result_is_told_for_a_day() {
        let id = id("a", "close", Outcome::Unknown, Some(incident(1024, 0, State::Resolved)));
        for (seconds, is_told) in [(0, true), (-60, true), (-61, false), (86_400, true), (86_401, false)] {
            assert_eq!(told(&id, "a", later(seconds)).is_some(), is_told, "{seconds}");
        }
        assert_eq!(told(&id, "a", NOW).unwrap().status(), (false, "Alert does not exist"));
        assert_eq!(told("00000000-0000-4000-8000-000000000000", "a", NOW), None);
    }

    #[test]
    fn a_write_that_changed_nothing_says_why() {
        let status =
            |endpoint, outcome, incident| told(&id("a", endpoint, outcome, incident), "a", NOW).unwrap().status();
        let closed = Some(incident(1024, 1, State::Resolved));
        let acked = Some(incident(1024, 1, State::Acked));
        assert_eq!(status("acknowledge", Outcome::Noop, closed), (false, "Alert is closed"));
        assert_eq!(status("acknowledge", Outcome::Noop, acked), (true, "Alert is already acknowledged"));
        assert_eq!(status("close", Outcome::DuplicateResolve, None), (true, "Alert is already closed"));
        assert_eq!(status("tags", Outcome::Forwarded, None), (false, "Alert does not exist"));
        assert_eq!(status("tags", Outcome::Forwarded, acked), (true, "Added tags to alert"));
        assert_eq!(status("create", Outcome::Duplicate, acked), (true, "Increased count of alert"));
    }
}
