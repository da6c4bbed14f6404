//! What an upstream's answer means for the events of a request (contracts 7.1), and the forms of
//! `Retry-After`. Sinks differ in what they call permanent; the rest is common.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderValue, RETRY_AFTER};

use crate::event::{Micros, Uid};
use crate::store::Remote;

/// A hold asked for is at least this long: a stale date or 0 must not make a hot loop.
const HOLD_MIN: Duration = Duration::from_secs(1);
/// A hold is at most this long (contracts 7.1).
const HOLD_MAX: Duration = Duration::from_secs(3600);
/// Hold for a `Retry-After` that cannot be read (contracts 7.1).
const HOLD_UNREADABLE: Duration = Duration::from_secs(10);

/// Numbers from here on are Unix times (2001), smaller ones seconds.
const UNIX_TIME_MIN: u64 = 1_000_000_000;

/// An upstream's answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// At most 64 KiB are read.
    pub body: Bytes,
    /// False when the body was cut: by its end, an error, or our limit.
    pub complete: bool,
}

impl Answer {
    pub fn new(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new(), complete: true }
    }
}

/// What is asked to wait, and for how long; `None` leaves it to the backoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The event's lane.
    Lane(Option<Duration>),
    /// The whole upstream (429).
    Upstream(Option<Duration>),
}

/// What becomes of the events of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// With what the upstream calls the incident, where the answer says so.
    Delivered(Option<Remote>),
    /// Delivered but for these.
    Partly(Vec<Failed>),
    /// A success that says not everything arrived, but not readably what: several events are sent again one by one.
    Unclear,
    /// Permanent: several events are tried again one by one, a single one becomes a dead letter.
    Refused,
    /// Not now. A `Hold::Lane` on many lanes at once says that the upstream itself is in trouble.
    Retry(Hold),
}

/// One event of a batch that did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    pub event_uid: Uid,
    pub status: u16,
    /// Permanent: it becomes a dead letter; else it is tried again.
    pub refused: bool,
}

/// The common reading: any 2xx delivers, `permanent` refuses, 429 holds the upstream, 503 with
/// `Retry-After` the lane, everything else (redirects too, which are not followed) is tried again.
pub(super) fn judge(answer: &Answer, permanent: &[u16], now: Micros) -> Verdict {
    let status = answer.status;
    if status.is_success() {
        return Verdict::Delivered(None);
    }
    if permanent.contains(&status.as_u16()) {
        return Verdict::Refused;
    }
    let after = answer.headers.get(RETRY_AFTER).map(|value| retry_after(value.as_bytes(), now));
    let after = after.or_else(|| spent(answer, now));
    let hold = match status {
        StatusCode::TOO_MANY_REQUESTS => Hold::Upstream(after),
        StatusCode::SERVICE_UNAVAILABLE => Hold::Lane(after),
        _ => Hold::Lane(None),
    };
    Verdict::Retry(hold)
}

/// How long the upstream takes nothing more, where its answer, of whatever status, says that this one spent what it takes:
/// `X-RateLimit-Remaining: 0` with `X-RateLimit-Reset` (Unix time, or seconds from now), or Opsgenie's
/// `X-RateLimit-State: THROTTLED` with `X-RateLimit-Period-In-Sec`. At most 1 h.
pub fn spent(answer: &Answer, now: Micros) -> Option<Duration> {
    let text = |name| answer.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::trim);
    let number = |name| text(name).and_then(|text| text.parse::<u64>().ok());
    let wait = if number("x-ratelimit-remaining") == Some(0) {
        let reset = number("x-ratelimit-reset")?;
        let now_s = u64::try_from(now.0 / 1_000_000).unwrap_or(0);
        if reset >= UNIX_TIME_MIN { reset.saturating_sub(now_s) } else { reset }
    } else if text("x-ratelimit-state").is_some_and(|state| state.eq_ignore_ascii_case("throttled")) {
        number("x-ratelimit-period-in-sec")?
    } else {
        return None;
    };
    (wait > 0).then(|| Duration::from_secs(wait).min(HOLD_MAX))
}

/// Reads `Retry-After`: seconds, an IMF-fixdate, or one that ends in `UTC`; at least 1 s, at most 1 h,
/// 10 s when it cannot be read (contracts 7.1).
pub fn retry_after(value: &[u8], now: Micros) -> Duration {
    let text = std::str::from_utf8(value).unwrap_or_default().trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else if let Some(at) = http_date(text) {
        Duration::from_micros(u64::try_from(at.0.saturating_sub(now.0)).unwrap_or(0))
    } else {
        HOLD_UNREADABLE
    };
    wait.clamp(HOLD_MIN, HOLD_MAX)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, or `UTC` at its end as an older incident.io wrote it.
fn http_date(text: &str) -> Option<Micros> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

    let (_weekday, rest) = text.split_once(", ")?;
    let mut words = rest.split_ascii_whitespace();
    let day: i8 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| name.eq_ignore_ascii_case(month))?;
    let year: i16 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<i8>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let zone = words.next()?;
    if !(zone == "GMT" || zone == "UTC") || words.next().is_some() {
        return None;
    }
    let at = jiff::civil::DateTime::new(year, i8::try_from(month + 1).ok()?, day, hour, minute, second, 0).ok()?;
    Some(Micros(jiff::tz::Offset::UTC.to_timestamp(at).ok()?.as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thu, 17 Apr 2025 11:17:00 UTC.
    const NOW: Micros = Micros(1_744_888_620_000_000);

    #[test]
    fn retry_after_is_read_in_every_form_senders_use() {
        for (text, seconds) in [
            ("7", 7),
            (" 7 ", 7),
            ("0", 1),
            ("86400", 3600),
            ("99999999999999999999999", 3600),
            ("Thu, 17 Apr 2025 11:17:18 GMT", 18),
            ("Thu, 17 Apr 2025 11:17:18 UTC", 18),
            ("Thu, 17 Apr 2025 11:00:00 GMT", 1),
            ("Fri, 18 Apr 2025 11:17:18 GMT", 3600),
            ("Thu, 17 Apr 2025 11:17:18 CEST", 10),
            ("Thu, 99 Apr 2025 11:17:18 GMT", 10),
            ("-3", 10),
            ("1.5", 10),
            ("soon", 10),
            ("", 10),
        ] {
            assert_eq!(retry_after(text.as_bytes(), NOW), Duration::from_secs(seconds), "{text:?}");
        }
    }

    fn with_retry_after(status: u16, value: &'static str) -> Answer {
        let mut answer = Answer::new(StatusCode::from_u16(status).unwrap());
        answer.headers.insert(RETRY_AFTER, hyper::header::HeaderValue::from_static(value));
        answer
    }

    #[test]
    fn a_429_holds_the_upstream_and_a_503_the_lane() {
        let judged = |answer: &Answer| judge(answer, &[400], NOW);
        let three = Some(Duration::from_secs(3));
        assert_eq!(judged(&with_retry_after(429, "3")), Verdict::Retry(Hold::Upstream(three)));
        assert_eq!(judged(&Answer::new(StatusCode::TOO_MANY_REQUESTS)), Verdict::Retry(Hold::Upstream(None)));
        assert_eq!(judged(&with_retry_after(503, "3")), Verdict::Retry(Hold::Lane(three)));
        assert_eq!(judged(&with_retry_after(500, "3")), Verdict::Retry(Hold::Lane(None)));
        assert_eq!(judged(&Answer::new(StatusCode::FOUND)), Verdict::Retry(Hold::Lane(None)));
        assert_eq!(judged(&Answer::new(StatusCode::BAD_REQUEST)), Verdict::Refused);
        assert_eq!(judged(&Answer::new(StatusCode::NO_CONTENT)), Verdict::Delivered(None));
    }

    fn with(status: u16, headers: &[(&'static str, &str)]) -> Answer {
        let mut answer = Answer::new(StatusCode::from_u16(status).unwrap());
        for (name, value) in headers {
            answer.headers.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        answer
    }

    #[test]
    fn a_spent_limit_holds_whatever_the_status() {
        let at = (NOW.0 / 1_000_000 + 42).to_string();
        let spent_s = |status, headers: &[_]| spent(&with(status, headers), NOW).map(|wait| wait.as_secs());
        let zero = ("x-ratelimit-remaining", "0");
        assert_eq!(spent_s(200, &[zero, ("x-ratelimit-reset", &at)]), Some(42));
        assert_eq!(spent_s(200, &[zero, ("x-ratelimit-reset", "7")]), Some(7));
        assert_eq!(spent_s(200, &[zero, ("x-ratelimit-reset", "99999999999")]), Some(3600));
        assert_eq!(spent_s(200, &[zero, ("x-ratelimit-reset", "1000000000")]), None, "over long ago");
        assert_eq!(spent_s(200, &[zero]), None);
        assert_eq!(spent_s(200, &[("x-ratelimit-remaining", "1"), ("x-ratelimit-reset", &at)]), None);
        let throttled = [("x-ratelimit-state", "THROTTLED"), ("x-ratelimit-period-in-sec", "60")];
        assert_eq!(spent_s(202, &throttled), Some(60));
        assert_eq!(spent_s(202, &[("x-ratelimit-state", "OK"), ("x-ratelimit-period-in-sec", "60")]), None);
        let minute = Verdict::Retry(Hold::Upstream(Some(Duration::from_secs(60))));
        assert_eq!(judge(&with(429, &throttled), &[], NOW), minute);
    }
}
