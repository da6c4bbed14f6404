//! Tells plain requests from odd ones, by their bytes. A head passes only if nobody could read it otherwise (PROMISES I2).

use crate::intake::plain::Request;
use crate::listen::framing::{control_marks, digits, is_control, name_len};
use crate::octets::{HIGHS, below, equal, run};

/// Of a head.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) fields: usize,
    pub(super) bytes: usize,
}

/// What bytes are.
#[derive(Debug)]
pub(super) enum Parsed<'b> {
    /// One request, and nothing behind it.
    Whole(Request<'b>),
    /// More may make it one.
    Partial,
    Odd,
}

const METHOD: &[u8] = b"POST ";
const VERSION: &[u8] = b" HTTP/1.1\r\n";

/// What a head may end in, that has not come: `None` where it is odd already.
type Ends<T> = Result<T, Parsed<'static>>;

pub(super) fn parse(bytes: &[u8], limits: Limits) -> Parsed<'_> {
    match whole(bytes, limits) {
        Ok(request) => Parsed::Whole(request),
        Err(parsed) => parsed,
    }
}

fn whole(bytes: &[u8], limits: Limits) -> Ends<Request<'_>> {
    let target = after(bytes, METHOD)?;
    let ends = |word| below(word, 0x21) | equal(word, 0x7f) | word & HIGHS;
    let path_len = run(target, ends, |byte| !byte.is_ascii_graphic());
    let (path, rest) = target.split_at(path_len);
    let fields = after(rest, VERSION)?;
    let path = str::from_utf8(path).map_err(|_| Parsed::Odd)?;
    let (length, body) = length_and_body(fields, limits.fields)?;
    let head_len = bytes.len() - body.len();
    if head_len > limits.bytes {
        return Err(Parsed::Odd);
    }
    match length.cmp(&body.len()) {
        std::cmp::Ordering::Equal => Ok(Request { path, body }),
        // What is too long to be plain needs no waiting.
        std::cmp::Ordering::Greater if head_len.saturating_add(length) <= super::REQUEST_BYTES_MAX => {
            Err(Parsed::Partial)
        }
        _ => Err(Parsed::Odd),
    }
}

/// The bytes behind `wanted`.
fn after<'b>(bytes: &'b [u8], wanted: &[u8]) -> Ends<&'b [u8]> {
    let missing = || if wanted.starts_with(bytes) { Parsed::Partial } else { Parsed::Odd };
    bytes.strip_prefix(wanted).ok_or_else(missing)
}

/// The announced length, and what stands behind the head.
fn length_and_body(fields: &[u8], fields_max: usize) -> Ends<(usize, &[u8])> {
    let (mut length, mut is_json) = (None, false);
    let mut rest = fields;
    for _ in 0..=fields_max {
        let name_len = name_len(rest);
        let (name, behind) = rest.split_at(name_len);
        let Some(value) = behind.strip_prefix(b":") else {
            return match (name.is_empty(), after(behind, b"\r\n"), length) {
                (true, Ok(body), Some(length)) if is_json => Ok((length, body)),
                (true, Err(Parsed::Partial), _) => Err(Parsed::Partial),
                (false, _, _) if behind.is_empty() => Err(Parsed::Partial),
                _ => Err(Parsed::Odd),
            };
        };
        // What ends it is a CR, or else a control byte.
        let (value, behind) = value.split_at(run(value, control_marks, is_control));
        rest = after(behind, b"\r\n")?;
        match field(name, value)? {
            Field::Length(said) if length.is_none() => length = Some(said),
            Field::Json if !is_json => is_json = true,
            Field::Other => {}
            _ => return Err(Parsed::Odd),
        }
    }
    Err(Parsed::Odd)
}

enum Field {
    Length(usize),
    Json,
    /// It changes nothing.
    Other,
}

/// Fields that ask for more than an answer, or that something behind us reads. Lower case.
const ODD: [&[u8]; 17] = [
    b"te",
    b"via",
    b"expect",
    b"upgrade",
    b"trailer",
    b"forwarded",
    b"keep-alive",
    b"tracestate",
    b"traceparent",
    b"authorization",
    b"http2-settings",
    b"x-forwarded-for",
    b"content-encoding",
    b"proxy-connection",
    b"transfer-encoding",
    b"proxy-authorization",
    b"x-amz-sns-message-type",
];

fn field(name: &[u8], value: &[u8]) -> Ends<Field> {
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    if name.is_empty() || !name.iter().all(|&byte| TOKEN[usize::from(byte)]) {
        return Err(Parsed::Odd);
    }
    match name.len() {
        14 if is(b"content-length") => {
            let length = digits(value).and_then(|length| usize::try_from(length).ok()).filter(|length| *length > 0);
            length.map(Field::Length).ok_or(Parsed::Odd)
        }
        // Anything else has its own rules (contracts 2.3).
        12 if is(b"content-type") => match value.trim_ascii() {
            b"application/json" => Ok(Field::Json),
            _ => Err(Parsed::Odd),
        },
        10 if is(b"connection") => match value.trim_ascii() {
            b"keep-alive" | b"Keep-Alive" => Ok(Field::Other),
            _ => Err(Parsed::Odd),
        },
        length if ODD.iter().any(|odd| odd.len() == length && is(odd)) => Err(Parsed::Odd),
        _ => Ok(Field::Other),
    }
}

/// Bytes of a token (RFC 9110, 5.6.2).
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        let c = byte as u8;
        table[byte] = c.is_ascii_alphanumeric()
            || matches!(
                c,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            );
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::listen::framing::Framing;

    const LIMITS: Limits = Limits { fields: 8, bytes: 1024 };
    const USUAL: &str =
        "POST /v2/incidents/api/k HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

    fn is_whole(text: &str) -> bool {
        matches!(parse(text.as_bytes(), LIMITS), Parsed::Whole(_))
    }

    fn is_odd(text: &str) -> bool {
        matches!(parse(text.as_bytes(), LIMITS), Parsed::Odd)
    }

    #[test]
    fn a_usual_request_is_whole_and_every_beginning_of_it_partial() {
        let Parsed::Whole(request) = parse(USUAL.as_bytes(), LIMITS) else { panic!("not plain") };
        assert_eq!((request.path, request.body), ("/v2/incidents/api/k", &b"{}"[..]));
        for end in 0..USUAL.len() {
            assert!(matches!(parse(&USUAL.as_bytes()[..end], LIMITS), Parsed::Partial), "{}", &USUAL[..end]);
        }
    }

    #[test]
    fn names_are_read_in_any_case_and_blanks_around_values_are_none() {
        assert!(is_whole(&USUAL.replace("Content-Length: 2", "CONTENT-LENGTH:  2 ")));
        assert!(is_whole(&USUAL.replace("Content-Type: ", "content-type:")));
        assert!(is_whole(&USUAL.replace("Host: a", "Connection: keep-alive")));
    }

    #[test]
    fn what_asks_for_more_than_an_answer_is_odd() {
        for field in [
            "Expect: 100-continue",
            "Transfer-Encoding: chunked",
            "Connection: close",
            "Connection: upgrade",
            "Upgrade: h2c",
            "Content-Encoding: gzip",
            "Authorization: Bearer k",
            "traceparent: 00-0-0-00",
            "Content-Length: 2",
            "Content-Type: application/json",
            "Na me: a",
            "Name : a",
            "Na(me: a",
            ": a",
            " folded",
            "no colon",
            "Name: a\u{1}b",
            "Name: a\tb",
        ] {
            assert!(is_odd(&USUAL.replace("Host: a", field)), "{field}");
        }
    }

    #[test]
    fn other_methods_versions_lengths_and_types_are_odd() {
        for (usual, other) in [
            ("POST", "PUT"),
            ("HTTP/1.1", "HTTP/1.0"),
            ("HTTP/1.1\r\n", "HTTP/1.1\n"),
            ("Length: 2", "Length: +2"),
            ("Length: 2", "Length: 0"),
            ("Length: 2", "Length: 1"),
            ("Length: 2", "Length: 2, 2"),
            ("Length: 2", "Length: 9000"),
            ("Content-Length: 2\r\n", ""),
            ("Content-Type: application/json\r\n", ""),
            ("application/json", "text/plain"),
            ("a\r\n", "a\n"),
            ("a\r\n", "a\r\r\n"),
        ] {
            assert!(is_odd(&USUAL.replace(usual, other)), "{usual} {other}");
        }
    }

    #[test]
    fn limits_of_heads_hold() {
        let fields = |count: usize| USUAL.replace("Host: a\r\n", &"Host: a\r\n".repeat(count));
        assert!(is_whole(&fields(6)) && is_odd(&fields(7)));
        let long = |bytes: usize| USUAL.replace("Host: a", &format!("Host: {}", "a".repeat(bytes)));
        let head = USUAL.len() - 2;
        assert!(is_whole(&long(1024 - head + 1)) && is_odd(&long(1024 - head + 2)));
    }

    proptest! {
        /// What passes here, the watch over framing finds nothing in, and it ends where that says.
        #[test]
        fn what_is_plain_has_one_meaning(
            changes in prop::collection::vec((0..USUAL.len(), prop::sample::select(b"\r\n :;,\t\0aZ0129(\x7f\x80".to_vec()), 0..3_u8), 0..4)
        ) {
            let mut bytes = USUAL.as_bytes().to_vec();
            for (at, byte, how) in changes {
                let at = at.min(bytes.len() - 1);
                match how {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    _ => drop(bytes.remove(at)),
                }
            }
            if let Parsed::Whole(request) = parse(&bytes, LIMITS) {
                let mut framing = Framing::new();
                prop_assert_eq!(framing.feed(&bytes), Ok(()));
                prop_assert!(framing.is_between_requests());
                prop_assert!(bytes.ends_with(request.body));
                prop_assert!(bytes[METHOD.len()..].starts_with(request.path.as_bytes()));
            }
        }
    }
}
