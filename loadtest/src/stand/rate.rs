//! A vendor's rate limit: at most N requests of a scope in any stretch of time. Called by `stand.rs`.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::units::parse_duration;

/// Credentials and alert sources; a further one is told that it has used up its rate.
const SCOPES_AT_MOST: usize = 10_000;
/// One window holds a time for each request.
const REQUESTS_AT_MOST: usize = 100_000;

/// `--rate 120/60s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub requests: usize,
    pub per: Duration,
}

/// Reads a rate.
///
/// # Errors
/// A text for the user.
pub fn parse(text: &str) -> Result<Rate, String> {
    let (requests, per) = text.split_once('/').ok_or_else(|| format!("`{text}` is not of the form 120/60s"))?;
    let requests = match requests.parse() {
        Ok(number @ 1..=REQUESTS_AT_MOST) => number,
        _ => return Err(format!("`{requests}`: not a number of 1 to {REQUESTS_AT_MOST}")),
    };
    match parse_duration(per)? {
        Duration::ZERO => Err("a rate needs a duration above zero".to_owned()),
        per => Ok(Rate { requests, per }),
    }
}

/// How far a scope has used its rate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    pub(super) limit: usize,
    pub(super) used: usize,
    pub(super) per: Duration,
    /// Whole seconds until a request fits again, or until all are forgotten; at least 1.
    pub(super) reset_seconds: u32,
}

/// The requests of each scope that still count.
#[derive(Default)]
pub(super) struct Windows {
    taken: HashMap<String, VecDeque<Instant>>,
}

impl Windows {
    /// Takes a request: Err when the rate is used up, and then it does not count.
    pub(super) fn take(&mut self, rate: Rate, scope: &str, now: Instant) -> Result<Usage, Usage> {
        if self.taken.len() >= SCOPES_AT_MOST && !self.taken.contains_key(scope) {
            return Err(Usage { limit: rate.requests, used: rate.requests, per: rate.per, reset_seconds: 1 });
        }
        let taken = self.taken.entry(scope.to_owned()).or_default();
        while taken.front().is_some_and(|&at| now.saturating_duration_since(at) >= rate.per) {
            taken.pop_front();
        }
        let fits = taken.len() < rate.requests;
        if fits {
            taken.push_back(now);
        }
        let oldest = taken.front().copied().unwrap_or(now);
        let left = (oldest + rate.per).saturating_duration_since(now);
        let usage = Usage {
            limit: rate.requests,
            used: taken.len(),
            per: rate.per,
            reset_seconds: u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1),
        };
        if fits { Ok(usage) } else { Err(usage) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_holds_in_any_stretch_and_for_each_scope() {
        let rate = parse("2/10s").expect("a rate");
        let mut windows = Windows::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(windows.take(rate, "a", at(0)).is_ok());
        assert!(windows.take(rate, "a", at(6)).is_ok());
        let usage = windows.take(rate, "a", at(7)).expect_err("the third");
        assert_eq!((usage.used, usage.reset_seconds), (2, 3));
        assert!(windows.take(rate, "b", at(7)).is_ok(), "another scope");
        assert!(windows.take(rate, "a", at(10)).is_ok(), "the first has left");
        assert!(windows.take(rate, "a", at(15)).is_err(), "the second is still there");
    }

    #[test]
    fn odd_rates_are_refused() {
        for wrong in ["", "5", "0/1s", "5/0s", "x/1s", "5/1", "100001/1s"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
