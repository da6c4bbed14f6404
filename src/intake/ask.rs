//! Questions: requests that ask what is known and say nothing. No event comes of them; they cost the key's request
//! limit and read the log at most once an incident they show.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body;
use hyper::{HeaderMap, Request, Response, StatusCode, Uri};

use super::answer::{self, RequestId};
use super::known::not_json;
use super::records;
use super::{Came, Intake, Known, Taken, Trail};
use crate::body;
use crate::dedup::IdName;
use crate::dialect::{Question, Takes, json};
use crate::event::Micros;
use crate::outcome::Refusal;

/// A question's answer.
pub(super) struct Read {
    pub(super) request_id: RequestId,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Read {
    pub(super) fn response(&self, request_id: &str) -> Response<Full<Bytes>> {
        let mut response = answer::build(self.status, self.body.clone(), request_id);
        response.headers_mut().extend(self.headers.clone());
        response
    }
}

impl Intake {
    pub(super) async fn answer_question<B>(
        &self,
        came: &Came<'_>,
        known: &Known,
        request: &mut Request<B>,
        trail: &mut Trail,
    ) -> Result<Taken, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let announced = match self.announced(came, known, request.headers()) {
            Ok(announced) => announced,
            Err(refusal) => {
                trail.refused_for(&known.integration, &refusal);
                return Err(self.unread(request, trail, refusal).await);
            }
        };
        *request.headers_mut() = HeaderMap::new();
        *request.uri_mut() = Uri::default();
        let takes_body = matches!(known.route.takes, Takes::One | Takes::Perhaps);
        let body = if takes_body {
            let read = body::read(request.body_mut(), &announced.expected).await;
            trail.close |= read.is_err() && !request.body().is_end_stream();
            let body = read?;
            announced.content.tolerate(body.bytes())?;
            Some(body)
        } else {
            let at_most = self.terms.load().limits.body_bytes;
            trail.close |= !body::discard_ready(request.body_mut(), at_most).await;
            None
        };
        if let Some(passed) = known.dialect.passes(&known.asked(None), &known.integration.config.settings) {
            let answered = self.questions.answer(passed).await;
            let (status, body) = answered.inspect_err(|refusal| trail.refused_for(&known.integration, refusal))?;
            let request_id = RequestId::new(known.dialect.request_id());
            return Ok(Taken::Answer(Box::new(Read { request_id, status, headers: HeaderMap::new(), body })));
        }
        let body = body.as_ref().map(|body| &**body.bytes());
        let (mut read, missed) = self.ask(known, body);
        // Another replica may know what this one does not.
        let asks = read.is_err() && !missed.is_empty() && self.dedup.asks_for_ids();
        if asks && self.dedup.find_elsewhere(&missed).await {
            read = self.ask(known, body).0;
        }
        read.inspect_err(|refusal| trail.refused_for(&known.integration, refusal))
    }

    /// The answer, and by what others may know an incident that is not known here.
    fn ask(&self, known: &Known, body: Option<&[u8]>) -> (Result<Taken, Refusal>, Vec<IdName>) {
        let family = known.dialect.family(known.args());
        let records = records::Known::new(&self.dedup, &self.store, &known.integration.config, &family);
        (self.ask_of(known, body, &records), records.missed())
    }

    fn ask_of(&self, known: &Known, body: Option<&[u8]>, records: &records::Known<'_>) -> Result<Taken, Refusal> {
        let request_id = RequestId::new(known.dialect.request_id());
        let config = &known.integration.config;
        let ask = |document: Option<json::Document<'_>>| {
            let question = Question {
                asked: known.asked(None),
                document,
                records,
                integration: &config.name,
                settings: &config.settings,
                request_id: request_id.as_str(),
                now: Micros::now(),
            };
            let (status, body) = known.dialect.read(&question)?;
            Ok::<_, Refusal>((status, body, known.dialect.read_headers(&question)))
        };
        let (status, body, headers) = match body {
            None => ask(None)?,
            Some(body) if body.iter().all(u8::is_ascii_whitespace) && known.route.takes == Takes::Perhaps => ask(None)?,
            Some(body) => json::with_document(body, |document| ask(Some(document))).map_err(not_json)??,
        };
        Ok(Taken::Answer(Box::new(Read { request_id, status, headers, body })))
    }
}
