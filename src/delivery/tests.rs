//! The log and the states together: what a refused event did to its key is taken back, in memory and by every start
//! after it, wherever the process ended.

use std::path::Path;
use std::sync::Mutex;

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::*;
use crate::awaited::Ended;
use crate::claim::{Admitted, Pacing};
use crate::dedup::{Claimed, Rules};
use crate::event::Action;
use crate::machine::{KeyLife, Policy};
use crate::outcome::DropReason;
use crate::store::tests::image;
use crate::store::{Durability, Ending, Outlet, Queued, Stand, What};

/// Of [`crate::event::tests::event`].
const INTEGRATION: &str = "a";

const RULES: Rules = Rules::keyed(
    KeyLife::OpenUntilResolved,
    Policy {
        forward_duplicates: crate::machine::ForwardDuplicates::SeverityIncrease,
        unknown_resolve: crate::machine::UnknownResolve::ForwardIfKeyed,
    },
);

/// The sequences that were handed on.
#[derive(Default)]
struct Sequences(Mutex<Vec<u64>>);

impl Outlet for Sequences {
    fn push(&self, batch: &mut Vec<Queued>) {
        self.0.lock().unwrap().extend(batch.drain(..).map(|queued| queued.sequence));
    }
}

struct Rig {
    opened: Opened,
    runtime: Runtime,
    awaiting: Arc<Awaiting>,
    outlet: Arc<Sequences>,
}

/// What an event is answered, so far.
struct Taken {
    awaited: Arc<Awaited>,
    sequence: u64,
    key: StateKey,
}

impl Rig {
    fn open(directory: &Path) -> Self {
        let hour = Duration::from_secs(3600);
        let spool = store::Config {
            directory: directory.to_owned(),
            durability: Durability::Fsync,
            max_bytes: 1 << 30,
            segment_bytes: 64 << 10,
            retain: hour,
            index_bytes: 16 << 20,
            unreadable: store::Unreadable::default(),
        };
        let dedup = dedup::Config {
            open_ttl: hour,
            resolved_ttl: hour,
            idempotency_ttl: hour,
            replay_ttl: hour,
            max_keys: 1000,
            redeliver_after: hour,
            replica_id: 0,
            is_shared: false,
        };
        let metrics = Metrics::new(1).unwrap();
        let opened = super::open(spool, dedup, &metrics, 1).unwrap();
        let outlet = Arc::<Sequences>::default();
        opened.store.start(Arc::clone(&outlet) as _);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.spawn(Arc::clone(&opened.store).deliver_completions(0));
        Self { opened, runtime, awaiting: Arc::default(), outlet }
    }

    fn meter(&self) -> Arc<UpstreamMeter> {
        self.opened.metrics.upstream("pager")
    }

    /// An event whose sender waits, on disk. `None`: it changed nothing.
    fn take(&self, key: &str, action: Action) -> Option<Taken> {
        let dedup = &self.opened.dedup;
        let event = Event { action, ..crate::event::tests::event(key) };
        let targets: Targets = Arc::from([self.meter()]);
        let Claimed::Owned(claim, _) = dedup.claim(&event, &targets, RULES) else { return None };
        let changed = claim.key()?;
        let awaited = self.awaiting.begin(event.uid, &"pager".into()).unwrap();
        dedup.await_delivery(changed, &awaited);
        let ticket = self.opened.metrics.receive(0);
        let admitted = Admitted { claim, event, pacing: Pacing::default(), ticket };
        self.runtime.block_on(self.opened.store.append(0, admitted)).unwrap();
        // It is answered before it is handed on.
        let sequence = loop {
            match self.outlet.0.lock().unwrap().pop() {
                Some(sequence) => break sequence,
                None => std::thread::yield_now(),
            }
        };
        Some(Taken { awaited, sequence, key: changed })
    }

    /// As the forwarder does; nothing is waited for.
    fn refuse(&self, taken: &Taken) -> Option<store::Written> {
        let undone = self.opened.dedup.take_back(taken.key, &taken.awaited)?;
        self.meter().drop_waiting(DropReason::Refused.name());
        Some(self.opened.store.settle_refused(&self.meter(), INTEGRATION, taken.sequence, undone))
    }

    fn deliver(&self, taken: &Taken) {
        assert!(taken.awaited.keep());
        self.opened.dedup.not_awaited(taken.key, taken.awaited.uid());
        self.opened.store.settle(&self.meter(), INTEGRATION, taken.sequence, Ending::DELIVERED);
        self.meter().deliver();
    }

    fn incident(&self, key: &str) -> Option<Incident> {
        self.opened.dedup.incident(crate::event::tests::event(key).state_key().unwrap())
    }
}

/// To the second, as a start has it.
fn shown(incident: Option<Incident>) -> Option<(Uid, u64, u32, crate::event::State, u32)> {
    incident.map(|one| (one.iid, one.number, one.generation, one.state, one.count))
}

#[test]
fn a_refused_event_is_gone_after_a_kill_and_its_retry_is_new() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    let taken = rig.take("disk", Action::Trigger).unwrap();
    let before = image(directory.path());
    assert!(rig.runtime.block_on(rig.refuse(&taken).unwrap()));
    let after = image(directory.path());
    assert!(rig.meter().book().balances());

    // Nobody was told anything: it still waits, and its duplicates are its duplicates.
    let rig = Rig::open(before.path());
    assert_eq!(rig.opened.recovered.waiting, 1);
    assert!(rig.take("disk", Action::Trigger).is_none());

    let rig = Rig::open(after.path());
    assert_eq!((rig.opened.recovered.waiting, rig.incident("disk")), (0, None));
    let book = rig.meter().book();
    assert!(book.balances() && book.dropped == [("refused", 1)].into(), "{book:?}");
    let found = rig.opened.store.trace(
        store::Sought::Uid(taken.awaited.uid()),
        store::Bounds { bytes_max: 1 << 20, time_max: Duration::from_secs(5) },
    );
    let found = found.unwrap();
    let refused = Ending::Dropped(DropReason::Refused);
    assert!(matches!(found.events[0].upstreams[0].1, Stand::Ended(ended, _) if ended == refused));
    assert_eq!(found.events[0].happened[0].what, What::Ended(refused));
    let again = rig.take("disk", Action::Trigger).unwrap();
    assert_eq!(rig.incident("disk").unwrap().generation, 1);
    rig.deliver(&again);
}

#[test]
fn a_checkpoint_at_any_moment_brings_no_refused_event_back() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    let kept = rig.take("disk", Action::Trigger).unwrap();
    rig.deliver(&kept);
    let before = rig.incident("disk");
    let refused = rig.take("disk", Action::Resolve).unwrap();
    let other = rig.take("memory", Action::Trigger).unwrap();
    let written = [rig.refuse(&refused).unwrap(), rig.refuse(&other).unwrap()];
    // Closed before anybody was told that it is on disk: a checkpoint is written, of what stands there.
    rig.opened.store.close();
    for written in written {
        assert!(rig.runtime.block_on(written));
    }
    drop(rig);
    let rig = Rig::open(directory.path());
    assert_eq!((shown(rig.incident("disk")), rig.incident("memory")), (shown(before), None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::test_cases(16)))]

    /// Steps on two keys: what is done, and whether the upstream takes it. A naive model says what stands; each step is
    /// followed by a look at what a kill would leave, and some by a restart.
    #[test]
    fn refused_events_leave_no_trace_whatever_happens(
        steps in prop::collection::vec((0usize..2, 0usize..4, any::<bool>(), 0u8..6), 1..14),
    ) {
        let mut directory = TempDir::new().unwrap();
        let mut rig = Rig::open(directory.path());
        let mut model = [None; 2];
        let keys = ["disk", "memory"];
        let actions = [Action::Trigger, Action::Acknowledge, Action::Unacknowledge, Action::Resolve];
        for (key, action, is_taken, then) in steps {
            if let Some(taken) = rig.take(keys[key], actions[action]) {
                if is_taken {
                    rig.deliver(&taken);
                    model[key] = shown(rig.incident(keys[key]));
                } else {
                    prop_assert!(rig.runtime.block_on(rig.refuse(&taken).unwrap()));
                    rig.opened.dedup.taken_back(taken.key);
                    taken.awaited.end(Ended::Undelivered);
                }
            } else if actions[action] == Action::Trigger {
                // Counted, and not told to the log.
                model[key] = shown(rig.incident(keys[key]));
            }
            for (key, model) in keys.iter().zip(&model) {
                prop_assert_eq!(&shown(rig.incident(key)), model);
            }
            prop_assert!(rig.meter().book().balances());
            if then > 1 {
                continue;
            }
            if then == 1 {
                rig.opened.store.close();
            }
            let copy = image(directory.path());
            drop(rig);
            rig = Rig::open(copy.path());
            directory = copy;
            for (key, model) in keys.iter().zip(&model) {
                // `count` of duplicates is told to the log once a minute.
                let bare = |shown: &Option<(Uid, u64, u32, crate::event::State, u32)>| {
                    shown.map(|(iid, number, generation, state, _)| (iid, number, generation, state))
                };
                prop_assert_eq!(bare(&shown(rig.incident(key))), bare(model));
            }
            model = keys.map(|key| shown(rig.incident(key)));
            let book = rig.meter().book();
            prop_assert!(book.balances(), "{:?}", book);
        }
    }
}

#[test]
fn an_event_on_no_key_is_refused_without_a_state() {
    let directory = TempDir::new().unwrap();
    let rig = Rig::open(directory.path());
    let awaited = rig.awaiting.begin(Uid(7), &"pager".into()).unwrap();
    assert_eq!(rig.opened.dedup.take_back(StateKey(7), &awaited), Some(None));
    assert!(!awaited.keep());
}
