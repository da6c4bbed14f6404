//! What a vendor is to the stand-in: one implementation for each. Called by `stand.rs`.

use std::time::Instant;

use jiff::Timestamp;

use super::call::{Call, Reply};
use super::journal::Shown;
use super::ledger::Ledger;
use super::rate::Usage;
use crate::upstream::fault::RetryAfter;

/// A vendor's rules. The state it keeps for itself is lost with a reset.
pub(super) trait Contract {
    /// The checks before a request counts against the rate: path, method, credential, content type
    /// and size. Gives the scope.
    fn admit(&mut self, call: &Call<'_>) -> Result<String, Reply>;

    /// Does what the request says.
    fn apply(&mut self, call: &Call<'_>, scope: &str, ledger: &mut Ledger) -> Reply;

    /// A refusal that lies not in the request: a scripted status, the rate, a full ledger.
    fn refusal(&self, call: &Call<'_>, status: u16, retry_after: Option<RetryAfter>) -> Reply;

    /// The status of a request above the rate.
    fn status_above_rate(&self, _call: &Call<'_>) -> u16 {
        429
    }

    /// Headers that tell how far the rate is used up.
    fn rate_headers(&self, _usage: &Usage, _at: Timestamp) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Names of the incident that the request addresses by an id, for faults with `match=`.
    fn addressed(&mut self, _call: &Call<'_>, _ledger: &Ledger) -> Vec<String> {
        Vec::new()
    }

    /// Hides credentials that stand elsewhere than in headers.
    fn hide(&self, _call: &Call<'_>, _shown: &mut Shown) {}

    /// Does what was promised for this time.
    fn settle(&mut self, _now: Instant, _at: Timestamp, _ledger: &mut Ledger) {}
}

/// The header of a refusal, when it has one.
pub(super) fn with_retry_after(reply: Reply, retry_after: Option<RetryAfter>, at: Timestamp) -> Reply {
    match retry_after {
        Some(retry_after) => reply.with("retry-after", retry_after.header(at)),
        None => reply,
    }
}
