//! Questions that an integration's own upstream answers: passed on, and the answers kept for a minute. An upstream that does
//! not answer is spoken for by what it said last, for an hour at most.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::StatusCode;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout};

use crate::dialect::Passed;
use crate::outcome::{Reason, Refusal};

const HOLDS: Duration = Duration::from_secs(60);
const HOLDS_WITHOUT_UPSTREAM: Duration = Duration::from_secs(3600);
/// Longest wait for the upstream, and for whoever asks it already.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Answers kept, of at most 64 KiB each.
const KEPT_MAX: usize = 256;

/// Puts a question to an upstream; `None`: it does not answer. The forwarder does, whom intake does not know.
pub type AskUpstream = Box<dyn Fn(Passed) -> BoxFuture<'static, Option<(StatusCode, Bytes)>> + Send + Sync>;

/// An answer, and when it came. Who asks first holds it; the others wait for what it learns.
type Kept = Arc<tokio::sync::Mutex<Option<(Instant, Bytes)>>>;

pub(super) struct Questions {
    ask: AskUpstream,
    kept: Mutex<HashMap<Passed, (Instant, Kept)>>,
}

impl Questions {
    pub(super) fn new(ask: AskUpstream) -> Self {
        Self { ask, kept: Mutex::default() }
    }

    fn kept(&self, passed: &Passed) -> Kept {
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if all.len() >= KEPT_MAX && !all.contains_key(passed) {
            let oldest = all.iter().min_by_key(|(_, (asked, _))| *asked).map(|(passed, _)| passed.clone());
            oldest.into_iter().for_each(|oldest| drop(all.remove(&oldest)));
        }
        let (asked, kept) = all.entry(passed.clone()).or_insert_with(|| (now, Kept::default()));
        *asked = now;
        Arc::clone(kept)
    }

    /// The upstream's answer, at most a minute old while it answers.
    ///
    /// # Errors
    /// It does not answer, and said nothing in the last hour; or what is asked for is not there, and it says that in no JSON.
    pub(super) async fn answer(&self, passed: Passed) -> Result<(StatusCode, Bytes), Refusal> {
        let absent = passed.absent;
        let row = self.kept(&passed);
        let silent =
            || Refusal::new(Reason::UpstreamUnusable, "the upstream that knows this does not answer now; ask again");
        let Ok(mut kept) = timeout(WAIT_MAX, row.lock()).await else { return Err(silent()) };
        let now = Instant::now();
        let within = |holds: Duration| kept.as_ref().filter(|(at, _)| now - *at < holds).map(|(_, body)| body.clone());
        if let Some(body) = within(HOLDS) {
            return Ok((StatusCode::OK, body));
        }
        match timeout(WAIT_MAX, (self.ask)(passed)).await.ok().flatten() {
            Some((status, body)) if status.is_success() => {
                *kept = Some((Instant::now(), body.clone()));
                Ok((StatusCode::OK, body))
            }
            Some((StatusCode::NOT_FOUND, body)) => match absent {
                Some(nothing) => Ok((StatusCode::OK, Bytes::from_static(nothing.as_bytes()))),
                // The vendor's own word, which its clients read; a page of something before it is none.
                None if serde_json::from_slice::<&RawValue>(&body).is_ok() => Ok((StatusCode::NOT_FOUND, body)),
                None => Err(Refusal::new(Reason::NotFound, "the upstream knows nothing of this")),
            },
            _ => within(HOLDS_WITHOUT_UPSTREAM).map(|body| (StatusCode::OK, body)).ok_or_else(silent),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

    use super::*;

    fn passed(path: &str) -> Passed {
        Passed { upstream: "pager".into(), path: path.to_owned(), absent: None }
    }

    /// An upstream with this status, and how often it was asked.
    fn questions(status: &Arc<AtomicU16>, asked: &Arc<AtomicUsize>) -> Arc<Questions> {
        let (status, asked) = (Arc::clone(status), Arc::clone(asked));
        Arc::new(Questions::new(Box::new(move |_| {
            let (status, count) = (status.load(Ordering::SeqCst), asked.fetch_add(1, Ordering::SeqCst) + 1);
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                let body = if status == 404 { "<html>".to_owned() } else { count.to_string() };
                StatusCode::from_u16(status).ok().map(|status| (status, Bytes::from(body)))
            })
        })))
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_holds_for_a_minute_and_for_an_hour_while_nobody_answers() {
        let (status, asked) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicUsize::new(0)));
        let questions = questions(&status, &asked);
        let ask = || questions.answer(passed("/a"));
        assert_eq!(ask().await.unwrap().1, "1");
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(ask().await.unwrap().1, "1");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(ask().await.unwrap().1, "2");
        status.store(503, Ordering::SeqCst);
        tokio::time::advance(Duration::from_secs(3500)).await;
        assert_eq!(ask().await.unwrap(), (StatusCode::OK, "2".into()), "what it said last");
        tokio::time::advance(Duration::from_secs(200)).await;
        assert_eq!(ask().await.unwrap_err().reason, Reason::UpstreamUnusable);
        status.store(404, Ordering::SeqCst);
        assert_eq!(ask().await.unwrap_err().reason, Reason::NotFound);
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_at_once_ask_once() {
        let (status, asked) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicUsize::new(0)));
        let questions = questions(&status, &asked);
        let all = (0..50).map(|_| {
            let questions = Arc::clone(&questions);
            tokio::spawn(async move { questions.answer(passed("/a")).await })
        });
        for one in all.collect::<Vec<_>>() {
            assert_eq!(one.await.unwrap().unwrap().1, "1");
        }
        for n in 0..KEPT_MAX + 10 {
            questions.answer(passed(&n.to_string())).await.unwrap();
        }
        assert_eq!(questions.kept.lock().unwrap().len(), KEPT_MAX);
    }
}
