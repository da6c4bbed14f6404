//! What a start, or the first day, would fail at, found before it does: `surgegate validate`. Nothing is changed: no
//! file is made, no lock taken, no request sent, and each wait has its bound. A proxy may run beside it.
//!
//! One file a subject. A finding stands at the key of the configuration that it is about.

mod certificates;
mod machine;
mod ports;
mod secrets;
mod shared;
mod spool;
mod upstreams;

use crate::config::{Config, Finding, Level, Places};

/// What was found.
#[derive(Default)]
pub struct Report {
    pub found: Vec<Found>,
    /// What is as it may be and good to know.
    pub notes: Vec<String>,
}

pub struct Found {
    pub finding: Finding,
    /// It can pass without a change here: a server that cannot be reached just now, a disk that is full just now.
    pub may_pass: bool,
}

/// Looks at everything that the configuration names. On a tokio runtime with time and I/O.
pub async fn check(config: &Config, places: &Places) -> Report {
    let mut book = Book { places, report: Report::default() };
    let spool = spool::check(config, &mut book).await;
    ports::check(config, &spool, &mut book);
    certificates::check(config, &mut book);
    secrets::check(&mut book);
    machine::check(config, &spool, &mut book);
    upstreams::check(config, &mut book).await;
    shared::check(config, &mut book).await;
    book.report
}

/// Where the checks write.
struct Book<'p> {
    places: &'p Places,
    report: Report,
}

impl Book<'_> {
    /// It will fail until something is changed.
    fn error(&mut self, code: &'static str, key: &str, message: &str, hint: impl Into<String>) {
        self.add(Level::Error, false, code, key, message, hint.into());
    }

    /// It works, and is seldom meant so.
    fn warning(&mut self, code: &'static str, key: &str, message: &str, hint: impl Into<String>) {
        self.add(Level::Warning, false, code, key, message, hint.into());
    }

    /// It fails now, and may be well later.
    fn passing(&mut self, code: &'static str, key: &str, message: &str, hint: impl Into<String>) {
        self.add(Level::Warning, true, code, key, message, hint.into());
    }

    fn add(&mut self, level: Level, may_pass: bool, code: &'static str, key: &str, message: &str, hint: String) {
        let finding = self.places.finding(level, code, key, message, Some(&hint));
        self.report.found.push(Found { finding, may_pass });
    }

    /// As others made them; none passes by itself.
    fn findings(&mut self, findings: Vec<Finding>) {
        self.report.found.extend(findings.into_iter().map(|finding| Found { finding, may_pass: false }));
    }

    fn note(&mut self, text: String) {
        self.report.notes.push(text);
    }
}
