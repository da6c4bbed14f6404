//! One script with its keys and arguments, and what can come of it. Made by everyone who asks Redis something.

use std::sync::OnceLock;

use ::redis::{Cmd, Pipeline};
use bytes::Bytes;
use smallvec::SmallVec;

/// A Lua script that Redis runs. What it writes it must read again at its end where it wants to hear of the next change:
/// a connection is told of a key that it read, once, and its own write makes Redis forget that it did.
pub struct Script {
    source: &'static str,
    sha1: OnceLock<String>,
}

impl Script {
    pub const fn new(source: &'static str) -> Self {
        Self { source, sha1: OnceLock::new() }
    }

    pub(super) fn sha1(&self) -> &str {
        self.sha1.get_or_init(|| ::redis::Script::new(self.source).get_hash().to_owned())
    }
}

/// One call of a script. In a Cluster all its keys must share a hash tag.
#[derive(Clone)]
pub struct Call {
    pub(super) script: &'static Script,
    keys: SmallVec<[Bytes; 1]>,
    args: SmallVec<[Bytes; 6]>,
}

impl Call {
    pub fn new(script: &'static Script, key: impl Into<Bytes>) -> Self {
        let mut keys = SmallVec::new();
        keys.push(key.into());
        Self { script, keys, args: SmallVec::new() }
    }

    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.keys.push(key.into());
        self
    }

    #[must_use]
    pub fn arg(mut self, arg: impl Into<Bytes>) -> Self {
        self.args.push(arg.into());
        self
    }

    #[must_use]
    pub fn number(self, number: impl ToString) -> Self {
        self.arg(number.to_string())
    }

    /// That by which a Cluster finds its server.
    pub(super) fn first_key(&self) -> &[u8] {
        self.keys.first().map_or(&[], |key| key)
    }

    /// `whole`: with the script's text, which Redis keeps from then on.
    pub(super) fn add_to(&self, pipeline: &mut Pipeline, whole: bool) {
        let mut command = Cmd::with_capacity(3 + self.keys.len() + self.args.len(), 256);
        if whole {
            command.arg("EVAL").arg(self.script.source);
        } else {
            command.arg("EVALSHA").arg(self.script.sha1());
        }
        command.arg(self.keys.len());
        self.keys.iter().chain(&self.args).for_each(|part| {
            command.arg(&part[..]);
        });
        pipeline.add_command(command);
    }
}

/// Why a call came to nothing that its caller could use. It may have been run all the same, but for `Away` and `Full`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Down {
    #[error("Redis is away")]
    Away,
    #[error("too much waits for Redis")]
    Full,
    #[error("Redis did not answer in time")]
    Late,
    #[error("the connection to Redis was lost")]
    Lost,
    /// The first word of its error.
    #[error("Redis answered {0}")]
    Refused(Box<str>),
}

impl Down {
    /// For `redis_operations_total`.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Full => "full",
            Self::Late => "late",
            Self::Lost => "lost",
            Self::Refused(_) => "refused",
        }
    }
}
