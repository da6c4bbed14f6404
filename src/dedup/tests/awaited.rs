//! What a refused event did to its key is taken back, unless something was built on it.

use super::*;
use crate::awaited::Awaiting;
use crate::claim::TakenBack;

struct Rig {
    dedup: Arc<Dedup>,
    targets: Targets,
    all: Arc<Awaiting>,
}

impl Rig {
    fn new() -> Self {
        let (dedup, targets) = dedup(100);
        Self { dedup, targets, all: Arc::default() }
    }

    /// An event whose sender waits, committed.
    fn awaited(&self, key: &str, action: Action) -> (Arc<Awaited>, Incident) {
        let event = said(key, action);
        let Claimed::Owned(claim, _) = self.dedup.claim(&event, &self.targets, RULES) else { panic!("owned") };
        let awaited = self.all.begin(event.uid, &"pager".into()).unwrap();
        self.dedup.await_delivery(claim.key().unwrap(), &awaited);
        let incident = commit(&self.dedup, event, claim);
        (awaited, incident)
    }

    fn run(&self, key: &str, action: Action) -> Outcome {
        run(&self.dedup, &self.targets, said(key, action)).0
    }

    fn state(key: &str) -> StateKey {
        event(key).state_key().unwrap()
    }

    fn take_back(&self, key: &str, awaited: &Awaited) -> Option<Option<TakenBack>> {
        self.dedup.take_back(Self::state(key), awaited)
    }
}

#[test]
fn each_transition_is_taken_back_to_what_was_before() {
    let rig = Rig::new();
    let mut before = None;
    for action in [Action::Trigger, Action::Acknowledge, Action::Unacknowledge, Action::Resolve, Action::Trigger] {
        let (awaited, made) = rig.awaited("k", action);
        let taken = rig.take_back("k", &awaited).unwrap().unwrap();
        assert_eq!((taken.iid, taken.before.map(|(incident, _)| incident)), (made.iid, before), "{action:?}");
        assert_eq!(rig.dedup.incident(Rig::state("k")), before, "{action:?}: a checkpoint must not keep it");
        rig.dedup.taken_back(Rig::state("k"));
        assert_eq!(rig.dedup.entries(), usize::from(before.is_some()), "{action:?}");
        // The same again, and this time it is delivered.
        rig.run("k", action);
        before = rig.dedup.incident(Rig::state("k"));
    }
    assert_eq!(before.unwrap().generation, 2);
}

#[tokio::test(start_paused = true)]
async fn until_that_is_on_disk_the_key_is_held() {
    let rig = Rig::new();
    let (awaited, first) = rig.awaited("k", Action::Trigger);
    rig.take_back("k", &awaited).unwrap();
    let Claimed::Contended(line) = rig.dedup.claim(&event("k"), &rig.targets, RULES) else { panic!("in line") };
    rig.dedup.taken_back(Rig::state("k"));
    assert!(line.wait(Duration::from_secs(1)).await);
    let (outcome, second, _) = run(&rig.dedup, &rig.targets, event("k"));
    assert_eq!(outcome, Outcome::Created);
    assert_ne!(second.unwrap().iid, first.iid);
}

#[test]
fn a_duplicate_waits_with_it_and_what_it_was_told_stays_true() {
    let rig = Rig::new();
    let (awaited, _) = rig.awaited("k", Action::Trigger);
    let Claimed::Absorbed { awaited: Some(shared), outcome, .. } = rig.dedup.claim(&event("k"), &rig.targets, RULES)
    else {
        panic!("a duplicate that waits")
    };
    assert_eq!((outcome, shared.uid()), (Outcome::Duplicate, awaited.uid()));
    assert!(shared.keep());
    assert_eq!(rig.take_back("k", &awaited), None, "somebody was told that it is taken");
    assert_eq!(rig.run("k", Action::Trigger), Outcome::Duplicate);
}

#[test]
fn what_another_event_was_built_on_stays() {
    let rig = Rig::new();
    let (awaited, _) = rig.awaited("k", Action::Trigger);
    assert_eq!(rig.run("k", Action::Resolve), Outcome::Resolved);
    assert_eq!(rig.take_back("k", &awaited), None);
    let (awaited, _) = rig.awaited("k", Action::Trigger);
    let Claimed::Owned(claim, _) = rig.dedup.claim(&said("k", Action::Acknowledge), &rig.targets, RULES) else {
        panic!("owned")
    };
    assert_eq!(rig.take_back("k", &awaited), None, "one is on its way to the log");
    drop(claim);
    assert_eq!(rig.dedup.incident(Rig::state("k")).unwrap().state, State::Open);
}

#[test]
fn who_gave_up_or_was_never_taken_leaves_no_row() {
    let rig = Rig::new();
    let (awaited, _) = rig.awaited("k", Action::Trigger);
    assert!(awaited.keep());
    rig.dedup.not_awaited(Rig::state("k"), awaited.uid());
    let Claimed::Absorbed { awaited: None, .. } = rig.dedup.claim(&event("k"), &rig.targets, RULES) else {
        panic!("nothing to wait for")
    };
    let event = said("k", Action::Resolve);
    let Claimed::Owned(claim, _) = rig.dedup.claim(&event, &rig.targets, RULES) else { panic!("owned") };
    let awaited = rig.all.begin(event.uid, &"pager".into()).unwrap();
    rig.dedup.await_delivery(Rig::state("k"), &awaited);
    drop(claim);
    let Claimed::Absorbed { awaited: None, .. } = rig.dedup.claim(&said("k", Action::Trigger), &rig.targets, RULES)
    else {
        panic!("the refused resolve is not there")
    };
}

#[test]
fn an_id_of_an_incident_that_never_was_is_unknown() {
    let rig = Rig::new();
    let rules = Rules { has_ids: true, ..RULES };
    let scope = Scope::of("payments", "squadcast");
    let open = |awaits: bool| {
        let event = event("k");
        let Claimed::Owned(mut claim, _) = rig.dedup.claim(&event, &rig.targets, rules) else { panic!("owned") };
        claim.scope = Some(scope);
        let awaited = rig.all.begin(event.uid, &"pager".into()).unwrap();
        if awaits {
            rig.dedup.await_delivery(claim.key().unwrap(), &awaited);
        }
        (awaited, commit(&rig.dedup, event, claim))
    };
    let (_, first) = open(false);
    rig.run("k", Action::Resolve);
    let (awaited, second) = open(true);
    assert!(rig.dedup.by_number(scope, second.number).is_some());
    let taken = rig.take_back("k", &awaited).unwrap().unwrap();
    rig.dedup.taken_back(Rig::state("k"));
    assert!(rig.dedup.by_number(scope, second.number).is_none() && rig.dedup.by_iid(scope, second.iid).is_none());
    assert_eq!(rig.dedup.by_number(scope, first.number).unwrap().iid, first.iid);

    // A start does the same over what the log told before.
    let again = Rig::new();
    let row = |incident: Incident| ById { scope, number: incident.number, iid: incident.iid, key: Rig::state("k") };
    for incident in [first, second] {
        again.dedup.restore(Rig::state("k"), incident, Position(8));
        again.dedup.restore_row(row(incident));
    }
    again.dedup.restore_taken_back(&taken);
    assert!(again.dedup.by_number(scope, second.number).is_none());
    assert_eq!(again.dedup.incident(Rig::state("k")).unwrap().iid, first.iid);
    again.dedup.restore_taken_back(&TakenBack { before: None, iid: first.iid, ..taken });
    assert_eq!((again.dedup.entries(), again.dedup.by_number(scope, first.number)), (0, None));
}
