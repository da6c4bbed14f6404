//! The vendors' shared vocabulary: words that several dialects and sinks read and write (contracts 4).

use crate::event::Severity;

pub mod time;

/// The family whose keys create once (contracts 5.3): incident.io incidents, v1 and v2 together.
pub const CREATE_ONCE_FAMILY: &str = "incidentio_incident";

/// Endpoint of incident.io's edit: needed to tell what an update is.
pub const EDIT_ENDPOINT: &str = "v2/incidents/actions/edit";
/// Endpoint of alert events in incident.io's own form.
pub const ALERT_HTTP_ENDPOINT: &str = "v2/alert_events/http";
/// Endpoint of alert sources whose bodies are Alertmanager's.
pub const ALERT_GROUP_ENDPOINT: &str = "v2/alert_events/alertmanager";
/// Alert events of any shape, read by a mapping.
pub const ALERT_CUSTOM_ENDPOINT: &str = "v2/alert_events/http_custom";
/// Endpoint of kinds of alert sources that are not served.
pub const ALERT_OTHER_ENDPOINT: &str = "v2/alert_events";

/// Longest word of [`severity_of_word`], in bytes.
const WORD_BYTES_MAX: usize = 13;

/// The level a word of a label, tag or free text stands for (contracts 4); case and surrounding white space do not
/// matter. Bare digits are not words: scales run in both directions.
pub fn severity_of_word(word: &str) -> Option<Severity> {
    let mut buffer = [0; WORD_BYTES_MAX];
    let word = trimmed(word);
    let lower = buffer.get_mut(..word.len())?;
    lower.copy_from_slice(word.as_bytes());
    lower.make_ascii_lowercase();
    Severity::new(match &*lower {
        b"critical" | b"crit" | b"fatal" | b"emergency" | b"emerg" | b"alert" | b"disaster" | b"page" | b"blocker"
        | b"p1" | b"sev1" | b"s1" => 5,
        b"error" | b"err" | b"high" | b"major" | b"severe" | b"p2" | b"sev2" | b"s2" => 4,
        b"warning" | b"warn" | b"medium" | b"moderate" | b"average" | b"p3" | b"sev3" | b"s3" => 3,
        b"low" | b"minor" | b"p4" | b"sev4" | b"s4" => 2,
        b"info" | b"informational" | b"information" | b"notice" | b"debug" | b"none" | b"trivial" | b"p5" | b"sev5"
        | b"s5" => 1,
        _ => return None,
    })
}

/// The level's word, one that reads back as the same level (contracts 4).
pub fn word_of(severity: Severity) -> &'static str {
    match severity.level() {
        5 => "critical",
        4 => "high",
        3 => "medium",
        2 => "low",
        _ => "info",
    }
}

/// As `trim`, which decodes characters even where there is nothing to trim.
fn trimmed(word: &str) -> &str {
    let is_bare = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_graphic);
    let bytes = word.as_bytes();
    if is_bare(bytes.first()) && is_bare(bytes.last()) { word } else { word.trim() }
}

/// `P1` (worst) to `P5`, in either case: Squadcast's and Opsgenie's scale.
pub fn severity_of_priority(text: &str) -> Option<Severity> {
    let [b'p' | b'P', digit @ b'1'..=b'5'] = trimmed(text).as_bytes() else { return None };
    Severity::new(6 - (digit - b'0'))
}

/// The priority word of a level, `P1` worst.
pub fn priority_of(severity: Severity) -> &'static str {
    ["P5", "P4", "P3", "P2", "P1"][usize::from(severity.level() - 1)]
}

/// Which of `count` severities of an incident.io account stands for a level, counted from the mildest; `None` of none. Never
/// less urgent (contracts 4.1).
pub fn rank_place(severity: Severity, count: usize) -> Option<usize> {
    (usize::from(severity.level()) * count).div_ceil(5).checked_sub(1)
}

/// The level of the severity at that place among `count`, the mildest first (contracts 4.1).
pub fn level_of_place(place: usize, count: usize) -> Option<Severity> {
    let level = ((place + 1) * 5).checked_div(count)?.clamp(1, 5);
    u8::try_from(level).ok().and_then(Severity::new)
}

/// PagerDuty's word for a level (contracts 4): it has four, and wants one in any case.
pub fn pagerduty_word(severity: Option<Severity>) -> &'static str {
    match severity.map(Severity::level) {
        Some(5) => "critical",
        Some(4) | None => "error",
        Some(2 | 3) => "warning",
        Some(_) => "info",
    }
}

/// Whether `text` is `#RGB` or `#RRGGBB`.
pub fn is_hex_color(text: &str) -> bool {
    text.strip_prefix('#').is_some_and(|hex| matches!(hex.len(), 3 | 6) && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_priorities_give_levels_and_digits_give_none() {
        assert_eq!(severity_of_word(" CRITICAL ").map(Severity::level), Some(5));
        assert_eq!(severity_of_word("minor").map(Severity::level), Some(2));
        assert_eq!(severity_of_word("5"), None);
        assert_eq!(severity_of_priority("p1").map(Severity::level), Some(5));
        assert_eq!(severity_of_priority("P5").map(Severity::level), Some(1));
        assert_eq!(severity_of_priority("P6"), None);
        assert_eq!(Severity::new(4).map(priority_of), Some("P2"));
    }

    #[test]
    fn levels_go_to_places_by_rank_as_the_table_says_and_come_back() {
        let places = |count| (1..=5).filter_map(|level| rank_place(Severity::new(level)?, count)).collect::<Vec<_>>();
        let table = [[0, 0, 0, 0, 0], [0, 0, 1, 1, 1], [0, 1, 1, 2, 2], [0, 1, 2, 3, 3], [0, 1, 2, 3, 4]];
        for (row, count) in table.iter().zip(1..) {
            assert_eq!(places(count), row, "{count}");
            for place in 0..count {
                let back = level_of_place(place, count).and_then(|level| rank_place(level, count));
                assert_eq!(back, Some(place), "{place} of {count}");
            }
        }
        assert!(places(0).is_empty());
        assert_eq!(level_of_place(0, 9).map(Severity::level), Some(1));
        assert_eq!(level_of_place(8, 9).map(Severity::level), Some(5));
    }

    #[test]
    fn colours_are_three_or_six_hex_digits() {
        assert!(is_hex_color("#0C93E3") && is_hex_color("#f00"));
        assert!(!is_hex_color("red") && !is_hex_color("#ff00") && !is_hex_color("0C93E3"));
    }
}
