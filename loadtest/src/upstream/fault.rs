//! The grammar of scripted faults: terms joined by commas, exactly one of them an effect.
//!
//! ```text
//! effect     status=503 | status=429,retry_after=2 | hang | reset | truncate
//!            with retry_after: retry_after_form=seconds | imf | utc (a number, a date ending in GMT, in UTC)
//! and        processed      a vendor's stand-in does what the request says; its answer is lost or replaced
//! condition  after=100      skip the first 100 requests it looks at
//!            for=3s         from the first request it then looks at
//!            times=5        at most so often
//!            rate=0.3       this fraction of them
//!            match=KEY      look only at requests with an event of this key
//!            path=TEXT      look only at requests whose `METHOD /path` contains this
//! ```
//! Called by the command line and by `POST /faults`.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::units::parse_duration;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Answer this status.
    Status { code: u16, retry_after: Option<RetryAfter> },
    /// Never answer.
    Hang,
    /// Reset the connection.
    Reset,
    /// Promise a longer body than is sent, then close.
    Truncate,
}

impl Effect {
    /// The status, or the name.
    #[must_use]
    pub fn label(self) -> String {
        match self {
            Self::Status { code, .. } => code.to_string(),
            Self::Hang => "hang".to_owned(),
            Self::Reset => "reset".to_owned(),
            Self::Truncate => "truncate".to_owned(),
        }
    }
}

/// The header `Retry-After`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryAfter {
    pub seconds: u32,
    pub form: RetryAfterForm,
}

/// How the header is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfterForm {
    Seconds,
    /// The date of HTTP, which ends in GMT.
    Imf,
    /// The same, ending in UTC: strict parsers refuse it.
    Utc,
}

impl RetryAfter {
    /// The header's value at this time.
    #[must_use]
    pub fn header(self, now: Timestamp) -> String {
        let then = || {
            let then = now.checked_add(SignedDuration::from_secs(i64::from(self.seconds))).unwrap_or(now);
            then.strftime("%a, %d %b %Y %H:%M:%S").to_string()
        };
        match self.form {
            RetryAfterForm::Seconds => self.seconds.to_string(),
            RetryAfterForm::Imf => then() + " GMT",
            RetryAfterForm::Utc => then() + " UTC",
        }
    }
}

/// One fault as written, and what it means.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    pub spec: String,
    pub effect: Effect,
    /// The request is done nevertheless.
    pub processed: bool,
    pub after_requests: u64,
    pub lasts: Option<Duration>,
    pub times: Option<u64>,
    /// 0 to 1.
    pub rate: f64,
    pub key: Option<String>,
    /// A part of `METHOD /path`.
    pub path: Option<String>,
}

/// Reads one fault.
///
/// # Errors
/// A text for the user that names the wrong term.
pub fn parse(spec: &str) -> Result<Fault, String> {
    let mut effect = None;
    let mut retry_after_seconds = None;
    let mut retry_after_form = None;
    let mut fault = Fault {
        spec: spec.to_owned(),
        effect: Effect::Hang,
        processed: false,
        after_requests: 0,
        lasts: None,
        times: None,
        rate: 1.0,
        key: None,
        path: None,
    };
    let mut names_seen = Vec::new();
    for term in spec.split(',').map(str::trim) {
        let (name, value) = match term.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (term, None),
        };
        if names_seen.contains(&name) {
            return Err(format!("`{name}` is given twice"));
        }
        names_seen.push(name);
        let new_effect = match (name, value) {
            ("hang", None) => Some(Effect::Hang),
            ("reset", None) => Some(Effect::Reset),
            ("truncate", None) => Some(Effect::Truncate),
            ("status", Some(value)) => Some(Effect::Status { code: status(value)?, retry_after: None }),
            ("processed", None) => {
                fault.processed = true;
                None
            }
            ("retry_after", Some(value)) => {
                retry_after_seconds = Some(number(name, value)?);
                None
            }
            ("retry_after_form", Some(value)) => {
                retry_after_form = Some(form(value)?);
                None
            }
            ("after", Some(value)) => {
                fault.after_requests = number(name, value)?;
                None
            }
            ("for", Some(value)) => {
                fault.lasts = Some(parse_duration(value)?);
                None
            }
            ("times", Some(value)) => {
                fault.times = Some(number(name, value)?);
                None
            }
            ("rate", Some(value)) => {
                fault.rate = fraction(value)?;
                None
            }
            ("match", Some(value)) if !value.is_empty() => {
                fault.key = Some(value.to_owned());
                None
            }
            ("path", Some(value)) if !value.is_empty() => {
                fault.path = Some(value.to_owned());
                None
            }
            _ => return Err(unknown(term)),
        };
        if new_effect.is_some() && effect.is_some() {
            return Err(format!("`{term}`: a fault has one effect only"));
        }
        effect = effect.or(new_effect);
    }
    let retry_after = match (retry_after_seconds, retry_after_form) {
        (Some(seconds), form) => Some(RetryAfter { seconds, form: form.unwrap_or(RetryAfterForm::Seconds) }),
        (None, None) => None,
        (None, Some(_)) => return Err("`retry_after_form` needs a `retry_after`".to_owned()),
    };
    fault.effect = with_retry_after(effect, retry_after)?;
    Ok(fault)
}

/// Whether the faults make sense together with what stands behind them.
///
/// # Errors
/// A text for the user.
pub fn check(faults: &[Fault], vendor: bool) -> Result<(), String> {
    match faults.iter().find(|fault| fault.processed && !vendor) {
        Some(fault) => Err(format!("`{}`: `processed` needs a vendor (--vendor)", fault.spec)),
        None => Ok(()),
    }
}

fn with_retry_after(effect: Option<Effect>, given: Option<RetryAfter>) -> Result<Effect, String> {
    match (effect, given) {
        (Some(Effect::Status { code, .. }), retry_after) => Ok(Effect::Status { code, retry_after }),
        (Some(effect), None) => Ok(effect),
        (_, Some(_)) => Err("`retry_after` needs a `status`".to_owned()),
        (None, None) => Err("a fault needs an effect: status=N, hang, reset or truncate".to_owned()),
    }
}

fn form(value: &str) -> Result<RetryAfterForm, String> {
    match value {
        "seconds" => Ok(RetryAfterForm::Seconds),
        "imf" => Ok(RetryAfterForm::Imf),
        "utc" => Ok(RetryAfterForm::Utc),
        _ => Err(format!("`retry_after_form={value}`: it is seconds, imf or utc")),
    }
}

fn unknown(term: &str) -> String {
    format!(
        "`{term}` is no term of a fault; there are status=N, retry_after=SECONDS, \
         retry_after_form=FORM, hang, reset, truncate, processed, after=REQUESTS, for=DURATION, times=N, \
         rate=FRACTION, match=KEY, path=TEXT"
    )
}

fn status(value: &str) -> Result<u16, String> {
    match value.parse() {
        Ok(code @ 200..=599) => Ok(code),
        _ => Err(format!("`status={value}`: a status is a number of 200 to 599")),
    }
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("`{name}={value}`: not a whole number in range"))
}

fn fraction(value: &str) -> Result<f64, String> {
    match value.parse::<f64>() {
        Ok(rate) if (0.0..=1.0).contains(&rate) => Ok(rate),
        _ => Err(format!("`rate={value}`: a rate is a fraction of 0 to 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u32) -> RetryAfter {
        RetryAfter { seconds, form: RetryAfterForm::Seconds }
    }

    #[test]
    fn retry_after_is_written_in_three_forms() {
        let now = Timestamp::from_second(1_744_888_578).expect("a time");
        let written = |form| RetryAfter { seconds: 60, form }.header(now);
        assert_eq!(written(RetryAfterForm::Seconds), "60");
        assert_eq!(written(RetryAfterForm::Imf), "Thu, 17 Apr 2025 11:17:18 GMT");
        assert_eq!(written(RetryAfterForm::Utc), "Thu, 17 Apr 2025 11:17:18 UTC");
    }

    #[test]
    fn every_term_is_read() {
        let fault = parse("status=429, retry_after=2,after=100,for=3s,times=5,rate=0.3,match=disk").expect("a fault");
        assert_eq!(fault.effect, Effect::Status { code: 429, retry_after: Some(seconds(2)) });
        assert_eq!((fault.after_requests, fault.times, fault.rate), (100, Some(5), 0.3));
        assert_eq!(fault.lasts, Some(Duration::from_secs(3)));
        assert_eq!(fault.key.as_deref(), Some("disk"));
        for (spec, effect) in [("hang", Effect::Hang), ("reset", Effect::Reset), ("rate=1,truncate", Effect::Truncate)]
        {
            assert_eq!(parse(spec).expect("a fault").effect, effect);
        }
        let fault = parse("status=429,retry_after=2,retry_after_form=utc,processed,path=POST /x").expect("a fault");
        let retry_after = Some(RetryAfter { seconds: 2, form: RetryAfterForm::Utc });
        assert_eq!(fault.effect, Effect::Status { code: 429, retry_after });
        assert_eq!((fault.processed, fault.path.as_deref()), (true, Some("POST /x")));
        assert!(parse("status=200").is_ok() && parse("status=599").is_ok());
    }

    #[test]
    fn the_order_of_terms_does_not_matter() {
        let fault = parse("retry_after=2,status=503").expect("a fault");
        assert_eq!(fault.effect, Effect::Status { code: 503, retry_after: Some(seconds(2)) });
    }

    #[test]
    fn a_wrong_fault_is_refused_with_the_term_that_is_wrong() {
        for (spec, named) in [
            ("", "``"),
            ("after=1", "needs an effect"),
            ("status=199", "status=199"),
            ("status=600", "status=600"),
            ("status", "`status`"),
            ("hang=1", "hang=1"),
            ("hang,reset", "one effect"),
            ("hang,hang", "twice"),
            ("hang,retry_after=1", "retry_after"),
            ("hang,for=3", "unit"),
            ("hang,rate=1.1", "rate=1.1"),
            ("hang,rate=NaN", "rate=NaN"),
            ("hang,after=-1", "after=-1"),
            ("hang,match=", "match="),
            ("hang,path=", "path="),
            ("processed", "needs an effect"),
            ("status=429,retry_after_form=utc", "needs a `retry_after`"),
            ("status=429,retry_after=1,retry_after_form=x", "retry_after_form=x"),
            ("hang,", "``"),
            ("explode", "explode"),
        ] {
            let error = parse(spec).expect_err(spec);
            assert!(error.contains(named), "{spec}: {error}");
        }
    }
}
