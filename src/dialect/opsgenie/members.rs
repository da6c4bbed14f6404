//! The top-level members of a body that some operation knows; of a repeated name the last (contracts 2.4).

use crate::dialect::json::Value;

/// A member by its place in [`NAMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    Message,
    Alias,
    Description,
    Responders,
    VisibleTo,
    Actions,
    Tags,
    Details,
    Entity,
    Source,
    Priority,
    User,
    Note,
    EndTime,
    Escalation,
    Owner,
    Team,
    Responder,
}

const NAMES: [&str; 18] = [
    "message",
    "alias",
    "description",
    "responders",
    "visibleTo",
    "actions",
    "tags",
    "details",
    "entity",
    "source",
    "priority",
    "user",
    "note",
    "endTime",
    "escalation",
    "owner",
    "team",
    "responder",
];

impl Member {
    pub(super) fn name(self) -> &'static str {
        NAMES[self as usize]
    }
}

pub(super) struct Members<'d> {
    known: [Option<Value<'d>>; NAMES.len()],
    unknown: Vec<&'d str>,
}

impl<'d> Members<'d> {
    pub(super) fn of(root: Value<'d>) -> Self {
        let mut members = Self { known: [None; NAMES.len()], unknown: Vec::new() };
        for (name, value) in root.members() {
            match NAMES.iter().position(|known| *known == name) {
                // `null` is absent for every member (contracts 2.4).
                Some(place) => members.known[place] = (!value.is_null()).then_some(value),
                None => members.unknown.push(name),
            }
        }
        members
    }

    pub(super) fn get(&self, member: Member) -> Option<Value<'d>> {
        self.known[member as usize]
    }

    /// What has a home in the content is taken.
    pub(super) fn take(&mut self, member: Member) -> Option<Value<'d>> {
        self.known[member as usize].take()
    }

    /// Names of all that nobody took.
    pub(super) fn left(self) -> Vec<&'d str> {
        let known = NAMES.into_iter().zip(self.known).filter_map(|(name, value)| value.map(|_| name));
        let mut left: Vec<&'d str> = known.collect();
        left.extend(self.unknown);
        left
    }
}
