//! What the request's headers say of its body: contracts 2.3.

use hyper::HeaderMap;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, TRANSFER_ENCODING};

use crate::body::Encoding;
use crate::dialect::Form;
use crate::event::Tolerated;
use crate::outcome::{Reason, Refusal};

/// What the headers say of the body, gathered in one look over them.
#[derive(Clone, Copy)]
pub(super) struct Said<'h> {
    headers: &'h HeaderMap,
    /// The declared length; malformed and repeated ones never come this far.
    pub(super) length: Option<u64>,
    kind: Option<&'h HeaderValue>,
    is_encoded: bool,
}

impl<'h> Said<'h> {
    pub(super) fn of(headers: &'h HeaderMap) -> Self {
        let mut said = Self { headers, length: None, kind: None, is_encoded: false };
        for (name, value) in headers {
            if *name == CONTENT_LENGTH {
                said.length = value.to_str().ok().and_then(|digits| digits.parse().ok());
            } else if *name == CONTENT_TYPE {
                said.kind = said.kind.or(Some(value));
            } else if *name == CONTENT_ENCODING {
                said.is_encoded = true;
            }
        }
        said
    }

    /// Whether no body is announced. A chunked one says nothing of its length.
    pub(super) fn is_empty(self) -> bool {
        self.length == Some(0) || (self.length.is_none() && !self.headers.contains_key(TRANSFER_ENCODING))
    }

    /// Step 5 of contracts 2.1.
    pub(super) fn content(self, gzip: bool, form: Form) -> Result<Content, Refusal> {
        let encoding = if self.is_encoded { encoding(self.headers, gzip)? } else { Encoding::Identity };
        Ok(Content { encoding, label: label(self.kind, form)? })
    }
}

/// How a body is labelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) encoding: Encoding,
    label: Label,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    Json,
    /// The same where the dialect has another form too, under a label of its own: what is no JSON is refused.
    JsonAlone,
    /// Accepted when the body begins like JSON: several vendors' own scripts send that, once.
    Wrong,
    /// The dialect has another form under it; what begins like JSON is JSON.
    Other,
    /// The dialect reads anything.
    Any,
}

fn encoding(headers: &HeaderMap, gzip: bool) -> Result<Encoding, Refusal> {
    let mut encoding = Encoding::Identity;
    for value in headers.get_all(CONTENT_ENCODING) {
        let word = value.as_bytes().trim_ascii();
        if word.eq_ignore_ascii_case(b"identity") || word.is_empty() {
            continue;
        }
        if !gzip || encoding == Encoding::Gzip || !word.eq_ignore_ascii_case(b"gzip") {
            let message = if gzip { "send the body plain or as gzip" } else { "send the body plain" };
            return Err(Refusal::new(Reason::ContentEncoding, message));
        }
        encoding = Encoding::Gzip;
    }
    Ok(encoding)
}

fn label(kind: Option<&HeaderValue>, form: Form) -> Result<Label, Refusal> {
    if form == Form::Any {
        return Ok(Label::Any);
    }
    let Some(value) = kind else { return Ok(Label::Wrong) };
    let json = if matches!(form, Form::Or(_)) { Label::JsonAlone } else { Label::Json };
    // Nearly every request says exactly this.
    if value.as_bytes() == b"application/json" {
        return Ok(json);
    }
    let text = value.to_str().map_err(|_| wrong_type())?;
    let mut parts = text.split(';');
    let kind = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let utf8 = parts.filter_map(|part| part.split_once('=')).all(|(name, value)| {
        let value = value.trim().trim_matches('"');
        !name.trim().eq_ignore_ascii_case("charset")
            || ["utf-8", "utf8"].iter().any(|known| known.eq_ignore_ascii_case(value))
    });
    match kind.as_str() {
        _ if !utf8 => Err(Refusal::new(Reason::ContentType, "the charset must be UTF-8")),
        "application/json" => Ok(json),
        other if matches!(form, Form::Or(known) if known == other) => Ok(Label::Other),
        _ if kind.ends_with("+json") && kind.contains('/') => Ok(json),
        "" | "application/x-www-form-urlencoded" | "text/plain" | "application/octet-stream" => Ok(Label::Wrong),
        _ => Err(wrong_type()),
    }
}

fn wrong_type() -> Refusal {
    Refusal::new(Reason::ContentType, "send a body of JSON with Content-Type: application/json")
}

impl Content {
    /// Of a request without a body.
    pub(super) const NONE: Self = Self { encoding: Encoding::Identity, label: Label::Json };

    /// Under a wrong label, what begins like JSON is taken as JSON (contracts 2.3); an empty body is left to
    /// the parser, which says so.
    pub(super) fn tolerate(self, body: &[u8]) -> Result<Tolerated, Refusal> {
        if matches!(self.label, Label::Json | Label::Any) {
            return Ok(Tolerated::default());
        }
        let text = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
        match text.trim_ascii_start().first() {
            Some(b'{' | b'[') if self.label == Label::JsonAlone => Ok(Tolerated::default()),
            Some(b'{' | b'[') => Ok(Tolerated::CONTENT_TYPE),
            None => Ok(Tolerated::default()),
            Some(_) if self.label == Label::JsonAlone => {
                Err(Refusal::new(Reason::InvalidJson, "Content-Type says JSON, and the body is none"))
            }
            Some(_) if self.label == Label::Other => Ok(Tolerated::default()),
            Some(_) => Err(wrong_type()),
        }
    }
}

/// A header value of text that is known to be visible ASCII.
pub(super) fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("invalid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[(&str, &str)]) -> Result<Content, Reason> {
        let mut request = hyper::Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Said::of(request.body(()).unwrap().headers()).content(true, Form::Json).map_err(|refusal| refusal.reason)
    }

    #[test]
    fn labels_are_taken_as_section_2_3_says() {
        let label = |kind: &str| of(&[("content-type", kind)]).map(|content| content.label);
        for json in
            ["application/json", "APPLICATION/JSON; charset=UTF-8", "application/vnd.fleet+json; charset=\"utf-8\""]
        {
            assert_eq!(label(json), Ok(Label::Json), "{json}");
        }
        for wrong in ["text/plain", "application/x-www-form-urlencoded", "application/octet-stream"] {
            assert_eq!(label(wrong), Ok(Label::Wrong), "{wrong}");
        }
        for refused in [
            "application/json; charset=iso-8859-1",
            "application/json; charset=us-ascii",
            "multipart/form-data; boundary=x",
            "text/xml",
            "image/png",
        ] {
            assert_eq!(label(refused), Err(Reason::ContentType), "{refused}");
        }
        assert_eq!(of(&[]).map(|content| content.label), Ok(Label::Wrong));
    }

    #[test]
    fn a_wrong_label_is_tolerated_around_what_begins_like_json() {
        let wrong = of(&[("content-type", "text/plain")]).unwrap();
        assert_eq!(wrong.tolerate(b" \n{}").unwrap(), Tolerated::CONTENT_TYPE);
        assert_eq!(wrong.tolerate(b"message=x").unwrap_err().reason, Reason::ContentType);
        assert_eq!(
            of(&[("content-type", "application/json")]).unwrap().tolerate(b"message=x").unwrap(),
            Tolerated::default()
        );
    }

    #[test]
    fn under_a_label_of_json_no_other_form_is_read() {
        let tolerate = |kind: &str, body: &[u8]| {
            let request = hyper::Request::builder().header("content-type", kind).body(()).unwrap();
            let content = Said::of(request.headers()).content(true, Form::Or("text/plain"));
            content.unwrap().tolerate(body).map_err(|refusal| refusal.reason)
        };
        for json in ["application/json", "application/json; charset=utf-8", "application/x+json"] {
            assert_eq!(tolerate(json, b"status:OK"), Err(Reason::InvalidJson), "{json}");
            for begun in [&b"{}"[..], b"\xEF\xBB\xBF [", b""] {
                assert_eq!(tolerate(json, begun), Ok(Tolerated::default()), "{json}");
            }
        }
        assert_eq!(tolerate("text/plain", b"status:OK"), Ok(Tolerated::default()));
        assert_eq!(tolerate("text/plain", b"{}"), Ok(Tolerated::CONTENT_TYPE));
    }

    #[test]
    fn only_identity_and_one_gzip_are_known() {
        let encoding = |word: &str| of(&[("content-encoding", word)]).map(|content| content.encoding);
        assert_eq!(encoding("identity"), Ok(Encoding::Identity));
        assert_eq!(encoding("GZip"), Ok(Encoding::Gzip));
        for refused in ["br", "gzip, gzip", "deflate", "x-gzip"] {
            assert_eq!(encoding(refused), Err(Reason::ContentEncoding));
        }
    }
}
