//! D3 and D7: the power goes. SIGKILL keeps the page cache and so proves nothing about syncing; here the spool stands
//! on a small ext4 of its own. At a random moment the process is stopped, its disk is copied as it would be found
//! without power, and the process goes on from the copy alone: the file system replays its journal, the log its
//! records, nobody lends a hand, and nothing that was answered 2xx is missing.
//!
//! A disk has a cache that it loses, too: what was written past the page cache, as the log writes, is not yet kept. So
//! that ext4 stands in a file on a second ext4, in a file again, and it is the outer one that is copied. The page
//! cache of the outer file system plays the disk's cache: only a flush from the inner one, which comes of a sync,
//! takes its content to where the copy finds it.
//!
//! `SURGEGATE_TORTURE_POWER` sets the number of losses, `TEST_SEED` makes a run's choices again.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use tempfile::TempDir;

use crate::crash::{configuration, figure, spawn_on};
use crate::faults::{Fault, Upstream};
use crate::fleet::{Fleet, ToldByKey, judge};
use crate::harness::{Surgegate, alone, seed, signal, try_scrape, wait_until};

const DISK_BYTES: u64 = 64 << 20;
/// With room for its own journal.
const OUTER_BYTES: u64 = 80 << 20;
const CLIENTS: usize = 6;
/// A disk is made anew after so many losses: its log grows.
const LOSSES_A_DISK: usize = 10;

/// A file system in a file, in a file system in a file. Dropped: unmounted, and with them go their loop devices.
struct LoopDisk {
    directory: TempDir,
    /// Where something is mounted, the outer one first.
    mounted: Vec<PathBuf>,
}

impl LoopDisk {
    fn make() -> Self {
        let mut disk = Self { directory: TempDir::new().unwrap(), mounted: Vec::new() };
        for place in [disk.outer(), disk.at()] {
            std::fs::create_dir(place).unwrap();
        }
        make_file_system(&disk.image(), OUTER_BYTES);
        disk.mount_one(&disk.image(), &disk.outer());
        // Every block of it is there from the start: a flush has its content to write and nothing else.
        std::fs::write(disk.inner_image(), vec![0; usize::try_from(DISK_BYTES).unwrap()]).unwrap();
        make_file_system(&disk.inner_image(), DISK_BYTES);
        run(Command::new("sync").arg("--file-system").arg(disk.outer()));
        disk.mount_one(&disk.inner_image(), &disk.at());
        disk
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    fn outer(&self) -> PathBuf {
        self.directory.path().join("outer")
    }

    fn inner_image(&self) -> PathBuf {
        self.outer().join("image")
    }

    fn at(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    fn mount_one(&mut self, image: &Path, at: &Path) {
        run(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(image).arg(at));
        self.mounted.push(at.to_owned());
    }

    fn unmount(&mut self) {
        while let Some(at) = self.mounted.last() {
            wait_until("the file system to be let go", || {
                Command::new("umount").arg(at).output().unwrap().status.success()
            });
            self.mounted.pop();
        }
    }

    /// What of it would be found after a loss of power now. Whoever writes to it has been stopped; the kernel goes on
    /// by itself, and a copy it wrote into is no moment's image: it is made again.
    fn copy(&self, rng: &mut Rng) -> PathBuf {
        let copy = self.directory.path().join(format!("copy-{}", rng.u32(..)));
        loop {
            std::fs::copy(self.image(), &copy).unwrap();
            if same(&self.image(), &copy) {
                return copy;
            }
        }
    }

    /// The power is back, and the disk is as it was in `copy`.
    fn come_back_as(&mut self, copy: &Path) {
        self.unmount();
        std::fs::rename(copy, self.image()).unwrap();
        self.mount_one(&self.image(), &self.outer());
        self.mount_one(&self.inner_image(), &self.at());
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        for at in self.mounted.iter().rev() {
            // Lazily: after a failure its process may still be at its end.
            let _ = Command::new("umount").arg("--lazy").arg(at).status();
        }
    }
}

fn make_file_system(image: &Path, bytes: u64) {
    File::options().create(true).truncate(false).write(true).open(image).unwrap().set_len(bytes).unwrap();
    run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(image));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} (this test must run as root): {said}");
}

fn same(one: &Path, other: &Path) -> bool {
    let (mut one, mut other) = (File::open(one).unwrap(), File::open(other).unwrap());
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    one.seek(SeekFrom::Start(0)).unwrap();
    loop {
        let count = one.read(&mut left).unwrap();
        if count == 0 {
            return true;
        }
        if other.read_exact(&mut right[..count]).is_err() || left[..count] != right[..count] {
            return false;
        }
    }
}

#[derive(Debug, Default)]
struct Found {
    losses: usize,
    /// Losses that found requests unanswered, events waiting, and the process before it was ready.
    asking: usize,
    waiting: usize,
    in_recovery: usize,
    broken: usize,
    scrapes: usize,
    events: usize,
}

#[test]
fn a_loss_of_power_at_any_moment_loses_nothing_that_was_answered() {
    let _alone = alone();
    let mut rng = Rng::with_seed(seed());
    let losses = figure("SURGEGATE_TORTURE_POWER", 10);
    let mut found = Found::default();
    for round in 0..losses.div_ceil(LOSSES_A_DISK) {
        let losses = LOSSES_A_DISK.min(losses - found.losses);
        lose_power(round, losses, &mut rng, &mut found);
    }
    eprintln!("Found {found:?}");
    assert!(found.asking * 2 > losses && found.waiting * 2 > losses, "few losses found work: {found:?}");
    assert!(found.broken > 0 && found.scrapes * 2 > losses, "{found:?}");
}

fn lose_power(round: usize, losses: usize, rng: &mut Rng, found: &mut Found) {
    let mut disk = LoopDisk::make();
    // Half of what comes is not taken before the power is back for good: it must come from the disk.
    let upstream = Upstream::scripted(|arrival| match arrival.title.len() % 2 {
        0 => Fault::After(Duration::from_millis(5), 200),
        _ => Fault::Answer(503),
    });
    let spool = format!("spool: {{ directory: '{}', max_bytes: 40MiB }}\n", disk.at().join("spool").display());
    let mut surgegate = Surgegate::start(&[&configuration(&upstream.url(), "connections: 8"), &spool]);
    let mut fleet = Fleet::new(&surgegate);
    fleet.padding = 500;
    let told: ToldByKey = std::thread::scope(|scope| {
        let ends = fleet.ends();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|id| {
                let (fleet, rng) = (&fleet, Rng::with_seed(rng.u64(..)));
                scope.spawn(move || fleet.client(&format!("{round}-{id}"), rng))
            })
            .collect();
        scope.spawn(|| fleet.scrape());
        for _ in 0..losses {
            // A random moment is the point here.
            std::thread::sleep(Duration::from_millis(rng.u64(20..300)));
            let waiting = try_scrape(surgegate.observe_address()).map_or(0, |scrape| scrape.count("spool_events", &[]));
            found.waiting += usize::from(waiting > 0);
            std::thread::sleep(Duration::from_micros(rng.u64(..5000)));
            signal("STOP", surgegate.pid());
            found.asking += usize::from(fleet.asking.load(Ordering::Relaxed) > 0);
            // A call that was under way when it was stopped ends first.
            wait_until("its threads to stop", || is_stopped(surgegate.pid()));
            let copy = disk.copy(rng);
            fleet.move_to(None);
            surgegate.kill();
            disk.come_back_as(&copy);
            if rng.u8(..3) == 0 {
                found.in_recovery += 1;
                // What recovery has done so far may be lost again.
                let mut child = spawn_on(&surgegate);
                std::thread::sleep(Duration::from_millis(rng.u64(..40)));
                signal("STOP", child.id());
                wait_until("its threads to stop", || is_stopped(child.id()));
                let copy = disk.copy(rng);
                child.kill().unwrap();
                child.wait().unwrap();
                disk.come_back_as(&copy);
            }
            surgegate.start_again();
            fleet.move_to(Some(&surgegate));
            found.losses += 1;
        }
        drop(ends);
        clients.into_iter().flat_map(|client| client.join().expect("a client failed")).collect()
    });
    // The last loss is judged by what the disk alone holds.
    upstream.tell(|_| Fault::Answer(200));
    signal("STOP", surgegate.pid());
    wait_until("its threads to stop", || is_stopped(surgegate.pid()));
    let copy = disk.copy(rng);
    surgegate.kill();
    disk.come_back_as(&copy);
    surgegate.start_again();
    let scrape = surgegate.wait_until_delivered();
    judge(&told, &upstream.arrivals(), &scrape);
    assert_eq!(scrape.count("spool_damaged_records_total", &[]), 0, "a loss of power is no damage");
    found.events += told.values().map(Vec::len).sum::<usize>();
    found.broken += fleet.broken.load(Ordering::Relaxed);
    found.scrapes += fleet.scrapes.load(Ordering::Relaxed);
    // Its files are closed before the file system is let go.
    surgegate.kill();
    disk.unmount();
}

/// Every thread stands still, and none is in the middle of a call to the disk.
fn is_stopped(pid: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok())
        .all(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
}
