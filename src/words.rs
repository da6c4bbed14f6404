//! Figures as people read them, alike on the status page, in the admin API's sentences and in the terminal.

/// Seconds for a reader: `12 s`, `5 min`, `3 h`, `2 d`.
pub fn span(seconds: f64) -> String {
    match seconds.max(0.0) {
        s if s < 100.0 => format!("{s:.0} s"),
        s if s < 100.0 * 60.0 => format!("{:.0} min", s / 60.0),
        s if s < 48.0 * 3600.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} d", s / 86_400.0),
    }
}

/// `1 event`, `2 events`; large numbers with their thousands apart.
pub fn count(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", thousands(number), if number == 1 { "" } else { "s" })
}

/// The verb behind a [`count`]: `1 event waits`, `2 events wait`.
pub const fn verb(number: u64, of_one: &'static str, of_many: &'static str) -> &'static str {
    if number == 1 { of_one } else { of_many }
}

/// `1 dead letter matches now`.
pub fn letters_match(matching: usize) -> String {
    let matching = matching as u64;
    format!("{} {} now", count(matching, "dead letter"), verb(matching, "matches", "match"))
}

/// `48,211`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `5.0 MiB`.
pub fn size(bytes: u64) -> String {
    let units = [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}

/// A rate: `0`, `0.3`, `12.5`, `1,250`.
pub fn rate(per_second: f64) -> String {
    match per_second {
        r if r < 0.05 => "0".to_owned(),
        r if r < 100.0 => format!("{r:.1}"),
        r => thousands(r.round() as u64),
    }
}

/// A short time: `0.4 ms`, `35 ms`, `1.2 s`, then as [`span`].
pub fn short(seconds: f64) -> String {
    match seconds.max(0.0) {
        s if s < 0.01 => format!("{:.1} ms", s * 1000.0),
        s if s < 1.0 => format!("{:.0} ms", s * 1000.0),
        s if s < 10.0 => format!("{s:.1} s"),
        s => span(s),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_well() {
        assert_eq!([0.0, 99.0, 100.0, 7200.0, 172_800.0].map(span), ["0 s", "99 s", "2 min", "2 h", "2 d"]);
        assert_eq!([0, 999, 1000, 48_211, 1_234_567].map(thousands), ["0", "999", "1,000", "48,211", "1,234,567"]);
        assert_eq!([count(1, "event"), count(2000, "event")], ["1 event", "2,000 events"]);
        assert_eq!([1, 0, 2].map(|number| verb(number, "waits", "wait")), ["waits", "wait", "wait"]);
        assert_eq!(
            [letters_match(1), letters_match(1300)],
            ["1 dead letter matches now", "1,300 dead letters match now"]
        );
        assert_eq!([17, 2048, 5 << 20, 3 << 30].map(size), ["17 B", "2.0 KiB", "5.0 MiB", "3.0 GiB"]);
        assert_eq!([0.0, 0.04, 0.25, 12.46, 1249.6].map(rate), ["0", "0", "0.2", "12.5", "1,250"]);
        assert_eq!([0.000_4, 0.035, 1.24, 12.0].map(short), ["0.4 ms", "35 ms", "1.2 s", "12 s"]);
    }
}
