//! What was sent, answered and delivered, by statement: a trigger or a resolve of one generation of one key, however often it
//! is sent. A statement's number is written into its body as a mark, so everything that is known of it stands at that
//! index of a few compact arrays: 14 bytes a statement and 6 a key, or 200 MB for ten million incidents that are
//! each triggered once ([`Ledger::bytes`]). Senders write what they asked and heard, the witness what arrived.
//!
//! * **lost**: answered 2xx at least once, never answered 2xx by the upstream (nor broken off in the middle of such an answer).
//! * **repeated**: delivered again under the same `event_uid`. At-least-once allows it, after lost answers and kills.
//! * **missed duplicate**: delivered again under another `event_uid`: two incidents where there is one.
//! * **reordered**: first delivered behind a later statement of its key. Senders say the next statement of a key only
//!   after the answer to the one before, so numbers are the order.
//! * **wrong**: key, action, integration, dialect or raw body is not what was sent.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::latency::Latencies;
use crate::results::LedgerCounts;

/// Statements of a run; beyond, the run ends. They are numbered in 32 bits, and the memory is bounded.
pub const STATEMENTS_AT_MOST: usize = 50_000_000;
/// Statements named in the results for each kind of fault.
const EXAMPLES: usize = 10;
/// The unit of the arrays' times.
const TICK: Duration = Duration::from_micros(100);

const ACCEPTED: u8 = 1;
const REFUSED: u8 = 2;
const UNANSWERED: u8 = 4;
const DELIVERED: u8 = 8;
/// The upstream began to answer 2xx and broke off: who asked may take it for delivered or not.
const PERHAPS: u8 = 16;

/// What the upstream did with a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// 2xx.
    Taken,
    /// The head of a 2xx, and then the end of the connection.
    BrokenOff,
    /// Anything else: it comes again.
    Refused,
}

/// Who says a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement {
    /// Number of the deduplication key.
    pub key: u32,
    /// Index in the scenario's mix.
    pub source: u8,
    pub resolve: bool,
    /// Index among the source's integrations.
    pub integration: u16,
}

/// See the module.
pub struct Ledger {
    start: Instant,
    key: Vec<u32>,
    /// Source, and the highest bit for a resolve.
    source: Vec<u8>,
    state: Vec<u8>,
    /// Hash of the `event_uid` of the first delivery.
    uid: Vec<u32>,
    /// Intended start, in ticks.
    intended: Vec<u32>,
    /// By key: the number after the highest delivered statement, 0 for none.
    newest_delivered: Vec<u32>,
    integration: Vec<u16>,
    owed: u64,
    accepted: u64,
    counts: LedgerCounts,
    delivery: Latencies,
}

impl Ledger {
    /// An empty one; times count from `start`.
    ///
    /// # Errors
    /// See [`Latencies::new`].
    pub fn new(start: Instant) -> anyhow::Result<Self> {
        Ok(Self {
            start,
            key: Vec::new(),
            source: Vec::new(),
            state: Vec::new(),
            uid: Vec::new(),
            intended: Vec::new(),
            newest_delivered: Vec::new(),
            integration: Vec::new(),
            owed: 0,
            accepted: 0,
            counts: LedgerCounts::default(),
            delivery: Latencies::new()?,
        })
    }

    /// The run begins: times count from now on.
    pub fn begin(&mut self, start: Instant) {
        self.start = start;
    }

    /// A new key of this integration.
    pub fn new_key(&mut self, integration: u16) -> u32 {
        self.newest_delivered.push(0);
        self.integration.push(integration);
        (self.newest_delivered.len() - 1) as u32
    }

    /// A new statement, about to be sent for the first time.
    pub fn state(&mut self, key: u32, source: u8, resolve: bool, intended: Instant) -> u32 {
        self.key.push(key);
        self.source.push(source | u8::from(resolve) << 7);
        self.state.push(0);
        self.uid.push(0);
        let ticks = intended.saturating_duration_since(self.start).as_micros() / TICK.as_micros();
        self.intended.push(u32::try_from(ticks).unwrap_or(u32::MAX));
        (self.key.len() - 1) as u32
    }

    /// Whether the ledger has no room for `more`.
    #[must_use]
    pub fn is_full(&self, more: usize) -> bool {
        self.key.len() + more > STATEMENTS_AT_MOST
    }

    /// Statements so far.
    #[must_use]
    pub fn statements(&self) -> u64 {
        self.key.len() as u64
    }

    /// Accepted and not delivered.
    #[must_use]
    pub fn owed(&self) -> u64 {
        self.owed
    }

    /// Statements delivered at least once.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.counts.delivered
    }

    /// A statement goes out once more.
    pub fn sent_again(&mut self, statements: u64) {
        self.counts.sent_again += statements;
    }

    /// A 2xx was read.
    pub fn accepted(&mut self, statement: u32) {
        let state = &mut self.state[statement as usize];
        if *state & ACCEPTED == 0 {
            *state |= ACCEPTED;
            self.accepted += 1;
            self.owed += u64::from(*state & (DELIVERED | PERHAPS) == 0);
        }
    }

    /// Another answer was read.
    pub fn refused(&mut self, statement: u32) {
        self.state[statement as usize] |= REFUSED;
    }

    /// No answer was read.
    pub fn unanswered(&mut self, statement: u32) {
        self.state[statement as usize] |= UNANSWERED;
    }

    /// Whose statement this is; `None` when it was never sent.
    #[must_use]
    pub fn statement(&self, number: u64) -> Option<Statement> {
        let index = usize::try_from(number).ok().filter(|index| *index < self.key.len())?;
        let key = self.key[index];
        let (source, resolve) = (self.source[index] & 0x7F, self.source[index] >> 7 == 1);
        Some(Statement { key, source, resolve, integration: self.integration[key as usize] })
    }

    /// It arrived, under this hash of its `event_uid`, and the upstream dealt with it so.
    pub fn arrived(&mut self, statement: u32, uid: u32, given: Given, now: Instant) {
        let index = statement as usize;
        let state = self.state[index];
        match given {
            Given::Refused => return,
            Given::BrokenOff => {
                if state & (DELIVERED | PERHAPS) == 0 {
                    self.settle(index, PERHAPS);
                }
                return;
            }
            Given::Taken => {}
        }
        if state & DELIVERED != 0 {
            if self.uid[index] == uid {
                self.counts.repeated += 1;
            } else {
                self.counts.missed_duplicates += 1;
                self.example("missed_duplicates", index);
            }
            return;
        }
        if state & PERHAPS == 0 {
            self.settle(index, DELIVERED);
        } else {
            self.state[index] |= DELIVERED;
        }
        self.uid[index] = uid;
        self.counts.delivered += 1;
        let intended = self.start + TICK * self.intended[index];
        self.delivery.record(now.saturating_duration_since(intended));
        let newest = &mut self.newest_delivered[self.key[index] as usize];
        if statement < *newest {
            self.counts.reordered += 1;
            self.example("reordered", index);
        } else {
            *newest = statement + 1;
        }
    }

    fn settle(&mut self, index: usize, how: u8) {
        self.owed -= u64::from(self.state[index] & ACCEPTED != 0);
        self.state[index] |= how;
    }

    /// What arrived is not what was sent.
    pub fn wrong(&mut self, what: String) {
        self.counts.wrong += 1;
        self.note("wrong", what);
    }

    /// It carries no mark of this run, or one that was never sent.
    pub fn foreign(&mut self) {
        self.counts.foreign += 1;
    }

    fn example(&mut self, fault: &str, index: usize) {
        let what = self.name(index);
        self.note(fault, what);
    }

    fn note(&mut self, fault: &str, what: String) {
        let examples = self.counts.examples.entry(fault.to_owned()).or_default();
        if examples.len() < EXAMPLES {
            examples.push(what);
        }
    }

    /// How a statement is named in examples: what to look for in logs and in the admin API.
    fn name(&self, index: usize) -> String {
        let action = if self.source[index] >> 7 == 1 { "resolve" } else { "trigger" };
        format!("statement {index:012x} ({action}, source {}, key {:08x})", self.source[index] & 0x7F, self.key[index])
    }

    /// Memory of the arrays, as allocated.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let statements = self.key.capacity() * 4
            + self.source.capacity()
            + self.state.capacity()
            + self.uid.capacity() * 4
            + self.intended.capacity() * 4;
        (statements + self.newest_delivered.capacity() * 4 + self.integration.capacity() * 2) as u64
    }

    /// The counts that are kept up as it goes; what was refused or never answered and delivered is not among them.
    #[must_use]
    pub fn quick_counts(&self) -> LedgerCounts {
        LedgerCounts {
            statements: self.statements(),
            accepted: self.accepted,
            lost: self.owed,
            bytes: self.bytes(),
            delivery: self.delivery.summary(),
            ..self.counts.clone()
        }
    }

    /// All counts, with one pass over the states.
    #[must_use]
    pub fn counts(&self) -> LedgerCounts {
        let mut counts = self.quick_counts();
        let mut lost = Vec::new();
        for (index, state) in self.state.iter().enumerate() {
            if state & ACCEPTED != 0 {
                counts.broken_off += u64::from(state & (DELIVERED | PERHAPS) == PERHAPS);
                if state & (DELIVERED | PERHAPS) == 0 && lost.len() < EXAMPLES {
                    lost.push(self.name(index));
                }
            } else if state & DELIVERED != 0 {
                if state & UNANSWERED != 0 {
                    counts.unanswered_delivered += 1;
                } else if state & REFUSED != 0 {
                    counts.refused_delivered += 1;
                }
            }
        }
        if !lost.is_empty() {
            counts.examples.insert("lost".to_owned(), lost);
        }
        counts
    }

    /// Times from intended start to delivery.
    #[must_use]
    pub fn delivery(&self) -> &Latencies {
        &self.delivery
    }

    /// Examples by fault, for texts.
    #[must_use]
    pub fn examples(&self) -> &BTreeMap<String, Vec<String>> {
        &self.counts.examples
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One thing that happens to one of few statements.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Accept,
        Refuse,
        Lose,
        Arrive(u32, Given),
    }

    fn step() -> impl Strategy<Value = (usize, Step)> {
        let given = prop_oneof![Just(Given::Taken), Just(Given::BrokenOff), Just(Given::Refused)];
        let step = prop_oneof![
            Just(Step::Accept),
            Just(Step::Refuse),
            Just(Step::Lose),
            (1..4_u32, given).prop_map(|(uid, given)| Step::Arrive(uid, given)),
        ];
        (0..12_usize, step)
    }

    proptest! {
        /// Against a model that keeps the whole history of each statement and judges it in the end.
        #[test]
        fn the_compact_ledger_counts_as_the_naive_one(steps in prop::collection::vec(step(), 0..200)) {
            let now = Instant::now();
            let mut ledger = Ledger::new(now).expect("ledger");
            for key in 0..4 {
                ledger.new_key(0);
                for resolve in [false, true, false] {
                    ledger.state(key, 0, resolve, now);
                }
            }
            let mut history: Vec<Vec<Step>> = vec![Vec::new(); 12];
            let mut first_deliveries: Vec<usize> = Vec::new();
            for (statement, step) in steps {
                match step {
                    Step::Accept => ledger.accepted(statement as u32),
                    Step::Refuse => ledger.refused(statement as u32),
                    Step::Lose => ledger.unanswered(statement as u32),
                    Step::Arrive(uid, given) => {
                        ledger.arrived(statement as u32, uid, given, now);
                        if given == Given::Taken && !first_deliveries.contains(&statement) {
                            first_deliveries.push(statement);
                        }
                    }
                }
                history[statement].push(step);
            }
            let mut naive = LedgerCounts::default();
            for (statement, history) in history.iter().enumerate() {
                let has = |wanted: fn(&Step) -> bool| history.iter().any(wanted);
                let accepted = has(|step| matches!(step, Step::Accept));
                let taken: Vec<u32> = history
                    .iter()
                    .filter_map(|step| match step { Step::Arrive(uid, Given::Taken) => Some(*uid), _ => None })
                    .collect();
                naive.accepted += u64::from(accepted);
                naive.delivered += u64::from(!taken.is_empty());
                naive.lost += u64::from(accepted && taken.is_empty()
                    && !has(|step| matches!(step, Step::Arrive(_, Given::BrokenOff))));
                naive.broken_off += u64::from(
                    accepted && taken.is_empty() && has(|step| matches!(step, Step::Arrive(_, Given::BrokenOff))),
                );
                naive.repeated += taken.iter().skip(1).filter(|uid| **uid == taken[0]).count() as u64;
                naive.missed_duplicates += taken.iter().skip(1).filter(|uid| **uid != taken[0]).count() as u64;
                if !accepted && !taken.is_empty() {
                    let lost_answer = has(|step| matches!(step, Step::Lose));
                    naive.unanswered_delivered += u64::from(lost_answer);
                    naive.refused_delivered +=
                        u64::from(!lost_answer && has(|step| matches!(step, Step::Refuse)));
                }
                let later_of_its_key = |other: &usize| *other / 3 == statement / 3 && *other > statement;
                let mine = first_deliveries.iter().position(|other| *other == statement);
                naive.reordered += u64::from(mine.is_some_and(|mine| first_deliveries[..mine].iter().any(later_of_its_key)));
            }
            let counts = ledger.counts();
            prop_assert_eq!(counts.accepted, naive.accepted);
            prop_assert_eq!(counts.delivered, naive.delivered);
            prop_assert_eq!(counts.lost, naive.lost);
            prop_assert_eq!(counts.broken_off, naive.broken_off);
            prop_assert_eq!(counts.repeated, naive.repeated);
            prop_assert_eq!(counts.missed_duplicates, naive.missed_duplicates);
            prop_assert_eq!(counts.reordered, naive.reordered);
            prop_assert_eq!(counts.unanswered_delivered, naive.unanswered_delivered);
            prop_assert_eq!(counts.refused_delivered, naive.refused_delivered);
        }
    }

    #[test]
    fn a_million_incidents_take_at_most_forty_bytes_each_while_the_arrays_grow() {
        let now = Instant::now();
        let mut ledger = Ledger::new(now).expect("ledger");
        for _ in 0..1_000_000 {
            let key = ledger.new_key(0);
            ledger.state(key, 0, false, now);
        }
        // 20 bytes in use; a growing vector has at most twice its length.
        assert!((20_000_000..=40_000_000).contains(&ledger.bytes()), "{}", ledger.bytes());
    }

    #[test]
    fn examples_name_what_was_lost() {
        let now = Instant::now();
        let mut ledger = Ledger::new(now).expect("ledger");
        let key = ledger.new_key(3);
        let statement = ledger.state(key, 5, true, now);
        ledger.accepted(statement);
        let counts = ledger.counts();
        assert_eq!((counts.lost, counts.examples["lost"].len()), (1, 1));
        assert_eq!(ledger.statement(0), Some(Statement { key, source: 5, resolve: true, integration: 3 }));
        assert_eq!(ledger.statement(1), None);
    }
}
