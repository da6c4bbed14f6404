//! Signed bodies (contracts/alertmanager.md 5): whether a Grafana that knows the secret sent this one, and lately.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::hmac as mac;
use hyper::HeaderMap;
use hyper::header::HeaderName;

use crate::event::Micros;

/// Of a signature's time, in both directions: clocks are never quite alike.
const AGE_MAX: Duration = Duration::from_secs(5 * 60);
/// Hexadecimal digits of an HMAC-SHA-256.
const DIGITS: usize = 64;

/// What the bodies of an integration must be signed with.
#[derive(Clone)]
pub struct Signature {
    secret: Vec<u8>,
    header: HeaderName,
    timestamp_header: Option<HeaderName>,
}

impl Signature {
    /// The header that Grafana uses unless told otherwise.
    pub const HEADER: &str = "X-Grafana-Alerting-Signature";

    pub fn new(secret: &str, header: HeaderName, timestamp_header: Option<HeaderName>) -> Self {
        Self { secret: secret.as_bytes().to_vec(), header, timestamp_header }
    }

    /// Whether the headers hold the signature of this body, made at most five minutes from `now` where it has a time.
    /// Constant time.
    pub fn is_of(&self, headers: &HeaderMap, body: &[u8], now: Micros) -> bool {
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let Some(tag) = text(&self.header).and_then(bytes_of_hex) else { return false };
        let key = mac::Key::new(mac::HMAC_SHA256, &self.secret);
        let Some(name) = &self.timestamp_header else { return mac::verify(&key, body, &tag).is_ok() };
        let Some(timestamp) = text(name).filter(|timestamp| is_recent(timestamp, now)) else { return false };
        let mut signed = Vec::with_capacity(timestamp.len() + 1 + body.len());
        signed.extend_from_slice(timestamp.as_bytes());
        signed.push(b':');
        signed.extend_from_slice(body);
        mac::verify(&key, &signed, &tag).is_ok()
    }
}

/// Unix seconds.
fn is_recent(timestamp: &str, now: Micros) -> bool {
    let Ok(seconds) = timestamp.parse::<i64>() else { return false };
    let age = seconds.saturating_mul(1_000_000).abs_diff(now.0);
    u128::from(age) <= AGE_MAX.as_micros()
}

fn bytes_of_hex(text: &str) -> Option<[u8; DIGITS / 2]> {
    let mut bytes = [0; DIGITS / 2];
    let digits: &[u8; DIGITS] = text.as_bytes().try_into().ok()?;
    for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(bytes)
}

impl PartialEq for Signature {
    fn eq(&self, other: &Self) -> bool {
        (&self.secret, &self.header, &self.timestamp_header) == (&other.secret, &other.header, &other.timestamp_header)
    }
}

/// The secret is never shown.
impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { secret: _, header, timestamp_header } = self;
        f.debug_struct("Signature")
            .field("header", header)
            .field("timestamp_header", timestamp_header)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    /// RFC 4231, test case 2.
    const SECRET: &str = "Jefe";
    const BODY: &[u8] = b"what do ya want for nothing?";
    const TAG: &str = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs =
            pairs.iter().map(|(name, text)| (HeaderName::from_static(name), HeaderValue::from_str(text).unwrap()));
        pairs.collect()
    }

    fn signed(secret: &str, text: &str) -> String {
        let tag = mac::sign(&mac::Key::new(mac::HMAC_SHA256, secret.as_bytes()), text.as_bytes());
        tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_body_is_its_senders_when_the_signature_is_right() {
        let signature = Signature::new(SECRET, HeaderName::from_static("x-sig"), None);
        let is_of = |tag: &str, body: &[u8]| signature.is_of(&headers(&[("x-sig", tag)]), body, Micros(0));
        assert!(is_of(TAG, BODY) && is_of(&TAG.to_uppercase(), BODY));
        assert!(!is_of(TAG, b"what do ya want for nothing"));
        assert!(!is_of(&TAG.replace('5', "6"), BODY));
        for odd in ["", &TAG[1..], &format!("{TAG}0"), &TAG.replace('5', "g")] {
            assert!(!is_of(odd, BODY), "{odd}");
        }
        assert!(!signature.is_of(&HeaderMap::new(), BODY, Micros(0)));
        assert!(!format!("{signature:?}").contains("Jefe") && !format!("{signature:?}").contains("74"));
    }

    #[test]
    fn a_signature_with_a_time_holds_for_five_minutes() {
        let (sig, time) = (HeaderName::from_static("x-sig"), HeaderName::from_static("x-time"));
        let signature = Signature::new("s", sig, Some(time));
        let is_of = |timestamp: &str, tag: &str, now_s: i64| {
            let headers = headers(&[("x-sig", tag), ("x-time", timestamp)]);
            signature.is_of(&headers, b"{}", Micros(now_s * 1_000_000))
        };
        let tag = signed("s", "1000:{}");
        assert!(is_of("1000", &tag, 1000) && is_of("1000", &tag, 1300) && is_of("1000", &tag, 700));
        assert!(!is_of("1000", &tag, 1301) && !is_of("1000", &tag, 699));
        assert!(!is_of("1001", &tag, 1000), "the time is signed too");
        assert!(!is_of("1000", &signed("s", "{}"), 1000));
        assert!(!is_of("soon", &signed("s", "soon:{}"), 1000));
        assert!(!signature.is_of(&headers(&[("x-sig", &tag)]), b"{}", Micros(1_000_000_000)));
    }
}
