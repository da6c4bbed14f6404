//! Integration keys: held as SHA-256, found by hash, compared in constant time. Two live keys an
//! integration allow a rotation without a gap.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::Integration;

/// Longest key looked at, in bytes; longer ones are unknown.
const KEY_BYTES_MAX: usize = 512;

/// SHA-256 of a key as it is presented.
pub(super) fn hash_of(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// All live keys of a configuration.
#[derive(Default)]
pub struct Keys {
    /// By the hash's first 8 bytes. What a look-up's time tells of them is of no use without the key.
    by_head: std::collections::HashMap<u64, Vec<(Words, Arc<Integration>)>, foldhash::fast::RandomState>,
    /// Alert sources by their ids (contracts/incident-io.md 6).
    sources: std::collections::HashMap<Arc<str>, Source>,
    body_bytes_max: usize,
}

/// An alert source: its id is no secret.
pub struct Source {
    kind: Arc<str>,
    secret: Words,
    integration: Arc<Integration>,
}

impl Source {
    /// Whether this is its secret; constant time.
    pub fn is_secret(&self, presented: &str) -> bool {
        presented.len() <= KEY_BYTES_MAX && same(&self.secret, &words(&hash_of(presented)))
    }

    /// Of which kind its bodies are.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    pub fn integration(&self) -> &Arc<Integration> {
        &self.integration
    }
}

impl Keys {
    pub fn new(integrations: impl IntoIterator<Item = Arc<Integration>>) -> Self {
        let mut keys = Self::default();
        for integration in integrations {
            keys.body_bytes_max = keys.body_bytes_max.max(integration.config.body_bytes.unwrap_or(0));
            for hash in &integration.config.key_hashes {
                let words = words(hash);
                keys.by_head.entry(words[0]).or_default().push((words, Arc::clone(&integration)));
            }
            for source in &integration.config.settings.alert_sources {
                let secret = words(&source.secret_hash);
                let integration = Arc::clone(&integration);
                let kind = Arc::clone(&source.kind);
                keys.sources.insert(Arc::clone(&source.id), Source { kind, secret, integration });
            }
        }
        keys
    }

    /// Every integration, by name.
    pub fn integrations(&self) -> Vec<Arc<Integration>> {
        let all = self.by_head.values().flatten().map(|(_, integration)| integration);
        let by_name: BTreeMap<_, _> = all.map(|one| (Arc::clone(&one.config.name), Arc::clone(one))).collect();
        by_name.into_values().collect()
    }

    /// Most bytes that any integration's event may have, of those that say so; else 0.
    pub fn body_bytes_max(&self) -> usize {
        self.body_bytes_max
    }

    /// The alert source of that id.
    pub fn source(&self, id: &str) -> Option<&Source> {
        self.sources.get(id)
    }

    /// The integration whose key `presented` is; unknown, revoked and malformed keys are alike.
    pub fn find(&self, presented: &str) -> Option<&Arc<Integration>> {
        if presented.len() > KEY_BYTES_MAX {
            return None;
        }
        let hash = words(&hash_of(presented));
        let rows = self.by_head.get(&hash[0])?;
        rows.iter().find(|(known, _)| same(known, &hash)).map(|(_, integration)| integration)
    }
}

/// A hash as words: comparing four of them takes a tenth of comparing 32 bytes in constant time.
type Words = [u64; 4];

fn words(hash: &[u8; 32]) -> Words {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(hash.chunks_exact(8)) {
        *word = bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    words
}

/// Constant time.
fn same(known: &Words, presented: &Words) -> bool {
    let equal = known.iter().zip(presented).map(|(known, presented)| known.ct_eq(presented));
    bool::from(equal.fold(Choice::from(1), |all, one| all & one))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::tests::config;

    #[test]
    fn either_of_two_keys_finds_its_integration_and_nothing_else_does() {
        let mut two = config("two");
        two.key_hashes = vec![hash_of("old"), hash_of("new")];
        let mut one = config("one");
        one.key_hashes = vec![hash_of("other")];
        let keys = Keys::new(
            [two, one]
                .map(|config| Arc::new(Integration::new(config, Box::new(crate::claim::Targets::from([])), None))),
        );
        let found = |key: &str| keys.find(key).map(|integration| integration.config.name.to_string());
        assert_eq!(found("old").as_deref(), Some("two"));
        assert_eq!(found("new").as_deref(), Some("two"));
        assert_eq!(found("other").as_deref(), Some("one"));
        for unknown in ["", "Old", "old ", &"x".repeat(600)] {
            assert_eq!(found(unknown), None);
        }
    }
}
