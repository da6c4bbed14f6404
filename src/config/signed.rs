//! The section `integrations[].grafana_hmac`: what a Grafana signs its bodies with (contracts/alertmanager.md 5).

use hyper::header::HeaderName;

use super::files;
use super::reader::Section;
use super::report::Wrong;
use crate::gate::Signature;

/// `None`: off, or not readable, which was reported.
pub(super) fn read(integration: &Section) -> Option<Signature> {
    let section = integration.section("grafana_hmac");
    let written = section.text("secret");
    let from_file = section.file("secret_file").and_then(|path| files::secret(&section, "secret_file", &path));
    let named = section.text("header").unwrap_or_else(|| Signature::HEADER.to_owned());
    let header = name_of(&section, "header", &named);
    let timestamp_header =
        section.text("timestamp_header").and_then(|name| name_of(&section, "timestamp_header", &name));
    if !section.is_given() || section.is_broken() {
        return None;
    }
    let hint = "write exactly one of secret and secret_file";
    match (section.has("secret"), section.has("secret_file")) {
        (false, false) => {
            section.error_here(Wrong::value("no secret").code("missing").hint(hint));
            return None;
        }
        (true, true) => {
            section.error("secret_file", Wrong::value("more than one secret").code("conflict").hint(hint));
            return None;
        }
        _ => {}
    }
    let secret = from_file.or(written.map(Into::into))?;
    Some(Signature::new(&secret, header?, timestamp_header))
}

fn name_of(section: &Section, key: &str, name: &str) -> Option<HeaderName> {
    let header = HeaderName::from_bytes(name.as_bytes());
    if header.is_err() {
        section.error(key, Wrong::value("no name of a header").hint("like X-Grafana-Alerting-Signature"));
    }
    header.ok()
}

#[cfg(test)]
mod tests {
    use crate::config::load_text;

    /// What is wrong with an integration that has this section; nothing when it loads.
    fn wrong(section: &str) -> String {
        let text = format!(
            "integrations: [{{ name: a, keys: [{{ key: '{}' }}], upstreams: [out], grafana_hmac: {section} }}]\n\
             upstreams: [{{ name: out, kind: stdout }}]\n",
            "0".repeat(40)
        );
        load_text("surgegate.yaml", &text, &|_| None).err().map(|errors| errors.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_signature_needs_one_secret_and_names_of_headers() {
        assert_eq!(wrong("{ secret: s3cret }"), "");
        assert_eq!(wrong("{ secret: s3cret, header: X-Sig, timestamp_header: X-Time }"), "");
        for (section, told) in [
            ("{}", "no secret"),
            ("{ header: X-Sig }", "no secret"),
            ("{ secret: s3cret, secret_file: /nowhere }", "more than one secret"),
            ("{ secret_file: /nowhere }", "cannot be read"),
            ("{ secret: s3cret, header: 'X Sig' }", "no name of a header"),
            ("{ secret: s3cret, timestamp_header: 'a:b' }", "no name of a header"),
        ] {
            let wrong = wrong(section);
            assert!(wrong.contains(told), "{section}: {wrong}");
            assert!(!wrong.contains("s3cret"), "{wrong}");
        }
    }
}
