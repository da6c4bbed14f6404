//! The listener's certificate and key: read, matched, and how long senders will take them.

use super::Book;
use crate::config::Config;
use crate::event::Micros;
use crate::listen::tls;

/// Told this long before a certificate ends.
const SOON_S: i64 = 14 * DAY_S;
const DAY_S: i64 = 24 * 3600;
const CERTIFICATE: &str = "listen.ingest.tls.certificate";

pub(super) fn check(config: &Config, book: &mut Book<'_>) {
    let Some(files) = &config.ingest.tls else { return };
    let facts = match tls::check(files) {
        Ok(facts) => Some(facts),
        Err(errors) => {
            book.findings(book.places.of_tls(files, &errors));
            errors.facts
        }
    };
    if let Some(facts) = facts {
        expiry(facts.not_before, facts.not_after, Micros::now().0 / 1_000_000, book);
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
