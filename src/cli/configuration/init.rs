//! `surgegate config init`: a file to begin with. Four answers (of some kinds a few more), asked for on a terminal or given as flags,
//! make one that works; without any of them it is the commented example.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;

use super::super::keys::{NewKey, new_key};
use super::super::{FAILED, USAGE, complain, print};
use crate::config::{self, Finding, Level};
use crate::sink::Kind;

/// Where answers on a terminal are written unless `--output` says otherwise.
const FILE: &str = "surgegate.yaml";
/// So often a question is asked.
const TRIES: usize = 3;

#[derive(clap::Args)]
pub(super) struct Init {
    /// Only what must be written.
    #[arg(long, conflicts_with_all = ["integration", "kind", "url", "credential_file", "set", "spool"])]
    minimal: bool,
    /// Write to this file, which must not exist yet, instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Who sends: the name of the integration.
    #[arg(long, value_name = "NAME")]
    integration: Option<String>,
    /// Where incidents go, the kind of the upstream: webhook, squadcast, stdout, incidentio, incidentio_alert, taskcall,
    /// pagerduty, opsgenie, alertmanager or cloudevents.
    #[arg(long, value_parser = PossibleValuesParser::new(Kind::ALL.map(Kind::name)), hide_possible_values = true, verbatim_doc_comment)]
    kind: Option<String>,
    /// Its address.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// File with its credential; of `pagerduty` the routing key.
    #[arg(long, value_name = "FILE")]
    credential_file: Option<PathBuf>,
    /// Another key of the upstream, which its kind cannot do without.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Directory, on a disk that outlives the process, for what was accepted and not yet delivered.
    #[arg(long, value_name = "DIRECTORY")]
    spool: Option<PathBuf>,
}

/// The answers.
struct Answers {
    integration: String,
    kind: Kind,
    /// Keys of the upstream, and their values.
    keys: Vec<(String, String)>,
    spool: PathBuf,
}

pub(super) fn run(init: &Init) -> ExitCode {
    let given = init.integration.is_some()
        || init.kind.is_some()
        || init.url.is_some()
        || init.credential_file.is_some()
        || !init.set.is_empty()
        || init.spool.is_some();
    let asks =
        !given && !init.minimal && init.output.is_none() && io::stdin().is_terminal() && io::stdout().is_terminal();
    let answers = match (given, asks) {
        (true, _) => of_flags(init),
        (false, true) => asked(),
        (false, false) => return written(init.output.as_deref(), &config::starting_file(init.minimal), None),
    };
    let answers = match answers {
        Ok(answers) => answers,
        Err(wrong) => {
            complain(&format!("surgegate config init: {wrong}"));
            return ExitCode::from(USAGE);
        }
    };
    let key = match new_key() {
        Ok(key) => key,
        Err(error) => {
            complain(&format!("surgegate config init: this machine gives no randomness: {error}"));
            return ExitCode::from(FAILED);
        }
    };
    let text = text(&answers, &key.hash);
    // What is written must be taken: a wrong name or address is told now, in the words of a start.
    if let Err(errors) = config::load_text(FILE, &text, &|_| None) {
        for finding in errors.findings.iter().filter(|finding| finding.level == Level::Error) {
            complain(&format!("surgegate config init: {}", of_answer(finding)));
        }
        return ExitCode::from(USAGE);
    }
    let output = init.output.as_deref().or(asks.then_some(Path::new(FILE)));
    written(output, &text, Some(&key))
}

/// A finding in a file that nobody has written yet, by the flag that holds the answer.
fn of_answer(finding: &Finding) -> String {
    const FLAGS: [(&str, &str); 5] = [
        ("upstreams[0].url: ", "--url: "),
        ("upstreams[0].credential_file: ", "--credential-file: "),
        ("integrations[0].name: ", "--integration: "),
        ("spool.directory: ", "--spool: "),
        ("upstreams[0].", "--set "),
    ];
    let message = &finding.message;
    let named = FLAGS.iter().find_map(|(key, flag)| Some(format!("{flag}{}", message.strip_prefix(key)?)));
    let hint = finding.hint.iter().map(|hint| format!("\n  {hint}")).collect::<String>();
    format!("{}{hint}", named.as_ref().unwrap_or(message))
}

fn kind_of(name: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.name() == name)
}

fn of_flags(init: &Init) -> Result<Answers, String> {
    let kind = init.kind.as_deref().and_then(kind_of).unwrap_or(Kind::Webhook);
    let mut keys = Vec::new();
    keys.extend(init.url.clone().map(|url| ("url".to_owned(), url)));
    keys.extend(init.credential_file.as_ref().map(|file| ("credential_file".to_owned(), file.display().to_string())));
    for set in &init.set {
        let (key, value) = set.split_once('=').ok_or("--set takes KEY=VALUE, e.g. --set region=eu")?;
        // It stands in the file as it is.
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            return Err("--set takes KEY=VALUE with a key of the upstream, e.g. --set region=eu".to_owned());
        }
        if matches!(key, "name" | "kind") || keys.iter().any(|(other, _)| other == key) {
            return Err(format!("{key} is given twice: keep one of the two"));
        }
        keys.push((key.to_owned(), value.to_owned()));
    }
    let has = |wanted: &str| {
        // A URL says where it is, as a region does.
        keys.iter().any(|(key, _)| key == wanted || (wanted == "region" && key == "url"))
    };
    let flag = |key: &str| match key {
        "url" => "--url".to_owned(),
        "credential_file" => "--credential-file".to_owned(),
        key => format!("--set {key}=..."),
    };
    let missing = config::needed(kind).filter(|(key, _)| !has(key));
    let missing: Vec<String> = missing.map(|(key, hint)| format!("{} ({hint})", flag(key))).collect();
    if !missing.is_empty() {
        return Err(format!("--kind {} needs {}", kind.name(), missing.join(", and ")));
    }
    Ok(Answers {
        integration: init.integration.clone().unwrap_or_else(|| "alerts".to_owned()),
        kind,
        keys,
        spool: init.spool.clone().unwrap_or_else(|| PathBuf::from("./data")),
    })
}

/// A question; an empty answer is the usual one.
fn ask(question: &str, usual: &str) -> Result<String, String> {
    let mut out = io::stderr();
    let hint = if usual.is_empty() { String::new() } else { format!(" [{usual}]") };
    let mut line = String::new();
    let asked = write!(out, "{question}{hint}: ").and_then(|()| out.flush());
    asked.and_then(|()| io::stdin().read_line(&mut line)).map_err(|error| error.to_string())?;
    let answer = line.trim();
    Ok(if answer.is_empty() { usual } else { answer }.to_owned())
}

fn asked() -> Result<Answers, String> {
    let integration = ask("1/4  Who sends? A name for these senders", "alerts")?;
    let kinds = Kind::ALL.map(Kind::name).join(", ");
    let mut tries = 0;
    let kind = loop {
        let answer = ask(&format!("2/4  Where do incidents go? {kinds}"), "webhook")?;
        tries += 1;
        match kind_of(&answer) {
            Some(kind) => break kind,
            None if tries < TRIES => complain(&format!("     {answer} is none of them")),
            None => return Err(format!("{answer} is none of {kinds}")),
        }
    };
    let mut keys = Vec::new();
    for (key, hint) in config::needed(kind) {
        let usual = if key == "credential_file" { "./credential" } else { "" };
        keys.push((key.to_owned(), ask(&format!("3/4  {key}: {hint}"), usual)?));
    }
    let spool =
        PathBuf::from(ask("4/4  Where may it keep what is not delivered yet? A disk that outlives it", "./data")?);
    Ok(Answers { integration, kind, keys, spool })
}

/// Quoted as YAML takes it: a JSON string is one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn text(answers: &Answers, hash: &str) -> String {
    let Answers { integration, kind, keys, spool } = answers;
    let name = kind.name().replace('_', "-");
    let mut upstream = format!("  - name: {name}\n    kind: {}\n", kind.name());
    for (key, value) in keys {
        upstream += &format!("    {key}: {}\n", quoted(value));
    }
    format!(
        "# Made by `surgegate config init`; every key: `surgegate config init --output all.yaml` and docs/configuration.md.\n\
         spool:\n  directory: {}\nintegrations:\n  - name: {}\n    keys: [{{ key_sha256: \"{hash}\" }}]  # of a key that was shown once\n    \
         upstreams: [{name}]\nupstreams:\n{upstream}",
        quoted(&spool.display().to_string()),
        quoted(integration),
    )
}

/// To a new file; an old one may hold what somebody wrote. `key`: told beside it, once.
fn written(output: Option<&Path>, text: &str, key: Option<&NewKey>) -> ExitCode {
    if let Some(path) = output {
        let made = std::fs::File::create_new(path).and_then(|mut file| file.write_all(text.as_bytes()));
        if let Err(error) = made {
            let why = match error.kind() {
                io::ErrorKind::AlreadyExists => "exists already and stays as it is: name another file".to_owned(),
                _ => error.to_string(),
            };
            complain(&format!("surgegate: {} {why}", path.display()));
            return ExitCode::from(FAILED);
        }
        complain(&format!("{} is written; `surgegate validate --config {0}` says what is left to do", path.display()));
    }
    if let Some(key) = key {
        complain(&format!("The key of the senders, shown this once: {}", key.key));
        let key = &key.key;
        complain("They post to");
        complain(&format!("  http://HOST:8080/v2/incidents/api/{key}   as Squadcast's incident webhook"));
        complain(&format!("  http://HOST:8080/hooks/alertmanager/{key}  from an Alertmanager"));
        complain("and others where docs/senders says.");
    }
    if output.is_some() { ExitCode::SUCCESS } else { print(text.as_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_answers_make_a_configuration_that_is_taken() {
        let directory = tempfile::TempDir::new().unwrap();
        let credential = directory.path().join("routing-key");
        std::fs::write(&credential, "0123456789abcdef0123456789abcdef").unwrap();
        for kind in Kind::ALL {
            let value = |key: &str| match key {
                "url" => "https://incidents.example.com/v2/incidents/api/a-key".to_owned(),
                "credential_file" => credential.display().to_string(),
                "region" => "eu".to_owned(),
                "visibility" => "private".to_owned(),
                _ => "id".to_owned(),
            };
            let answers = Answers {
                integration: "payments".to_owned(),
                kind,
                keys: config::needed(kind).map(|(key, _)| (key.to_owned(), value(key))).collect(),
                spool: PathBuf::from("./a \"directory\": of mine"),
            };
            let text = text(&answers, &"ab".repeat(32));
            let config = config::load_text(FILE, &text, &|_| None).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
            assert_eq!((config.integrations.len(), config.upstreams.len()), (1, 1));
            assert_eq!(config.spool.directory, answers.spool);
        }
    }
}
