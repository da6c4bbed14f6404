//! The configuration as it is meant, for `surgegate config show`: YAML that loads again, defaults filled in, secrets as
//! `***`, and on request where each value comes from.

use super::interpolate;
use super::keys::{self, Fallback, Row, Shape};
use super::report::{Place, Report};
use super::tree::{Node, Origin, Scalar, Value};
use super::units;

const MASK: &str = "***";
/// Parts of a URL's path that say what it is for. Any other may be a key or a token, which can be short and look like a word.
const WORDS: &[&str] = &[
    "alert",
    "alert_events",
    "alertmanager",
    "alerts",
    "api",
    "callback",
    "create",
    "enqueue",
    "event",
    "events",
    "generic",
    "hook",
    "hooks",
    "http",
    "in",
    "inbound",
    "incident",
    "incidents",
    "incoming",
    "ingest",
    "integration",
    "integrations",
    "intake",
    "notification",
    "notifications",
    "notify",
    "services",
    "trigger",
    "webhook",
    "webhooks",
];
/// Origins of longer lines are not aligned.
const ALIGN_CHARS_MAX: usize = 48;
const DEFAULT: &str = "default";

/// A line, and where its value comes from.
struct Line {
    text: String,
    origin: Option<String>,
}

/// A tree that was found to be valid, as text.
pub(super) fn show(report: &Report, root: &Node, with_origins: bool) -> String {
    let lines = Show { report }.section("", Some(root));
    let longest = |line: &Line| Some(line.text.chars().count()).filter(|count| *count <= ALIGN_CHARS_MAX);
    let width = lines.iter().filter(|line| line.origin.is_some()).filter_map(longest).max().unwrap_or_default();
    let mut shown = String::new();
    for Line { text, origin } in lines {
        match origin.filter(|_| with_origins) {
            Some(origin) => shown.push_str(&format!("{text:width$}  # {origin}\n")),
            None => shown.push_str(&format!("{text}\n")),
        }
    }
    shown
}

struct Show<'r> {
    report: &'r Report,
}

impl Show<'_> {
    fn section(&self, path: &str, node: Option<&Node>) -> Vec<Line> {
        let rows = keys::of_section(path);
        rows.flat_map(|(_, row)| self.row(row, node)).collect()
    }

    fn row(&self, row: &Row, section: Option<&Node>) -> Vec<Line> {
        let name = row.name();
        let node = section.and_then(|section| find(section, name)).filter(|node| !node.is_null());
        match row.shape {
            Shape::Section if node.is_none() && keys::is_off(row) => Vec::new(),
            Shape::Section => match (self.section(row.path, node), node) {
                (inner, None) if inner.is_empty() => inner,
                (inner, Some(node)) if inner.is_empty() => vec![self.line(name, "{}", node, None)],
                (inner, _) => headed(name, inner.into_iter().map(|line| moved("  ", line)).collect()),
            },
            Shape::Sections(..) => match node.map(|node| &node.value) {
                Some(Value::List(items)) => headed(name, items.iter().flat_map(|item| self.item(row, item)).collect()),
                _ => Vec::new(),
            },
            _ => self.single(row, section, node).into_iter().collect(),
        }
    }

    /// An entry of a list of mappings.
    fn item(&self, row: &Row, node: &Node) -> Vec<Line> {
        let inner = self.section(&format!("{}[]", row.path), Some(node));
        let mark = |(at, line)| moved(if at == 0 { "  - " } else { "    " }, line);
        inner.into_iter().enumerate().map(mark).collect()
    }

    fn single(&self, row: &Row, section: Option<&Node>, node: Option<&Node>) -> Option<Line> {
        let name = row.name();
        let Some(node) = node else {
            let text = match row.default {
                Fallback::Text(text) => text.to_owned(),
                _ => derived(row, section?)?,
            };
            let text = quoted(row, &text);
            return Some(Line { text: format!("{name}: {text}"), origin: Some(DEFAULT.to_owned()) });
        };
        match &node.value {
            Value::Scalar(scalar) => Some(self.line(name, &shown(row, scalar), node, Some(scalar))),
            Value::List(items) => {
                let scalars = items.iter().filter_map(|item| match &item.value {
                    Value::Scalar(scalar) => Some(shown(row, scalar)),
                    _ => None,
                });
                let list = scalars.collect::<Vec<_>>().join(", ");
                Some(self.line(name, &format!("[{list}]"), node, None))
            }
            Value::Map(_) => None,
        }
    }

    fn line(&self, name: &str, value: &str, node: &Node, scalar: Option<&Scalar>) -> Line {
        let is_outside = scalar.is_some_and(|scalar| scalar.origin == Origin::Environment);
        Line { text: format!("{name}: {value}"), origin: Some(self.origin(node.place, is_outside)) }
    }

    fn origin(&self, place: Place, is_outside: bool) -> String {
        let name: String = self.report.name(place.source).escape_debug().collect();
        if place.line == 0 || self.report.is_flag(place.source) {
            return name;
        }
        let variables = if is_outside { interpolate::variables(self.report.written(place)) } else { Vec::new() };
        let from: String = variables.iter().map(|variable| format!(", ${{{variable}}}")).collect();
        format!("{name}:{}:{}{from}", place.line, place.column + 1)
    }
}

fn moved(by: &str, line: Line) -> Line {
    Line { text: format!("{by}{}", line.text), ..line }
}

fn headed(name: &str, inner: Vec<Line>) -> Vec<Line> {
    std::iter::once(Line { text: format!("{name}:"), origin: None }).chain(inner).collect()
}

pub(super) fn find<'n>(section: &'n Node, name: &str) -> Option<&'n Node> {
    let Value::Map(entries) = &section.value else { return None };
    entries.iter().find(|entry| entry.key == name).map(|entry| &entry.value)
}

fn text<'n>(section: &'n Node, name: &str) -> Option<&'n str> {
    match &find(section, name)?.value {
        Value::Scalar(scalar) => Some(&scalar.text),
        _ => None,
    }
}

/// Defaults that hang on a neighbour.
fn derived(row: &Row, section: &Node) -> Option<String> {
    match row.path {
        "upstreams[].mode" => {
            let is_ours = matches!(text(section, "kind")?, "webhook" | "stdout");
            Some(if is_ours { "normalized" } else { "verbatim" }.to_owned())
        }
        "integrations[].rate_limit.burst" => text(section, "events_per_second").map(str::to_owned),
        "upstreams[].rate_limit.burst" => {
            let rate = units::thousandths(text(section, "requests_per_second")?).ok()?;
            Some((rate / 1000).max(1).to_string())
        }
        _ => None,
    }
}

/// A value as YAML, or its mask.
fn shown(row: &Row, scalar: &Scalar) -> String {
    match row.shape {
        Shape::Secret => quoted(row, MASK),
        Shape::Url | Shape::Links => {
            // A server of Redis has its credentials before the @; behind it stand the database and the master's name.
            let has_key = matches!(row.shape, Shape::Url);
            quoted(row, &masked(&scalar.text, has_key, scalar.origin == Origin::Environment))
        }
        _ => quoted(row, &scalar.text),
    }
}

/// In quotes where YAML would take it for something else. A dollar sign is doubled, so that it stays one.
fn quoted(row: &Row, text: &str) -> String {
    let text = text.replace('$', "$$");
    let is_number =
        matches!(row.shape, Shape::Switch | Shape::Count(..) | Shape::Rate(..) | Shape::Size(..) | Shape::Duration(..));
    let is_safe = |character: char| character.is_ascii_alphanumeric() || "-_./:$@%=&?~+".contains(character);
    let begins = text.starts_with(|first: char| first.is_ascii_alphanumeric() || "./_$".contains(first));
    let is_word =
        ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_ascii_lowercase().as_str());
    let is_text = text.chars().any(|character| character.is_ascii_alphabetic() || character == '/') && !is_word
        || text.parse::<f64>().is_err() && text.contains([':', '.']);
    let looks_like_number = text.parse::<f64>().is_ok() || text.starts_with("0x") || text.starts_with("0o");
    if is_number || begins && is_text && !looks_like_number && !text.ends_with(':') && text.chars().all(is_safe) {
        return text;
    }
    // JSON's text is one of YAML's.
    serde_json::Value::String(text).to_string()
}

/// A URL whose credentials are hidden: user and password, what the query says, and what in the path is none of [`WORDS`]
/// nor a version. Of one that came from the environment the whole path.
fn masked(url: &str, has_key: bool, is_outside: bool) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let authority = authority.rsplit_once('@').map_or(authority.to_owned(), |(_, host)| format!("{MASK}@{host}"));
    let is_key_next = |before: Option<&str>| before.is_some_and(|before| ["api", "create"].contains(&before));
    let mut before = None;
    let mut parts = Vec::new();
    for part in path.split('/') {
        let is_version = matches!(part.as_bytes(), [b'v', b'0'..=b'9']);
        let is_word = !has_key || is_version || WORDS.contains(&part);
        let is_whole_key = path.starts_with("/v") && is_key_next(before);
        let hidden = !part.is_empty() && (is_outside || !is_word || is_whole_key);
        parts.push(if hidden { MASK } else { part });
        before = Some(part);
    }
    let path = if is_outside && path.len() > 1 { format!("/{MASK}") } else { parts.join("/") };
    let query = query.map_or(String::new(), |query| {
        let hide = |pair: &str| pair.split_once('=').map_or(MASK.to_owned(), |(name, _)| format!("{name}={MASK}"));
        format!("?{}", query.split('&').map(hide).collect::<Vec<_>>().join("&"))
    });
    format!("{scheme}://{authority}{path}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_urls_are_masked_and_words_are_not() {
        for (url, shown) in [
            ("https://a.example/hook", "https://a.example/hook"),
            ("https://a.example", "https://a.example"),
            ("https://a.example/", "https://a.example/"),
            ("http://127.0.0.1:80/v2/incidents/api", "http://127.0.0.1:80/v2/incidents/api"),
            ("https://a.example/v2/incidents/api/abc", "https://a.example/v2/incidents/api/***"),
            ("https://a.example/v2/incidents/api/abc/", "https://a.example/v2/incidents/api/***/"),
            ("https://a.example/services/T02A4/B09Z1/XyZ1aB2cD3eF4", "https://a.example/services/***/***/***"),
            ("https://a.example/hook?token=abc&b", "https://a.example/hook?token=***&***"),
            ("https://u:p@a.example/hook", "https://***@a.example/hook"),
            ("https://a.example/averyveryverylongword", "https://a.example/***"),
            ("https://a.example/hook/s3cr3t", "https://a.example/hook/***"),
            ("https://a.example/hook/hunter", "https://a.example/hook/***"),
            ("https://a.example/12345", "https://a.example/***"),
        ] {
            assert_eq!(masked(url, true, false), shown, "{url}");
            let outside = masked(url, true, true);
            assert!(outside == url || outside.contains("/***") || !url.contains("/hook"), "{outside}");
        }
        assert_eq!(masked("https://a.example/hook?a=b", true, true), "https://a.example/***?a=***");
        assert_eq!(masked("redis+sentinel://:p@a,b/main/2", false, false), "redis+sentinel://***@a,b/main/2");
    }

    #[test]
    fn texts_are_quoted_where_yaml_would_read_something_else() {
        let row = keys::find("spool.directory").unwrap();
        for plain in ["./data", "/var/lib/x", "data", "127.0.0.1:80", "10.0.0.0/8", "https://a.example/x?y=z"] {
            assert_eq!(quoted(row, plain), plain);
        }
        for text in [
            "", "***", "true", "Null", "12", "1.5", "1e3", "0x10", "~", "- a", "a b", "a: b", "a #b", "[a]", "a:",
            "&a", "*a", "!a", "é", "-1", ".5", "a\"b", "a\\b", "::1", "off", "a\nb",
        ] {
            assert_eq!(quoted(row, text), serde_json::to_string(text).unwrap());
        }
        assert_eq!(quoted(row, "a$b"), "a$$b");
        assert_eq!(quoted(keys::find("limits.headers").unwrap(), "64"), "64");
    }
}
