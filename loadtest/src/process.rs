//! CPU time of a process from `/proc/PID/stat`, all its threads together.
//! Called by [`crate::saturate`] on both sides of the measured window, and by [`crate::run`] to
//! watch its own thread.

use std::time::Duration;

use anyhow::Context;

/// The unit of `/proc/PID/stat`: USER_HZ, which the kernel fixes at 100 for user space on every
/// architecture we build for, whatever its own tick is.
const TICKS_A_SECOND: u64 = 100;

/// Whose time is read.
#[derive(Debug, Clone, Copy)]
pub enum Process {
    /// The load generator itself.
    Own,
    Pid(u32),
}

/// User and system time a process has used since its start, in steps of 10 ms.
///
/// # Errors
/// The process does not exist, or the file is not in the kernel's form.
pub fn cpu_time(process: Process) -> anyhow::Result<Duration> {
    let path = match process {
        Process::Own => "/proc/self/stat".to_owned(),
        Process::Pid(pid) => format!("/proc/{pid}/stat"),
    };
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let ticks = parse_ticks(&text).with_context(|| format!("{path} has an unknown form"))?;
    Ok(Duration::from_millis(ticks.saturating_mul(1000 / TICKS_A_SECOND)))
}

/// Resident memory of a process.
#[must_use]
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Open descriptors of a process.
#[must_use]
pub fn descriptors(pid: u32) -> Option<u64> {
    std::fs::read_dir(format!("/proc/{pid}/fd")).ok().map(|entries| entries.count() as u64)
}

/// Hold-ups are the server's, unless the generator's thread ran for more than this share of the
/// time (then it queued its own answers) or waited for a core for more than the other share.
const MOST_RUNNING: f64 = 0.90;
const MOST_WAITING: f64 = 0.10;
/// Share of requests held up below which nothing is asked: it cannot move a p99.
const FEW_HELD_UP: f64 = 0.01;

/// What a thread asked of the machine since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    pub running: Duration,
    /// Ready to run, while another had the core.
    pub waiting: Duration,
}

/// The demand of the calling thread; `None` where the kernel does not tell.
#[must_use]
pub fn thread_demand() -> Option<Demand> {
    parse_schedstat(&std::fs::read_to_string("/proc/thread-self/schedstat").ok()?)
}

/// Whether the generator lacked CPU while requests were held up: then the figures are not the server's. `running`, `waiting`:
/// shares of the time, as [`Demand`] tells them.
#[must_use]
pub fn is_starved(started: u64, held_up: u64, running: Option<f64>, waiting: Option<f64>) -> bool {
    held_up as f64 > FEW_HELD_UP * started as f64
        && (running.is_some_and(|share| share > MOST_RUNNING) || waiting.is_some_and(|share| share > MOST_WAITING))
}

/// Nanoseconds on a core, nanoseconds waiting for one, and a count.
fn parse_schedstat(text: &str) -> Option<Demand> {
    let mut fields = text.split_ascii_whitespace();
    let mut next = || Some(Duration::from_nanos(fields.next()?.parse().ok()?));
    Some(Demand { running: next()?, waiting: next()? })
}

/// utime + stime: the 14th and 15th field. The 2nd is the program's name in parentheses and may
/// itself hold blanks and parentheses, so counting starts behind the last `)`.
fn parse_ticks(text: &str) -> Option<u64> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_a_name_with_blanks_and_parentheses() {
        let text = "42 (a) b (c)) S 1 42 42 0 -1 4194304 500 0 3 0 120 45 7 8 20 0 4 0 100 9 9";
        assert_eq!(parse_ticks(text), Some(165));
        assert_eq!(parse_ticks("42 (x) S 1 2"), None);
    }

    #[test]
    fn demand_is_running_then_waiting() {
        let demand = parse_schedstat("1000 500 7\n").expect("well formed");
        assert_eq!((demand.running.as_nanos(), demand.waiting.as_nanos()), (1000, 500));
        assert_eq!(parse_schedstat("1000"), None);
    }

    #[test]
    fn own_cpu_time_can_be_read() {
        assert!(cpu_time(Process::Own).is_ok());
    }

    #[test]
    fn hold_ups_are_the_servers_unless_the_generator_lacked_cpu() {
        assert!(!is_starved(1000, 900, Some(0.5), Some(0.05)), "a slow server");
        assert!(is_starved(1000, 900, Some(0.95), Some(0.0)), "a generator at its limit");
        assert!(is_starved(1000, 900, Some(0.5), Some(0.3)), "a shared core");
        assert!(!is_starved(1000, 10, Some(0.95), Some(0.3)), "nothing was held up");
        assert!(!is_starved(1000, 900, None, None), "the kernel does not tell");
    }
}
