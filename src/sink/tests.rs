//! The sinks together: the kinds that the configuration knows, and the arrows of the translation matrix.

mod arrows;
mod identity;
mod passed_on;

use super::*;
use crate::event::State;

#[test]
fn each_kind_has_one_sink_at_most() {
    for kind in Kind::ALL {
        let count = SINKS.iter().filter(|sink| sink.kind() == kind).count();
        assert!(count <= 1, "{}", kind.name());
    }
}

/// Whatever is expressible of an incident that the upstream knows has a request, and nothing else has.
#[test]
fn what_a_sink_expresses_it_encodes() {
    for sink in SINKS {
        let mut upstream = samples::upstream("up", sink.kind());
        // Without it an incident.io cannot be told of a resolve: a warning of the configuration.
        upstream.vendor.closed_status_id = Some("closed".into());
        for (action, endpoint) in [
            (Action::Trigger, "v2/incidents/api"),
            (Action::Acknowledge, "acknowledge"),
            (Action::Unacknowledge, "unacknowledge"),
            (Action::Resolve, "resolve"),
            (Action::Update, "v2/alerts/notes"),
            (Action::Admin, "snooze"),
            (Action::Change, "v2/change/enqueue"),
        ] {
            let event = Event { endpoint: endpoint.into(), ..samples::event(action, Some("k"), "{}") };
            let stored = samples::stored(1, event, Some(samples::incident(1, State::Open)));
            let mut said = samples::said();
            said.content.note = Some("seen".into());
            let remote = Remote::new("8912", None);
            let ask = Ask { remote: remote.as_ref(), ..samples::ask(&stored, &said, &upstream) };
            let expressed = sink.expresses(Statement::of(&stored.event));
            let encoded = sink.encode(&ask);
            assert_eq!(encoded.is_ok(), expressed, "{:?} {action:?}: {encoded:?}", sink.kind());
        }
    }
}

#[test]
fn a_path_segment_stays_one() {
    assert_eq!(percent_encoded("a/b c?d#e%2F"), "a%2Fb%20c%3Fd%23e%252F");
    assert_eq!((percent_encoded(".."), percent_encoded("a.b-c_d~")), ("%2E%2E".to_owned(), "a.b-c_d~".to_owned()));
}
