//! How the tests of these dialects read a body.

use crate::dialect::{Asked, Dialect, Extra, Judged, Rules, json};
use crate::event::Content;
use crate::gate::Settings;

/// What was read of a body.
pub(in crate::dialect) struct Heard {
    pub(in crate::dialect) judged: Judged,
    pub(in crate::dialect) content: Content<'static>,
    pub(in crate::dialect) extra: Vec<String>,
}

impl Heard {
    pub(in crate::dialect) fn key(&self) -> Option<&str> {
        self.judged.key.as_ref().map(crate::event::Key::canon)
    }

    pub(in crate::dialect) fn level(&self) -> Option<u8> {
        self.judged.severity.map(crate::event::Severity::level)
    }

    /// `name=value`, or a name alone.
    pub(in crate::dialect) fn tags(&self) -> Vec<String> {
        let word = |(name, tag): &(std::borrow::Cow<'_, str>, crate::event::Tag<'_>)| {
            if tag.bare { name.to_string() } else { format!("{name}={}", tag.value) }
        };
        self.content.tags.iter().map(word).collect()
    }
}

/// Reads a body as an integration with these settings does; `Ok(None)`: it says nothing. What is judged by itself, and what
/// is read again of the stored body, must be the same.
pub(in crate::dialect) fn hear(
    dialect: &dyn Dialect,
    settings: &Settings,
    body: &[u8],
    headers: Option<&hyper::HeaderMap>,
) -> Result<Option<Heard>, String> {
    let endpoint = dialect.routes()[0].endpoint;
    let read = |judge_only: bool| {
        let rules = Rules { require_description: true, judge_only, settings: Some(settings) };
        let asked = Asked { headers, ..Asked::at(endpoint, rules) };
        decoded(dialect, &asked, body)
    };
    let (judged, whole) = (read(true)?, read(false)?);
    match (&judged, &whole) {
        (Some(judged), Some(whole)) => assert_eq!(judged.judged, whole.judged),
        (None, None) => return Ok(None),
        _ => panic!("judged otherwise than read"),
    }
    let whole = whole.unwrap();
    if whole.judged.ends.is_none() {
        let event = crate::event::Event {
            dialect: dialect.name().into(),
            endpoint: endpoint.into(),
            raw: bytes::Bytes::copy_from_slice(body),
            envelope: whole.judged.fills.clone(),
            ..crate::event::tests::event("k")
        };
        let again = crate::dialect::reread(&event).expect("what was taken is read again");
        let severity = whole.content.severity;
        assert_eq!(Content { severity, ..again.content.clone() }, whole.content);
        let names: Vec<String> = again.extra.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, whole.extra, "every member without a home is found again");
    }
    Ok(Some(whole))
}

fn decoded(dialect: &dyn Dialect, asked: &Asked<'_>, body: &[u8]) -> Result<Option<Heard>, String> {
    let made = dialect.as_json(asked, body).map_err(|faults| faults.join("; "))?;
    let mut heard = None;
    let read = json::with_document(made.as_deref().unwrap_or(body), |document| {
        dialect.decode(asked, document, &mut |decoded| {
            let extra = decoded.extra.iter().map(Extra::name).map(str::to_owned).collect();
            heard = Some(Heard { judged: decoded.judged, content: decoded.content.into_owned(), extra });
        })
    });
    read.map_err(|error| error.to_string())?.map_err(|faults| faults.join("; "))?;
    Ok(heard)
}

/// The same with no settings at all.
pub(in crate::dialect) fn plainly(dialect: &dyn Dialect, body: &str) -> Result<Option<Heard>, String> {
    hear(dialect, &Settings::default(), body.as_bytes(), None)
}
