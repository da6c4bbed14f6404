//! Where a run takes place: the machine, its load before the run, and the tree the server comes from. Called by `drive.rs`.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::results::Environment;

/// What can be told before the run.
pub(super) fn look() -> Environment {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let after_colon = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let memory_kib: u64 = after_colon(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
    Environment {
        started_at: jiff::Timestamp::now().to_string(),
        processor: after_colon(&read("/proc/cpuinfo"), "model name"),
        cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        memory_bytes: memory_kib * 1024,
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        load_average: read("/proc/loadavg").split(' ').next().and_then(|one| one.parse().ok()).unwrap_or(0.0),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: std::env::args().collect(),
        ..Environment::default()
    }
}

/// The commit of the tree that a binary was built in, when it stands in one.
pub(super) fn commit_of(binary: &Path) -> Option<String> {
    let directory = binary.parent()?;
    let git = |arguments: &[&str]| {
        let output =
            Command::new("git").arg("-C").arg(directory).args(arguments).stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).filter(|commit| !commit.is_empty())?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|changes| !changes.is_empty());
    Some(if changed { format!("{commit} with changes") } else { commit })
}
