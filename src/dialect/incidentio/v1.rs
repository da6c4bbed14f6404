//! Dialect `incidentio_v1`: create and read incidents, and the lists that clients of either version read
//! (contracts/incident-io.md 2, 4 and 5). It has no edit.

use std::borrow::Cow;

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};

use super::{BEARER, READERS, Version, create, errors, reads};
use crate::dialect::json::Document;
use crate::dialect::{Asked, Decoded, Dialect, Faults, Limited, Question, Replying, RequestIdForm, Route};
use crate::machine::KeyLife;
use crate::outcome::{Class, Refusal};
use crate::vendor;

pub(in crate::dialect) struct V1;

static ROUTES: [Route; 8] = [
    Route::post("/v1/incidents", reads::LIST_V1, BEARER),
    Route::get("/v1/incidents", reads::LIST_V1, BEARER),
    Route::get("/v1/incidents/{id}", reads::ONE_V1, BEARER).exact(),
    Route::get("/v1/severities", reads::SEVERITIES, BEARER),
    Route::get("/v1/severities/{id}", reads::SEVERITY, BEARER),
    Route::get("/v1/incident_statuses", reads::STATUSES, BEARER),
    Route::get("/v1/incident_types", reads::TYPES, BEARER),
    Route::get("/v1/identity", reads::IDENTITY, BEARER),
];

impl Dialect for V1 {
    fn name(&self) -> &'static str {
        READERS[0]
    }

    fn routes(&self) -> &'static [Route] {
        &ROUTES
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
        create::decode(Version::V1, asked, document, each)
    }

    fn reply(&self, replying: &Replying<'_>) -> (StatusCode, Bytes) {
        reads::reply(Version::V1, replying)
    }

    fn read(&self, question: &Question<'_>) -> Result<(StatusCode, Bytes), Refusal> {
        reads::read(Version::V1, question)
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
