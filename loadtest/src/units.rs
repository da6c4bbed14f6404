//! Durations as people write them: `250us`, `5ms`, `3s`, `1.5s`, `2m`.
//! Called by the command line of every verb and by the fault grammar.

use std::time::Duration;

/// Nothing here runs longer than a day; a larger number is a typing error.
const LONGEST_SECONDS: f64 = 86_400.0;

/// Reads a duration with its unit (`us`, `ms`, `s` or `m`), at most one day.
///
/// # Errors
/// A text for the user when the unit is missing, or the number is not one or out of bounds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .ok_or_else(|| format!("`{text}` lacks a unit: us, ms, s or m"))?;
    let (number, unit) = text.split_at(digits);
    let seconds_a_unit = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err(format!("`{text}`: the unit must be us, ms, s or m")),
    };
    let number: f64 = number.parse().map_err(|_| format!("`{text}` does not start with a number"))?;
    let seconds = number * seconds_a_unit;
    if seconds > LONGEST_SECONDS {
        return Err(format!("`{text}` is more than a day"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        assert_eq!(parse_duration("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(parse_duration("5ms"), Ok(Duration::from_millis(5)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("1440m"), Ok(Duration::from_secs(86_400)));
    }

    #[test]
    fn durations_without_unit_or_number_or_bound_are_refused() {
        for wrong in ["5", "s", "", "5h", "1.2.3s", "-1s", "1441m"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
