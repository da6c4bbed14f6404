//! What can be said to the Alert API: one row an operation (contracts/opsgenie.md 2).

use crate::event::Action;

/// The numbers stand in request ids, which are asked about for a day: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Operation {
    Create = 0,
    Close = 1,
    Acknowledge = 2,
    Unacknowledge = 3,
    Note = 4,
    Message = 5,
    Description = 6,
    Priority = 7,
    Tags = 8,
    Details = 9,
    Snooze = 10,
    Escalate = 11,
    Assign = 12,
    Team = 13,
    Responder = 14,
    Delete = 15,
}

struct Row {
    operation: Operation,
    /// As it is stored with the event.
    endpoint: &'static str,
    action: Action,
    /// As the status of a request names it.
    name: &'static str,
    /// What the status says when it was done.
    done: &'static str,
}

const fn row(
    operation: Operation,
    endpoint: &'static str,
    action: Action,
    name: &'static str,
    done: &'static str,
) -> Row {
    Row { operation, endpoint, action, name, done }
}

const ROWS: [Row; 16] = [
    row(Operation::Create, "create", Action::Trigger, "Create", "Created alert"),
    row(Operation::Close, "close", Action::Resolve, "Close", "Closed alert"),
    row(Operation::Acknowledge, "acknowledge", Action::Acknowledge, "Acknowledge", "Acknowledged alert"),
    row(Operation::Unacknowledge, "unacknowledge", Action::Unacknowledge, "UnAcknowledge", "Unacknowledged alert"),
    row(Operation::Note, "notes", Action::Update, "AddNote", "Added note to alert"),
    row(Operation::Message, "message", Action::Update, "UpdateMessage", "Updated message of alert"),
    row(Operation::Description, "description", Action::Update, "UpdateDescription", "Updated description of alert"),
    row(Operation::Priority, "priority", Action::Update, "UpdatePriority", "Updated priority of alert"),
    row(Operation::Tags, "tags", Action::Admin, "AddTags", "Added tags to alert"),
    row(Operation::Details, "details", Action::Admin, "AddDetails", "Added details to alert"),
    row(Operation::Snooze, "snooze", Action::Admin, "Snooze", "Snoozed alert"),
    row(Operation::Escalate, "escalate", Action::Admin, "EscalateToNext", "Escalated alert"),
    row(Operation::Assign, "assign", Action::Admin, "AssignOwnership", "Assigned alert"),
    row(Operation::Team, "teams", Action::Admin, "AddTeam", "Added team to alert"),
    row(Operation::Responder, "responders", Action::Admin, "AddResponder", "Added responder to alert"),
    row(Operation::Delete, "delete", Action::Resolve, "Delete", "Deleted alert"),
];

impl Operation {
    pub(super) fn of(endpoint: &str) -> Option<Self> {
        ROWS.iter().find(|row| row.endpoint == endpoint).map(|row| row.operation)
    }

    /// From its number: four bits.
    pub(super) fn from_code(code: u8) -> Self {
        ROWS[usize::from(code & 0xF)].operation
    }

    pub(super) fn action(self) -> Action {
        ROWS[self as usize].action
    }

    pub(super) fn name(self) -> &'static str {
        ROWS[self as usize].name
    }

    pub(super) fn done(self) -> &'static str {
        ROWS[self as usize].done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_stands_in_its_own_row_and_has_a_route() {
        for (index, row) in ROWS.iter().enumerate() {
            assert_eq!(row.operation as usize, index, "{}", row.endpoint);
            assert_eq!(Operation::of(row.endpoint), Some(row.operation));
            let own = |path: &str| path.starts_with("/v2/alerts");
            let routes = super::super::ROUTES.iter().filter(|route| own(route.path) && !route.reads);
            let routes = routes.filter(|route| route.endpoint == row.endpoint);
            assert_eq!(routes.count(), 1, "{}", row.endpoint);
        }
    }
}
