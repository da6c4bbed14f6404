//! What the senders know of the incidents they opened, as a fleet of senders would: which are open, which are resolved
//! and may flap, and which have a request under way. The next statement of an incident is said only when the one
//! before was answered 2xx and nothing of it is under way, so that the order of its statements is beyond doubt; after a
//! lost answer nothing more is said of it but the same again. Called by the senders.

use std::time::Instant;

use crate::ledger::Ledger;
use crate::random::draw;

/// Open and resolved incidents kept in mind, each, by source; the oldest are forgotten, and stay open at the server.
const KEPT_AT_MOST: usize = 20_000;
/// A repeat is of one of this many newest: a storm repeats what is firing now.
const RECENT: usize = 1000;
/// Looks for an incident of which nothing is under way.
const LOOKS: u64 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Trigger,
    Repeat,
    Resolve,
    Reopen,
}

/// How a try of a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// 2xx, with the id that the answer gave where one is needed.
    Accepted(Option<Box<str>>),
    NotAccepted,
}

/// What a request says, and of which incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) source: u8,
    pub(super) incident: u32,
    pub(super) statement: u32,
    pub(super) key: u32,
    pub(super) integration: u16,
    pub(super) resolve: bool,
    /// Statements in it.
    pub(super) batch: u16,
    pub(super) replica: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Open,
    Resolving,
    Resolved,
    /// In no list: its place is free when nothing is under way.
    Forgotten,
}

#[derive(Debug)]
struct Incident {
    key: u32,
    statement: u32,
    integration: u16,
    life: Life,
    /// Of the current statement.
    accepted: bool,
    /// An answer was lost: what the server knows is not known.
    tainted: bool,
    under_way: u16,
    batch: u16,
    replica: u8,
    remote: Option<Box<str>>,
}

#[derive(Debug, Default)]
struct Lists {
    open: Vec<u32>,
    resolved: Vec<u32>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Incidents {
    all: Vec<Incident>,
    free: Vec<u32>,
    lists: Vec<Lists>,
    drawn: u64,
    seed: u64,
}

impl Incidents {
    pub(super) fn new(sources: usize, seed: u64) -> Self {
        let lists = (0..sources).map(|_| Lists::default()).collect();
        Self { all: Vec::new(), free: Vec::new(), lists, drawn: 0, seed }
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        draw(self.seed, self.drawn)
    }

    /// The id that the answer to the trigger gave.
    pub(super) fn remote(&self, incident: u32) -> Option<&str> {
        self.all[incident as usize].remote.as_deref()
    }

    /// A request of this deed; a fresh trigger where no incident is fit for it.
    pub(super) fn request(
        &mut self,
        deed: Deed,
        source: u8,
        fresh: Fresh,
        ledger: &mut Ledger,
        intended: Instant,
    ) -> Request {
        let found = match deed {
            Deed::Trigger => None,
            Deed::Repeat => self.recent(source),
            Deed::Resolve => self.settled(source, Life::Open, fresh.needs_remote),
            Deed::Reopen => self.settled(source, Life::Resolved, false),
        };
        let id = match (found, deed) {
            (Some(id), Deed::Repeat) => {
                ledger.sent_again(u64::from(self.all[id as usize].batch));
                id
            }
            (Some(id), _) => {
                self.restate(id, source, deed == Deed::Resolve, ledger, intended);
                id
            }
            (None, _) => self.open(source, fresh, ledger, intended),
        };
        let incident = &mut self.all[id as usize];
        incident.under_way += 1;
        Request {
            source,
            incident: id,
            statement: incident.statement,
            key: incident.key,
            integration: incident.integration,
            resolve: incident.life == Life::Resolving,
            batch: incident.batch,
            replica: incident.replica,
        }
    }

    /// The same request once more, at the same time.
    pub(super) fn twin(&mut self, request: &Request, ledger: &mut Ledger) {
        ledger.sent_again(u64::from(request.batch));
        self.all[request.incident as usize].under_way += 1;
    }

    /// A request came to its end, after all its tries; `unsure` when the answer to one of them was lost.
    pub(super) fn ended(&mut self, request: &Request, end: End, unsure: bool, flaps: bool) {
        let id = request.incident;
        let incident = &mut self.all[id as usize];
        incident.under_way -= 1;
        incident.tainted |= unsure;
        match end {
            End::Accepted(remote) => {
                incident.accepted = true;
                if remote.is_some() && !request.resolve {
                    incident.remote = remote;
                }
            }
            End::NotAccepted => {}
        }
        if incident.under_way > 0 {
            return;
        }
        let (life, accepted, tainted) = (incident.life, incident.accepted, incident.tainted);
        match life {
            Life::Open if !accepted => self.forget(id, request.source),
            Life::Resolving if accepted && !tainted && flaps => {
                self.all[id as usize].life = Life::Resolved;
                let resolved = &mut self.lists[usize::from(request.source)].resolved;
                resolved.push(id);
                if resolved.len() > KEPT_AT_MOST {
                    let oldest = resolved.swap_remove(0);
                    self.all[oldest as usize].life = Life::Forgotten;
                    self.free.push(oldest);
                }
            }
            Life::Resolving | Life::Forgotten => {
                self.all[id as usize].life = Life::Forgotten;
                self.free.push(id);
            }
            Life::Open | Life::Resolved => {}
        }
    }

    fn recent(&mut self, source: u8) -> Option<u32> {
        let draw = self.draw();
        let open = &self.lists[usize::from(source)].open;
        let span = open.len().min(RECENT) as u64;
        (span > 0).then(|| open[open.len() - 1 - (draw % span) as usize])
    }

    /// Takes one out of its list of which nothing is under way and everything is known.
    fn settled(&mut self, source: u8, life: Life, needs_remote: bool) -> Option<u32> {
        for _ in 0..LOOKS {
            let draw = self.draw();
            let lists = &mut self.lists[usize::from(source)];
            let list = if life == Life::Open { &mut lists.open } else { &mut lists.resolved };
            if list.is_empty() {
                return None;
            }
            let at = (draw % list.len() as u64) as usize;
            let incident = &self.all[list[at] as usize];
            if incident.under_way == 0
                && incident.accepted
                && !incident.tainted
                && (!needs_remote || incident.remote.is_some())
            {
                return Some(list.swap_remove(at));
            }
        }
        None
    }

    /// New statements of an incident's keys.
    fn restate(&mut self, id: u32, source: u8, resolve: bool, ledger: &mut Ledger, intended: Instant) {
        let incident = &mut self.all[id as usize];
        incident.statement = statements(ledger, incident.key, incident.batch, source, resolve, intended);
        incident.accepted = false;
        if resolve {
            incident.life = Life::Resolving;
        } else {
            incident.life = Life::Open;
            incident.remote = None;
            self.keep_open(id, source);
        }
    }

    fn open(&mut self, source: u8, fresh: Fresh, ledger: &mut Ledger, intended: Instant) -> u32 {
        let integration = (self.draw() % u64::from(fresh.integrations.max(1))) as u16;
        let key = ledger.new_key(integration);
        for _ in 1..fresh.batch {
            ledger.new_key(integration);
        }
        let statement = statements(ledger, key, fresh.batch, source, false, intended);
        let incident = Incident {
            key,
            statement,
            integration,
            life: Life::Open,
            accepted: false,
            tainted: false,
            under_way: 0,
            batch: fresh.batch,
            replica: (key % u32::from(fresh.replicas.max(1))) as u8,
            remote: None,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.all[id as usize] = incident;
                id
            }
            None => {
                self.all.push(incident);
                (self.all.len() - 1) as u32
            }
        };
        self.keep_open(id, source);
        id
    }

    fn keep_open(&mut self, id: u32, source: u8) {
        let open = &mut self.lists[usize::from(source)].open;
        open.push(id);
        if open.len() > KEPT_AT_MOST {
            let oldest = open.swap_remove(0);
            let incident = &mut self.all[oldest as usize];
            incident.life = Life::Forgotten;
            if incident.under_way == 0 {
                self.free.push(oldest);
            }
        }
    }

    fn forget(&mut self, id: u32, source: u8) {
        let open = &mut self.lists[usize::from(source)].open;
        // The newest are at the end: that is where one that was never accepted stands.
        if let Some(at) = open.iter().rposition(|other| *other == id) {
            open.swap_remove(at);
        }
        self.all[id as usize].life = Life::Forgotten;
        self.free.push(id);
    }
}

/// What a fresh incident is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fresh {
    pub(super) integrations: u32,
    pub(super) batch: u16,
    /// Servers over which new incidents are spread.
    pub(super) replicas: u8,
    /// A resolve names what the answer to the trigger gave.
    pub(super) needs_remote: bool,
}

/// So many statements of as many keys; the first.
fn statements(ledger: &mut Ledger, key: u32, batch: u16, source: u8, resolve: bool, intended: Instant) -> u32 {
    let first = ledger.state(key, source, resolve, intended);
    for number in 1..u32::from(batch) {
        ledger.state(key + number, source, resolve, intended);
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Fresh = Fresh { integrations: 2, batch: 1, replicas: 1, needs_remote: false };

    struct Rig {
        incidents: Incidents,
        ledger: Ledger,
    }

    impl Rig {
        fn new() -> Self {
            Self { incidents: Incidents::new(1, 3), ledger: Ledger::new(Instant::now()).expect("a ledger") }
        }

        fn say(&mut self, deed: Deed) -> Request {
            self.incidents.request(deed, 0, FRESH, &mut self.ledger, Instant::now())
        }

        fn end(&mut self, request: &Request, end: End) {
            self.incidents.ended(request, end, false, true);
        }
    }

    #[test]
    fn an_incident_is_resolved_only_when_nothing_of_it_is_under_way() {
        let mut rig = Rig::new();
        let trigger = rig.say(Deed::Trigger);
        assert_ne!(rig.say(Deed::Resolve).key, trigger.key, "the trigger is under way: a fresh one");
        let mut rig = Rig::new();
        let trigger = rig.say(Deed::Trigger);
        let repeat = rig.say(Deed::Repeat);
        assert_eq!(repeat, trigger, "the same statement");
        rig.end(&trigger, End::Accepted(None));
        assert!(!rig.say(Deed::Resolve).resolve, "the repeat is under way");
        let mut rig = Rig::new();
        let trigger = rig.say(Deed::Trigger);
        rig.end(&trigger, End::Accepted(None));
        let resolve = rig.say(Deed::Resolve);
        assert!(resolve.resolve && resolve.key == trigger.key && resolve.statement > trigger.statement);
        assert_ne!(rig.say(Deed::Repeat).key, trigger.key, "no repeat of what is being resolved");
    }

    #[test]
    fn after_the_resolve_it_flaps_with_the_same_key() {
        let mut rig = Rig::new();
        let trigger = rig.say(Deed::Trigger);
        rig.end(&trigger, End::Accepted(None));
        let resolve = rig.say(Deed::Resolve);
        rig.end(&resolve, End::Accepted(None));
        let again = rig.say(Deed::Reopen);
        assert_eq!((again.key, again.resolve), (trigger.key, false));
        assert!(again.statement > resolve.statement);
    }

    #[test]
    fn a_lost_answer_is_the_last_of_an_incident_but_for_repeats() {
        let mut rig = Rig::new();
        let trigger = rig.say(Deed::Trigger);
        let repeat = rig.say(Deed::Repeat);
        rig.end(&trigger, End::Accepted(None));
        rig.incidents.ended(&repeat, End::NotAccepted, true, true);
        assert!(!rig.say(Deed::Resolve).resolve);
    }

    #[test]
    fn what_was_refused_is_forgotten_and_its_place_used_again() {
        let mut rig = Rig::new();
        for _ in 0..100 {
            let trigger = rig.say(Deed::Trigger);
            rig.end(&trigger, End::NotAccepted);
        }
        assert_eq!(rig.incidents.all.len(), 1);
        assert!(rig.incidents.lists[0].open.is_empty());
    }

    #[test]
    fn memory_is_bounded_whatever_was_opened() {
        let mut rig = Rig::new();
        for _ in 0..2 * KEPT_AT_MOST {
            let trigger = rig.say(Deed::Trigger);
            rig.end(&trigger, End::Accepted(None));
        }
        assert!(rig.incidents.all.len() <= KEPT_AT_MOST + 1, "{}", rig.incidents.all.len());
    }
}
