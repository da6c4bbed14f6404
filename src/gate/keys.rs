//! Integration keys: held as SHA-256, found by hash, compared in constant time. Two live keys an
//! integration allow a rotation without a gap.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

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
    by_head: HashMap<u64, Vec<([u8; 32], Arc<Integration>)>>,
}

impl Keys {
    pub fn new(integrations: impl IntoIterator<Item = Arc<Integration>>) -> Self {
        let mut keys = Self::default();
        for integration in integrations {
            for hash in &integration.config.key_hashes {
                keys.by_head.entry(head(hash)).or_default().push((*hash, Arc::clone(&integration)));
            }
        }
        keys
    }

    /// The integration whose key `presented` is; unknown, revoked and malformed keys are alike.
    pub fn find(&self, presented: &str) -> Option<&Arc<Integration>> {
        if presented.len() > KEY_BYTES_MAX {
            return None;
        }
        let hash = hash_of(presented);
        let rows = self.by_head.get(&head(&hash))?;
        rows.iter().find(|(known, _)| bool::from(known.ct_eq(&hash))).map(|(_, integration)| integration)
    }
}

fn head(hash: &[u8; 32]) -> u64 {
    hash.iter().take(8).fold(0, |head, byte| head << 8 | u64::from(*byte))
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
        let keys = Keys::new([two, one].map(|config| Arc::new(Integration::new(config, Arc::from([])))));
        let found = |key: &str| keys.find(key).map(|integration| integration.config.name.to_string());
        assert_eq!(found("old").as_deref(), Some("two"));
        assert_eq!(found("new").as_deref(), Some("two"));
        assert_eq!(found("other").as_deref(), Some("one"));
        for unknown in ["", "Old", "old ", &"x".repeat(600)] {
            assert_eq!(found(unknown), None);
        }
    }
}
