//! What deduplication must answer and forward, told naively: R1 holds one replica to it, R2 several.

use std::collections::HashSet;

use crate::harness::{PATH, Raw, request, trigger};

/// What the contract says of one key (contracts 5.2 and 5.4), told naively.
#[derive(Default)]
pub struct Told {
    pub state: State,
    pub generation: u64,
    pub severity: u8,
    pub incident: String,
    /// What must have reached the upstream, in order: action and generation.
    pub forwards: Vec<(String, u64)>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Absent,
    Open,
    Resolved,
}

#[derive(Clone, Copy)]
pub enum Said {
    /// With this priority, 1 to 5; 5 is the worst.
    Trigger(u8),
    Resolve,
}

impl Said {
    /// As Squadcast's senders say it of this key.
    pub fn body(self, key: &str) -> String {
        match self {
            // P1 is the worst.
            Self::Trigger(severity) => {
                format!(r#"{{"message":"m","description":"d","event_id":"{key}","priority":"P{}"}}"#, 6 - severity)
            }
            Self::Resolve => format!(r#"{{"status":"resolve","event_id":"{key}"}}"#),
        }
    }
}

impl Told {
    /// The outcome that the answer must name, and whether the incident is a new one.
    pub fn hear(&mut self, said: Said) -> (&'static str, bool) {
        match (said, self.state) {
            (Said::Trigger(severity), State::Absent | State::Resolved) => {
                self.state = State::Open;
                self.generation += 1;
                self.severity = severity;
                self.forwards.push(("trigger".to_owned(), self.generation));
                ("created", true)
            }
            (Said::Trigger(severity), State::Open) if severity > self.severity => {
                self.severity = severity;
                self.forwards.push(("trigger".to_owned(), self.generation));
                ("escalated", false)
            }
            (Said::Trigger(_), State::Open) => ("duplicate", false),
            (Said::Resolve, State::Open) => {
                self.state = State::Resolved;
                self.forwards.push(("resolve".to_owned(), self.generation));
                ("resolved", false)
            }
            (Said::Resolve, State::Resolved) => ("duplicate_resolve", false),
            (Said::Resolve, State::Absent) => unreachable!("a key begins with a trigger"),
        }
    }
}

/// Posts one event so often on each connection at once: one answer says that it was created, the others that it is a
/// duplicate, and all name one incident.
pub fn one_is_created(connections: &mut [Raw], posts: usize) {
    let all = connections.len() * posts;
    let bytes = request("POST", PATH, &["Content-Type: application/json"], trigger("one"));
    let said: Vec<(String, String)> = std::thread::scope(|scope| {
        let clients: Vec<_> = connections
            .iter_mut()
            .map(|connection| {
                let bytes = &bytes;
                scope.spawn(move || {
                    let mut said = Vec::new();
                    for _ in 0..posts {
                        connection.send(bytes).unwrap();
                        let answer = connection.answer().unwrap();
                        assert_eq!(answer.status, 202, "{}", answer.text());
                        said.push((answer.outcome().to_owned(), answer.incident()));
                    }
                    said
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let incidents: HashSet<&String> = said.iter().map(|(_, incident)| incident).collect();
    assert_eq!(incidents.len(), 1);
    assert_eq!(said.iter().filter(|(outcome, _)| outcome == "created").count(), 1);
    assert_eq!(said.iter().filter(|(outcome, _)| outcome == "duplicate").count(), all - 1);
}
