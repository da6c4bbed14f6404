//! Any text as a configuration (PROMISES I4), in each of the three formats: it loads, or every finding can be shown and
//! stands in the text. What stands behind the first NUL is the value of every variable that the text names.

use surgegate::config;

/// Whether it is a configuration that can be used, in any of the formats.
pub(crate) fn run(input: &[u8]) -> bool {
    let end = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    let (text, value) = input.split_at(end);
    let (text, value) = (String::from_utf8_lossy(text), String::from_utf8_lossy(value.get(1..).unwrap_or_default()));
    // Overrides are looked up by name too: with a value for each of them nothing else would be looked at.
    let environment =
        |name: &str| (!value.is_empty() && !name.starts_with("SURGEGATE__")).then(|| value.clone().into_owned());
    // Each is judged, also behind one that loads.
    let read = ["fuzz.yaml", "fuzz.toml", "fuzz.json"].map(|name| read(name, &text, &environment));
    read.contains(&true)
}

fn read(name: &str, text: &str, environment: &config::Environment) -> bool {
    match config::load_text(name, text, environment) {
        Ok(config) => {
            let _ = format!("{config:?}");
            config.warnings.iter().for_each(|warning| assert!(!warning.to_string().is_empty()));
            true
        }
        Err(errors) => {
            assert!(errors.count() > 0, "refused without a reason");
            assert!(errors.to_string().ends_with(if errors.count() == 1 { "1 error" } else { " errors" }));
            assert!(serde_json::to_string(&errors).is_ok());
            let longest = text.chars().count();
            // A place is a place in the text; one past its end is where it broke off. For YAML a carriage return alone
            // ends a line too.
            let lines = text.split(['\n', '\r']).count() + 1;
            for finding in &errors.findings {
                assert!((1..=lines).contains(&finding.line), "{errors}");
                assert!((1..=longest + 1).contains(&finding.column), "{errors}");
                let line = text.split('\n').nth(finding.line - 1).map(|line| line.chars().count());
                let is_exact = name != "fuzz.yaml" && !text.starts_with('\u{feff}');
                assert!(!is_exact || line.is_some_and(|most| finding.column <= most + 1), "{errors}");
            }
            false
        }
    }
}
