//! What is wrong with a file of TLS, as a finding at the key that names it: one word, place and hint for `validate`, which
//! looks ahead, and for a reload.

use super::Places;
use super::finding::{Finding, Level};
use crate::listen::tls::{self, TlsError, TlsErrors};

impl Places {
    /// One for each file of `files` that `errors` is about.
    pub fn of_tls(&self, files: &tls::Config, errors: &TlsErrors) -> Vec<Finding> {
        let hint = Some("a start would end with this; a running process keeps the certificate it has");
        let finding = |error: &TlsError| {
            self.finding(Level::Error, "certificate", key_of(files, error), &error.to_string(), hint)
        };
        errors.all.iter().map(finding).collect()
    }
}

/// The key of the configuration whose file it is about.
fn key_of(files: &tls::Config, error: &TlsError) -> &'static str {
    match error.path() {
        Some(path) if *path == files.key => "listen.ingest.tls.key",
        Some(path) if files.client_ca.as_ref() == Some(path) => "listen.ingest.tls.client_ca",
        _ => "listen.ingest.tls.certificate",
    }
}
