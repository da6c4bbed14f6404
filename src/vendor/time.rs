//! Times as senders write them (contracts 2.5), for every dialect and for sinks that read answers.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

use crate::event::Micros;

/// Longest text looked at, in bytes: a date, nine digits of a fraction, an offset with seconds.
const TIME_BYTES_MAX: usize = 48;

/// Digits of a number that counts milliseconds (contracts 2.5).
const MILLISECOND_DIGITS: usize = 13;

/// It is no time that contracts 2.5 knows: dropped with a warning, never a reason to refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotATime;

/// RFC 3339; also an offset without its colon, a blank or a small letter for `T`, and no offset at all, which means UTC.
/// At most nine digits of a fraction; what is finer than a microsecond is cut. `None`: year 0001, which means "not set".
///
/// # Errors
/// [`NotATime`]; a date without a time of day is none.
pub fn parse(text: &str) -> Result<Option<Micros>, NotATime> {
    let text = text.trim();
    // jiff reads more than what is wanted here: named zones, and dates alone.
    if text.len() > TIME_BYTES_MAX || text.contains('[') || !text.contains(':') && !text.contains(['T', 't']) {
        return Err(NotATime);
    }
    let stamp = text.parse::<Timestamp>().or_else(|_| utc(text)).map_err(|_| NotATime)?;
    Ok((!text.starts_with("0001-")).then(|| Micros(stamp.as_microsecond())))
}

/// As [`parse`]; also Unix seconds, or milliseconds where there are 13 digits, as text. For `datadog` and `generic` routes;
/// a number of JSON is given as its source text.
///
/// # Errors
/// As [`parse`].
pub fn parse_or_unix(text: &str) -> Result<Option<Micros>, NotATime> {
    let text = text.trim();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > MILLISECOND_DIGITS || !are_digits(whole) || !are_digits(fraction) {
        return parse(text);
    }
    let whole_micros = if whole.len() == MILLISECOND_DIGITS { 1_000 } else { 1_000_000 };
    let number: i64 = whole.parse().map_err(|_| NotATime)?;
    // The fraction of one unit, in microseconds: digit by digit, each worth a tenth of the one before it.
    let (_, part) = fraction.bytes().fold((whole_micros, 0), |(worth, sum), digit| {
        let worth = worth / 10;
        (worth, sum + worth * i64::from(digit - b'0'))
    });
    let micros = number.checked_mul(whole_micros).and_then(|micros| micros.checked_add(part)).ok_or(NotATime)?;
    // What no calendar reaches cannot be written again.
    Timestamp::from_microsecond(micros).map(|_| Some(Micros(micros))).map_err(|_| NotATime)
}

/// A time without an offset.
fn utc(text: &str) -> Result<Timestamp, jiff::Error> {
    Offset::UTC.to_timestamp(text.parse::<DateTime>()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(text: &str) -> String {
        match parse(text) {
            Ok(Some(at)) => at.to_string(),
            Ok(None) => "not set".into(),
            Err(NotATime) => "no time".into(),
        }
    }

    #[test]
    fn every_form_that_senders_write_is_read() {
        for (text, wanted) in [
            ("2026-03-01T10:02:11Z", "2026-03-01T10:02:11.000000Z"),
            ("2026-03-01t10:02:11z", "2026-03-01T10:02:11.000000Z"),
            ("2026-03-01T10:02:11.315+0000", "2026-03-01T10:02:11.315000Z"),
            ("2026-03-01T10:02:11.315+0530", "2026-03-01T04:32:11.315000Z"),
            ("2026-03-01T10:02:11-08:00", "2026-03-01T18:02:11.000000Z"),
            ("2026-03-01 10:02:11Z", "2026-03-01T10:02:11.000000Z"),
            ("2026-03-01 10:02:11", "2026-03-01T10:02:11.000000Z"),
            ("2026-03-01T10:02:11.5", "2026-03-01T10:02:11.500000Z"),
            ("2026-03-01T10:02:11.123456789Z", "2026-03-01T10:02:11.123456Z"),
            (" 2026-03-01T10:02:11Z ", "2026-03-01T10:02:11.000000Z"),
            ("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
            ("0001-01-01T00:00:00Z", "not set"),
            ("0001-01-01T00:00:00+01:00", "not set"),
            ("0001-01-01 00:00:00", "not set"),
        ] {
            assert_eq!(said(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            " ",
            "now",
            "2026-03-01",
            "10:02:11",
            "2026-02-30T10:02:11Z",
            "2026-03-01T25:02:11Z",
            "2026-03-01T10:02:11.1234567890Z",
            "2026-03-01T10:02:11+00:00[UTC]",
            "0001-ab-01T00:00:00Z",
            "Sun, 01 Mar 2026 10:02:11 GMT",
            "1772359331",
            &"2".repeat(100),
        ] {
            assert_eq!(said(text), "no time", "{text}");
        }
    }

    #[test]
    fn thirteen_digits_count_milliseconds_and_fewer_count_seconds() {
        for (text, micros) in [
            ("0", 0),
            ("1772359331", 1_772_359_331_000_000),
            ("1772359331.25", 1_772_359_331_250_000),
            ("1772359331.1234567", 1_772_359_331_123_456),
            ("1772359331315", 1_772_359_331_315_000),
            ("1772359331315.5", 1_772_359_331_315_500),
            ("2026-03-01T10:02:11Z", 1_772_359_331_000_000),
        ] {
            assert_eq!(parse_or_unix(text), Ok(Some(Micros(micros))), "{text}");
        }
        for text in ["", ".5", "-1", "1e9", "17723593313150", "999999999999", "1772359331.2x"] {
            assert_eq!(parse_or_unix(text), Err(NotATime), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_we_write_we_read(micros in -62_000_000_000_000_000_i64..253_000_000_000_000_000) {
            prop_assert_eq!(parse(&Micros(micros).to_string()), Ok(Some(Micros(micros))));
        }

        #[test]
        fn no_text_is_too_odd(text in any::<String>()) {
            let _ = parse(&text);
            let _ = parse_or_unix(&text);
        }
    }
}
