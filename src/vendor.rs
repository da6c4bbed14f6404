//! The vendors' shared vocabulary: words that several dialects and sinks read and write (contracts 4).

use crate::event::Severity;

/// Words of labels, tags and free text, worst first (contracts 4). Bare digits are not words:
/// scales run in both directions.
const SEVERITY_WORDS: [(u8, &[&str]); 5] = [
    (
        5,
        &[
            "critical",
            "crit",
            "fatal",
            "emergency",
            "emerg",
            "alert",
            "disaster",
            "page",
            "blocker",
            "p1",
            "sev1",
            "s1",
        ],
    ),
    (4, &["error", "err", "high", "major", "severe", "p2", "sev2", "s2"]),
    (3, &["warning", "warn", "medium", "moderate", "average", "p3", "sev3", "s3"]),
    (2, &["low", "minor", "p4", "sev4", "s4"]),
    (1, &["info", "informational", "information", "notice", "debug", "none", "trivial", "p5", "sev5", "s5"]),
];

/// The level a word stands for; case and surrounding white space do not matter.
pub fn severity_of_word(word: &str) -> Option<Severity> {
    let word = word.trim();
    let (level, _) =
        SEVERITY_WORDS.iter().find(|(_, words)| words.iter().any(|known| known.eq_ignore_ascii_case(word)))?;
    Severity::new(*level)
}

/// `P1` (worst) to `P5`, in either case: Squadcast's and Opsgenie's scale.
pub fn severity_of_priority(text: &str) -> Option<Severity> {
    let [b'p' | b'P', digit @ b'1'..=b'5'] = text.trim().as_bytes() else { return None };
    Severity::new(6 - (digit - b'0'))
}

/// The priority word of a level, `P1` worst.
pub fn priority_of(severity: Severity) -> &'static str {
    ["P5", "P4", "P3", "P2", "P1"][usize::from(severity.level() - 1)]
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
    fn colours_are_three_or_six_hex_digits() {
        assert!(is_hex_color("#0C93E3") && is_hex_color("#f00"));
        assert!(!is_hex_color("red") && !is_hex_color("#ff00") && !is_hex_color("0C93E3"));
    }
}
