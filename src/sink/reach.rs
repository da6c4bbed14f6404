//! Whom an event can go to: of an integration's upstreams those that can be told it (contracts 7). An acknowledge goes to
//! no upstream that has none; an operation that none can do is not accepted at all.

use std::sync::Arc;

use super::{Kind, Sink, Statement, of};
use crate::claim::Targets;
use crate::event::Action;
use crate::metrics::UpstreamMeter;

/// The upstreams of one integration, by what they can be told. Made when the configuration is read; asking takes neither
/// a lock nor memory.
pub struct Reach {
    /// The different kinds, without those that can be told everything.
    sinks: Vec<&'static dyn Sink>,
    /// By the set of those sinks that can be told: bit `n` for the `n`-th.
    targets: Box<[Targets]>,
}

impl Reach {
    /// Upstreams in the integration's order.
    pub fn new(upstreams: &[(Kind, Arc<UpstreamMeter>)]) -> Self {
        let mut sinks: Vec<&'static dyn Sink> = Vec::new();
        for sink in upstreams.iter().filter_map(|(kind, _)| of(*kind)) {
            if !is_told_everything(sink) && !sinks.iter().any(|known| known.kind() == sink.kind()) {
                sinks.push(sink);
            }
        }
        // As many as there are kinds, at most.
        let sets = 1_usize << sinks.len();
        let targets = (0..sets).map(|set| {
            let is_told = |kind: Kind| {
                let place = sinks.iter().position(|sink| sink.kind() == kind);
                place.is_none_or(|place| set >> place & 1 == 1)
            };
            upstreams.iter().filter(|(kind, _)| is_told(*kind)).map(|(_, meter)| Arc::clone(meter)).collect()
        });
        Self { targets: targets.collect(), sinks }
    }

    /// The upstreams that can be told this, in the integration's order; none: the event changes the proxy's state alone,
    /// and an operation that has no state is not supported (TaskCall's 501).
    pub fn targets(&self, statement: Statement<'_>) -> &Targets {
        &self.targets[self.set_of(|sink| sink.expresses(statement))]
    }

    /// Those of them that a trigger of a living incident raises.
    pub fn raised(&self, statement: Statement<'_>) -> &Targets {
        &self.targets[self.set_of(|sink| sink.expresses(statement) && sink.raises())]
    }

    fn set_of(&self, is_in: impl Fn(&dyn Sink) -> bool) -> usize {
        let those = self.sinks.iter().enumerate().filter(|(_, sink)| is_in(**sink));
        those.fold(0, |set, (place, _)| set | 1 << place)
    }

    /// Whether one of them does it. Who can be told everything writes it down.
    pub fn is_done(&self, statement: Statement<'_>) -> bool {
        self.set_of(|sink| sink.expresses(statement)) != 0
    }
}

fn is_told_everything(sink: &dyn Sink) -> bool {
    let statement = |action| Statement { action, dialect: "", endpoint: "" };
    Action::ALL.into_iter().all(|action| sink.expresses(statement(action)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn an_event_goes_to_those_that_can_be_told_it_in_their_order() {
        let metrics = Metrics::new(1).unwrap();
        let upstream = |kind, name| (kind, metrics.upstream(name));
        let reach = Reach::new(&[
            upstream(Kind::Squadcast, "a"),
            upstream(Kind::Webhook, "b"),
            upstream(Kind::Squadcast, "c"),
            upstream(Kind::Stdout, "d"),
        ]);
        let names = |action| -> String {
            let targets = reach.targets(Statement { action, dialect: "taskcall", endpoint: "acknowledge" });
            targets.iter().map(|meter| &*meter.name).collect()
        };
        let raised = reach.raised(Statement { action: Action::Trigger, dialect: "taskcall", endpoint: "create" });
        assert_eq!(
            raised.iter().map(|meter| &*meter.name).collect::<String>(),
            "bd",
            "Squadcast may make a second one"
        );
        assert_eq!((names(Action::Trigger).as_str(), names(Action::Acknowledge).as_str()), ("abcd", "bd"));
        let alone = Reach::new(&[upstream(Kind::Squadcast, "a")]);
        let admin = Statement { action: Action::Admin, dialect: "taskcall", endpoint: "snooze" };
        assert!(alone.targets(admin).is_empty());
    }
}
