//! The writer thread: takes what has gathered, writes it with one call, syncs once, and tells everybody.
//! Only here an event is committed or refused after its hand-over (DESIGN 5.1).

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::files::{self, Segment};
use super::linger::{FEW, Linger};
use super::pending::{Batch, Health, Owed, Waiting, queued};
use super::reader::with_view;
use super::{Answer, Core, Durability, Outlet, Queued, Rejected};
use crate::outcome::Reason;

/// Latest a settlement is committed: what a crash repeats is what was in flight plus this (DESIGN 4).
const SETTLE_WITHIN: Duration = Duration::from_millis(50);
/// Latest that memory is written (`durability: memory`).
const MEMORY_WITHIN: Duration = Duration::from_millis(5);
/// So much is written without waiting further.
const WRITE_AT: usize = 1 << 20;
/// After a failed write. Accepting again must come within 1 s of space (PROMISES D5).
const AGAIN: Duration = Duration::from_millis(100);

/// A batch that was tried and is not on disk.
struct Failed {
    batch: Batch,
    /// Chunks of it that are.
    written: usize,
    error: io::Error,
}

pub(super) struct Writer {
    core: Arc<Core>,
    outlet: Option<Arc<dyn Outlet>>,
    /// The segment that is written now.
    file: Option<(u32, Segment)>,
    /// Highest segment that was ever written to.
    attempted: u32,
    /// Something was written since the start.
    proven: bool,
    linger: Linger,
    failed: Option<Failed>,
    spare: Batch,
    queued: Vec<Queued>,
    rejected: Vec<Rejected>,
    answers: Vec<Vec<Answer>>,
}

impl Writer {
    pub(super) fn new(core: Arc<Core>, last_segment: u32) -> Self {
        let answers = core.mailboxes.iter().map(|_| vec![]).collect();
        Self {
            core,
            outlet: None,
            file: None,
            attempted: last_segment,
            proven: false,
            linger: Linger::default(),
            failed: None,
            spare: Batch::default(),
            queued: vec![],
            rejected: vec![],
            answers,
        }
    }

    pub(super) fn with_outlet(mut self, outlet: Arc<dyn Outlet>) -> Self {
        self.outlet = Some(outlet);
        self
    }

    /// Until the store is closed and everything is written.
    pub(super) fn run(mut self) {
        loop {
            self.try_again();
            if self.failed.is_some() {
                std::thread::sleep(AGAIN);
                continue;
            }
            let Some(batch) = self.gather() else { break };
            self.commit(batch);
        }
        self.leave();
    }

    /// What `run` does next, without its waits: for tests that go through a failure call by call.
    #[cfg(test)]
    pub(super) fn step(&mut self) {
        if self.failed.is_some() {
            return self.try_again();
        }
        let gathered = {
            let mut pending = self.core.lock();
            (!pending.is_empty()).then(|| self.core.take(&mut pending, &mut self.spare))
        };
        if let Some(batch) = gathered {
            self.commit(batch);
        }
    }

    #[cfg(test)]
    pub(super) fn failure(&self) -> Option<&io::Error> {
        self.failed.as_ref().map(|failed| &failed.error)
    }

    fn commit(&mut self, batch: Batch) {
        let started = Instant::now();
        let mut written = 0;
        match self.write(&batch, &mut written) {
            Ok(()) => {
                self.core.metrics.spool_sync_seconds.observe(started.elapsed().as_secs_f64());
                if !self.proven {
                    // The start could not make a segment, and now there is one.
                    self.core.lock().resume();
                    self.proven = true;
                }
                self.finish(batch);
            }
            Err(error) => self.fails(Failed { batch, written, error }),
        }
    }

    fn fails(&mut self, failed: Failed) {
        self.core.metrics.spool_write_failures.inc();
        self.failed = Some(failed);
    }

    /// One try to write what failed.
    fn try_again(&mut self) {
        match self.failed.take() {
            Some(failed) if self.core.durability == Durability::Memory => self.retry(failed),
            Some(failed) => self.begin_again(failed),
            None => {}
        }
    }

    /// Waits until a commit is due; `None` when closing and nothing is left.
    fn gather(&mut self) -> Option<Batch> {
        let core = Arc::clone(&self.core);
        let within = match core.durability {
            Durability::Fsync => SETTLE_WITHIN,
            Durability::Memory => MEMORY_WITHIN,
        };
        let mut pending = core.lock();
        let mut lingers = None;
        loop {
            if pending.cut_wanted && pending.is_empty() {
                let cut = pending.cut();
                core.give_cut(cut);
            }
            if pending.health == Health::Closing {
                return (!pending.is_empty()).then(|| core.take(&mut pending, &mut self.spare));
            }
            let waiting = pending.batch.waiting.len();
            let nap = if waiting > 0 {
                let since = *lingers.get_or_insert_with(Instant::now);
                let wait = self.linger.wait_for(waiting, core.is_idle(), since.elapsed());
                wait.map(|wait| (Some(wait.at_most), wait.gathered, usize::MAX))
            } else if let Some(since) = pending.batch.since {
                let left = within.saturating_sub(since.elapsed());
                let due = left.is_zero() || pending.bytes() >= WRITE_AT;
                (!due && !pending.cut_wanted).then_some((Some(left), 1, WRITE_AT))
            } else {
                Some((None, 1, 1))
            };
            let Some((time, wake_waiting, wake_bytes)) = nap else {
                return Some(core.take(&mut pending, &mut self.spare));
            };
            pending.sleeping = true;
            core.few_wait.store((1..FEW).contains(&waiting), Ordering::Release);
            pending.wake_waiting = wake_waiting;
            pending.wake_bytes = wake_bytes;
            pending = match time {
                Some(time) => core.wake.wait_timeout(pending, time).unwrap_or_else(PoisonError::into_inner).0,
                None => core.wake.wait(pending).unwrap_or_else(PoisonError::into_inner),
            };
            pending.sleeping = false;
            core.few_wait.store(false, Ordering::Release);
        }
    }

    /// Writes the chunks behind the first `written`, and counts them there: a segment that is done is not to be had
    /// again.
    fn write(&mut self, batch: &Batch, written: &mut usize) -> io::Result<()> {
        for (chunk, bytes) in batch.parts().skip(*written) {
            let file = match self.file.take() {
                Some((id, file)) if id == chunk.segment => file,
                left => {
                    // Answered without sync; at least the order of segments holds on disk.
                    if let Some((_, file)) = left.filter(|_| self.core.durability == Durability::Memory) {
                        self.core.disk.sync(file.file())?;
                    }
                    let file = self.core.take_segment(chunk.segment)?;
                    self.attempted = self.attempted.max(chunk.segment);
                    file
                }
            };
            let (_, file) = self.file.insert((chunk.segment, file));
            self.core.disk.write(file, bytes, chunk.at)?;
            if self.core.durability == Durability::Fsync {
                self.core.disk.sync(file.file())?;
            }
            *written += 1;
        }
        Ok(())
    }

    /// The batch is durable: first the states and the forwarder know, then the senders.
    fn finish(&mut self, mut batch: Batch) {
        self.core.written(&mut batch);
        self.core.recent.put(&mut batch);
        self.queued.append(&mut batch.queued);
        self.rejected.append(&mut batch.rejected);
        for Waiting { owed, sequence, at, lane, worker, answer } in batch.waiting.drain(..) {
            let accepted = match owed {
                Owed::Event(placed, shows) => {
                    let (accepted, left) = placed.accept(sequence, with_view(at, shows));
                    self.queued.extend(queued(left, sequence, at, lane));
                    accepted
                }
                Owed::Rejected(kept) => {
                    let (accepted, letter) = kept.keep();
                    self.rejected.push(letter);
                    accepted
                }
            };
            self.answer(worker, (answer, Ok(accepted)));
        }
        if let Some(cut) = batch.cut.take() {
            // Its states are those of the ledger, which has heard of the batch only now.
            self.core.give_cut(cut);
        }
        if let Some(outlet) = &self.outlet {
            if !self.queued.is_empty() {
                outlet.push(&mut self.queued);
            }
            if !self.rejected.is_empty() {
                outlet.keep_rejected(&mut self.rejected);
            }
        }
        self.queued.clear();
        self.rejected.clear();
        self.deliver();
        self.spare = batch;
    }

    fn answer(&mut self, worker: usize, answer: Answer) {
        let workers = self.answers.len();
        if let Some(answers) = self.answers.get_mut(worker % workers) {
            answers.push(answer);
        }
    }

    /// One wake for all that wait on a worker: waking a foreign runtime costs a system call each.
    fn deliver(&mut self) {
        for (mailbox, answers) in self.core.mailboxes.iter().zip(&mut self.answers) {
            mailbox.put(answers);
        }
    }

    fn refuse(&mut self, refused: Vec<Waiting>, reason: Reason) {
        for Waiting { owed, worker, answer, .. } in refused {
            match owed {
                Owed::Event(placed, _) => placed.refuse(reason),
                Owed::Rejected(kept) => kept.ticket.reject(reason),
            }
            self.answer(worker, (answer, Err(reason)));
        }
        self.deliver();
    }

    /// A write or sync failed: that segment takes nothing more, who waits is refused, and a fresh segment
    /// must be synced, with the void range in it, before anything is accepted again.
    fn begin_again(&mut self, failed: Failed) {
        let reason = reason_of(&failed.error);
        tracing::error!(error = %failed.error, segment = self.attempted, "the spool cannot be written; new events are refused");
        self.file = None;
        let (refused, batch) = {
            let mut pending = self.core.lock();
            let again = pending.begin_again(failed.batch, self.attempted.saturating_add(1), reason);
            self.core.segment_began(&mut pending);
            again
        };
        self.refuse(refused, reason);
        let before = self.attempted;
        match self.write(&batch, &mut 0) {
            Ok(()) => {
                let mut batch = batch;
                self.core.written(&mut batch);
                self.core.lock().resume();
                tracing::warn!(segment = self.attempted, "the spool is written again");
            }
            Err(error) => {
                // What was in it stands in no promise yet and is written once more.
                self.file = None;
                (before..self.attempted).for_each(|id| self.core.disk.remove(id + 1));
                if self.core.lock().health != Health::Closing {
                    self.fails(Failed { batch, written: 0, error });
                }
            }
        }
    }

    /// `durability: memory`: these are answered, so they stay and are tried again where they belong.
    fn retry(&mut self, mut failed: Failed) {
        {
            let mut pending = self.core.lock();
            if pending.health == Health::Closing {
                tracing::error!(events = failed.batch.queued.len(), "events that were accepted in memory are lost");
                return;
            }
            if pending.health == Health::Serving {
                tracing::error!(error = %failed.error, "the spool cannot be written; accepted events wait in memory");
            }
            pending.health = Health::Failed(reason_of(&failed.error));
        }
        match self.write(&failed.batch, &mut failed.written) {
            Ok(()) => {
                self.core.lock().resume();
                self.finish(failed.batch);
            }
            Err(error) => self.fails(Failed { error, ..failed }),
        }
    }

    /// The last act: what stands behind the end is given back.
    fn leave(self) {
        let (segment, end) = self.core.lock().tail();
        if let Some((id, file)) = self.file
            && id == segment
            && self.core.disk.sync(file.file()).is_ok()
        {
            // Everything is synced already.
            let _ = self.core.disk.cut(id, u64::from(end));
        }
    }
}

fn reason_of(error: &io::Error) -> Reason {
    if files::is_full(error) { Reason::SpoolFull } else { Reason::SpoolFailed }
}
