//! `validate` looks at the machine's clock (issue 4.2): one that was never set is an error, one behind what the spool
//! holds a warning. The clock of the process alone is set, by libfaketime.

use std::path::Path;

use serde_json::Value;

use crate::harness::{PATH, Recorder, Surgegate, binary, clock_set, run, standard, trigger};

/// Runs `validate` with the clock set so: its exit code, and the findings about the clock.
fn validate(surgegate: &Surgegate, clock: Option<&str>, more: &[&str]) -> (Option<i32>, Vec<Value>) {
    let mut command = binary(Path::new("."), &["validate", "--format", "json"]);
    command.args(more).args(surgegate.files().iter().flat_map(|file| [Path::new("--config"), file]));
    let words = clock.map(clock_set);
    command.envs(words.iter().flatten().filter_map(|word| word.split_once('=')));
    let ended = run(command, "");
    let whole: Value = serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    let findings = whole["findings"].as_array().unwrap().iter();
    (ended.code, findings.filter(|finding| finding["code"] == "clock").cloned().collect())
}

#[test]
fn a_clock_that_was_never_set_is_an_error_and_one_behind_the_spool_a_warning() {
    let recorder = Recorder::start();
    let mut surgegate = Surgegate::start(&[&standard(&recorder)]);
    assert_eq!(surgegate.post(PATH, trigger("k")).status, 202);
    surgegate.wait_until_delivered();
    assert!(surgegate.stop().success());
    assert_eq!(validate(&surgegate, None, &["--strict"]), (Some(0), vec![]));
    // Less than a minute is nobody's business.
    assert_eq!(validate(&surgegate, Some("-30s"), &[]), (Some(0), vec![]));

    let (code, found) = validate(&surgegate, Some("-1h"), &["--strict"]);
    assert_eq!((code, found.len(), &found[0]["level"]), (Some(0), 1, &"warning".into()), "{found:?}");
    let said = found[0].to_string();
    assert!(said.contains("but the spool has a record of") && said.contains("set the clock right"), "{said}");
    assert!(found[0]["message"].as_str().unwrap().starts_with("spool.directory: "), "{said}");

    let (code, found) = validate(&surgegate, Some("@2020-01-01 00:00:00"), &[]);
    assert_eq!((code, found.len(), &found[0]["level"]), (Some(78), 1, &"error".into()), "{found:?}");
    assert!(found[0]["message"].as_str().unwrap().contains("this machine's clock says 20"), "{found:?}");
    // It is the machine's, and nothing of the file.
    assert_eq!(validate(&surgegate, Some("@2020-01-01 00:00:00"), &["--no-environment"]), (Some(0), vec![]));
}
