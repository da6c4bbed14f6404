//! Dialect `incidentio_v2`: create, edit and read incidents (contracts/incident-io.md 3 to 5).

use std::borrow::Cow;

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};

use super::{BEARER, READERS, Version, create, edit, errors, reads};
use crate::dialect::json::Document;
use crate::dialect::{Asked, Decoded, Dialect, Faults, Limited, Question, Replying, RequestIdForm, Route};
use crate::machine::KeyLife;
use crate::outcome::{Class, Refusal};
use crate::vendor;

pub(in crate::dialect) struct V2;

static ROUTES: [Route; 5] = [
    Route::post("/v2/incidents", reads::LIST_V2, BEARER),
    Route::get("/v2/incidents", reads::LIST_V2, BEARER),
    Route::get("/v2/incidents/{id}", reads::ONE_V2, BEARER).exact(),
    Route::post("/v2/incidents/{id}/actions/edit", vendor::EDIT_ENDPOINT, BEARER),
    Route::get("/v2/custom_fields", reads::FIELDS, BEARER),
];

impl Dialect for V2 {
    fn name(&self) -> &'static str {
        READERS[1]
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
        if asked.endpoint == vendor::EDIT_ENDPOINT {
            edit::decode(asked, document, each)
        } else {
            create::decode(Version::V2, asked, document, each)
        }
    }

    fn reply(&self, replying: &Replying<'_>) -> (StatusCode, Bytes) {
        reads::reply(Version::V2, replying)
    }

    fn read(&self, question: &Question<'_>) -> Result<(StatusCode, Bytes), Refusal> {
        reads::read(Version::V2, question)
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
