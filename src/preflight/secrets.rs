//! Files that hold keys, tokens and credentials: who may read them. That this process can was seen when they were read.

use std::os::unix::fs::MetadataExt;

use super::Book;

/// The directory of the log, of the keys that name files.
const SPOOL: &str = "spool.directory";
/// Certificates are shown to everyone who connects.
const PUBLIC: [&str; 3] = ["listen.ingest.tls.certificate", "listen.ingest.tls.client_ca", "redis.ca_file"];
/// Read by everyone.
const OTHERS_READ: u32 = 0o004;

pub(super) fn check(book: &mut Book<'_>) {
    for (key, path) in
        book.places.files().into_iter().filter(|(key, _)| key != SPOOL && !PUBLIC.contains(&key.as_str()))
    {
        let Ok(file) = std::fs::metadata(&path) else { continue };
        if file.mode() & OTHERS_READ != 0 {
            let shown = path.display();
            let message =
                format!("{shown} can be read by every user of this machine (mode {:04o})", file.mode() & 0o7777);
            book.warning(
                "secret_mode",
                &key,
                &message,
                format!("chmod o= {shown}; in Kubernetes set defaultMode: 0440"),
            );
        }
    }
}
