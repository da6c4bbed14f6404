//! `surgegate validate`: everything that is wrong with a configuration, and what would fail with it on this machine,
//! before it runs.

use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::{FAILED, Files, INVALID_CONFIGURATION, UNREACHED};
use crate::config::{self, Config, Errors, Finding, Level, Places};
use crate::preflight::{self, Found};

pub(super) const HELP: &str = "\
First the files themselves: every error at once, each with its place and what to write instead. Then what lies outside
them: whether each port can be had and else who has it, who may read the files of keys, whether each upstream can be
reached (name, TCP, TLS; no request is sent), whether the spool's directory can be used, is whole and has room, the limit
of open files, the clock. Nothing is changed, and a proxy may run beside it.

An error keeps a start or a delivery from working until something is changed. A warning does not: with --strict one that
can pass by itself (an upstream that cannot be reached, a disk with less room than spool.max_bytes) exits with 75.

Examples:
  surgegate validate
  surgegate validate --no-environment --config surgegate.yaml            in a build, far from production
  surgegate validate --strict --config surgegate.yaml                    before a roll-out, where it will run
  surgegate validate --format json | jq '.findings[] | .message'

Exit codes: 0 valid, 2 usage, 75 see above, 78 invalid.";

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    files: Files,
    /// Look at the files alone: no ports, no upstreams, no spool.
    #[arg(long)]
    no_environment: bool,
    /// Exit with 75 where something is not there just now, e.g. an upstream.
    #[arg(long)]
    strict: bool,
    /// Text for people, or one JSON object on standard output.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// All that is to be said.
#[derive(Default)]
struct Verdict {
    findings: Vec<Finding>,
    /// Errors beyond those listed.
    more: usize,
    notes: Vec<String>,
    /// Something that is not there just now.
    lacking: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let paths = match arguments.files.paths() {
        Ok(paths) => paths,
        Err(error) => return not_found(&error, arguments.format),
    };
    let verdict = match config::load_with_places(&paths, &arguments.files.over(), &super::environment) {
        Err(Errors { findings, more }) => Ok(Verdict { findings, more, ..Verdict::default() }),
        Ok((config, _)) if arguments.no_environment => Ok(Verdict { findings: config.warnings, ..Verdict::default() }),
        Ok((config, places)) => with_environment(config, &places),
    };
    match verdict {
        Ok(verdict) => verdict.say(arguments),
        Err(error) => {
            super::complain(&format!("surgegate validate: {error}"));
            ExitCode::from(FAILED)
        }
    }
}

fn with_environment(config: Config, places: &Places) -> std::io::Result<Verdict> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(preflight::check(&config, places));
    // A name server or a disk that hangs holds a thread: nobody waits for it.
    runtime.shutdown_background();
    let lacking = report.found.iter().any(|found| found.may_pass);
    let mut findings = config.warnings;
    findings.extend(report.found.into_iter().map(|Found { finding, .. }| finding));
    // As one reads the files.
    findings.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    Ok(Verdict { findings, more: 0, notes: report.notes, lacking })
}

impl Verdict {
    fn count(&self, level: Level) -> usize {
        let more = if level == Level::Error { self.more } else { 0 };
        self.findings.iter().filter(|finding| finding.level == level).count() + more
    }

    fn say(self, arguments: &Arguments) -> ExitCode {
        let valid = self.count(Level::Error) == 0;
        let code = match (valid, arguments.strict && self.lacking) {
            (false, _) => ExitCode::from(INVALID_CONFIGURATION),
            (true, true) => ExitCode::from(UNREACHED),
            (true, false) => ExitCode::SUCCESS,
        };
        let written = match arguments.format {
            Format::Json => super::print(self.to_json(valid).as_bytes()),
            Format::Text => self.say_text(valid, arguments.strict),
        };
        if written == ExitCode::SUCCESS { code } else { written }
    }

    fn to_json(&self, valid: bool) -> String {
        let findings: Vec<Value> = self.findings.iter().map(row).collect();
        let whole = json!({ "valid": valid, "findings": findings, "more": self.more, "notes": self.notes });
        format!("{whole:#}\n")
    }

    fn say_text(self, valid: bool, strict: bool) -> ExitCode {
        let warnings = match self.count(Level::Warning) {
            0 => String::new(),
            1 => "; 1 warning".to_owned(),
            count => format!("; {count} warnings"),
        };
        if !valid {
            super::complain(&Errors { findings: self.findings, more: self.more }.to_string());
            return ExitCode::SUCCESS;
        }
        self.findings.iter().for_each(|finding| super::complain(&format!("{finding}\n")));
        let mut text: String = self.notes.iter().map(|note| format!("note: {note}\n")).collect();
        text += &format!("the configuration is valid{warnings}\n");
        if strict && self.lacking {
            text += "something it needs is not there just now, and --strict was given\n";
        }
        super::print(text.as_bytes())
    }
}

/// A finding for machines.
fn row(finding: &Finding) -> Value {
    let Finding { level, code, file, line, column, message, hint, .. } = finding;
    json!({
        "level": level, "code": code, "file": file, "line": line, "column": column,
        "message": message, "hint": hint, "snippet": finding.snippet(),
    })
}

fn not_found(error: &config::NotFound, format: Format) -> ExitCode {
    if format == Format::Text {
        return super::invalid(error);
    }
    let finding = json!({
        "level": Level::Error, "code": "no_configuration", "file": "", "line": 0, "column": 0,
        "message": error.to_string(), "hint": null, "snippet": null,
    });
    let whole = json!({ "valid": false, "findings": [finding], "more": 0, "notes": [] });
    // The code says it, whether or not the text was read.
    let _ = super::print(format!("{whole:#}\n").as_bytes());
    ExitCode::from(INVALID_CONFIGURATION)
}
