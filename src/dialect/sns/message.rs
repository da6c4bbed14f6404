//! A notification: its message as an alarm, as JSON of any shape, or as text.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};

use super::{alarm, raw_delivery};
use crate::dialect::hooks::{Reading, first_line, text_at, value_at, was_accepted};
use crate::dialect::json::{Document, Kind, with_document};
use crate::dialect::text::{set_description, set_title};
use crate::dialect::{Asked, Decoded, Extra, Faults, Judged, generic};
use crate::event::Action;

/// Members of the envelope that say nothing of the incident.
const HOMES: [&str; 8] =
    ["Type", "Message", "Subject", "Timestamp", "SignatureVersion", "Signature", "SigningCertURL", "UnsubscribeURL"];

pub(super) fn read(asked: &Asked<'_>, document: Document<'_>, each: &mut dyn FnMut(Decoded<'_>)) -> Result<(), Faults> {
    let message = match value_at(document, &["Message"]).map(|value| value.kind()) {
        Some(Kind::String(text)) => text,
        Some(_) => return Err(vec!["Message: must be a string".into()]),
        None => return Err(vec!["Message: is required".into()]),
    };
    let about = About {
        asked,
        document,
        topic: text_at(document, &["TopicArn"]).unwrap_or_default(),
        subject: text_at(document, &["Subject"]),
    };
    let mut result = Ok(());
    let is_object = message.trim_start().starts_with('{');
    let parsed = is_object && with_document(message.as_bytes(), |inner| result = about.object(inner, each)).is_ok();
    if !parsed {
        each(about.finish(about.text(message)));
    }
    result
}

/// What stands around a message.
struct About<'m, 'd> {
    asked: &'m Asked<'m>,
    document: Document<'d>,
    topic: Cow<'d, str>,
    subject: Option<Cow<'d, str>>,
}

impl About<'_, '_> {
    fn object(&self, inner: Document<'_>, each: &mut dyn FnMut(Decoded<'_>)) -> Result<(), Faults> {
        if alarm::is_one(inner) {
            if let Some(decoded) = alarm::read(self.asked, inner, &self.topic)? {
                each(self.finish(made_of(inner, decoded)));
            }
            return Ok(());
        }
        let stored = self.asked.envelope.and_then(|envelope| envelope.source(&["generic"]));
        let subject = self.subject.as_deref().map(Cow::Borrowed);
        let decoded = match stored {
            None => generic::read(&Asked { envelope: None, ..*self.asked }, inner, subject)?,
            Some(stored) => with_document(stored.as_bytes(), |envelope| {
                let asked: Asked<'_> = *self.asked;
                generic::read(&with(asked, envelope), inner, subject)
            })
            .map_err(|error| vec![format!("body: {error}")])??,
        };
        each(self.finish(made_of(inner, decoded)));
        Ok(())
    }

    /// Plain text: the subject, else its first line, is the title.
    fn text<'t>(&self, message: &'t str) -> Decoded<'t>
    where
        Self: 't,
    {
        let judged = Judged::of(Action::Trigger);
        if self.asked.rules.judge_only {
            return Decoded { judged, content: crate::event::Content::default(), extra: Vec::new() };
        }
        let (description, title) = (crate::dialect::json::clean(message), self.subject.as_ref());
        let title = title.map(|title| title.clone().into_owned());
        let title = title.or_else(|| first_line(&description).map(str::to_owned));
        // A document of its own would be in the way: the members go along below.
        let mut content = crate::event::Content::default();
        let is_made = title.is_none();
        set_title(&mut content, title.unwrap_or_else(|| "sns alert".to_owned()).into(), "title");
        if is_made {
            content.cut("title_made", "");
        }
        set_description(&mut content, description, "description");
        Decoded { judged, content, extra: Vec::new() }
    }

    /// With what the envelope says of every message: the id that comes again, the members without a home, and what must be
    /// known when the event is read again.
    fn finish<'t>(&self, mut decoded: Decoded<'t>) -> Decoded<'t> {
        let id = text_at(self.document, &["MessageId"]);
        decoded.judged.replay = id.map(|id| id.into_owned().into_boxed_str());
        if !was_accepted(self.asked) {
            decoded.judged.fills = self.fills(decoded.judged.fills.take());
        }
        if self.asked.rules.judge_only {
            return decoded;
        }
        if decoded.content.started_at.is_none() && decoded.content.ended_at.is_none() {
            let mut times = Reading::of(self.document);
            let at = times.text("Timestamp");
            decoded.content.started_at = times.time("Timestamp", at);
        }
        for (name, _) in self.document.root.members() {
            let is_new = !decoded.extra.iter().any(|known| known.name() == name);
            if is_new && !HOMES.contains(&name) {
                decoded.extra.push(Extra::Member(Cow::Owned(name.to_owned())));
            }
        }
        decoded
    }

    /// What the stored body does not say.
    fn fills(&self, generic: Option<Bytes>) -> Option<Bytes> {
        let mut all = Map::new();
        if let Some(about) = raw_delivery(self.asked) {
            all.insert("raw".to_owned(), Json::Object(about));
        }
        if let Some(generic) = generic.and_then(|generic| serde_json::from_slice(&generic).ok()) {
            all.insert("generic".to_owned(), generic);
        }
        (!all.is_empty()).then(|| Json::Object(all).to_string().into())
    }
}

/// The same question beside another envelope.
fn with<'r>(asked: Asked<'r>, envelope: Document<'r>) -> Asked<'r> {
    Asked { envelope: Some(envelope), ..asked }
}

/// What was read of a message, with its members taken out of it: they do not stand in the body by themselves.
fn made_of<'d>(inner: Document<'d>, mut decoded: Decoded<'d>) -> Decoded<'d> {
    for extra in &mut decoded.extra {
        if let Extra::Member(name) = extra {
            let source = inner.source(&[name]).and_then(|text| RawValue::from_string(text.into_owned()).ok());
            if let Some(value) = source {
                *extra = Extra::Made(std::mem::take(name), value);
            }
        }
    }
    decoded
}
