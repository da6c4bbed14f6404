//! PagerDuty: Events API v2 and v1, and change events (contracts/pagerduty.md). The key stands in the body: `intake` reads
//! it there and overwrites it, nothing here ever looks at it.

mod answer;
mod beside;
mod details;
mod payload;
mod reading;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use bytes::Bytes;
use hyper::StatusCode;

use super::json::Document;
use super::{Asked, Credentials, Decoded, Dialect, Faults, Replying, Route, usual_status};
use crate::outcome::{Class, Refusal};

/// One of the vendor's three APIs.
pub(super) struct PagerDuty {
    api: Api,
    routes: &'static [Route],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Api {
    V2,
    V1,
    Change,
}

pub(super) static V2: PagerDuty =
    PagerDuty { api: Api::V2, routes: &[Route::post("/v2/enqueue", "v2/enqueue", Credentials::Body("routing_key"))] };

pub(super) static V1: PagerDuty = PagerDuty {
    api: Api::V1,
    routes: &[Route::post(
        "/generic/2010-04-15/create_event.json",
        "generic/create_event",
        Credentials::Body("service_key"),
    )
    .answers(200)],
};

pub(super) static CHANGE: PagerDuty = PagerDuty {
    api: Api::Change,
    routes: &[Route::post("/v2/change/enqueue", "v2/change/enqueue", Credentials::Body("routing_key"))],
};

impl Api {
    /// Names of the members that say what happens, and to what; change events have neither.
    const fn members(self) -> (&'static str, &'static str) {
        match self {
            Self::V1 => ("event_type", "incident_key"),
            Self::V2 | Self::Change => ("event_action", "dedup_key"),
        }
    }
}

impl Dialect for PagerDuty {
    fn name(&self) -> &'static str {
        match self.api {
            Api::V2 => "pagerduty_v2",
            Api::V1 => "pagerduty_v1",
            Api::Change => "pagerduty_change",
        }
    }

    fn routes(&self) -> &'static [Route] {
        self.routes
    }

    /// v1 and v2 share their keys (contracts 5.1).
    fn family(&self, _args: &[Box<str>]) -> Cow<'static, str> {
        Cow::Borrowed("pagerduty")
    }

    /// The vendor's clients, and Alertmanager's (contracts 2.6).
    fn retries_overload(&self) -> bool {
        true
    }

    fn decode(
        &self,
        asked: &Asked<'_>,
        document: Document<'_>,
        each: &mut dyn FnMut(Decoded<'_>),
    ) -> Result<(), Faults> {
        reading::read(self.api, asked.rules, document).map(each)
    }

    fn reply(&self, replying: &Replying<'_>) -> (StatusCode, Bytes) {
        answer::accepted(self.api, replying.endings)
    }

    /// No 401, 403, 404 or 415 for a key or a content type (section 4); v1 says by 403 that it is too much.
    fn status(&self, class: Class) -> StatusCode {
        match class {
            Class::Unauthenticated | Class::Forbidden | Class::UnsupportedMediaType => StatusCode::BAD_REQUEST,
            Class::Overload if self.api == Api::V1 => StatusCode::FORBIDDEN,
            class => usual_status(class),
        }
    }

    fn error(&self, refusal: &Refusal, _request_id: &str) -> Bytes {
        answer::refused(self.api, refusal)
    }
}
