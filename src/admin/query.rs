//! What a request of the admin API says in its path and query: decoded strictly, so that a typing error is an answer
//! with 400 and never a write that was meant otherwise. The table of routes says which parameters there are.

use std::num::NonZeroU32;

use jiff::{Span, SpanRelativeTo, Timestamp};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::event::{LONG_KEY_BYTES_MAX, Micros, Uid};
use crate::outcome::{DeadReason, Outcome, Reason};

/// What a parameter may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// At most this many bytes.
    Text(usize),
    /// A name or an id.
    Name,
    /// `{upstream}-{number}`.
    LetterId,
    Uid,
    /// RFC 3339, or a duration back from now.
    Time,
    /// 1 up to this number.
    Number(u32),
    /// Any whole number.
    Count,
    Flag,
    DeadReason,
    Outcome,
    Reason,
}

/// Longest name of an integration or upstream, and of a dead letter's id.
const NAME_BYTES_MAX: usize = 128;

pub(super) const KEY: Kind = Kind::Text(LONG_KEY_BYTES_MAX);

impl Kind {
    fn words(self) -> Vec<&'static str> {
        match self {
            Self::DeadReason => DeadReason::ALL.iter().map(|reason| reason.name()).collect(),
            Self::Outcome => Outcome::ALL.iter().map(|outcome| outcome.name()).collect(),
            Self::Reason => Reason::all().map(Reason::label).collect(),
            _ => vec![],
        }
    }

    /// What is wrong with a value.
    fn check(self, text: &str) -> Result<(), String> {
        let expected = |what: &str| Err(format!("is not {what}"));
        match self {
            Self::Text(max) if text.len() > max => expected(&format!("a text of at most {max} bytes")),
            Self::Name if text.is_empty() || text.len() > NAME_BYTES_MAX => {
                expected(&format!("a name of 1 to {NAME_BYTES_MAX} bytes"))
            }
            Self::Text(_) if text.is_empty() => expected("a text: it is empty"),
            Self::Text(_) | Self::Name => Ok(()),
            Self::LetterId if !is_letter_id(text) => expected("the id of a dead letter, such as pager-12"),
            Self::Uid if Uid::parse(text).is_none() => expected("26 characters of Crockford base 32"),
            Self::Time if time(text).is_none() => {
                expected("a time such as 2026-11-20T10:00:00Z, nor a duration back such as 90m or 7d")
            }
            Self::Number(max) if !number(text).is_some_and(|number| number <= u64::from(max) && number > 0) => {
                expected(&format!("a whole number from 1 to {max}"))
            }
            Self::Count if number(text).is_none() => expected("a whole number"),
            Self::Flag if !["true", "false"].contains(&text) => expected("true or false"),
            Self::DeadReason | Self::Outcome | Self::Reason if !self.words().contains(&text) => {
                expected(&format!("one of {}", self.words().join(", ")))
            }
            Self::LetterId
            | Self::Uid
            | Self::Time
            | Self::Number(_)
            | Self::Count
            | Self::Flag
            | Self::DeadReason
            | Self::Outcome
            | Self::Reason => Ok(()),
        }
    }

    /// For the API's document.
    pub(super) fn schema(self) -> Value {
        match self {
            Self::Text(max) => json!({ "type": "string", "minLength": 1, "maxLength": max }),
            Self::Name => json!({ "type": "string", "minLength": 1, "maxLength": NAME_BYTES_MAX }),
            Self::LetterId => json!({ "type": "string", "examples": ["pager-12"] }),
            Self::Uid => json!({ "$ref": "#/components/schemas/Uid" }),
            Self::Time => json!({ "type": "string", "examples": ["2026-11-20T10:00:00Z", "90m", "7d"] }),
            Self::Number(max) => json!({ "type": "integer", "minimum": 1, "maximum": max }),
            Self::Count => json!({ "type": "integer", "minimum": 0 }),
            Self::Flag => json!({ "type": "boolean" }),
            Self::DeadReason | Self::Outcome | Self::Reason => json!({ "type": "string", "enum": self.words() }),
        }
    }
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn is_letter_id(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX && text.rsplit_once('-').is_some_and(|(_, sequence)| number(sequence).is_some())
}

/// A moment, or so long ago.
fn time(text: &str) -> Option<Micros> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Some(Micros(moment.as_microsecond()));
    }
    let back = text.parse::<Span>().ok()?.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    let back = i64::try_from(back.as_micros()).ok().filter(|micros| *micros >= 0)?;
    Some(Micros(Micros::now().0.saturating_sub(back)))
}

/// A parameter of a route.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) required: bool,
    pub(super) about: &'static str,
}

/// Text with its escapes undone; `None` where it is no UTF-8 or an escape is cut short.
pub(super) fn decoded(text: &str) -> Option<String> {
    let whole = text.match_indices('%').all(|(at, _)| {
        text.get(at + 1..at + 3).is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
    });
    let plain = percent_decode_str(text).decode_utf8().ok()?;
    whole.then(|| plain.into_owned())
}

/// The parameters of one request, each as its route wants it.
#[derive(Clone, Debug, Default)]
pub(super) struct Values(Vec<(&'static str, String)>);

impl Values {
    /// From the path's own parameters and the query.
    ///
    /// # Errors
    /// What is wrong, for whoever asked: unknown, repeated or missing names, values that are none.
    pub(super) fn parse(
        parameters: &[&'static [Parameter]],
        in_path: &[(&'static str, String)],
        query: &str,
    ) -> Result<Self, String> {
        let known = || parameters.iter().copied().flatten();
        let mut values: Vec<(&'static str, String)> = in_path.to_vec();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let plain = |text: &str| decoded(&text.replace('+', " "));
            let name = plain(name).ok_or("a name in the query is not percent-encoded UTF-8")?;
            let Some(parameter) = known().find(|parameter| parameter.name == name) else {
                let names: Vec<&str> = known().map(|parameter| parameter.name).collect();
                let takes = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                return Err(format!("unknown parameter; this path takes: {takes}"));
            };
            let name = parameter.name;
            if in_path.iter().any(|(known, _)| *known == name) || values.iter().any(|(known, _)| *known == name) {
                return Err(format!("{name} is given twice"));
            }
            values.push((name, plain(value).ok_or_else(|| format!("{name} is not percent-encoded UTF-8"))?));
        }
        for parameter in known() {
            match values.iter().find(|(name, _)| *name == parameter.name) {
                Some((name, value)) => parameter.kind.check(value).map_err(|wrong| format!("{name} {wrong}"))?,
                None if parameter.required => return Err(format!("{} is missing", parameter.name)),
                None => {}
            }
        }
        Ok(Self(values))
    }

    /// As they were given: for the audit.
    pub(super) fn shown(&self) -> String {
        let one = |(name, value): &(&str, String)| {
            // The operator's own text; a key stays out of the log.
            if *name == "key" { "key=***".to_owned() } else { format!("{name}={value}") }
        };
        self.0.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn owned(&self, name: &str) -> Option<String> {
        self.text(name).map(str::to_owned)
    }

    pub(super) fn uid(&self, name: &str) -> Option<Uid> {
        Uid::parse(self.text(name)?)
    }

    pub(super) fn time(&self, name: &str) -> Option<Micros> {
        time(self.text(name)?)
    }

    pub(super) fn count(&self, name: &str) -> Option<usize> {
        usize::try_from(number(self.text(name)?)?).ok()
    }

    pub(super) fn rate(&self, name: &str) -> Option<NonZeroU32> {
        NonZeroU32::new(u32::try_from(number(self.text(name)?)?).ok()?)
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }

    pub(super) fn dead_reason(&self, name: &str) -> Option<DeadReason> {
        let text = self.text(name)?;
        DeadReason::ALL.into_iter().find(|reason| reason.name() == text)
    }

    pub(super) fn outcome(&self, name: &str) -> Option<Outcome> {
        let text = self.text(name)?;
        Outcome::ALL.into_iter().find(|outcome| outcome.name() == text)
    }

    pub(super) fn reason(&self, name: &str) -> Option<Reason> {
        let text = self.text(name)?;
        Reason::all().find(|reason| reason.label() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMETERS: &[Parameter] = &[
        Parameter { name: "key", kind: KEY, required: true, about: "" },
        Parameter { name: "since", kind: Kind::Time, required: false, about: "" },
        Parameter { name: "limit", kind: Kind::Number(100), required: false, about: "" },
        Parameter { name: "dry_run", kind: Kind::Flag, required: false, about: "" },
        Parameter { name: "reason", kind: Kind::DeadReason, required: false, about: "" },
    ];

    fn parse(query: &str) -> Result<Values, String> {
        Values::parse(&[PARAMETERS], &[], query)
    }

    #[test]
    fn values_are_decoded_and_typed() {
        let values =
            parse("key=a%2Fb+c%26%C3%A9&limit=100&dry_run=true&reason=gave_up&since=2026-11-20T10:00:00%2B02:00")
                .unwrap();
        assert_eq!(values.text("key"), Some("a/b c&é"));
        assert_eq!((values.count("limit"), values.flag("dry_run")), (Some(100), true));
        assert_eq!(values.dead_reason("reason"), Some(DeadReason::GaveUp));
        assert_eq!(values.time("since").unwrap().to_string(), "2026-11-20T08:00:00.000000Z");
        assert!(!values.shown().contains("é"));
    }

    #[test]
    fn a_duration_counts_back_from_now() {
        for (text, seconds) in [("90m", 5400), ("7d", 604_800), ("1h30m", 5400), ("2 hours", 7200)] {
            let before = Micros::now().0;
            let moment = time(text).unwrap().0 + seconds * 1_000_000;
            assert!((before..=Micros::now().0).contains(&moment), "{text}: {moment}");
        }
        for text in ["", "soon", "-2h", "2", "1mo", "2026-11-20", "99999999999d"] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (query, wrong) in [
            ("", "key is missing"),
            ("key=", "key is not a text: it is empty"),
            ("key=a&limits=3", "unknown parameter; this path takes: key, since, limit, dry_run, reason"),
            ("key=a&key=b", "key is given twice"),
            ("key=%zz", "key is not percent-encoded UTF-8"),
            ("key=%f", "key is not percent-encoded UTF-8"),
            ("key=%ff", "key is not percent-encoded UTF-8"),
            ("key=a&limit=0", "limit is not a whole number from 1 to 100"),
            ("key=a&limit=101", "limit is not a whole number from 1 to 100"),
            ("key=a&limit=+1", "limit is not a whole number from 1 to 100"),
            ("key=a&dry_run=1", "dry_run is not true or false"),
            (
                "key=a&reason=x",
                "reason is not one of refused, gave_up, predecessor_dead, unreadable, not_expressible, invalid_event, body_too_large, uncertain",
            ),
        ] {
            assert_eq!(parse(query).unwrap_err(), wrong, "{query}");
        }
        assert!(parse(&format!("key={}", "a".repeat(1_020))).is_ok());
        assert!(parse(&format!("key={}", "a".repeat(1_021))).is_err());
    }
}
