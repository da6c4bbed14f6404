//! `strace` over the binary: strikes at chosen system calls, and notes of what was called. Its counts
//! (`when=N`) are of one system call in one thread, so a place to strike is a thread, a call and a number.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::harness::{wait_at_most, wait_until};

/// Calls by which something reaches the disk, or the directory.
pub const DISK: &str = "write,writev,pwrite64,pwritev,pwritev2,copy_file_range,fallocate,ftruncate,fdatasync,fsync,\
                        sync_file_range,syncfs,openat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,unlink,unlinkat";

/// One call as noted.
#[derive(Clone, Debug)]
pub struct Call {
    pub thread: u32,
    pub name: String,
    pub arguments: String,
    /// What stands behind the `=`; empty when the call never ended.
    pub result: String,
    /// Lines of the notes in which it begins and ends: the order of calls over all threads.
    pub begins: usize,
    pub ends: usize,
}

impl Call {
    pub fn is_struck(&self) -> bool {
        self.result.contains("(INJECTED)")
    }

    pub fn succeeded(&self) -> bool {
        !self.result.is_empty() && !self.result.starts_with(['-', '?'])
    }

    /// The number it returned.
    pub fn returned(&self) -> Option<u64> {
        self.result.split([' ', '<']).next()?.parse().ok()
    }

    /// The file that its descriptor stands for, or that it names first.
    pub fn path(&self) -> Option<&str> {
        if let Some(rest) = self.arguments.split_once('<').map(|(_, rest)| rest).filter(|_| !self.names_a_file()) {
            return rest.split('>').next();
        }
        self.arguments.split('"').nth(1)
    }

    fn names_a_file(&self) -> bool {
        ["openat", "mkdir", "mkdirat", "unlink", "unlinkat", "rename", "renameat", "renameat2", "link", "linkat"]
            .contains(&self.name.as_str())
    }
}

/// Options that do `what` (`signal=KILL`, `error=EIO`) at the nth call of this name.
pub fn strike(call: &str, nth: usize, what: &str) -> Vec<String> {
    vec!["-e".to_owned(), format!("inject={call}:{what}:when={nth}")]
}

/// Options that note these calls, of each string at most so many bytes.
pub fn note(calls: &str, bytes: usize) -> Vec<String> {
    ["-y", "-s", &bytes.to_string(), "-e", &format!("trace={calls}"), "-e", "signal=none"].map(str::to_owned).to_vec()
}

/// The command that runs another one, with all its threads, under `strace`; its own process becomes the other's.
pub fn under(notes: &Path, options: &[String]) -> Vec<String> {
    let mut words = ["strace", "-D", "-f", "-qq", "-o", &notes.display().to_string()].map(str::to_owned).to_vec();
    words.extend_from_slice(options);
    words
}

/// `strace` on a running process or one thread of it. It ends with what it watches; dropped: it lets go.
pub struct Watch {
    child: Child,
    notes: PathBuf,
}

impl Watch {
    /// With the threads it has and will have.
    pub fn process(pid: u32, notes: &Path, options: &[String]) -> Self {
        Self::start(pid, &["-f"], notes, options, &threads(pid).into_keys().collect::<Vec<_>>())
    }

    /// One thread alone.
    pub fn thread(pid: u32, thread: u32, notes: &Path, options: &[String]) -> Self {
        let _ = std::fs::remove_file(notes);
        Self::start(pid, &[], notes, &[options, &["-p".to_owned(), thread.to_string()]].concat(), &[thread])
    }

    fn start(pid: u32, mode: &[&str], notes: &Path, options: &[String], wait_for: &[u32]) -> Self {
        let mut command = Command::new("strace");
        command.arg("-qq").args(mode).arg("-o").arg(notes).args(options);
        if !mode.is_empty() {
            command.args(["-p", &pid.to_string()]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("strace");
        let traced = |thread: &u32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/status"));
            // One that is gone is not waited for.
            status.is_err() || status.is_ok_and(|text| !text.contains("TracerPid:\t0\n"))
        };
        wait_until("strace to take hold", || wait_for.iter().all(traced));
        // It has asked the last of them to stop, and none works yet.
        std::thread::sleep(Duration::from_millis(10));
        Self { child, notes: notes.to_owned() }
    }

    /// Its notes, once it has ended with what it watched.
    pub fn calls(mut self) -> Vec<Call> {
        wait_at_most(Duration::from_secs(20), "the end of strace", || self.child.try_wait().unwrap());
        calls(&self.notes)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Gone already in most cases. It lets go of what it watched when it is told to end.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
            let _ = self.child.wait();
        }
    }
}

/// Threads of a process by their ids, with their names.
pub fn threads(pid: u32) -> HashMap<u32, String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let named = tasks.filter_map(|task| {
        let task = task.ok()?;
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        Some((task.file_name().to_str()?.parse().ok()?, name.trim().to_owned()))
    });
    named.collect()
}

/// Reads notes.
pub fn calls(notes: &Path) -> Vec<Call> {
    let bytes = std::fs::read(notes).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut calls: Vec<Call> = Vec::new();
    let mut open = HashMap::<u32, usize>::new();
    for (at, line) in text.lines().enumerate() {
        let (thread, rest) = match line.split_once(' ') {
            Some((digits, rest)) if digits.parse::<u32>().is_ok() => (digits.parse().unwrap(), rest.trim_start()),
            _ => (0, line),
        };
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let Some(call) = open.remove(&thread).and_then(|index| calls.get_mut(index)) else { continue };
            let rest = resumed.split_once(" resumed>").map_or("", |(_, rest)| rest);
            let (arguments, result) = rest.rsplit_once(") ").unwrap_or((rest, ""));
            call.arguments.push_str(arguments);
            call.result = result.trim_start().trim_start_matches("= ").to_owned();
            call.ends = at;
            continue;
        }
        // Exits and signals are no calls.
        let Some((name, rest)) = rest.split_once('(').filter(|_| !rest.starts_with(['+', '-'])) else { continue };
        let (arguments, result, unfinished) = match rest.strip_suffix(" <unfinished ...>") {
            Some(arguments) => (arguments, "", true),
            None => {
                let (arguments, result) = rest.rsplit_once(" = ").unwrap_or((rest, ""));
                (arguments.trim_end().trim_end_matches(')'), result, false)
            }
        };
        if unfinished {
            open.insert(thread, calls.len());
        }
        let [name, arguments, result] = [name, arguments, result].map(str::to_owned);
        calls.push(Call { thread, name, arguments, result, begins: at, ends: at });
    }
    calls
}

/// A call as a place to strike: the nth of its name in its thread.
pub struct Step {
    pub thread: u32,
    pub call: String,
    pub nth: usize,
}

/// The calls of the threads that write to the log, in order. What such a thread did before it came to the log
/// (libraries, configuration) is only counted.
pub fn steps(calls: &[Call], touches: impl Fn(&Call) -> bool) -> Vec<Step> {
    // Others open a file of the log at most to read it.
    let writes = |call: &&Call| call.name != "openat" && touches(call);
    let writers: HashSet<u32> = calls.iter().filter(writes).map(|call| call.thread).collect();
    let mut counts = HashMap::<(u32, &str), usize>::new();
    let mut at_work = HashSet::<u32>::new();
    let mut steps = Vec::new();
    for call in calls.iter().filter(|call| writers.contains(&call.thread)) {
        let nth = counts.entry((call.thread, &call.name)).or_default();
        *nth += 1;
        if touches(call) {
            at_work.insert(call.thread);
        }
        if at_work.contains(&call.thread) {
            steps.push(Step { thread: call.thread, call: call.name.clone(), nth: *nth });
        }
    }
    steps
}

/// As [`steps`] of a whole process, of which only the first thread that comes to the nth call of a name can be struck:
/// those before which the main thread has made as many are left out, and none is there twice.
pub fn first_steps(calls: &[Call], touches: impl Fn(&Call) -> bool) -> Vec<Step> {
    let main = calls.first().map(|call| call.thread);
    let by_main = |name: &str| calls.iter().filter(|call| Some(call.thread) == main && call.name == name).count();
    let mut seen = HashSet::new();
    let mut steps = steps(calls, touches);
    steps.retain(|step| Some(step.thread) == main || step.nth > by_main(&step.call));
    steps.retain(|step| seen.insert((step.call.clone(), step.nth)));
    steps
}

#[test]
fn notes_are_read_as_they_stand() {
    let directory = tempfile::TempDir::new().unwrap();
    let notes = directory.path().join("notes");
    let text = "12 openat(AT_FDCWD</>, \"/d/s/1.log\", O_RDWR|O_CREAT, 0600) = 13</d/s/1.log>\n\
                12 pwrite64(13</d/s/1.log>, \"a) = 1\"..., 4096, 0 <unfinished ...>\n\
                13 fsync(9</d/s>) = -1 EIO (Input/output error) (INJECTED)\n\
                12 <... pwrite64 resumed>)              = 4096\n\
                13 --- SIGTERM {si_signo=SIGTERM} ---\n\
                13 write(4<anon_inode:[eventfd]>, \"\\1\", 8) = ?\n\
                13 +++ killed by SIGKILL +++\n";
    std::fs::write(&notes, text).unwrap();
    let read = calls(&notes);
    let names: Vec<_> = read.iter().map(|call| (call.thread, call.name.as_str())).collect();
    assert_eq!(names, [(12, "openat"), (12, "pwrite64"), (13, "fsync"), (13, "write")]);
    assert_eq!(read[0].path(), Some("/d/s/1.log"));
    assert!(read[0].succeeded() && read[0].returned() == Some(13));
    assert_eq!((read[1].begins, read[1].ends, read[1].returned()), (1, 3, Some(4096)));
    assert_eq!(read[1].path(), Some("/d/s/1.log"));
    assert!(read[2].is_struck() && !read[2].succeeded() && read[2].path() == Some("/d/s"));
    assert!(!read[3].succeeded());
}
