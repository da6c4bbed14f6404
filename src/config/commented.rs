//! Commented files, generated from the table: `config/surgegate.yaml`, the reference, which shows every key, and what
//! `surgegate config init` begins with.

use super::keys::{self, Fallback, Row, Shape};
use super::units::{show_duration, show_size};
use crate::dialect;

/// Longest line of a comment, its mark not counted.
const COMMENT_CHARS_MAX: usize = 100;

/// Which keys stand in the text, and which of them in comments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// Only what must be written.
    Minimal,
    /// All, in comments but for what must be written.
    Starting,
    /// All; in comments only what has no default.
    Reference,
    /// All, none in comments.
    Everything,
}

const VALUES: &str = "\
# Durations take a unit: 500ms, 5s, 2m, 24h, 30d. Sizes are bytes or take a unit: 30720, 16KiB, 4MiB, 10GiB.
# Values may hold ${VARIABLE}, ${VARIABLE:-default} and ${VARIABLE:?message}; $$ is a dollar sign.
# A variable SURGEGATE__SECTION__KEY replaces one value: SURGEGATE__SPOOL__DIRECTORY=/var/lib/surgegate.
# Relative paths begin at the working directory. `surgegate validate` names every error at once.
";

/// The text of a file, with its head.
pub(super) fn file(extent: Extent) -> String {
    let head = match extent {
        Extent::Minimal => "# What Surgegate needs to know; everything else has a default: surgegate config init.\n\
             # PAYMENTS_KEY=$(openssl rand -hex 20) surgegate run\n"
            .to_owned(),
        Extent::Starting => format!(
            "# Surgegate. Change the names, the key and the address below; what stands in comments is the default or an example.\n\
             # PAYMENTS_KEY=$(openssl rand -hex 20) surgegate run\n#\n{VALUES}"
        ),
        Extent::Reference | Extent::Everything => format!(
            "# Every key that Surgegate knows, with its default. Only `integrations` and `upstreams` must be written.\n\
             # Generated from src/config/keys.rs: SURGEGATE_REGENERATE=1 cargo test --lib config::tests::generated\n#\n{VALUES}"
        ),
    };
    let mut text = head;
    for (_, row) in keys::of_section("") {
        let lines = lines(row, extent);
        if !lines.is_empty() {
            text.push_str(&format!("\n{}\n", lines.join("\n")));
        }
    }
    text
}

/// A key with its comment and everything below it, not indented.
fn lines(row: &Row, extent: Extent) -> Vec<String> {
    let is_live = is_live(row, extent);
    if extent == Extent::Minimal && !is_live {
        return Vec::new();
    }
    // What is taken out of its comment as a whole should stand there as it would in the reference; and a section that
    // is off by default has only examples to show.
    let extent = match extent {
        Extent::Starting if !is_live => Extent::Reference,
        extent => extent,
    };
    let extent = if matches!(row.shape, Shape::Section) && keys::is_off(row) { Extent::Everything } else { extent };
    let name = row.name();
    let mut key = match row.shape {
        Shape::Section => {
            let inner = inner(row.path, extent);
            std::iter::once(format!("{name}:")).chain(inner.iter().map(|line| format!("  {line}"))).collect()
        }
        Shape::Sections(..) => std::iter::once(format!("{name}:")).chain(items(row, extent)).collect(),
        _ => vec![format!("{name}: {}", value(row))],
    };
    if !is_live {
        key = key.into_iter().map(|line| format!("# {line}")).collect();
    }
    comment(row).into_iter().chain(key).collect()
}

fn inner(path: &str, extent: Extent) -> Vec<String> {
    keys::of_section(path).flat_map(|(_, row)| lines(row, extent)).collect()
}

/// One entry; or, of keys that exclude each other, one entry each, all but the first in comments.
fn items(row: &Row, extent: Extent) -> Vec<String> {
    let path = format!("{}[]", row.path);
    if !are_alternatives(&path) {
        let mut is_marked = false;
        let mark = |line: String| {
            let is_first = !is_marked && !line.starts_with('#');
            is_marked |= is_first;
            format!("  {} {line}", if is_first { "-" } else { " " })
        };
        return inner(&path, extent).into_iter().map(mark).collect();
    }
    let mut found = Vec::new();
    for (at, (name, row)) in keys::of_section(&path).enumerate() {
        let mark = if at == 0 { "" } else { "# " };
        if at == 0 || extent != Extent::Minimal {
            found.extend(comment(row).into_iter().map(|line| format!("  {line}")));
            found.push(format!("  {mark}- {name}: {}", value(row)));
        }
    }
    found
}

/// Whether an entry of this list has exactly one of its keys.
fn are_alternatives(path: &str) -> bool {
    keys::of_section(path).all(|(_, row)| row.default == Fallback::Absent && !row.is_opened())
}

fn is_live(row: &Row, extent: Extent) -> bool {
    let is_needed = row.default == Fallback::Required || row.path == "upstreams[].url";
    match extent {
        // Beside `secret` it would be one too many; and the URL of the example names no Sentinels.
        Extent::Everything => {
            row.path != "integrations[].grafana_hmac.secret_file" && !row.path.starts_with("redis.sentinel_")
        }
        Extent::Minimal | Extent::Starting => is_needed,
        Extent::Reference => match row.shape {
            Shape::Section => !keys::is_off(row),
            _ => is_needed || row.default != Fallback::Absent,
        },
    }
}

/// What the key means, and the words it takes where the meaning does not name them.
fn comment(row: &Row) -> Vec<String> {
    let mut text = row.about.to_owned();
    if let Shape::Choice(words) = row.shape
        && words.len() > 1
        && words.iter().any(|word| !row.about.contains(word))
    {
        text.push_str(&format!(" One of: {}.", words.join(", ")));
    }
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut().filter(|line| line.len() + word.len() < COMMENT_CHARS_MAX) {
            Some(line) => line.push_str(&format!(" {word}")),
            None => lines.push(format!("# {word}")),
        }
    }
    lines
}

/// The default, or an example.
fn value(row: &Row) -> String {
    if let Fallback::Text(text) = row.default {
        return text.to_owned();
    }
    let example = match row.path {
        "listen.admin.token_file" => "/run/secrets/surgegate-admin-token",
        "limits.connections" => "10000",
        "integrations[].name" => "payments",
        "integrations[].keys[].key" => "${PAYMENTS_KEY}",
        "integrations[].keys[].key_file" => "/run/secrets/payments-key",
        "integrations[].keys[].key_sha256" => "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
        "integrations[].upstreams" => "[pager]",
        "integrations[].source_networks" => "[10.0.0.0/8, \"2001:db8::/32\"]",
        "integrations[].body_bytes" => "30720",
        "integrations[].default_severity" => "3",
        "integrations[].no_data_severity" => "3",
        "integrations[].grafana_hmac.secret" => "${GRAFANA_SECRET}",
        "integrations[].grafana_hmac.secret_file" => "/run/secrets/grafana",
        "integrations[].grafana_hmac.header" => "X-Grafana-Alerting-Signature",
        "integrations[].grafana_hmac.timestamp_header" => "X-Grafana-Alerting-Timestamp",
        "integrations[].rate_limit.events_per_second" | "integrations[].rate_limit.burst" => "100",
        "integrations[].assignment.service_ref" => "SRV-1",
        "integrations[].assignment.policy_refs" => "[EP-1]",
        "integrations[].assignment.user_refs" => "[jdoe]",
        "integrations[].severities[].name" => "Minor",
        "integrations[].severities[].rank" => "1",
        "integrations[].incident_statuses[].name" => "Closed",
        "integrations[].incident_statuses[].category" => "closed",
        "integrations[].alert_sources[].secret" => "${CHECKOUT_ALERTS_SECRET}",
        "integrations[].alert_sources[].secret_file" => "/run/secrets/checkout-alerts",
        "upstreams[].name" => "pager",
        "upstreams[].url" => "https://incidents.example.com/hook",
        "upstreams[].credential" => "${PAGER_SECRET}",
        "upstreams[].credential_file" => "/run/secrets/pager",
        "upstreams[].mode" => "normalized",
        "upstreams[].field_map[].tag" => "team",
        "upstreams[].service_ref_id" => "SRV-1",
        "upstreams[].policy_ref_id" => "[EP-1]",
        "redis.sentinel_user" => "surgegate",
        "redis.ca_file" => "/etc/surgegate/redis-ca.pem",
        "upstreams[].users" => "[jdoe]",
        "upstreams[].responders[].name" => "storage",
        "upstreams[].responders[].username" => "jdoe@example.com",
        "upstreams[].source" => "monitoring",
        "upstreams[].rate_limit.requests_per_second" | "upstreams[].rate_limit.burst" => "10",
        _ => return by_shape(row),
    };
    example.to_owned()
}

/// An example that its bounds allow.
fn by_shape(row: &Row) -> String {
    let name = row.name();
    match row.shape {
        Shape::Switch => "true".to_owned(),
        Shape::Count(least, _) => least.to_string(),
        Shape::Rate(least, _) => least.div_ceil(1000).to_string(),
        Shape::Size(least, _) => show_size(least),
        Shape::Duration(least, _) => show_duration(std::time::Duration::from_millis(least)),
        Shape::Choice(words) => words.first().map_or(String::new(), |word| (*word).to_owned()),
        Shape::Dialects => format!("[{}]", dialect::names().collect::<Vec<_>>().join(", ")),
        Shape::Address => "127.0.0.1:8080".to_owned(),
        Shape::Name => "name".to_owned(),
        Shape::Names => "[name]".to_owned(),
        Shape::Networks => "[10.0.0.0/8]".to_owned(),
        Shape::Url => "https://example.com".to_owned(),
        Shape::Secret => format!("${{{}}}", name.to_uppercase()),
        Shape::Digest => "0".repeat(64),
        Shape::File => format!("/etc/surgegate/{name}"),
        Shape::Text => "01JZ6M3Q4W8RN2V5T7Y9B1C3D5".to_owned(),
        Shape::Texts => "[name]".to_owned(),
        Shape::Links => "redis://127.0.0.1:6379".to_owned(),
        Shape::Pointers => "[/name]".to_owned(),
        Shape::Section | Shape::Sections(..) => String::new(),
    }
}
