//! Dialects `incidentio_v1` and `incidentio_v2`: create and read incidents, edit them (v2 alone), and the lists that clients
//! of either version read (contracts/incident-io.md 2 to 5).

use std::borrow::Cow;

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};

use super::{BEARER, READERS, Version, create, edit, errors, reads};
use crate::dialect::json::Document;
use crate::dialect::{
    Asked, Decoded, Dialect, Faults, Limited, Passed, Question, Repeats, Replying, RequestIdForm, Route,
};
use crate::gate::Settings;
use crate::machine::KeyLife;
use crate::outcome::{Class, Refusal};
use crate::vendor;

/// One of the two: they differ in paths, in members of bodies and answers, and in that v1 has no edit.
pub(in crate::dialect) struct Incidents {
    version: Version,
    routes: &'static [Route],
}

pub(in crate::dialect) static V1: Incidents = Incidents { version: Version::V1, routes: &ROUTES_V1 };
pub(in crate::dialect) static V2: Incidents = Incidents { version: Version::V2, routes: &ROUTES_V2 };

static ROUTES_V1: [Route; 8] = [
    Route::post("/v1/incidents", reads::LIST_V1, BEARER).answers(200),
    Route::get("/v1/incidents", reads::LIST_V1, BEARER),
    Route::get("/v1/incidents/{id}", reads::ONE_V1, BEARER).exact(),
    Route::get("/v1/severities", reads::SEVERITIES, BEARER),
    Route::get("/v1/severities/{id}", reads::SEVERITY, BEARER),
    Route::get("/v1/incident_statuses", reads::STATUSES, BEARER),
    Route::get("/v1/incident_types", reads::TYPES, BEARER),
    Route::get("/v1/identity", reads::IDENTITY, BEARER),
];

static ROUTES_V2: [Route; 5] = [
    Route::post("/v2/incidents", reads::LIST_V2, BEARER).answers(200),
    Route::get("/v2/incidents", reads::LIST_V2, BEARER),
    Route::get("/v2/incidents/{id}", reads::ONE_V2, BEARER).exact(),
    Route::post("/v2/incidents/{id}/actions/edit", vendor::EDIT_ENDPOINT, BEARER).answers(200),
    Route::get("/v2/custom_fields", reads::FIELDS, BEARER),
];

impl Dialect for Incidents {
    fn name(&self) -> &'static str {
        match self.version {
            Version::V1 => READERS[0],
            Version::V2 => READERS[1],
        }
    }

    fn routes(&self) -> &'static [Route] {
        self.routes
    }

    fn family(&self, _args: &[Box<str>]) -> Cow<'static, str> {
        Cow::Borrowed(vendor::CREATE_ONCE_FAMILY)
    }

    fn key_life(&self) -> KeyLife {
        KeyLife::CreateOnce
    }

    fn retries_overload(&self) -> bool {
        true
    }

    fn has_ids(&self) -> bool {
        true
    }

    fn shows_links(&self) -> bool {
        true
    }

    fn readers(&self) -> &'static [&'static str] {
        &READERS
    }

    fn request_id(&self) -> RequestIdForm {
        RequestIdForm::Uuid
    }

    fn says_otherwise(&self, known: &[u8], said: &[u8]) -> bool {
        reads::says_otherwise(known, said)
    }

    fn decode(
        &self,
        asked: &Asked<'_>,
        document: Document<'_>,
        each: &mut dyn FnMut(Decoded<'_>),
    ) -> Result<(), Faults> {
        if asked.endpoint == vendor::EDIT_ENDPOINT {
            edit::decode(asked, document, each)
        } else {
            create::decode(self.version, asked, document, each)
        }
    }

    fn reply(&self, replying: &Replying<'_>) -> (StatusCode, Bytes) {
        reads::reply(self.version, replying)
    }

    fn read(&self, question: &Question<'_>) -> Result<(StatusCode, Bytes), Refusal> {
        reads::read(self.version, question)
    }

    fn repeats(&self) -> Repeats {
        Repeats::Incident
    }

    fn passes(&self, asked: &Asked<'_>, settings: &Settings) -> Option<Passed> {
        reads::passes(asked, settings)
    }

    fn status(&self, class: Class) -> StatusCode {
        errors::status(class)
    }

    fn error(&self, refusal: &Refusal, request_id: &str) -> Bytes {
        errors::body(refusal, request_id)
    }

    fn limited(&self, refusal: &Refusal, request_id: &str, limited: &Limited<'_>, headers: &mut HeaderMap) -> Bytes {
        errors::limited(refusal, request_id, limited, headers)
    }
}
