//! Whether two bodies say the same: a hash of what was parsed, not of how it is written. For keys that create once.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use simd_json::{Node, StaticNode};

use super::{Kind, Value};

/// Integers up to here are the same as numbers with a fraction of zero.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

impl Value<'_> {
    /// SHA-256 of the value: white space, the order of members, repeated names that lost and the spelling of texts and
    /// numbers do not count.
    pub fn digest(self) -> [u8; 32] {
        let mut hash = Sha256::new();
        feed(self, &mut hash);
        hash.finalize().into()
    }
}

fn feed(value: Value<'_>, hash: &mut Sha256) {
    let text = |hash: &mut Sha256, text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    match value.kind() {
        Kind::Null => hash.update(b"n"),
        Kind::Bool(value) => hash.update(if value { b"t" } else { b"f" }),
        Kind::Integer(number) => {
            hash.update(b"i");
            hash.update(number.to_le_bytes());
        }
        Kind::Number => number(value, hash),
        Kind::String(string) => {
            hash.update(b"s");
            text(hash, string);
        }
        Kind::Array => {
            hash.update(b"a");
            hash.update((value.len() as u64).to_le_bytes());
            value.elements().for_each(|element| feed(element, hash));
        }
        Kind::Object => {
            let members: BTreeMap<&str, Value<'_>> = value.members().collect();
            hash.update(b"o");
            hash.update((members.len() as u64).to_le_bytes());
            for (name, member) in members {
                text(hash, name);
                feed(member, hash);
            }
        }
    }
}

fn number(value: Value<'_>, hash: &mut Sha256) {
    let Some(Node::Static(StaticNode::F64(number))) = value.nodes.first() else { return };
    if number.fract() == 0.0 && number.abs() < EXACT_MAX {
        hash.update(b"i");
        hash.update((*number as i128).to_le_bytes());
    } else {
        hash.update(b"d");
        hash.update(number.to_bits().to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use crate::dialect::json::with_document;

    fn digest(body: &str) -> [u8; 32] {
        with_document(body.as_bytes(), |document| document.root.digest()).unwrap()
    }

    #[test]
    fn what_says_the_same_has_the_same_digest() {
        let one = digest(r#"{"a":[1,2.50,"x\u0041"],"b":{"c":null,"d":true}}"#);
        assert_eq!(digest(" {\"b\": {\"d\":true,\"c\":null},\n\"a\":[1.0,25e-1,\"xA\"]}"), one);
        assert_eq!(digest(r#"{"a":0,"a":[1,2.5,"xA"],"b":{"c":null,"d":true}}"#), one, "the last of a name counts");
    }

    #[test]
    fn what_says_something_else_has_another() {
        let bodies = ["{}", "[]", "[[]]", "null", "\"\"", "0", "false", "1", "\"1\"", "1.5", "[1,2]", "[2,1]", "[12]"];
        let objects = [r#"{"a":1}"#, r#"{"a":"1"}"#, r#"{"a":1,"b":null}"#, r#"{"ab":1}"#, r#"{"a":{"b":1}}"#];
        let all: Vec<_> = bodies.into_iter().chain(objects).map(digest).collect();
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
