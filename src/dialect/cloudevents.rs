//! CloudEvents 1.0 over HTTP (contracts/others.md 4): structured, in a batch, or with the attributes in the head.

mod attributes;
mod data;

use bytes::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use serde_json::value::RawValue;

use super::hooks::{
    self, BY_HEADER, BY_PATH, Reading, action_of_word, key_at, key_part_at, made_key, text_at, value_at,
};
use super::json::{Document, Kind, with_document_in};
use super::{
    Asked, Credentials, Decoded, Dialect, Faults, Form, Judged, Most, Question, Route, Split, SplitError, Takes,
};
use crate::event::{Action, Key, KeyKind};
use crate::outcome::{Outcome, Refusal};
use crate::vendor::severity_of_word;

pub(super) struct CloudEvents;

static ROUTES: [Route; 6] = [
    Route::post("/hooks/cloudevents/{key}", "hooks/cloudevents", BY_PATH).takes(Takes::Batch).wants_headers(),
    Route::post("/hooks/cloudevents", "hooks/cloudevents", BY_HEADER).takes(Takes::Batch).wants_headers(),
    Route::post("/v2/incidents/cloudevents/{key}", "hooks/cloudevents", Credentials::Path)
        .takes(Takes::Batch)
        .wants_headers(),
    Route::post("/v1/incidents/cloudevents/{key}", "hooks/cloudevents", Credentials::Path)
        .takes(Takes::Batch)
        .wants_headers(),
    // A receiver says whom it lets send.
    Route::get("/hooks/cloudevents/{key}", "hooks/cloudevents", BY_PATH).by("OPTIONS").wants_headers(),
    Route::get("/hooks/cloudevents", "hooks/cloudevents", BY_HEADER).by("OPTIONS").wants_headers(),
];

/// `[` around the elements.
const LEVELS: usize = 1;
const ORIGIN: &str = "webhook-request-origin";
/// Members that have a home.
const HOMES: [&str; 10] = [
    "specversion",
    "source",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "severity",
    "alertaction",
    "dedupkey",
    "data",
];
/// Members of the data that may be a title, the first that is there.
const TITLES: [&str; 4] = ["title", "summary", "message", "name"];

impl Dialect for CloudEvents {
    fn name(&self) -> &'static str {
        "cloudevents"
    }

    fn routes(&self) -> &'static [Route] {
        &ROUTES
    }

    /// With the attributes in the head, the body is data of any type.
    fn form(&self, headers: &HeaderMap) -> Form {
        if attributes::are_in(headers) { Form::Any } else { Form::Json }
    }

    fn holds_many(&self, headers: &HeaderMap) -> bool {
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/cloudevents-batch+json")
    }

    fn as_json(&self, asked: &Asked<'_>, body: &[u8]) -> Result<Option<Vec<u8>>, Faults> {
        match attributes::beside(asked)? {
            Some(attributes) => attributes::joined(&attributes, body).map(Some),
            None => Ok(None),
        }
    }

    /// What is wrong with one of them is wrong with all: nothing is taken.
    fn split(&self, asked: &Asked<'_>, body: &Bytes, most: Most) -> Result<Split, SplitError> {
        let text = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
        let is_list = text.trim_ascii_start().first() == Some(&b'[');
        if !is_list {
            super::json::with_document(body, |_| ()).map_err(SplitError::Json)?;
            return Err(SplitError::Faults(vec!["body: must be an array of events".into()]));
        }
        let Ok(elements) = serde_json::from_slice::<Vec<&RawValue>>(text) else {
            super::json::with_document(body, |_| ()).map_err(SplitError::Json)?;
            return Err(SplitError::Json(super::json::JsonError::Syntax));
        };
        if elements.len() > most.elements {
            return Err(SplitError::TooMany);
        }
        let mut faults = Faults::new();
        let mut all = Vec::with_capacity(elements.len());
        for (place, element) in elements.into_iter().enumerate() {
            let read = with_document_in(LEVELS, element.get().as_bytes(), |document| {
                if document.root.is_object() {
                    data::opened(document, |document| judge(asked, document).map(drop))
                } else {
                    Err(vec!["event: must be an object".into()])
                }
            });
            let of_this = read.map_err(SplitError::Json)?.err().unwrap_or_default();
            faults.extend(of_this.into_iter().map(|fault| format!("[{place}].{fault}")));
            all.push(body.slice_ref(element.get().as_bytes()));
        }
        if faults.is_empty() {
            Ok(Split { envelope: None, elements: all, levels: LEVELS, left_out: 0 })
        } else {
            Err(SplitError::Faults(faults))
        }
    }

    fn decode(
        &self,
        asked: &Asked<'_>,
        document: Document<'_>,
        each: &mut dyn FnMut(Decoded<'_>),
    ) -> Result<(), Faults> {
        let fills = attributes::stored(asked)?;
        let is_plain = value_at(document, &["data"]).is_some();
        data::opened(document, |document| {
            let judged = Judged { fills: fills.clone(), ..judge(asked, document)? };
            if asked.rules.judge_only {
                each(Reading::judged(judged));
                return Ok(());
            }
            let mut reading = Reading::of(document);
            if !is_plain && value_at(document, &["data"]).is_some() {
                reading.has_homes(&["data_base64"]);
            }
            each(content(reading, judged));
            Ok(())
        })
    }

    fn read(&self, _question: &Question<'_>) -> Result<(StatusCode, Bytes), Refusal> {
        Ok((StatusCode::OK, Bytes::from_static(b"{}")))
    }

    fn read_headers(&self, question: &Question<'_>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
        if let Some(origin) = question.asked.headers.and_then(|headers| headers.get(ORIGIN)) {
            headers.insert("webhook-allowed-origin", origin.clone());
            headers.insert("webhook-allowed-rate", HeaderValue::from_static("*"));
        }
        headers
    }
}

/// What deciding needs: the required attributes are there, and what the event means.
fn judge(asked: &Asked<'_>, document: Document<'_>) -> Result<Judged, Faults> {
    let mut faults = Faults::new();
    let mut required = |name: &'static str| {
        let said = match value_at(document, &[name]).map(|value| value.kind()) {
            Some(Kind::String(text)) if !text.is_empty() => Some(text),
            _ => None,
        };
        if said.is_none() {
            faults.push(format!("{name}: must be a string that is not empty"));
        }
        said
    };
    let [id, source, kind, version] = ["id", "source", "type", "specversion"].map(&mut required);
    if version.is_some_and(|version| version != "1.0") {
        faults.push("specversion: must be \"1.0\"".into());
    }
    let key = key(document, &mut faults);
    let (Some(id), Some(source), Some(kind), true) = (id, source, kind, faults.is_empty()) else {
        return Err(if hooks::was_accepted(asked) { vec!["event: cannot be read".into()] } else { faults });
    };
    let action = action(document, kind);
    let severity = [&["severity"][..], &["data", "severity"]].into_iter().find_map(|path| text_at(document, path));
    let severity = severity.as_deref().and_then(severity_of_word);
    let ends = (action != Action::Trigger && key.is_none()).then_some(Outcome::Unmatched);
    // The two together name an event; their lengths keep any two pairs apart.
    let replay = Some(format!("{}:{source}{id}", source.len()).into_boxed_str());
    Ok(Judged { key, severity, ends, replay, ..Judged::of(action) })
}

fn action(document: Document<'_>, kind: &str) -> Action {
    let said = [&["alertaction"][..], &["data", "status"], &["data", "state"]];
    let said = said.into_iter().find_map(|path| action_of_word(&text_at(document, path)?));
    said.unwrap_or_else(|| match kind.rsplit_once('.').map(|(_, last)| last.to_ascii_lowercase()).as_deref() {
        Some("resolved" | "closed" | "recovered") => Action::Resolve,
        Some("acknowledged") => Action::Acknowledge,
        _ => Action::Trigger,
    })
}

fn key(document: Document<'_>, faults: &mut Faults) -> Option<Key> {
    let named = [&["dedupkey"][..], &["data", "dedup_key"], &["data", "fingerprint"], &["data", "id"]];
    if let Some(path) = named.into_iter().find(|path| hooks::is_said(document, path)) {
        return key_at(document, path, faults);
    }
    let (source, subject) = (text_at(document, &["source"])?, key_part_at(document, &["subject"], faults)?);
    made_key(&format!("{source}#{subject}"), KeyKind::Derived, "subject", faults)
}

fn content<'d>(mut reading: Reading<'d>, judged: Judged) -> Decoded<'d> {
    let document = reading.document;
    let of_data = |name: &str| text_at(document, &["data", name]);
    let status = of_data("status").or_else(|| of_data("state"));
    reading.status(reading.text("alertaction").or(status));
    reading.severity(judged.severity, reading.text("severity").or_else(|| of_data("severity")));
    let titled = TITLES.into_iter().find(|name| of_data(name).is_some());
    let title = titled.and_then(of_data).or_else(|| reading.text("type"));
    reading.title(title);
    // Data that is text says all that there is to say.
    reading.description(of_data("description").or_else(|| text_at(document, &["data"])));
    reading.content.source = reading.field("source", reading.text("source"));
    reading.content.class = reading.field("class", reading.text("type"));
    let time = reading.text("time");
    reading.content.started_at = reading.time("time", time);
    reading.has_homes(&HOMES);
    let keys = ["dedup_key", "fingerprint", "id"].into_iter().find(|name| of_data(name).is_some());
    let keys = keys.filter(|_| reading.text("dedupkey").is_none());
    let homes: Vec<&str> =
        ["description", "severity", "status", "state"].into_iter().chain(titled).chain(keys).collect();
    match value_at(document, &["data"]).map(|data| data.kind()) {
        Some(Kind::Object) => reading.rest_of("data", &["data"], &homes),
        Some(Kind::Array) => reading.made("data", document.source(&["data"]).unwrap_or_default().into_owned()),
        _ => {}
    }
    if let Some(subject) = reading.text("subject") {
        reading.content.component = reading.field("component", Some(subject));
    }
    reading.said(judged)
}

#[cfg(test)]
mod tests;
