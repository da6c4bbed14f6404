//! What is wrong with a configuration: one row a finding, shown as text with its place, or as data.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::{Serialize, Serializer};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Error,
    Warning,
}

/// One finding. `Display` gives several lines of text, serde the row for machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    /// Stable word for scripts, e.g. `unknown_key`.
    pub code: &'static str,
    /// Never holds a secret, nor a value that came from the environment.
    pub message: String,
    /// The file, or `environment variable NAME`.
    pub file: String,
    /// From 1; 0 where the file as a whole is meant.
    pub line: usize,
    /// From 1, in characters; 0 where the file as a whole is meant.
    pub column: usize,
    pub hint: Option<String>,
    /// As data: the text alone.
    pub(super) snippet: Option<Snippet>,
}

impl Finding {
    /// The line it stands on, secrets hidden.
    pub fn snippet(&self) -> Option<&str> {
        self.snippet.as_ref().map(|snippet| snippet.text.as_str())
    }
}

/// The line of a finding, secrets hidden, and where the carets stand below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snippet {
    pub(super) text: String,
    pub(super) indent: usize,
    pub(super) carets: usize,
}

impl Finding {
    /// A key that was changed in a running process and waits for its next start.
    pub fn needs_restart(key: &'static str) -> Self {
        let message = format!("{key} was changed: that waits for the next start");
        let hint = Some("all other changes are in force".to_owned());
        Self { level: Level::Warning, hint, ..Self::error("needs_restart", message) }
    }

    /// An integration whose key goes on under another name.
    pub fn renamed(before: &str, now: &str) -> Self {
        let message = format!(
            "integration {before} is now {now}: its incidents begin anew; an open one is sent again as a new one, and not \
             behind what still waits of {before}"
        );
        let hint = Some(format!("name it {before} again to go on with what is known of its incidents"));
        Self { level: Level::Warning, hint, ..Self::error("renamed", message) }
    }

    /// A file that was not read within this time; `None`: it is not known which.
    pub fn unanswered(file: Option<&Path>, time: Duration) -> Self {
        let message = format!("not read within {} s: its file system does not answer", time.as_secs());
        let file = file.map_or_else(|| "configuration".to_owned(), |file| file.display().to_string());
        let hint = Some("the configuration before it stays in force; look at the mount, then reload again".to_owned());
        Self { file, hint, ..Self::error("file", message) }
    }

    /// An error of what the configuration names, at no place of its files.
    pub fn error(code: &'static str, message: String) -> Self {
        let level = Level::Error;
        Self { level, code, message, file: String::new(), line: 0, column: 0, hint: None, snippet: None }
    }

    /// `file:line:column`, or the file alone.
    pub fn place(&self) -> String {
        match self.line {
            0 => self.file.clone(),
            line => format!("{}:{line}:{}", self.file, self.column),
        }
    }
}

impl Serialize for Snippet {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.text)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Error => "error",
            Level::Warning => "warning",
        };
        writeln!(f, "{level}: {}", self.message)?;
        let number = self.line.to_string();
        let margin = if self.line == 0 { 1 } else { number.len() };
        match self.line {
            0 => writeln!(f, "{:margin$}--> {}", "", self.file)?,
            line => writeln!(f, "{:margin$}--> {}:{line}:{}", "", self.file, self.column)?,
        }
        if let Some(Snippet { text, indent, carets }) = &self.snippet {
            writeln!(f, "{:margin$} |", "")?;
            writeln!(f, "{number} | {text}")?;
            writeln!(f, "{:margin$} | {:indent$}{:^<carets$}", "", "", "")?;
        }
        if let Some(hint) = &self.hint {
            writeln!(f, "{:margin$} = help: {hint}", "")?;
        }
        Ok(())
    }
}

/// Why a configuration cannot be used: every error found, and the warnings beside them, in file order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Errors {
    pub findings: Vec<Finding>,
    /// Errors beyond those listed; a broken file can hold a million.
    pub more: usize,
}

impl Errors {
    /// Errors found, listed or not; warnings do not count.
    pub fn count(&self) -> usize {
        self.findings.iter().filter(|finding| finding.level == Level::Error).count() + self.more
    }

    /// In a line: the first, and how many there are.
    pub fn in_a_line(&self) -> String {
        let first = self.findings.iter().find(|finding| finding.level == Level::Error);
        let first = first.map(|finding| match finding.place() {
            place if place.is_empty() => finding.message.clone(),
            place => format!("{place}: {}", finding.message),
        });
        match (self.count(), first.unwrap_or_default()) {
            (1, first) => first,
            (count, first) => format!("{first} (and {} more)", count - 1),
        }
    }

    /// One JSON document for scripts: `valid`, how many `errors` and `warnings`, `more` (errors that are not listed), and
    /// a row a finding.
    pub fn to_json(&self) -> String {
        let warnings = self.findings.iter().filter(|finding| finding.level == Level::Warning).count();
        let document = serde_json::json!({
            "valid": self.count() == 0,
            "errors": self.count(),
            "warnings": warnings,
            "more": self.more,
            "findings": self.findings,
        });
        format!("{document:#}")
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        if self.more > 0 {
            writeln!(f, "{} more not shown", self.more)?;
        }
        match self.count() {
            1 => write!(f, "1 error"),
            count => write!(f, "{count} errors"),
        }
    }
}

impl std::error::Error for Errors {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_serializes_to_a_row_with_its_line() {
        let finding = Finding {
            level: Level::Error,
            code: "unknown_key",
            message: "unknown key \"x\"".into(),
            file: "a.yaml".into(),
            line: 3,
            column: 5,
            hint: None,
            snippet: Some(Snippet { text: "x: 1".into(), indent: 0, carets: 1 }),
        };
        let row = serde_json::to_string(&finding).unwrap();
        assert_eq!(
            row,
            r#"{"level":"error","code":"unknown_key","message":"unknown key \"x\"","file":"a.yaml","line":3,"column":5,"hint":null,"snippet":"x: 1"}"#
        );
    }

    #[test]
    fn a_run_is_one_document_that_says_whether_it_is_valid() {
        let finding = |level| Finding {
            level,
            code: "value",
            message: "m".into(),
            file: "a.yaml".into(),
            line: 1,
            column: 2,
            hint: Some("h".into()),
            snippet: None,
        };
        let document = |findings: &[Level], more| {
            let errors = Errors { findings: findings.iter().copied().map(finding).collect(), more };
            serde_json::from_str::<serde_json::Value>(&errors.to_json()).unwrap()
        };
        let bad = document(&[Level::Error, Level::Warning], 7);
        assert_eq!(
            (&bad["valid"], &bad["errors"], &bad["warnings"], &bad["more"]),
            (&false.into(), &8.into(), &1.into(), &7.into())
        );
        assert_eq!(bad["findings"][0]["hint"], "h");
        let good = document(&[Level::Warning], 0);
        assert_eq!(
            (&good["valid"], &good["errors"], &good["findings"][0]["level"]),
            (&true.into(), &0.into(), &"warning".into())
        );
    }
}
