//! Dialect `incidentio_alert`: alert events v2 (contracts/incident-io.md 6). The source in the path says whose key it is
//! and of which kind the bodies are; what else a source may say stands in `metadata`.

mod metadata;

use std::borrow::Cow;
use std::fmt::Write;

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};
use memchr::memmem;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::body::{Found, Object};
use super::errors;
use crate::dialect::alertmanager::{self, Form};
use crate::dialect::generic;
use crate::dialect::json::{Document, clean, with_document};
use crate::dialect::text::{set_description, set_title};
use crate::dialect::{
    Asked, Credentials, Decoded, Dialect, Extra, Faults, Judged, Limited, Most, Replying, RequestIdForm, Route, Split,
    SplitError, Takes,
};
use crate::event::{Action, Content, HREF_BYTES_MAX, KEY_BYTES_MAX, Key, KeyKind, Link, Rel, Severity, is_blank};
use crate::gate::Settings;
use crate::outcome::{Class, Refusal};
use crate::vendor;

pub(in crate::dialect) struct Alert;

/// A source's kind is the last word of its route's endpoint. Kinds without a route of their own are answered 404.
static ROUTES: [Route; 4] = [
    Route::post("/v2/alert_events/http/{id}", vendor::ALERT_HTTP_ENDPOINT, Credentials::Source),
    Route::post("/v2/alert_events/alertmanager/{id}", vendor::ALERT_GROUP_ENDPOINT, Credentials::Source)
        .takes(Takes::Batch),
    Route::post("/v2/alert_events/http_custom/{id}", vendor::ALERT_CUSTOM_ENDPOINT, Credentials::Source),
    Route::post("/v2/alert_events/{kind}/{id}", vendor::ALERT_OTHER_ENDPOINT, Credentials::Source),
];

const HOMES: [&str; 6] = ["title", "status", "deduplication_key", "description", "source_url", "metadata"];
/// Hex digits of a derived key.
const DERIVED_DIGITS: usize = 32;

impl Dialect for Alert {
    fn name(&self) -> &'static str {
        "incidentio_alert"
    }

    fn routes(&self) -> &'static [Route] {
        &ROUTES
    }

    /// The source is the last text of the path.
    fn family(&self, args: &[Box<str>]) -> Cow<'static, str> {
        family_of(args.last().map(|id| &**id).unwrap_or_default())
    }

    fn families(&self, settings: &Settings) -> Vec<Cow<'static, str>> {
        settings.alert_sources.iter().map(|source| family_of(&source.id)).collect()
    }

    fn retries_overload(&self) -> bool {
        true
    }

    fn request_id(&self) -> RequestIdForm {
        RequestIdForm::Uuid
    }

    fn decode(
        &self,
        asked: &Asked<'_>,
        document: Document<'_>,
        each: &mut dyn FnMut(Decoded<'_>),
    ) -> Result<(), Faults> {
        match asked.endpoint {
            vendor::ALERT_GROUP_ENDPOINT => each(alertmanager::read(Form::Alertmanager, asked, document)?),
            vendor::ALERT_CUSTOM_ENDPOINT => each(custom(asked, document)?),
            _ => decode(asked, document, each)?,
        }
        Ok(())
    }

    /// A group of Alertmanager's is one at whatever kind of source it came to (section 6).
    fn belongs_to(&self, endpoint: &str, body: &[u8]) -> Option<&'static Route> {
        let [_, groups, ..] = &ROUTES;
        let names = |name: &[u8]| memmem::find(body, name).is_some();
        // Nearly no body has both names anywhere.
        if endpoint == groups.endpoint || !names(b"\"groupKey\"") || !names(b"\"alerts\"") {
            return None;
        }
        let has_both =
            |document: Document<'_>| ["groupKey", "alerts"].iter().all(|name| document.root.member(name).is_some());
        with_document(body, has_both).unwrap_or(false).then_some(groups)
    }

    fn split(&self, asked: &Asked<'_>, body: &Bytes, most: Most) -> Result<Split, SplitError> {
        alertmanager::split(Form::Alertmanager, asked, body, most)
    }

    fn reply(&self, replying: &Replying<'_>) -> (StatusCode, Bytes) {
        // Of many alerts each has its own.
        let one = if replying.endpoint == vendor::ALERT_GROUP_ENDPOINT { None } else { replying.endings.first() };
        let key = one.and_then(|ending| ending.key).map(Key::canon);
        let mut body = json!({ "status": "success", "message": "Event accepted for processing" });
        if let Some(key) = key {
            body["deduplication_key"] = key.into();
        }
        // Exactly 202: clients read nothing else as success.
        (StatusCode::ACCEPTED, body.to_string().into())
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

fn family_of(source: &str) -> Cow<'static, str> {
    Cow::Owned(format!("incidentio_alert:{source}"))
}

/// A body of any shape, as the generic webhook reads it (section 6).
fn custom<'d>(asked: &Asked<'_>, document: Document<'d>) -> Result<Decoded<'d>, Faults> {
    let decoded = generic::read(asked, document, None)?;
    if decoded.judged.key.is_none() && wants_keys(asked) {
        return Err(vec!["deduplication_key: is required; nothing in the body is read as one".into()]);
    }
    Ok(decoded)
}

/// Whether the source takes nothing without a key.
fn wants_keys(asked: &Asked<'_>) -> bool {
    let row = asked
        .args
        .last()
        .zip(asked.rules.settings)
        .and_then(|(source, settings)| settings.alert_sources.iter().find(|row| *row.id == **source));
    row.is_some_and(|row| row.require_dedup_key)
}

fn decode(asked: &Asked<'_>, document: Document<'_>, each: &mut dyn FnMut(Decoded<'_>)) -> Result<(), Faults> {
    let top = Object::top(document.root);
    let mut found = Found::default();
    let title = top.text(&mut found, "title");
    if top.get("title").is_none() {
        top.missing(&mut found, "title");
    } else if title.is_some_and(is_blank) {
        top.wrong(&mut found, "title", "must not be blank");
    }
    let (action, status) = action(&top, &mut found);
    let key = key(asked, &top, title.unwrap_or_default(), &mut found);
    let description = top.text(&mut found, "description");
    let source_url = top.text(&mut found, "source_url");
    let metadata = top.object(&mut found, "metadata").and_then(|_| top.get("metadata"));
    if asked.rules.settings.is_some() && !found.0.is_empty() {
        return Err(found.0);
    }
    let severity = metadata.and_then(metadata::severity);
    let judged = Judged { key, severity, ..Judged::of(action) };
    if asked.rules.judge_only {
        let content = Content { severity, ..Content::default() };
        each(Decoded { judged, content, extra: Vec::new() });
        return Ok(());
    }
    let names = document.root.members().map(|(name, _)| name);
    let mut extra: Vec<_> =
        names.filter(|name| !HOMES.contains(name)).map(|name| Extra::Member(Cow::Borrowed(name))).collect();
    let mut content = content(title, description, source_url, status, severity);
    if let Some(metadata) = metadata {
        metadata::read(metadata, document, &mut content, &mut extra);
    }
    each(Decoded { judged, content, extra });
    Ok(())
}

/// `firing` or `resolved`, in any case; with the word as it was sent.
fn action<'d>(top: &Object<'d>, found: &mut Found) -> (Action, Option<&'d str>) {
    const NAME: &str = "status";
    if top.get(NAME).is_none() {
        top.missing(found, NAME);
    }
    let word = top.text(found, NAME);
    let action = match word {
        Some(word) if word.eq_ignore_ascii_case("firing") => Action::Trigger,
        Some(word) if word.eq_ignore_ascii_case("resolved") => Action::Resolve,
        Some(_) => {
            top.wrong(found, NAME, "must be one of firing, resolved");
            Action::Trigger
        }
        None => Action::Trigger,
    };
    (action, word)
}

/// The sender's key; where there is none, one that the resolve derives as well (contracts 8, row 20).
fn key(asked: &Asked<'_>, top: &Object<'_>, title: &str, found: &mut Found) -> Option<Key> {
    const NAME: &str = "deduplication_key";
    let said = top.bounded(found, NAME, KEY_BYTES_MAX);
    if let Some(key) = said.and_then(|text| Key::parse(&clean(text), KeyKind::String)) {
        return Some(key);
    }
    // Of an event that was taken before, the key stands beside it.
    let source = asked.rules.settings.and(asked.args.last())?;
    if wants_keys(asked) {
        if !top.is_told(found, NAME) {
            top.missing(found, NAME);
        }
        return None;
    }
    let mut hash = Sha256::new();
    hash.update(source.as_bytes());
    hash.update([0]);
    hash.update(title);
    let digest = hash.finalize();
    let derived = digest.iter().take(DERIVED_DIGITS / 2).fold(String::from("auto-"), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    });
    Key::parse(&derived, KeyKind::Derived)
}

fn content<'d>(
    title: Option<&'d str>,
    description: Option<&'d str>,
    source_url: Option<&'d str>,
    status: Option<&'d str>,
    severity: Option<Severity>,
) -> Content<'d> {
    let mut content = Content { severity, status_raw: status.map(clean), ..Content::default() };
    if let Some(title) = title.filter(|title| !is_blank(title)) {
        set_title(&mut content, clean(title), "title");
    }
    if let Some(description) = description {
        set_description(&mut content, clean(description), "description");
    }
    match source_url.filter(|url| !url.is_empty()) {
        Some(url) if url.len() <= HREF_BYTES_MAX => {
            content.links.push(Link { href: clean(url), text: None, rel: Some(Rel::Source) });
        }
        Some(_) => content.cut("link_dropped", "source_url"),
        None => {}
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Rules;
    use crate::gate::AlertSource;

    fn settings(require_dedup_key: bool) -> Settings {
        let source = AlertSource { id: "s1".into(), kind: "http".into(), secret_hash: [0; 32], require_dedup_key };
        Settings { alert_sources: vec![source], ..Settings::default() }
    }

    fn read<R>(body: &str, settings: &Settings, look: impl Fn(Decoded<'_>) -> R) -> Result<R, Faults> {
        let rules = Rules { require_description: true, judge_only: false, settings: Some(settings) };
        let args = ["s1".into()];
        let asked = Asked { args: &args, ..Asked::at(vendor::ALERT_HTTP_ENDPOINT, rules) };
        let mut seen = None;
        with_document(body.as_bytes(), |document| {
            Alert.decode(&asked, document, &mut |decoded| seen = Some(look(decoded)))
        })
        .unwrap()?;
        Ok(seen.unwrap())
    }

    #[test]
    fn a_key_is_derived_from_source_and_title_whatever_else_is_said() {
        let key = |body: &str| read(body, &settings(false), |said| said.judged.key.unwrap()).unwrap();
        let fired = key(r#"{"title":"t","status":"firing","metadata":{"a":1}}"#);
        // printf 's1\0t' | sha256sum
        assert_eq!((fired.kind, fired.canon()), (KeyKind::Derived, "auto-fdd5dfb118bfe5d65c8347d3d5086370"));
        assert_eq!(key(r#"{"title":"t","status":"RESOLVED","deduplication_key":" "}"#), fired);
        assert_ne!(key(r#"{"title":"u","status":"firing"}"#), fired);
        assert_eq!(key(r#"{"title":"t","status":"firing","deduplication_key":"k"}"#).canon(), "k");
        let refused = read(r#"{"title":"t","status":"firing"}"#, &settings(true), |_| ());
        assert_eq!(refused, Err(vec!["deduplication_key: is required".to_owned()]));
    }

    #[test]
    fn fields_that_are_cut_are_told() {
        let told = |chars: usize| {
            let field = "ä".repeat(chars);
            let names = ["source", "component", "group", "class", "service"];
            let metadata: String = names.map(|name| format!(r#""{name}":"{field}""#)).join(",");
            let body = format!(r#"{{"title":"t","status":"firing","metadata":{{{metadata}}}}}"#);
            read(&body, &settings(false), |said| {
                let lengths = said.content.component.as_ref().map(|text| text.chars().count());
                let told = said.content.warnings.iter().map(|warning| format!("{} {}", warning.code, warning.path));
                (lengths, told.collect::<Vec<_>>(), said.content.tolerated)
            })
            .unwrap()
        };
        assert_eq!(told(256), (Some(256), vec![], false));
        let paths =
            ["source", "component", "group", "class", "service"].map(|name| format!("truncated metadata.{name}"));
        assert_eq!(told(257), (Some(256), paths.to_vec(), false));
    }

    #[test]
    fn metadata_has_homes_in_the_model_and_the_rest_are_tags() {
        let body = r#"{"title":"t","status":"firing","deduplication_key":"k","more":1,"metadata":{
            "severity":"loud","severity_level":4,"source":"db","component":"disk","started_at":"2026-03-01T10:00:00+01:00",
            "team":["payments"],"n":1.50,"tags":{"a":"b","bare":true},"nothing":null,
            "links":[{"href":"https://r.example","text":"book","rel":"runbook"}],"extra":{"x":[1.0]}}}"#;
        read(body, &settings(false), |said| {
            let content = &said.content;
            assert_eq!((said.judged.severity, content.severity), (Severity::new(4), Severity::new(4)));
            assert_eq!((content.source.as_deref(), content.component.as_deref()), (Some("db"), Some("disk")));
            assert_eq!(content.started_at.map(|at| at.to_string()).as_deref(), Some("2026-03-01T09:00:00.000000Z"));
            let tags: Vec<_> = content.tags.iter().map(|(name, tag)| (&**name, &*tag.value)).collect();
            assert_eq!(tags, [("team", r#"["payments"]"#), ("n", "1.50"), ("a", "b"), ("bare", "true")]);
            assert_eq!(content.links[0].rel, Some(Rel::Runbook));
            let extra: Vec<_> = said.extra.iter().map(Extra::name).collect();
            assert_eq!(extra, ["more", "x"]);
        })
        .unwrap();
    }
}
