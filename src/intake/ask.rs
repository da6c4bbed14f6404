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
use crate::dialect::{Question, Takes, json};
use crate::event::Micros;
use crate::outcome::Refusal;

/// A question's answer.
pub(super) struct Read {
    pub(super) request_id: RequestId,
    status: StatusCode,
    body: Bytes,
}

impl Read {
    pub(super) fn response(&self, request_id: &str) -> Response<Full<Bytes>> {
        answer::build(self.status, self.body.clone(), request_id)
    }
}

impl Intake {
    pub(super) async fn answer_question<B>(
        &self,
        came: &Came,
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
        let read = self.ask(known, body.as_ref().map(|body| &**body.bytes()));
        read.inspect_err(|refusal| trail.refused_for(&known.integration, refusal))
    }

    fn ask(&self, known: &Known, body: Option<&[u8]>) -> Result<Taken, Refusal> {
        let request_id = RequestId::new(known.dialect.request_id());
        let family = known.dialect.family(known.args());
        let config = &known.integration.config;
        let records = records::Known::new(&self.dedup, &self.store, &config.name, &family);
        let ask = |document: Option<json::Document<'_>>| {
            known.dialect.read(&Question {
                asked: known.asked(None),
                document,
                records: &records,
                integration: &config.name,
                settings: &config.settings,
                request_id: request_id.as_str(),
                now: Micros::now(),
            })
        };
        let (status, body) = match body {
            None => ask(None)?,
            Some(body) if body.iter().all(u8::is_ascii_whitespace) && known.route.takes == Takes::Perhaps => ask(None)?,
            Some(body) => json::with_document(body, |document| ask(Some(document))).map_err(not_json)??,
        };
        Ok(Taken::Answer(Box::new(Read { request_id, status, body })))
    }
}
