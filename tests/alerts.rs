//! Alerts, dashboard and runbooks: each generated file is what its generator makes, each alert fires and keeps quiet where
//! it should and has its runbook, and what the runbooks and the other pages tell to type is what the command line takes.
//! That the metrics they name exist is shown by `tests/it/monitoring.rs`, on a live process.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::error::ErrorKind;
use surgegate::outcome::{DeadReason, DropReason, Outcome, Reason};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Runs it in the root; what it said on both streams.
#[track_caller]
fn succeeds(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).current_dir(root()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
    said
}

/// Names behind `marker`, in their order.
fn names_behind(text: &str, marker: &str) -> Vec<String> {
    let rests = text.split(marker).skip(1);
    rests.map(|rest| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()).collect()
}

fn alerts() -> Vec<String> {
    names_behind(&read("config/prometheus/rules.yaml"), "- alert: ")
}

#[test]
fn generated_files_are_what_their_generators_make() {
    succeeds(&["scripts/alerts.py", "check"]);
    succeeds(&["scripts/dashboard.py", "check"]);
}

#[test]
fn each_alert_fires_and_keeps_quiet_where_it_should() {
    succeeds(&["promtool", "check", "rules", "config/prometheus/rules.yaml"]);
    succeeds(&["promtool", "test", "rules", "tests/alerts/rules_test.yaml"]);
    let tests = read("tests/alerts/rules_test.yaml");
    for alert in alerts() {
        for case in ["fires", "is quiet"] {
            assert!(tests.contains(&format!("- name: '{alert} {case}: ")), "no test in which {alert} {case}");
        }
    }
}

#[test]
fn each_alert_has_its_runbook_and_each_runbook_its_alert() {
    // Those on the cluster are tested by tests/packaging, with the chart that fills in its names.
    let rules = read("config/prometheus/rules.yaml") + &read("helm/surgegate/files/cluster-rules.yaml");
    let alerts = names_behind(&rules, "- alert: ");
    let index = read("docs/runbooks/README.md");
    let files: BTreeSet<String> = std::fs::read_dir(root().join("docs/runbooks"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| Some(name.strip_suffix(".md")?.to_owned()).filter(|name| name != "README"))
        .collect();
    assert_eq!(files, alerts.iter().cloned().collect(), "docs/runbooks and the alerts differ");
    for alert in alerts {
        let rule = rules.split(&format!("- alert: {alert}\n")).nth(1).unwrap();
        let rule = rule.split("- alert: ").next().unwrap();
        let links = [format!("'docs/runbooks/{alert}.md'"), format!("\"ALERT\" \"{alert}\" }}}}'")];
        assert!(links.iter().any(|link| rule.contains(link)), "{alert} links another runbook");
        let text = read(&format!("docs/runbooks/{alert}.md"));
        let mut rest = text.as_str();
        for part in [
            format!("# {alert}\n"),
            "## Meaning".into(),
            "## Impact".into(),
            "## Diagnosis".into(),
            "## Mitigation".into(),
        ] {
            let found = rest.split_once(&part);
            rest = found.unwrap_or_else(|| panic!("{alert}.md: no {part:?} where it should be")).1;
        }
        let severity =
            ["critical", "warning", "info"].into_iter().find(|word| rule.contains(&format!("severity: {word}")));
        let summary = rule.split("summary: ").nth(1).unwrap().lines().next().unwrap();
        let row = format!("| [{alert}]({alert}.md) | {} | {summary} |", severity.unwrap());
        assert!(index.contains(&row), "docs/runbooks/README.md: want the row\n{row}");
    }
}

/// Values that a text compares a label with, e.g. of `reason=~"a|b"`.
fn values_of(text: &str, label: &str) -> Vec<String> {
    let text = text.replace("\\\"", "\"");
    let mut values = Vec::new();
    for operator in ["=\"", "=~\"", "!=\"", "!~\""] {
        for rest in text.split(&format!("{label}{operator}")).skip(1) {
            values.extend(rest.split('"').next().unwrap().split('|').map(str::to_owned));
        }
    }
    values
}

#[test]
fn reasons_and_outcomes_in_rules_and_dashboard_are_real_ones() {
    let text = read("config/prometheus/rules.yaml") + &read("helm/surgegate/files/dashboard.json");
    let mut reasons: BTreeSet<&str> = Reason::all().map(Reason::label).collect();
    reasons.extend(DropReason::ALL.iter().map(|reason| reason.name()));
    reasons.extend(DeadReason::ALL.iter().map(|reason| reason.name()));
    let found = values_of(&text, "reason");
    assert!(found.len() > 10, "{found:?}");
    let strange: Vec<_> = found.iter().filter(|value| !reasons.contains(value.as_str())).collect();
    assert!(strange.is_empty(), "no such reasons: {strange:?}");
    let outcomes: BTreeSet<&str> = Outcome::ALL.iter().map(|outcome| outcome.name()).collect();
    assert!(values_of(&text, "outcome").iter().all(|value| outcomes.contains(value.as_str())));
}

/// Every page for users.
fn pages() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                found.push(path);
            }
        }
    }
    let mut found = vec![root().join("README.md")];
    walk(&root().join("docs"), &mut found);
    // That one is made of what the binary says.
    found.retain(|path| !path.ends_with("docs/command-line.md"));
    found
}

/// The commands of ours in the shell's blocks of a page and, between backquotes, in its text; whether one is to be typed as
/// it stands, or only named.
fn commands(page: &str) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    let mut language = None;
    for line in page.lines() {
        if let Some(word) = line.trim_start().strip_prefix("```") {
            language = if language.is_some() { None } else { Some(word.to_owned()) };
        } else if language.as_deref().is_some_and(|word| ["sh", "console", "bash"].contains(&word)) {
            let line = line.trim().trim_start_matches("$ ");
            let line = line.split_once("| surgegate ").map_or(line.to_owned(), |(_, rest)| format!("surgegate {rest}"));
            let at = line
                .find("surgegate ")
                .filter(|at| line[..*at].split(' ').all(|word| word.is_empty() || word.contains('=')));
            found.extend(at.map(|at| (line[at..].to_owned(), true)));
        } else if language.is_none() {
            let named = line.split('`').skip(1).step_by(2).filter(|code| code.starts_with("surgegate "));
            found.extend(named.map(|code| (code.to_owned(), false)));
        }
    }
    found
}

#[test]
fn what_the_pages_tell_to_type_is_what_the_command_line_takes() {
    let mut faults = Vec::new();
    let mut count = 0;
    for path in pages() {
        for (line, is_whole) in commands(&std::fs::read_to_string(&path).unwrap()) {
            let line = line.split(" #").next().unwrap();
            let words: Vec<&str> =
                line.split_whitespace().take_while(|word| !["|", ">", "&&", "&", ";"].contains(word)).collect();
            // A family of verbs: `surgegate spool check | ls`; or prose that shows a form.
            if words.iter().any(|word| word.contains(['…', '[', '$']) || word.contains("...") || *word == "VERB") {
                continue;
            }
            count += 1;
            let words = words.iter().map(|word| word.trim_matches(['"', '\'']));
            let Err(error) = surgegate::cli::command().try_get_matches_from(words) else { continue };
            let is_fine = match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => true,
                ErrorKind::MissingRequiredArgument | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => !is_whole,
                _ => line.contains('|'),
            };
            if !is_fine {
                let text = error.to_string();
                faults.push(format!("{}: `{line}`: {}", path.display(), text.lines().next().unwrap_or_default()));
            }
        }
    }
    assert!(count > 60, "only {count} commands were found");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
