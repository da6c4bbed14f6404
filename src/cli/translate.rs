//! `surgegate translate`: what an event becomes on its way from one dialect to another, for people who migrate.

use std::fmt::Write as _;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

use super::{FAILED, USAGE, complain, print};
use crate::translate::{self, Each, Posted, Translated, Untranslated};

pub(super) const HELP: &str = "\
What only your configuration can say is shown in capitals: keys, ids, the integration's name. Nothing is sent.

Dialects that have many operations are told by --path, as it stands in the vendor's own URL. What a sender says in the head, as SNS with
raw delivery and CloudEvents in binary mode do, is told by --header.

Examples:
  surgegate translate --from alertmanager --to squadcast group.json
  surgegate translate --from opsgenie --to pagerduty --path /v2/alerts/disk-db-7/close close.json
  surgegate translate --from cloudevents --to squadcast --header 'ce-specversion: 1.0' --header 'ce-id: 7' \\
      --header 'ce-source: /fleet' --header 'ce-type: com.example.alert' data.json
  curl -s https://example.com/alert.json | surgegate translate --from generic --to taskcall

Exit codes: 0 fine, 1 the body or an element of its batch is refused or cannot be said there, 2 a name or a path that nobody has.";

/// Bodies longer than this are no events.
const BODY_BYTES_MAX: u64 = 4 << 20;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The dialect of the body, e.g. alertmanager.
    #[arg(long, value_name = "DIALECT")]
    from: String,
    /// What the upstream speaks: a kind of upstream, or a dialect of it.
    #[arg(long, value_name = "DIALECT")]
    to: String,
    /// Where the body would be posted; the dialect's first path by default.
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// A line of the head that it would be posted with; may be given again.
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// The body; standard input by default.
    file: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let body = match body(arguments.file.as_ref()) {
        Ok(body) => body,
        Err(error) => {
            complain(&format!("surgegate: the body cannot be read: {error}"));
            return ExitCode::from(FAILED);
        }
    };
    let Arguments { from, to, path, header, .. } = arguments;
    let headers: HeaderMap = header.iter().cloned().collect();
    match translate::translate(from, to, &Posted { path: path.as_deref(), headers: &headers, body: &body }) {
        Ok(all) => {
            let is_said = all.iter().all(|one| one.as_ref().is_ok_and(|one| one.requests.is_ok()));
            let code = print(shown(&all).as_bytes());
            if is_said { code } else { ExitCode::from(FAILED) }
        }
        Err(error) => {
            complain(&format!("surgegate: {error}"));
            let usage = !matches!(error, Untranslated::Refused(_));
            ExitCode::from(if usage { USAGE } else { FAILED })
        }
    }
}

fn header(line: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wanted = || "a name, a colon and a value are wanted".to_owned();
    let (name, value) = line.split_once(':').ok_or_else(wanted)?;
    let name = name.trim().parse().map_err(|_| wanted())?;
    Ok((name, value.trim().parse().map_err(|_| wanted())?))
}

fn body(file: Option<&PathBuf>) -> std::io::Result<Bytes> {
    let mut body = Vec::new();
    match file {
        Some(path) => std::fs::File::open(path)?.take(BODY_BYTES_MAX).read_to_end(&mut body)?,
        None => std::io::stdin().lock().take(BODY_BYTES_MAX).read_to_end(&mut body)?,
    };
    Ok(body.into())
}

/// Each event as a comment, and its requests as they would stand on the wire.
fn shown(all: &[Each]) -> String {
    let mut text = String::new();
    for one in all {
        let Translated { action, key, warnings, requests, url } = match one {
            Ok(one) => one,
            Err(faults) => {
                let _ = writeln!(text, "# refused: {}\n", super::output::printable(&faults.join("; ")));
                continue;
            }
        };
        let key = key.as_deref().map_or_else(|| "no key".to_owned(), |key| format!("key {key}"));
        // Writing to a text cannot fail.
        let _ = writeln!(text, "# {action}, {}", super::output::printable(&key));
        for warning in warnings {
            let _ = writeln!(text, "# warning: {}", super::output::printable(warning));
        }
        let requests = match requests {
            Ok(requests) => requests,
            Err(why) => {
                let _ = writeln!(text, "# not sent: {why}\n");
                continue;
            }
        };
        for request in requests {
            let path = request.path.as_deref().unwrap_or_default();
            let _ = writeln!(text, "{} {}{path}", request.method, url.trim_end_matches('/'));
            for (name, value) in &request.headers {
                let _ = writeln!(text, "{name}: {}", value.to_str().unwrap_or("?"));
            }
            let body = serde_json::from_slice::<serde_json::Value>(&request.body);
            let body =
                body.map_or_else(|_| String::from_utf8_lossy(&request.body).into_owned(), |body| format!("{body:#}"));
            let _ = writeln!(text, "\n{body}\n");
        }
    }
    if all.is_empty() {
        text.push_str("# it says nothing that anybody is told of\n");
    }
    text
}
