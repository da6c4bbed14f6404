//! Data in base64 (`data_base64`), read as it would be if it stood there plainly. Called by `cloudevents` wherever an event is read.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use super::attributes::{is_json, media_type};
use crate::dialect::hooks::{text_at, value_at};
use crate::dialect::json::{Document, Kind, with_document};

/// Has `look` see an event with `data` where that stands in base64 and can be opened; else as it is. It looks once.
pub(super) fn opened<R>(document: Document<'_>, mut look: impl FnMut(Document<'_>) -> R) -> R {
    let texts = plain(document).unwrap_or_default();
    let seen = texts.iter().find_map(|text| with_document(text.as_bytes(), &mut look).ok());
    seen.unwrap_or_else(|| look(document))
}

/// The event with its data as JSON, where its type says so, and as text: the first that is JSON as a whole is meant.
fn plain(document: Document<'_>) -> Option<Vec<String>> {
    if value_at(document, &["data"]).is_some() {
        return None;
    }
    let Kind::String(encoded) = value_at(document, &["data_base64"])?.kind() else { return None };
    let data = STANDARD.decode(encoded).ok()?;
    let data = std::str::from_utf8(&data).ok()?;
    let event = document.source(&[])?;
    let event = event.strip_suffix('}')?;
    let with = |data: &str| format!("{event},\"data\":{data}}}");
    let is_json = text_at(document, &["datacontenttype"]).is_none_or(|kind| is_json(&media_type(&kind)));
    let json = data.strip_prefix('\u{FEFF}').unwrap_or(data);
    let json = (is_json && serde_json::from_str::<&RawValue>(json).is_ok()).then(|| with(json));
    Some(json.into_iter().chain([with(&serde_json::Value::from(data).to_string())]).collect())
}
