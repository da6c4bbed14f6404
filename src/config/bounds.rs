//! Bounds as patterns: whole numbers with a unit, for the schema, which can compare numbers only where they stand bare.

/// Texts of a whole number and a unit that mean `least` to `most`, both included; `units`: names and how much one is.
/// Without a unit a number is taken where `bare` says so.
pub(super) fn pattern(units: &[(&str, u64)], (least, most): (u64, u64), bare: bool) -> String {
    let mut choices = Vec::new();
    for (name, factor) in units {
        let (from, to) = (least.div_ceil(*factor), most / factor);
        let unit = if bare && *factor == 1 { format!("( *{name})?") } else { format!(" *{name}") };
        if from <= to {
            choices.push(format!("({}){unit}", numbers(from, to).join("|")));
        }
    }
    // Leading zeros change nothing.
    format!("^0*({})$", choices.join("|"))
}

/// Patterns that together are the numbers from `from` to `to`.
fn numbers(from: u64, to: u64) -> Vec<String> {
    let mut found = Vec::new();
    let mut next = Some(from);
    while let Some(start) = next.filter(|start| *start <= to) {
        let end = last_alike(start, to);
        found.push(digits(start, end));
        next = end.checked_add(1);
    }
    found
}

/// The last number up to `to` for which one pattern does, beginning with `start`: its last digits run through all that
/// there are, and the one before them from `start`'s on.
fn last_alike(start: u64, to: u64) -> u64 {
    let mut end = start;
    let mut step: u64 = 1;
    loop {
        // The digit of this step goes up to 9, or as far as `to` lets it.
        let digit = start / step % 10;
        let tops = (digit..=9)
            .rev()
            .filter_map(|top| (top - digit).checked_mul(step)?.checked_add(start)?.checked_add(step - 1));
        end = tops.into_iter().find(|top| *top <= to).map_or(end, |top| top.max(end));
        let is_full = start.is_multiple_of(step.saturating_mul(10)) && start != 0;
        match step.checked_mul(10) {
            Some(ten) if is_full => step = ten,
            _ => return end,
        }
    }
}

/// From one number to another of as many digits, digit by digit.
fn digits(from: u64, to: u64) -> String {
    let (from, to) = (from.to_string(), to.to_string());
    let pair = |(from, to): (char, char)| if from == to { from.to_string() } else { format!("[{from}-{to}]") };
    from.chars().zip(to.chars()).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn takes(pattern: &str) -> impl Fn(&str) -> bool + use<> {
        let validator = jsonschema::draft7::new(&json!({ "pattern": pattern })).unwrap();
        move |text| validator.is_valid(&json!(text))
    }

    #[test]
    fn a_pattern_takes_the_numbers_within_and_no_others() {
        for (from, to) in [(0, 0), (0, 9), (1, 10), (0, 365), (7, 7), (64, 4096), (86, 3650), (99, 101), (500, 512)] {
            let takes = takes(&format!("^({})$", numbers(from, to).join("|")));
            for number in 0..5000 {
                assert_eq!(takes(&number.to_string()), (from..=to).contains(&number), "{from} to {to}: {number}");
            }
        }
        assert!(numbers(0, u64::MAX).len() > 20);
    }

    #[test]
    fn each_unit_has_its_own_numbers() {
        let units = [("m", 60_000), ("s", 1000), ("ms", 1)];
        let is_time = takes(&pattern(&units, (1500, 120_000), false));
        for text in ["1m", "2 m", "002m", "2s", "120s", "1500ms", "120000ms"] {
            assert!(is_time(text), "{text}");
        }
        for text in ["0m", "3m", "1s", "121s", "1499ms", "120001ms", "1500", "m", "2m ", "1.5s", ""] {
            assert!(!is_time(text), "{text}");
        }
        let is_size = takes(&pattern(&[("KiB", 1024), ("B", 1)], (1, 2048), true));
        assert!(["1", "2048", "2048B", "2KiB"].into_iter().all(&is_size));
        assert!(!["0", "2049", "2049B", "3KiB", "0KiB", "2K"].into_iter().any(is_size));
    }
}
