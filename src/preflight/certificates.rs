//! The listener's certificate and key: read, matched, and how long senders will take them.

use super::Book;
use crate::config::Config;
use crate::event::Micros;
use crate::listen::tls::{self, TlsError};

/// Told this long before a certificate ends.
const SOON_S: i64 = 14 * DAY_S;
const DAY_S: i64 = 24 * 3600;
const CERTIFICATE: &str = "listen.ingest.tls.certificate";

pub(super) fn check(config: &Config, book: &mut Book<'_>) {
    let Some(files) = &config.ingest.tls else { return };
    match tls::check(files) {
        Ok(facts) => expiry(facts.not_before, facts.not_after, Micros::now().0 / 1_000_000, book),
        Err(error) => {
            let hint = "a start would end with this; a running process would keep the certificate it has";
            book.error("certificate", key_of(files, &error), &error.to_string(), hint);
        }
    }
}

fn expiry(not_before: i64, not_after: i64, now: i64, book: &mut Book<'_>) {
    let days = |seconds: i64| seconds / DAY_S;
    if now > not_after {
        let message = format!("the certificate expired {} days ago: senders refuse it", days(now - not_after));
        book.error("certificate", CERTIFICATE, &message, "renew it; it is taken without a restart");
    } else if now < not_before {
        let message = "the certificate is not valid yet: senders refuse it";
        book.error("certificate", CERTIFICATE, message, "look at this machine's clock, or at who issued it");
    } else if not_after - now < SOON_S {
        let message = format!("the certificate expires in {} days", days(not_after - now));
        book.warning("certificate", CERTIFICATE, &message, "renew it; it is taken without a restart");
    }
}

/// The key of the configuration whose file it is about.
fn key_of(files: &tls::Config, error: &TlsError) -> &'static str {
    match error.path() {
        Some(path) if *path == files.key => "listen.ingest.tls.key",
        Some(path) if files.client_ca.as_ref() == Some(path) => "listen.ingest.tls.client_ca",
        _ => CERTIFICATE,
    }
}
