//! Reads the configuration's own files and the secrets that it names.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::reader::Section;
use super::report::Wrong;

/// Largest configuration file. Ten thousand integrations take 2 MiB.
pub(super) const CONFIG_BYTES_MAX: u64 = 4 << 20;
/// Largest key, credential or token, with room to spare; `/dev/zero` ends here.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// What to do about a file that is larger.
pub(super) const TOO_LARGE: &str = "that is no configuration: name the right file";

/// All of a file of at most `most` bytes.
pub(super) fn bytes(path: &Path, most: u64) -> Result<Vec<u8>, Wrong> {
    let unreadable = |error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::IsADirectory => "name the file in it",
            io::ErrorKind::TimedOut => "name a file; a pipe must be written and closed within 10 s",
            io::ErrorKind::PermissionDenied => "let the user that the process runs as read it",
            _ => "relative paths begin at the working directory",
        };
        Wrong::value(format!("cannot be read: {error}")).code("file").hint(hint)
    };
    let bytes = crate::file::read(path, most).map_err(unreadable)?;
    if bytes.len() as u64 > most {
        let hint = if most == CONFIG_BYTES_MAX { TOO_LARGE } else { "it holds the secret and nothing else" };
        return Err(Wrong::value(format!("larger than {}", super::units::show_size(most))).code("file").hint(hint));
    }
    Ok(bytes)
}

/// A secret from the file that `key` names, less its last line break. Failures are reported at the key.
pub(super) fn secret(section: &Section, key: &str, path: &Path) -> Option<Arc<str>> {
    section.note_read(path);
    let read = bytes(path, SECRET_BYTES_MAX).and_then(|bytes| {
        let text = String::from_utf8(bytes)
            .map_err(|_| Wrong::value("not UTF-8 text").code("file").hint("it holds the secret and nothing else"))?;
        let secret = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
        if secret.is_empty() {
            Err(Wrong::value("the file is empty").code("file").hint("it holds the secret and nothing else"))
        } else {
            Ok(Arc::from(secret))
        }
    });
    read.map_err(|wrong| section.error(key, wrong)).ok()
}
