//! What upstreams said when they would not take an event: for whoever looks at the dead letter. In memory alone and of the
//! newest: the log keeps the status, and a start begins without texts. `settle` keeps them, `handle` shows them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::sink::{Answer, UpstreamConfig};

/// Texts kept, of all upstreams together: 1 MiB at most with what is around them.
const KEPT_MAX: usize = 1024;
/// Of one answer, in bytes.
const TEXT_BYTES_MAX: usize = 512;
/// A shorter part of an address is no secret, and stands in too many words to be hidden.
const SECRET_CHARS_MIN: usize = 8;
const MASK: &str = "***";

#[derive(Default)]
pub(super) struct Answers(Mutex<VecDeque<Kept>>);

struct Kept {
    upstream: Arc<str>,
    sequence: u64,
    text: Box<str>,
}

impl Answers {
    fn kept(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the begin of an answer that refused an event, without what the upstream's configuration holds secret.
    pub(super) fn keep(&self, config: &UpstreamConfig, sequence: u64, answer: &Answer) {
        let text = told(config, &answer.body);
        if text.is_empty() {
            return;
        }
        let mut kept = self.kept();
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(Kept { upstream: Arc::clone(&config.name), sequence, text: text.into() });
    }

    /// The last that was kept of an event.
    pub(super) fn of(&self, upstream: &str, sequence: u64) -> Option<String> {
        let kept = self.kept();
        let last = kept.iter().rev().find(|kept| kept.sequence == sequence && &*kept.upstream == upstream);
        last.map(|kept| kept.text.to_string())
    }
}

/// Masked before it is cut: half a secret must not be left at the end.
fn told(config: &UpstreamConfig, body: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(body).into_owned();
    for secret in secrets(config) {
        text = text.replace(secret, MASK);
    }
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text.trim().to_owned()
}

/// The credential, and the parts of the address that can be one: some vendors want the key there.
fn secrets(config: &UpstreamConfig) -> impl Iterator<Item = &str> {
    let address = config.url.as_ref().map(|url| (url.path(), url.query().unwrap_or_default()));
    let parts = address.into_iter().flat_map(|(path, query)| path.split('/').chain(query.split(['&', '='])));
    let parts = parts.filter(|part| part.len() >= SECRET_CHARS_MIN);
    config.credential.as_deref().into_iter().chain(parts).filter(|secret| !secret.is_empty())
}
