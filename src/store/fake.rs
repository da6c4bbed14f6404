//! A file system in memory that keeps what POSIX promises and no more: what was not synced is there after a power
//! loss, or is not, sector by sector. Calls fail on demand. The same seed and the same calls give the same.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::files::calls::{Access, Entry, File, Files, Held};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
/// What space is given out in.
const BLOCK: u64 = 4096;

/// Which calls a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Allocate,
    Create,
    List,
    Open,
    Read,
    Remove,
    Rename,
    SetLen,
    Sync,
    SyncDirectory,
    Write,
    /// Making a directory, looking at a size, taking a lock.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The device fails (EIO). A write has done some of its work; after a sync nobody knows.
    Io,
    /// No space (ENOSPC).
    Full,
    /// A read or write does less than it was asked for, and says so.
    Short,
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Self::Full => io::ErrorKind::StorageFull.into(),
            Self::Io | Self::Short => io::Error::other("injected"),
        }
    }
}

/// How it ends for a process, and for the file system it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    PowerLoss,
    /// Of the process alone: what was written is there, synced or not.
    Kill,
}

/// What the file system makes of writes past the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direct {
    Taken,
    RefusedAtOpen,
    RefusedAtWrite,
}

#[derive(Clone)]
struct Planned {
    call: Call,
    /// So many are spared first.
    after: u32,
    times: u32,
    fault: Fault,
}

#[derive(Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Length(usize),
}

/// A file, whatever its name.
#[derive(Clone, Default)]
struct Node {
    /// As it reads now.
    live: Vec<u8>,
    /// As it is when none of `changes` is.
    durable: Vec<u8>,
    /// Since the last sync.
    changes: Vec<Change>,
    reserved: u64,
    open: u32,
}

/// How many of the changes to each sector a power loss leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    None,
    All,
    /// Up to some change everything, of that one some sectors.
    Torn,
    /// Each sector has its own story.
    Any,
}

impl Node {
    fn apply(bytes: &mut Vec<u8>, change: &Change, mut takes: impl FnMut(usize) -> bool) {
        match change {
            Change::Write { at, bytes: written } => {
                let mut from = 0;
                while from < written.len() {
                    let sector = (at + from) / SECTOR;
                    let to = written.len().min((sector + 1) * SECTOR - at);
                    if let Some(place) = bytes.get_mut(at + from..at + to)
                        && takes(sector)
                    {
                        place.copy_from_slice(&written[from..to]);
                    }
                    from = to;
                }
            }
            Change::Length(length) => {
                if *length > bytes.len() {
                    bytes.resize(*length, 0);
                }
                // What was cut off reads as zeros if the file is made longer again.
                let mut from = *length;
                while from < bytes.len() {
                    let sector = from / SECTOR;
                    let to = bytes.len().min((sector + 1) * SECTOR);
                    if takes(sector) {
                        bytes[from..to].fill(0);
                    }
                    from = to;
                }
            }
        }
    }

    fn change(&mut self, change: Change) {
        Self::apply(&mut self.live, &change, |_| true);
        if let Change::Length(length) = change {
            self.live.truncate(length);
        }
        self.changes.push(change);
    }

    /// Everything in `changes` becomes durable. What a failed sync forgot does not.
    fn sync(&mut self) {
        for change in std::mem::take(&mut self.changes) {
            Self::apply(&mut self.durable, &change, |_| true);
            if let Change::Length(length) = change {
                self.durable.truncate(length);
            }
        }
    }

    /// What a power loss now leaves.
    fn left(&self, left: Left, random: &mut fastrand::Rng) -> Vec<u8> {
        let count = self.changes.len();
        let all_before = random.usize(..=count);
        let mut stories = BTreeMap::new();
        let mut bytes = self.durable.clone();
        let mut length = bytes.len();
        let lengths = match left {
            Left::None => 0,
            Left::All => count,
            Left::Torn => all_before,
            Left::Any => random.usize(..=count),
        };
        for (index, change) in self.changes.iter().enumerate() {
            Self::apply(&mut bytes, change, |sector| match left {
                Left::None => false,
                Left::All => true,
                Left::Torn => index < all_before || index == all_before && random.bool(),
                // What came last at a sector stands there, whatever came before it.
                Left::Any => index < *stories.entry(sector).or_insert_with(|| random.usize(..=count)),
            });
            if let Change::Length(changed) = change
                && index < lengths
            {
                length = *changed;
            }
        }
        bytes.resize(length, 0);
        bytes
    }

    /// After a failed sync the system takes what it has for written, whether it is or not.
    fn fail_sync(&mut self, random: &mut fastrand::Rng) {
        let left = [Left::None, Left::All, Left::Torn, Left::Any][random.usize(..4)];
        self.durable = self.left(left, random);
        self.changes.clear();
        // What was in memory may have made room for something else meanwhile.
        if random.bool() && self.live.len() == self.durable.len() {
            self.live = self.durable.clone();
        }
    }

    /// What a failed sync left unknown is decided.
    fn remember(&mut self, random: &mut fastrand::Rng) {
        let mut next = Self { live: self.durable.clone(), durable: self.durable.clone(), ..Self::default() };
        for change in &self.changes {
            next.change(change.clone());
        }
        if next.live == self.live {
            return;
        }
        if random.bool() && next.live.len() == self.live.len() {
            self.live = next.live;
        } else {
            self.durable = self.live.clone();
            self.changes.clear();
        }
    }

    fn bytes(&self) -> u64 {
        self.reserved.max(self.live.len() as u64).next_multiple_of(BLOCK)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Child {
    Directory,
    File(u64),
}

/// A change to directories that is durable when one of those it touches was synced.
#[derive(Clone)]
enum Move {
    Link(String, Child),
    Unlink(String),
    /// Whole or not at all, as on every file system with a journal.
    Rename(String, String, Child),
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

impl Move {
    fn touches(&self, directory: &str) -> bool {
        match self {
            Self::Link(path, _) | Self::Unlink(path) => parent(path) == directory,
            Self::Rename(from, to, _) => parent(from) == directory || parent(to) == directory,
        }
    }

    fn apply(&self, names: &mut BTreeMap<String, Child>) {
        match self {
            Self::Link(path, child) => {
                names.insert(path.clone(), *child);
            }
            Self::Unlink(path) => {
                names.remove(path);
            }
            Self::Rename(from, to, child) => {
                names.remove(from);
                names.insert(to.clone(), *child);
            }
        }
    }
}

#[derive(Clone)]
struct State {
    nodes: BTreeMap<u64, Node>,
    live: BTreeMap<String, Child>,
    durable: BTreeMap<String, Child>,
    moves: Vec<Move>,
    locks: BTreeSet<String>,
    planned: Vec<Planned>,
    struck: u32,
    /// Calls that found no room.
    full: u32,
    capacity: Option<u64>,
    direct: Direct,
    random: fastrand::Rng,
    /// In so many calls.
    ends_in: Option<(u32, End)>,
    /// It has ended, and this is left.
    left: Option<Box<State>>,
}

impl State {
    fn file(&self, path: &str) -> io::Result<u64> {
        match self.live.get(path) {
            Some(Child::File(id)) => Ok(*id),
            Some(Child::Directory) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.entry(id).or_default()
    }

    fn is_directory(&self, path: &str) -> io::Result<()> {
        match path.is_empty() || self.live.get(path) == Some(&Child::Directory) {
            true => Ok(()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn step(&mut self, step: Move) {
        step.apply(&mut self.live);
        self.moves.push(step);
    }

    fn sync_directory(&mut self, directory: &str) {
        let (synced, left) = std::mem::take(&mut self.moves).into_iter().partition(|step| step.touches(directory));
        self.moves = left;
        let synced: Vec<Move> = synced;
        synced.iter().for_each(|step| step.apply(&mut self.durable));
    }

    fn used(&self) -> u64 {
        let named = |id: &u64| self.live.values().any(|child| *child == Child::File(*id));
        self.nodes.iter().filter(|(id, node)| node.open > 0 || named(id)).map(|(_, node)| node.bytes()).sum()
    }

    /// Whether `id` may grow to `bytes`.
    fn room(&mut self, id: u64, bytes: u64) -> io::Result<()> {
        let own = self.nodes.get(&id).map_or(0, Node::bytes);
        let more = bytes.next_multiple_of(BLOCK).saturating_sub(own);
        if more == 0 || self.capacity.is_none_or(|capacity| self.used() + more <= capacity) {
            return Ok(());
        }
        self.full += 1;
        Err(Fault::Full.error())
    }

    /// What is left when the power goes now.
    fn crashed(&mut self) -> Self {
        let random = &mut self.random;
        let how = |random: &mut fastrand::Rng| [Left::None, Left::All, Left::Torn, Left::Any][random.usize(..4)];
        let mut names = self.durable.clone();
        let left = how(random);
        let before = random.usize(..=self.moves.len());
        for (index, step) in self.moves.iter().enumerate() {
            let kept = match left {
                Left::None => false,
                Left::All => true,
                Left::Torn => index < before,
                Left::Any => random.bool(),
            };
            if kept {
                step.apply(&mut names);
            }
        }
        let reachable = |path: &String| parent(path).is_empty() || names.get(parent(path)) == Some(&Child::Directory);
        let names: BTreeMap<_, _> =
            names.iter().filter(|(path, _)| reachable(path)).map(|(p, c)| (p.clone(), *c)).collect();
        let mut nodes = BTreeMap::new();
        for child in names.values() {
            if let Child::File(id) = child
                && let Some(node) = self.nodes.get(id)
            {
                let bytes = node.left(how(random), random);
                let node = Node { live: bytes.clone(), durable: bytes, reserved: node.reserved, ..Node::default() };
                nodes.insert(*id, node);
            }
        }
        Self { nodes, live: names.clone(), durable: names, moves: vec![], ..self.restarted() }
    }

    /// As another process finds it.
    fn restarted(&mut self) -> Self {
        let mut next = Self {
            locks: BTreeSet::new(),
            planned: vec![],
            struck: 0,
            full: 0,
            ends_in: None,
            left: None,
            ..self.clone()
        };
        for node in next.nodes.values_mut() {
            node.open = 0;
            node.remember(&mut self.random);
        }
        next.random = self.random.fork();
        next
    }

    fn end(&mut self, end: End) {
        if self.left.is_none() {
            let left = match end {
                End::PowerLoss => self.crashed(),
                End::Kill => self.restarted(),
            };
            self.left = Some(Box::new(left));
        }
    }

    fn fault(&mut self, call: Call) -> Option<Fault> {
        let planned = self.planned.iter_mut().find(|planned| planned.call == call && planned.times > 0)?;
        if planned.after > 0 {
            planned.after -= 1;
            return None;
        }
        planned.times -= 1;
        // A short call is no failure.
        self.struck += u32::from(planned.fault != Fault::Short);
        Some(planned.fault)
    }
}

/// The file system; clones are the same one.
#[derive(Clone)]
pub(super) struct Fake(Arc<Mutex<State>>);

struct FakeFile {
    system: Fake,
    id: u64,
    access: Option<Access>,
}

struct FakeLock(Fake, String);

impl Held for FakeLock {}

impl Drop for FakeLock {
    fn drop(&mut self) {
        self.0.lock().locks.remove(&self.1);
    }
}

impl Drop for FakeFile {
    fn drop(&mut self) {
        self.system.lock().node(self.id).open -= 1;
    }
}

impl Fake {
    pub(super) fn new(seed: u64) -> Self {
        Self::of(State {
            nodes: BTreeMap::new(),
            live: BTreeMap::new(),
            durable: BTreeMap::new(),
            moves: vec![],
            locks: BTreeSet::new(),
            planned: vec![],
            struck: 0,
            full: 0,
            capacity: None,
            direct: Direct::Taken,
            random: fastrand::Rng::with_seed(seed),
            ends_in: None,
            left: None,
        })
    }

    fn of(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_direct(&self, direct: Direct) {
        self.lock().direct = direct;
    }

    /// The `after`-th such call from now on fails (0: the next), and those behind it, `times` in all.
    pub(super) fn fail(&self, call: Call, after: u32, times: u32, fault: Fault) {
        self.lock().planned.push(Planned { call, after, times, fault });
    }

    /// No call fails from now on.
    pub(super) fn heal(&self) {
        self.lock().planned.clear();
    }

    /// Calls that a fault struck so far.
    pub(super) fn struck(&self) -> u32 {
        self.lock().struck
    }

    /// Calls that found no room so far.
    pub(super) fn full(&self) -> u32 {
        self.lock().full
    }

    /// Room for so many bytes; `None`: for all.
    pub(super) fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// Bytes that are taken.
    pub(super) fn used(&self) -> u64 {
        self.lock().used()
    }

    /// Bytes of all files that have a name.
    pub(super) fn bytes(&self) -> u64 {
        let state = self.lock();
        let files = state.live.values().filter_map(|child| match child {
            Child::File(id) => state.nodes.get(id),
            Child::Directory => None,
        });
        files.map(|node| node.live.len() as u64).sum()
    }

    /// It ends in the middle of the call that comes after `calls` others.
    pub(super) fn end_in(&self, calls: u32, end: End) {
        self.lock().ends_in = Some((calls, end));
    }

    pub(super) fn has_ended(&self) -> bool {
        self.lock().left.is_some()
    }

    /// What the next start finds; `end` is now, unless it came before. All calls to this one fail from now on.
    pub(super) fn after(&self, end: End) -> Self {
        let mut state = self.lock();
        state.end(end);
        Self::of(state.left.as_deref().expect("it has ended").clone())
    }

    fn call<T>(&self, call: Call, act: impl FnOnce(&mut State, Option<Fault>) -> io::Result<T>) -> io::Result<T> {
        let gone = || Err(io::Error::other("ended"));
        let mut state = self.lock();
        if state.left.is_some() {
            return gone();
        }
        let ends = state.ends_in.filter(|(calls, _)| *calls == 0).map(|(_, end)| end);
        state.ends_in = state.ends_in.and_then(|(calls, end)| Some((calls.checked_sub(1)?, end)));
        if ends == Some(End::Kill) {
            state.end(End::Kill);
            return gone();
        }
        let cut = ends.is_some();
        if cut && matches!(call, Call::Sync | Call::SyncDirectory) {
            // A sync that did not end may have done anything that a power loss may.
            state.end(End::PowerLoss);
            return gone();
        }
        let fault = state.fault(call);
        let result = act(&mut state, fault);
        if cut {
            state.end(End::PowerLoss);
        }
        // A handle that nobody gets wants the lock when it goes.
        drop(state);
        if cut { gone() } else { result }
    }

    /// A call that a fault keeps from doing anything.
    fn whole<T>(&self, call: Call, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        self.call(call, |state, fault| match fault {
            Some(fault) => Err(fault.error()),
            None => act(state),
        })
    }

    fn handle(&self, state: &mut State, id: u64, access: Option<Access>) -> Box<dyn File> {
        state.node(id).open += 1;
        Box::new(FakeFile { system: self.clone(), id, access })
    }
}

impl Files for Fake {
    fn make_directory(&self, path: &str) -> io::Result<()> {
        self.whole(Call::Other, |state| {
            let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
            for path in ends.map(|end| &path[..end]) {
                match state.live.get(path) {
                    Some(Child::Directory) => {}
                    Some(Child::File(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
                    None => state.step(Move::Link(path.to_owned(), Child::Directory)),
                }
            }
            Ok(())
        })
    }

    fn list(&self, directory: &str) -> io::Result<Vec<Entry>> {
        self.whole(Call::List, |state| {
            state.is_directory(directory)?;
            let inside = state.live.iter().filter(|(path, _)| parent(path) == directory);
            let entry = |(path, child): (&String, &Child)| Entry {
                name: path.rsplit('/').next().unwrap_or_default().to_owned(),
                bytes: match child {
                    Child::Directory => None,
                    Child::File(id) => state.nodes.get(id).map(|node| node.live.len() as u64),
                },
            };
            Ok(inside.map(entry).collect())
        })
    }

    fn sync_directory(&self, path: &str) -> io::Result<()> {
        self.whole(Call::SyncDirectory, |state| {
            state.is_directory(path)?;
            state.sync_directory(path);
            Ok(())
        })
    }

    fn size(&self, path: &str) -> io::Result<u64> {
        self.whole(Call::Other, |state| {
            let id = state.file(path)?;
            Ok(state.node(id).live.len() as u64)
        })
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn File>> {
        self.whole(Call::Create, |state| {
            state.is_directory(parent(path))?;
            if state.live.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let id = state.nodes.keys().next_back().map_or(0, |last| last + 1);
            state.step(Move::Link(path.to_owned(), Child::File(id)));
            Ok(self.handle(state, id, None))
        })
    }

    fn open(&self, path: &str, access: Access) -> io::Result<Box<dyn File>> {
        self.whole(Call::Open, |state| {
            let id = state.file(path)?;
            if access == Access::Direct && state.direct == Direct::RefusedAtOpen {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            Ok(self.handle(state, id, Some(access)))
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.whole(Call::Rename, |state| {
            state.is_directory(parent(to))?;
            let id = state.file(from)?;
            state.step(Move::Rename(from.to_owned(), to.to_owned(), Child::File(id)));
            Ok(())
        })
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.whole(Call::Remove, |state| {
            state.file(path)?;
            state.step(Move::Unlink(path.to_owned()));
            Ok(())
        })
    }

    fn lock(&self, path: &str) -> io::Result<Option<Box<dyn Held>>> {
        self.whole(Call::Other, |state| {
            if !state.live.contains_key(path) {
                let id = state.nodes.keys().next_back().map_or(0, |last| last + 1);
                state.node(id);
                state.step(Move::Link(path.to_owned(), Child::File(id)));
            }
            let taken = state.locks.insert(path.to_owned());
            Ok(taken.then(|| Box::new(FakeLock(self.clone(), path.to_owned())) as Box<dyn Held>))
        })
    }
}

impl FakeFile {
    fn allows(&self, writes: bool) -> io::Result<()> {
        let allowed = match self.access {
            None => true,
            Some(Access::Read) => !writes,
            Some(Access::Write | Access::Direct) => writes,
        };
        if allowed { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

impl File for FakeFile {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        self.allows(false)?;
        self.system.call(Call::Read, |state, fault| {
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            let there = state.nodes.get(&self.id).and_then(|node| node.live.get(at..)).unwrap_or_default();
            let most = match fault {
                None => bytes.len(),
                Some(Fault::Short) => bytes.len().div_ceil(2),
                Some(fault) => return Err(fault.error()),
            };
            let count = there.len().min(most);
            bytes[..count].copy_from_slice(&there[..count]);
            Ok(count)
        })
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.allows(true)?;
        self.system.call(Call::Write, |state, fault| {
            if self.access == Some(Access::Direct) {
                let aligned = at.is_multiple_of(SECTOR as u64)
                    && bytes.len().is_multiple_of(SECTOR)
                    && bytes.as_ptr().align_offset(SECTOR) == 0;
                if !aligned || state.direct == Direct::RefusedAtWrite {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
            }
            let start = usize::try_from(at).unwrap_or(usize::MAX);
            let (taken, outcome) = match fault {
                None => (bytes.len(), Ok(bytes.len())),
                Some(Fault::Short) => {
                    let sectors = state.random.usize(1..=bytes.len().div_ceil(SECTOR));
                    let taken = bytes.len().min(sectors * SECTOR);
                    (taken, Ok(taken))
                }
                Some(fault @ Fault::Full) => (0, Err(fault.error())),
                Some(fault @ Fault::Io) => {
                    (state.random.usize(..=bytes.len().div_ceil(SECTOR)) * SECTOR, Err(fault.error()))
                }
            };
            let taken = &bytes[..taken.min(bytes.len())];
            let end = start + taken.len();
            state.room(self.id, end as u64)?;
            let node = state.node(self.id);
            if !taken.is_empty() {
                if end > node.live.len() {
                    node.change(Change::Length(end));
                }
                node.change(Change::Write { at: start, bytes: taken.to_vec() });
            }
            outcome
        })
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.allows(true)?;
        self.system.whole(Call::Allocate, |state| {
            state.room(self.id, bytes)?;
            let node = state.node(self.id);
            node.reserved = node.reserved.max(bytes);
            let length = usize::try_from(bytes).unwrap_or(usize::MAX);
            if length > node.live.len() {
                node.change(Change::Length(length));
            }
            Ok(())
        })
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.allows(true)?;
        self.system.whole(Call::SetLen, |state| {
            let node = state.node(self.id);
            node.reserved = node.reserved.min(bytes);
            node.change(Change::Length(usize::try_from(bytes).unwrap_or(usize::MAX)));
            Ok(())
        })
    }

    fn size(&self) -> io::Result<u64> {
        self.system.whole(Call::Other, |state| Ok(state.node(self.id).live.len() as u64))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.system.call(Call::Sync, |state, fault| {
            let State { nodes, random, .. } = state;
            let node = nodes.entry(self.id).or_default();
            match fault {
                None => node.sync(),
                Some(_) => node.fail_sync(random),
            }
            fault.map_or(Ok(()), |fault| Err(fault.error()))
        })
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }
}

mod tests {
    use super::*;

    /// What comes of it, over many seeds.
    fn outcomes<T: Ord>(make: impl Fn(&Fake) -> T) -> BTreeSet<T> {
        let made = |seed| {
            let fake = Fake::new(seed);
            fake.make_directory("spool").unwrap();
            fake.sync_directory("").unwrap();
            make(&fake)
        };
        (0..100).map(made).collect()
    }

    fn content(fake: &Fake, path: &str) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(fake.size(path).ok()?).unwrap()];
        fake.open(path, Access::Read).unwrap().read_exact_at(&mut bytes, 0).unwrap();
        Some(bytes)
    }

    #[test]
    fn a_sector_that_was_not_synced_is_old_or_new_and_what_was_synced_stays() {
        let left = outcomes(|fake| {
            let file = fake.create("spool/a").unwrap();
            file.write_all_at(&[b'a'; 4 * SECTOR], 0).unwrap();
            file.sync_data().unwrap();
            fake.sync_directory("spool").unwrap();
            file.write_all_at(&[b'b'; 2 * SECTOR], SECTOR as u64).unwrap();
            let bytes = content(&fake.after(End::PowerLoss), "spool/a").unwrap();
            let sectors = bytes.chunks(SECTOR).map(|sector| {
                assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is written whole");
                char::from(sector[0])
            });
            sectors.collect::<String>()
        });
        assert_eq!(left, ["aaaa", "aaba", "abaa", "abba"].map(str::to_owned).into());
    }

    #[test]
    fn a_file_is_there_for_sure_when_its_directory_was_synced() {
        let left = |syncs: bool| {
            outcomes(|fake| {
                let file = fake.create("spool/a").unwrap();
                file.write_all_at(b"a", 0).unwrap();
                file.sync_all().unwrap();
                if syncs {
                    fake.sync_directory("spool").unwrap();
                }
                content(&fake.after(End::PowerLoss), "spool/a")
            })
        };
        assert_eq!(left(true), [Some(b"a".to_vec())].into());
        assert_eq!(left(false), [None, Some(b"a".to_vec())].into());
    }

    #[test]
    fn a_rename_is_there_whole_or_not_at_all() {
        let left = outcomes(|fake| {
            for (path, bytes) in [("spool/old", b"1"), ("spool/new", b"2")] {
                let file = fake.create(path).unwrap();
                file.write_all_at(bytes, 0).unwrap();
                file.sync_all().unwrap();
            }
            fake.sync_directory("spool").unwrap();
            fake.rename("spool/new", "spool/old").unwrap();
            let after = fake.after(End::PowerLoss);
            (content(&after, "spool/old"), content(&after, "spool/new"))
        });
        let (one, two) = (Some(b"1".to_vec()), Some(b"2".to_vec()));
        assert_eq!(left, [(one, two.clone()), (two, None)].into());
    }

    #[test]
    fn after_a_failed_sync_nobody_knows_and_another_sync_does_not_help() {
        let left = outcomes(|fake| {
            let file = fake.create("spool/a").unwrap();
            file.set_len(1).unwrap();
            file.sync_all().unwrap();
            fake.sync_directory("spool").unwrap();
            file.write_all_at(b"a", 0).unwrap();
            fake.fail(Call::Sync, 0, 1, Fault::Io);
            assert!(file.sync_data().is_err());
            assert!(file.sync_data().is_ok());
            let after = fake.after(End::PowerLoss);
            content(&after, "spool/a")
        });
        assert_eq!(left, [Some(vec![0]), Some(b"a".to_vec())].into());
    }

    #[test]
    fn a_kill_loses_nothing_that_was_written() {
        let left = outcomes(|fake| {
            fake.create("spool/a").unwrap().write_all_at(b"a", 0).unwrap();
            let killed = fake.after(End::Kill);
            assert!(fake.size("spool/a").is_err(), "the process is gone");
            content(&killed, "spool/a")
        });
        assert_eq!(left, [Some(b"a".to_vec())].into());
    }

    #[test]
    fn space_is_there_where_it_was_reserved() {
        let fake = Fake::new(1);
        fake.set_capacity(Some(8 * BLOCK));
        let (file, other) = (fake.create("a").unwrap(), fake.create("b").unwrap());
        file.allocate(6 * BLOCK).unwrap();
        assert_eq!(other.allocate(3 * BLOCK).unwrap_err().kind(), io::ErrorKind::StorageFull);
        other.write_all_at(&[1; 2 * 4096], 0).unwrap();
        assert_eq!(other.write_all_at(&[1], 2 * BLOCK).unwrap_err().kind(), io::ErrorKind::StorageFull);
        file.write_all_at(&[1; 6 * 4096], 0).unwrap();
        assert_eq!((fake.used(), fake.full()), (8 * BLOCK, 2));
        fake.remove("b").unwrap();
        assert_eq!(fake.used(), 8 * BLOCK, "still open");
        drop(other);
        assert_eq!(fake.used(), 6 * BLOCK);
    }

    #[test]
    fn planned_calls_fail_and_the_end_comes_when_it_was_planned() {
        let fake = Fake::new(1);
        fake.fail(Call::Create, 1, 2, Fault::Full);
        let made = ["a", "b", "c", "d"].map(|path| fake.create(path).is_ok());
        assert_eq!((made, fake.struck()), ([true, false, false, true], 2));
        fake.end_in(1, End::PowerLoss);
        assert!(fake.create("e").is_ok() && !fake.has_ended());
        assert!(fake.create("f").is_err() && fake.has_ended());
        assert!(fake.create("g").is_err());
    }

    #[test]
    fn a_seed_always_makes_the_same() {
        let left = |_| {
            let fake = Fake::new(7);
            let file = fake.create("a").unwrap();
            (0..20).for_each(|at| file.write_all_at(&[at; 700], u64::from(at) * 300).unwrap());
            fake.sync_directory("").unwrap();
            content(&fake.after(End::PowerLoss), "a")
        };
        assert_eq!(left(1), left(2));
    }
}
