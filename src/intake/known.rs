//! What is known of a request once its key is: how it speaks, for whom, what its decoder is told.

use hyper::HeaderMap;
use smallvec::SmallVec;

use super::Known;
use crate::body;
use crate::dialect::{self, Asked, Judged, Rules, Takes, json};
use crate::event::Micros;
use crate::outcome::{Reason, Refusal};

impl Known {
    pub(super) fn asked<'a>(&'a self, envelope: Option<json::Document<'a>>) -> Asked<'a> {
        let config = &self.integration.config;
        let rules = Rules {
            require_description: config.require_description,
            judge_only: true,
            settings: Some(&config.settings),
        };
        let endpoint = self.route.endpoint;
        match &self.beside {
            None => Asked { endpoint, args: &[], query: "", headers: None, envelope, rules },
            Some(beside) => Asked {
                endpoint,
                args: &beside.args,
                query: &beside.query,
                headers: beside.headers.as_ref(),
                envelope,
                rules,
            },
        }
    }

    /// The dialects of which the integration must be allowed one.
    pub(super) fn allowed_as(&self) -> SmallVec<[&'static str; 2]> {
        let readers = self.dialect.readers();
        if self.route.reads && !readers.is_empty() {
            return readers.iter().copied().collect();
        }
        SmallVec::from_slice(&[self.dialect.name()])
    }

    /// What a parsed body says.
    pub(super) fn hear(&self, document: json::Document<'_>) -> Result<Option<Judged>, Refusal> {
        if !document.root.is_object() {
            return Err(not_an_object());
        }
        let mut heard = None;
        let mut each = |said: dialect::Decoded<'_>| heard = Some(self.with_default(said.judged));
        self.dialect.decode(&self.asked(None), document, &mut each).map_err(invalid)?;
        Ok(heard)
    }

    pub(super) fn with_default(&self, judged: Judged) -> Judged {
        judged.or_severity(self.integration.config.default_severity)
    }

    pub(super) fn args(&self) -> &[Box<str>] {
        self.beside.as_ref().map_or(&[], |beside| &beside.args)
    }

    /// The end of step 3 where a sender signs its bodies: of routes that want the head.
    pub(super) fn verify(&self, body: &[u8]) -> Result<(), Refusal> {
        if !self.route.wants_headers {
            return Ok(());
        }
        self.dialect.verify(&self.asked(None), body, Micros::now())
    }

    pub(super) fn takes_batch(&self) -> bool {
        let says_so = |headers| self.dialect.holds_many(headers);
        self.route.takes == Takes::Batch && self.headers().is_none_or(says_so)
    }

    /// Of a route that wants them.
    pub(super) fn headers(&self) -> Option<&HeaderMap> {
        self.beside.as_ref()?.headers.as_ref()
    }

    /// Most decoded bytes of a body.
    pub(super) fn body_bytes_max(&self, limits: &body::Limits) -> usize {
        if self.takes_batch() { limits.batch_body_bytes } else { self.event_bytes_max(limits) }
    }

    /// Most decoded bytes of one event.
    pub(super) fn event_bytes_max(&self, limits: &body::Limits) -> usize {
        self.integration.config.body_bytes.unwrap_or(limits.body_bytes)
    }
}

pub(super) fn invalid(faults: dialect::Faults) -> Refusal {
    Refusal::new(Reason::InvalidEvent, "the body breaks the rules of this API").with_errors(faults)
}

/// JSON that no body may be (contracts 2.4), whatever the dialect calls a broken rule of its own.
pub(super) fn not_an_object() -> Refusal {
    let refusal = Refusal::new(Reason::InvalidJson, "the body must be a JSON object");
    refusal.with_errors(vec!["body: must be a JSON object".into()])
}

pub(super) fn not_json(error: json::JsonError) -> Refusal {
    Refusal::new(Reason::InvalidJson, error.to_string()).with_errors(vec![format!("body: {error}")])
}
