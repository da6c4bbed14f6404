//! One script with its keys and arguments, and what can come of it. Made by everyone who asks Redis something.

use std::fmt;
use std::io::Write;
use std::sync::OnceLock;

use ::redis::{Cmd, Pipeline};
use smallvec::SmallVec;

/// What the parts of most calls take together.
const PARTS_BYTES: usize = 256;

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

/// One call of a script: a key and arguments.
#[derive(Clone)]
pub struct Call {
    pub(super) script: &'static Script,
    /// The key and the arguments one behind the other: a call is made for each event, and each part apart would be a piece of memory.
    parts: Vec<u8>,
    /// Where each of them ends.
    ends: SmallVec<[u32; 12]>,
}

impl Call {
    pub fn new(script: &'static Script, key: impl AsRef<[u8]>) -> Self {
        Self::on(script, |out| out.extend_from_slice(key.as_ref()))
    }

    /// For a key that is written in place.
    pub(super) fn on(script: &'static Script, key: impl FnOnce(&mut Vec<u8>)) -> Self {
        Self { script, parts: Vec::with_capacity(PARTS_BYTES), ends: SmallVec::new() }.put(key)
    }

    /// An argument that is written in place.
    #[must_use]
    pub(super) fn put(mut self, arg: impl FnOnce(&mut Vec<u8>)) -> Self {
        arg(&mut self.parts);
        self.end()
    }

    #[must_use]
    pub fn arg(self, arg: impl AsRef<[u8]>) -> Self {
        self.put(|out| out.extend_from_slice(arg.as_ref()))
    }

    #[must_use]
    pub fn number(self, number: impl fmt::Display) -> Self {
        // Memory takes all of it.
        self.put(|out| drop(write!(out, "{number}")))
    }

    fn end(mut self) -> Self {
        self.ends.push(u32::try_from(self.parts.len()).unwrap_or(u32::MAX));
        self
    }

    fn all(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = 0;
        self.ends.iter().map(move |end| {
            let end = *end as usize;
            let part = self.parts.get(from..end).unwrap_or_default();
            from = end;
            part
        })
    }

    /// That by which a Cluster finds its server.
    pub(super) fn key(&self) -> &[u8] {
        self.all().next().unwrap_or_default()
    }

    /// `whole`: with the script's text, which Redis keeps from then on.
    pub(super) fn add_to(&self, pipeline: &mut Pipeline, whole: bool) {
        let text = if whole { self.script.source } else { self.script.sha1() };
        // Each part has its length before it, and two ends of line.
        let mut command = Cmd::with_capacity(3 + self.ends.len(), text.len() + self.parts.len() + 16);
        command.arg(if whole { "EVAL" } else { "EVALSHA" }).arg(text).arg(1);
        self.all().for_each(|part| {
            command.arg(part);
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
