//! What an SNS envelope must be before it is believed (contracts/others.md 3): where its URLs may lead, and what text its
//! signature signs. Nothing is fetched here.

use hyper::Uri;

use super::kind;
use crate::dialect::hooks::{text_at, value_at};
use crate::dialect::json::{Document, Kind};
use crate::dialect::{Asked, Faults};

/// Longest URL that is looked at, in bytes.
const URL_BYTES_MAX: usize = 4096;

/// What a request to this dialect asks of others than its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Visit this URL, and a subscription stands.
    Confirm { url: Uri, topic: String },
    /// A subscription ended.
    Unsubscribed { topic: String },
}

/// The signature of a body, and what it signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The certificate of the key that signed it.
    pub certificate: Uri,
    /// `1` is SHA-1, `2` SHA-256.
    pub version: u8,
    /// In base64.
    pub signature: String,
    pub text: String,
}

/// Whether SNS itself has this URL: `https`, a host of Amazon's for SNS, no user, the default port.
pub fn is_amazons(url: &str) -> Option<Uri> {
    if url.len() > URL_BYTES_MAX || url.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'\\') {
        return None;
    }
    let parsed: Uri = url.parse().ok()?;
    let authority = parsed.authority()?;
    // As it stands there: no user, no port but the usual one, no capitals or dots that another reader takes otherwise.
    let host = authority.as_str().strip_suffix(":443").unwrap_or(authority.as_str());
    let fits = parsed.scheme_str() == Some("https") && host == authority.host() && is_sns_host(host);
    (fits && !url.contains('#')).then_some(parsed)
}

/// `^sns\.[a-z0-9-]+\.amazonaws\.com(\.cn)?$`
fn is_sns_host(host: &str) -> bool {
    let region = host.strip_prefix("sns.").and_then(|rest| {
        let rest = rest.strip_suffix(".cn").unwrap_or(rest);
        rest.strip_suffix(".amazonaws.com")
    });
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    region.is_some_and(|region| !region.is_empty() && region.bytes().all(fits))
}

/// What the body asks for; a URL that is not Amazon's asks for nothing.
pub fn wanted(asked: &Asked<'_>, document: Document<'_>) -> Option<Wanted> {
    let topic = || text_at(document, &["TopicArn"]).map(std::borrow::Cow::into_owned);
    match &*kind(asked, document)? {
        "SubscriptionConfirmation" => {
            let url = is_amazons(&text_at(document, &["SubscribeURL"])?)?;
            Some(Wanted::Confirm { url, topic: topic()? })
        }
        "UnsubscribeConfirmation" => Some(Wanted::Unsubscribed { topic: topic().unwrap_or_default() }),
        _ => None,
    }
}

/// The signature of a body and the text that it signs: `name\nvalue\n` for each member, in order.
///
/// # Errors
/// A member that must be there is missing, or the certificate's URL is not Amazon's.
pub fn signed(asked: &Asked<'_>, document: Document<'_>) -> Result<Signed, Faults> {
    let text_of = |name: &str| match value_at(document, &[name]).map(|value| value.kind()) {
        Some(Kind::String(text)) => Some(text),
        _ => None,
    };
    let required =
        |name: &'static str| text_of(name).ok_or_else(|| vec![format!("{name}: is required of a signed body")]);
    let confirms = kind(asked, document).is_some_and(|kind| kind.ends_with("Confirmation"));
    let names: &[&'static str] = if confirms {
        &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    } else {
        &["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    };
    let mut text = String::new();
    for name in names {
        let value = match *name {
            "Subject" => text_of(name),
            name => Some(required(name)?),
        };
        if let Some(value) = value {
            text.push_str(name);
            text.push('\n');
            text.push_str(value);
            text.push('\n');
        }
    }
    let version = match required("SignatureVersion")? {
        "1" => 1,
        "2" => 2,
        _ => return Err(vec!["SignatureVersion: must be \"1\" or \"2\"".into()]),
    };
    let certificate =
        is_amazons(required("SigningCertURL")?).ok_or_else(|| vec!["SigningCertURL: is not Amazon's".to_owned()])?;
    Ok(Signed { certificate, version, signature: required("Signature")?.to_owned(), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urls_of_amazons_own_hosts_are_believed() {
        for good in [
            "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=1",
            "https://sns.cn-north-1.amazonaws.com.cn/cert.pem",
            "https://sns.us-gov-west-1.amazonaws.com:443/x",
        ] {
            assert!(is_amazons(good).is_some(), "{good}");
        }
        for bad in [
            "http://sns.eu-west-1.amazonaws.com/",
            "https://sns.eu-west-1.amazonaws.com.evil.example/?x",
            "https://sns.eu-west-1.amazonaws.com:8443/",
            "https://sns.eu-west-1.amazonaws.com:/",
            "https://u@sns.eu-west-1.amazonaws.com/",
            "https://u:p@sns.eu-west-1.amazonaws.com/",
            "https://sns.eu-west-1.amazonaws.com@evil.example/",
            "https://evil.example/#sns.eu-west-1.amazonaws.com",
            "https://evil.example\\.sns.eu-west-1.amazonaws.com/",
            "https://sns..amazonaws.com/",
            "https://sns.a.b.amazonaws.com/",
            "https://xsns.eu-west-1.amazonaws.com/",
            "https://sns.EU-west-1.amazonaws.com/",
            "https://sns.eu-west-1.amazonaws.com./",
            "https://sns.eu-west-1.amazonaws.com.cn.cn/",
            "https://sns.eu_west.amazonaws.com/",
            "https://127.0.0.1/",
            "//sns.eu-west-1.amazonaws.com/",
            "/sns",
            "",
        ] {
            assert!(is_amazons(bad).is_none(), "{bad}");
        }
    }
}
