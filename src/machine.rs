//! The dedup state machine of contracts 5 as a pure function: no clock, no lock, no I/O.
//! `dedup` runs it at claim time; the log stores what it decided, so recovery replays results, not rules.

use crate::event::{Action, Incident, Micros, Severity, State, Uid};
use crate::outcome::Outcome;

/// What is known of a key when an event on it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub state: State,
    pub severity: Option<Severity>,
    /// The generation's trigger ended as a dead letter somewhere and may be tried there again (DESIGN 5.3).
    pub redelivery_due: bool,
}

/// The part of an event that the rules look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement {
    pub action: Action,
    pub severity: Option<Severity>,
    /// An `update` that adds a note (contracts 5.2).
    pub notes: bool,
    /// An `admin` statement that ends the incident here (contracts/taskcall.md 3.3, merge).
    pub closes: bool,
}

/// Which of an incident's duplicates go upstream (contracts 5.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardDuplicates {
    None,
    #[default]
    SeverityIncrease,
    All,
}

/// What to do with a resolve or acknowledge of a key nothing is known of (contracts 5.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownResolve {
    #[default]
    ForwardIfKeyed,
    Drop,
    Reject,
}

/// How a family's key lives (contracts 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyLife {
    /// Names an incident until it is resolved (5.2).
    OpenUntilResolved,
    /// Creates once; every repeat is answered with the first incident (5.3).
    CreateOnce,
}

/// The operator's choices for one integration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub forward_duplicates: ForwardDuplicates,
    pub unknown_resolve: UnknownResolve,
}

/// What becomes of the incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Nothing,
    /// One more trigger of the same incident: `count` and `last_seen`.
    Touch,
    /// A new generation.
    Open,
    To(State),
    /// A duplicate with a higher severity.
    Raise(Severity),
    /// An update, with the severity it names.
    Apply(Option<Severity>),
    /// RESOLVED, though never seen open: a repeated unknown resolve is then a duplicate.
    Tombstone,
}

/// Where the event goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    Nowhere,
    /// To every upstream of the integration that can express it.
    Everywhere,
    /// Only to the upstreams where the generation's trigger is a dead letter.
    WhereUndelivered,
}

/// What the rules say of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    pub outcome: Outcome,
    pub change: Change,
    pub forward: Forward,
}

impl Decision {
    /// Whether the event must be on disk before it is answered.
    pub fn is_durable(self) -> bool {
        self.forward != Forward::Nowhere || !matches!(self.change, Change::Nothing | Change::Touch)
    }
}

/// The integration refuses a resolve or acknowledge of a key nothing is known of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownRefused;

/// Decides one keyed event: the tables of contracts 5.2 to 5.5. Every cell is a success for the sender,
/// save [`UnknownRefused`], which the operator asked for.
pub fn decide(
    known: Option<Known>,
    statement: Statement,
    life: KeyLife,
    policy: Policy,
) -> Result<Decision, UnknownRefused> {
    use Forward::{Everywhere, Nowhere, WhereUndelivered};
    let say = |outcome, change, forward| Ok(Decision { outcome, change, forward });

    let Some(known) = known else {
        return match statement.action {
            Action::Trigger => say(Outcome::Created, Change::Open, Everywhere),
            Action::Admin | Action::Change => say(Outcome::Forwarded, Change::Nothing, Everywhere),
            Action::Resolve => match policy.unknown_resolve {
                UnknownResolve::ForwardIfKeyed => say(Outcome::Unknown, Change::Tombstone, Everywhere),
                UnknownResolve::Drop => say(Outcome::Unknown, Change::Nothing, Nowhere),
                UnknownResolve::Reject => Err(UnknownRefused),
            },
            // No tombstone here: it would swallow the resolve that follows.
            Action::Acknowledge => match policy.unknown_resolve {
                UnknownResolve::ForwardIfKeyed => say(Outcome::Unknown, Change::Nothing, Everywhere),
                UnknownResolve::Drop => say(Outcome::Unknown, Change::Nothing, Nowhere),
                UnknownResolve::Reject => Err(UnknownRefused),
            },
            Action::Unacknowledge | Action::Update => say(Outcome::Unknown, Change::Nothing, Nowhere),
        };
    };

    match (statement.action, known.state) {
        (Action::Trigger, _) if life == KeyLife::CreateOnce => {
            let forward = if known.redelivery_due { WhereUndelivered } else { Nowhere };
            say(Outcome::Replayed, Change::Nothing, forward)
        }
        (Action::Trigger, State::Resolved) => say(Outcome::Created, Change::Open, Everywhere),
        (Action::Trigger, State::Open | State::Acked) => Ok(duplicate(known, statement, policy)),
        (Action::Acknowledge, State::Open) => say(Outcome::Acknowledged, Change::To(State::Acked), Everywhere),
        (Action::Unacknowledge, State::Acked) => say(Outcome::Unacknowledged, Change::To(State::Open), Everywhere),
        (Action::Acknowledge | Action::Unacknowledge, _) => say(Outcome::Noop, Change::Nothing, Nowhere),
        (Action::Resolve, State::Resolved) => say(Outcome::DuplicateResolve, Change::Nothing, Nowhere),
        (Action::Resolve, _) => say(Outcome::Resolved, Change::To(State::Resolved), Everywhere),
        (Action::Update, State::Resolved) if !statement.notes => say(Outcome::Noop, Change::Nothing, Nowhere),
        (Action::Update, State::Resolved) => say(Outcome::Updated, Change::Apply(None), Everywhere),
        (Action::Update, _) => say(Outcome::Updated, Change::Apply(statement.severity), Everywhere),
        (Action::Admin, _) if statement.closes => say(Outcome::Forwarded, Change::To(State::Resolved), Everywhere),
        (Action::Admin | Action::Change, _) => say(Outcome::Forwarded, Change::Nothing, Everywhere),
    }
}

/// A trigger of a living incident (contracts 5.4). Severity never falls while it lives.
fn duplicate(known: Known, statement: Statement, policy: Policy) -> Decision {
    let raised = statement.severity.filter(|severity| known.severity.is_none_or(|known| *severity > known));
    match (policy.forward_duplicates, raised) {
        (ForwardDuplicates::SeverityIncrease | ForwardDuplicates::All, Some(severity)) => {
            Decision { outcome: Outcome::Escalated, change: Change::Raise(severity), forward: Forward::Everywhere }
        }
        (ForwardDuplicates::All, None) => {
            Decision { outcome: Outcome::Duplicate, change: Change::Touch, forward: Forward::Everywhere }
        }
        (ForwardDuplicates::None, _) | (ForwardDuplicates::SeverityIncrease, None) => {
            let forward = if known.redelivery_due { Forward::WhereUndelivered } else { Forward::Nowhere };
            Decision { outcome: Outcome::Duplicate, change: Change::Touch, forward }
        }
    }
}

/// The incident after `change` at `now`; `fresh` makes the ids of a new generation.
/// `None`: nothing is known before and nothing comes to be known.
pub fn apply(
    before: Option<Incident>,
    change: Change,
    severity: Option<Severity>,
    now: Micros,
    fresh: impl FnOnce() -> (Uid, u64),
) -> Option<Incident> {
    let generation = before.map_or(0, |incident| incident.generation);
    let opened = |state, generation, count| {
        let (iid, number) = fresh();
        Incident { iid, number, generation, state, severity, count, last_seen: now, changed_at: now }
    };
    match change {
        Change::Open => Some(opened(State::Open, generation.saturating_add(1), 1)),
        Change::Tombstone => Some(opened(State::Resolved, 0, 0)),
        Change::Nothing => before,
        Change::Touch => before.map(|incident| touched(incident, now)),
        Change::Raise(severity) => {
            before.map(|incident| Incident { severity: Some(severity), ..touched(incident, now) })
        }
        Change::Apply(severity) => {
            before.map(|incident| Incident { severity: severity.or(incident.severity), last_seen: now, ..incident })
        }
        Change::To(state) => before.map(|incident| Incident { state, last_seen: now, changed_at: now, ..incident }),
    }
}

fn touched(incident: Incident, now: Micros) -> Incident {
    Incident { count: incident.count.saturating_add(1), last_seen: now.max(incident.last_seen), ..incident }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn statement(action: Action, severity: Option<u8>) -> Statement {
        Statement { action, severity: severity.and_then(Severity::new), notes: false, closes: false }
    }

    /// The table of contracts 5.2, written out by hand: outcome and whether it is forwarded.
    fn naive(state: Option<State>, action: Action) -> (&'static str, bool) {
        match (action, state) {
            (Action::Trigger, None | Some(State::Resolved)) => ("created", true),
            (Action::Trigger, _) => ("duplicate", false),
            (Action::Acknowledge, None) => ("unknown", true),
            (Action::Acknowledge, Some(State::Open)) => ("acknowledged", true),
            (Action::Acknowledge, _) => ("noop", false),
            (Action::Unacknowledge, None) => ("unknown", false),
            (Action::Unacknowledge, Some(State::Acked)) => ("unacknowledged", true),
            (Action::Unacknowledge, _) => ("noop", false),
            (Action::Resolve, None) => ("unknown", true),
            (Action::Resolve, Some(State::Resolved)) => ("duplicate_resolve", false),
            (Action::Resolve, _) => ("resolved", true),
            (Action::Update, None) => ("unknown", false),
            (Action::Update, Some(State::Resolved)) => ("noop", false),
            (Action::Update, _) => ("updated", true),
            (Action::Admin | Action::Change, _) => ("forwarded", true),
        }
    }

    #[test]
    fn every_cell_of_the_table_is_as_written() {
        for state in [None, Some(State::Open), Some(State::Acked), Some(State::Resolved)] {
            for action in Action::ALL {
                let known = state.map(|state| Known { state, severity: None, redelivery_due: false });
                let decision =
                    decide(known, statement(action, None), KeyLife::OpenUntilResolved, Policy::default()).unwrap();
                let got = (decision.outcome.name(), decision.forward == Forward::Everywhere);
                assert_eq!(got, naive(state, action), "{action:?} on {state:?}");
            }
        }
    }

    #[test]
    fn only_a_higher_severity_escalates_and_only_where_allowed() {
        let known = |level| Some(Known { state: State::Open, severity: Severity::new(level), redelivery_due: false });
        let run = |level, forward_duplicates| {
            let policy = Policy { forward_duplicates, ..Policy::default() };
            decide(known(3), statement(Action::Trigger, Some(level)), KeyLife::OpenUntilResolved, policy).unwrap()
        };
        assert_eq!(run(3, ForwardDuplicates::SeverityIncrease).outcome, Outcome::Duplicate);
        assert_eq!(run(2, ForwardDuplicates::SeverityIncrease).outcome, Outcome::Duplicate);
        let up = run(4, ForwardDuplicates::SeverityIncrease);
        assert_eq!((up.outcome, up.forward), (Outcome::Escalated, Forward::Everywhere));
        assert_eq!(run(4, ForwardDuplicates::None).outcome, Outcome::Duplicate);
        assert_eq!(run(1, ForwardDuplicates::All).forward, Forward::Everywhere);
    }

    #[test]
    fn an_unknown_resolve_leaves_a_tombstone_and_an_unknown_acknowledge_none() {
        let decided = |action| {
            decide(None, statement(action, None), KeyLife::OpenUntilResolved, Policy::default()).unwrap().change
        };
        assert_eq!(decided(Action::Resolve), Change::Tombstone);
        assert_eq!(decided(Action::Acknowledge), Change::Nothing);
        let reject = Policy { unknown_resolve: UnknownResolve::Reject, ..Policy::default() };
        let refused = decide(None, statement(Action::Resolve, None), KeyLife::OpenUntilResolved, reject);
        assert_eq!(refused, Err(UnknownRefused));
    }

    #[test]
    fn a_create_once_key_replays_in_every_state() {
        for state in [State::Open, State::Acked, State::Resolved] {
            let known = Some(Known { state, severity: None, redelivery_due: false });
            let decision =
                decide(known, statement(Action::Trigger, Some(5)), KeyLife::CreateOnce, Policy::default()).unwrap();
            assert_eq!((decision.outcome, decision.forward), (Outcome::Replayed, Forward::Nowhere));
        }
    }

    #[test]
    fn a_duplicate_is_tried_again_where_its_trigger_died() {
        let known = Some(Known { state: State::Open, severity: None, redelivery_due: true });
        let decision =
            decide(known, statement(Action::Trigger, None), KeyLife::OpenUntilResolved, Policy::default()).unwrap();
        assert_eq!((decision.outcome, decision.forward), (Outcome::Duplicate, Forward::WhereUndelivered));
        assert!(decision.is_durable());
    }

    proptest! {
        /// Walks random histories: generations only grow, severity only rises within one, ids change with it.
        #[test]
        fn histories_keep_their_order(steps in prop::collection::vec((0usize..5, prop::option::of(1u8..=5)), 1..60)) {
            let mut incident: Option<Incident> = None;
            let mut ids = 0u64;
            for (step, (action, severity)) in steps.into_iter().enumerate() {
                let said = statement(Action::ALL[action], severity);
                let known = incident.map(|incident| Known {
                    state: incident.state,
                    severity: incident.severity,
                    redelivery_due: false,
                });
                let decision = decide(known, said, KeyLife::OpenUntilResolved, Policy::default()).unwrap();
                let now = Micros(i64::try_from(step).unwrap());
                let next = apply(incident, decision.change, said.severity, now, || {
                    ids += 1;
                    (Uid(u128::from(ids)), ids)
                });
                if let (Some(before), Some(after)) = (incident, next) {
                    if decision.change == Change::Open {
                        prop_assert_eq!(after.generation, before.generation + 1);
                        prop_assert_ne!(after.iid, before.iid);
                        prop_assert!(after.number > before.number);
                    } else {
                        prop_assert_eq!(after.iid, before.iid);
                        if said.action == Action::Trigger {
                            prop_assert!(after.severity >= before.severity);
                            prop_assert_eq!(after.count, before.count + 1);
                        }
                    }
                }
                incident = next;
            }
        }
    }
}
