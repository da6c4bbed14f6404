//! The integration keys the load is spread over: from `--key` and `--keys-file`.
//! Called by the command lines of [`crate::run`] and [`crate::saturate`].

use std::path::Path;

use anyhow::{Context, bail, ensure};

/// More keys than this are a wrong file, not a load.
const MOST_KEYS: usize = 1_000_000;
/// Integrations without `--key`: the number PERFORMANCE's rows are measured with.
const DEFAULT_KEYS: usize = 100;

/// The given keys, then those of the file (one a line; blank lines and `#` comments are skipped);
/// with neither, 100 made-up keys of 40 hex digits, as good as any for a server that checks none.
///
/// # Errors
/// The file cannot be read, holds no key, or a key has characters that a path segment may not.
pub fn collect(given: &[String], file: Option<&Path>) -> anyhow::Result<Vec<String>> {
    let mut keys = given.to_vec();
    if let Some(path) = file {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read the keys file {}", path.display()))?;
        keys.extend(
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned),
        );
        ensure!(!keys.is_empty(), "the keys file {} holds no key", path.display());
    }
    if keys.is_empty() {
        keys.extend((0..DEFAULT_KEYS).map(|n| format!("{n:040x}")));
    }
    ensure!(keys.len() <= MOST_KEYS, "more than {MOST_KEYS} keys");
    // The key is not printed: it is the sender's whole credential.
    if let Some(n) = keys.iter().position(|key| !is_path_segment(key)) {
        bail!("key {} has characters that a URL path segment may not", n + 1);
    }
    Ok(keys)
}

fn is_path_segment(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_would_break_the_request_line_are_refused() {
        for wrong in ["a b", "a/b", "a\r\nx: y", "", "a?b"] {
            assert!(collect(&[wrong.to_owned()], None).is_err(), "{wrong:?}");
        }
        let keys = collect(&["ab-1".to_owned()], None).expect("a good key");
        assert_eq!(keys, ["ab-1"]);
    }

    #[test]
    fn without_keys_a_hundred_are_made_up() {
        assert_eq!(collect(&[], None).expect("made up").len(), 100);
    }
}
