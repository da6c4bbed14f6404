//! The keys of `integrations` that only some dialects look at (INTERFACE 3): incident.io's severities, statuses and alert
//! sources, TaskCall's assignment, what is one event of Alertmanager's and Grafana's. Those of the other hooks are in `hooks`.

use std::collections::HashSet;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Taken, hooks};
use crate::config::files;
use crate::config::reader::Section;
use crate::config::report::{Wrong, quote};
use crate::config::signed;
use crate::event::{ASSIGNED_MAX, Assignment};
use crate::gate::{AlertSource, GroupMode, Settings, SeverityRow, StatusRow, ZabbixKey};

pub(super) fn read(section: &Section, sources: &mut Taken<String>) -> Settings {
    let severities = severities(section);
    let default_severity_id: Option<Arc<str>> = section.text("default_severity_id").map(Arc::from);
    let is_known = |id: &Arc<str>| severities.is_empty() || severities.iter().any(|row| row.id == *id);
    if default_severity_id.as_ref().is_some_and(|id| !is_known(id)) {
        let known = severities.iter().map(|row| &*row.id).collect::<Vec<_>>().join(", ");
        let wrong = Wrong::value("none of the severities has this id").code("unknown_severity");
        section.error("default_severity_id", wrong.hint(format!("use one of: {known}")));
    }
    // Most integrations have none of these.
    let part = |key: &str| section.has(key).then(|| section.section(key));
    Settings {
        default_severity_id,
        severities,
        incident_statuses: statuses(section),
        closed_status_ids: Vec::new(),
        incidentio_upstream: None,
        taskcall_upstream: None,
        taskcall_runbooks: None,
        opsgenie_upstream: None,
        alert_sources: alert_sources(section, sources),
        assignment: assignment(section),
        group_mode: if section.choice("group_mode") == Some("group") { GroupMode::Group } else { GroupMode::Alert },
        no_data_severity: super::level(section, "no_data_severity"),
        grafana_hmac: signed::read(section),
        ignores_no_data: part("grafana").and_then(|part| part.choice("no_data")) == Some("ignore"),
        sns: part("sns").map(|part| hooks::sns(&part)).unwrap_or_default(),
        zabbix_key: match part("zabbix").and_then(|part| part.choice("key")) {
            Some("trigger_id") => ZabbixKey::TriggerId,
            _ => ZabbixKey::EventId,
        },
        generic: part("generic").map(|part| hooks::mapping(&part)),
    }
}

/// Who is called by TaskCall incidents that name nobody.
fn assignment(section: &Section) -> Option<Assignment> {
    let entry = section.section("assignment");
    let (policy_refs, user_refs) = (entry.texts("policy_refs"), entry.texts("user_refs"));
    for (name, list) in [("policy_refs", &policy_refs), ("user_refs", &user_refs)] {
        if list.len() > ASSIGNED_MAX {
            let wrong = Wrong::value(format!("{} entries", list.len())).code("range");
            entry.error(name, wrong.hint(format!("at most {ASSIGNED_MAX} are called")));
        }
    }
    let assignment = Assignment { service_ref: entry.text("service_ref"), policy_refs, user_refs, responders: None };
    let is_written = section.has("assignment") && !entry.is_broken();
    if is_written && assignment == Assignment::default() {
        let wrong = Wrong::value("nobody is named").code("missing");
        entry.error_here(wrong.hint("write service_ref, policy_refs or user_refs, or remove it"));
    }
    (assignment != Assignment::default()).then_some(assignment)
}

/// The entries of a list that may be absent.
fn entries<'t>(section: &Section<'t>, key: &str) -> Vec<Section<'t>> {
    if section.has(key) { section.sections(key) } else { Vec::new() }
}

fn is_again<T: std::hash::Hash + Eq>(entry: &Section, key: &str, value: T, seen: &mut HashSet<T>) {
    if !seen.insert(value) {
        entry.error(key, Wrong::value("stands twice").code("duplicate").hint("each entry has its own"));
    }
}

fn severities(section: &Section) -> Vec<SeverityRow> {
    let (mut ids, mut ranks) = (HashSet::new(), HashSet::new());
    let row = |entry: &Section<'_>| {
        let (id, name, rank) = (entry.text("id"), entry.text("name"), entry.count("rank"));
        let (id, name, rank) = (Arc::<str>::from(id?), name?.into(), i64::try_from(rank?).ok()?);
        is_again(entry, "id", Arc::clone(&id), &mut ids);
        is_again(entry, "rank", rank, &mut ranks);
        Some(SeverityRow { id, name, rank })
    };
    entries(section, "severities").iter().filter_map(row).collect()
}

fn statuses(section: &Section) -> Vec<StatusRow> {
    let mut ids = HashSet::new();
    let row = |entry: &Section<'_>| {
        let (id, name, category) = (entry.text("id"), entry.text("name"), entry.choice("category"));
        let id = Arc::<str>::from(id?);
        is_again(entry, "id", Arc::clone(&id), &mut ids);
        Some(StatusRow { id, name: name?.into(), category: category?.into() })
    };
    entries(section, "incident_statuses").iter().filter_map(row).collect()
}

fn alert_sources(section: &Section, sources: &mut Taken<String>) -> Vec<AlertSource> {
    let source = |entry: &Section<'_>| {
        let (id, kind, secret_hash) = (entry.text("id"), entry.choice("kind"), secret(entry));
        let require_dedup_key = entry.switch("require_dedup_key");
        let id = id?;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !id.bytes().all(fits) {
            let wrong = Wrong::value(format!("no id of a source: {}", quote(&id)));
            entry.error("id", wrong.hint("it stands in a path: letters, digits, - and _ alone"));
        }
        if let Err(wrong) = sources.take(id.clone(), entry.place_of("id")) {
            entry.error("id", wrong.hint("ids of alert sources are unique over all integrations"));
        }
        Some(AlertSource { id: id.into(), kind: kind?.into(), secret_hash: secret_hash?, require_dedup_key })
    };
    entries(section, "alert_sources").iter().filter_map(source).collect()
}

/// The hash of a source's secret; exactly one of the two keys says it.
fn secret(entry: &Section) -> Option<[u8; 32]> {
    let written = entry.text("secret");
    let path = entry.file("secret_file");
    if entry.has("secret") && entry.has("secret_file") {
        let wrong = Wrong::value("both a secret and a file of it").code("conflict");
        entry.error("secret_file", wrong.hint("write exactly one of secret and secret_file"));
        return None;
    }
    if !entry.has("secret") && !entry.has("secret_file") {
        if !entry.is_broken() {
            let wrong = Wrong::value("no secret").code("missing");
            entry.error_here(wrong.hint("write exactly one of secret and secret_file"));
        }
        return None;
    }
    let text = written.or_else(|| files::secret(entry, "secret_file", &path?).map(|text| text.to_string()))?;
    if text.chars().any(|character| character.is_whitespace() || character.is_control()) {
        let key = if entry.has("secret") { "secret" } else { "secret_file" };
        let wrong = Wrong::value("a secret with white space in it");
        entry.error(key, wrong.hint("remove it: a secret stands in a header"));
        return None;
    }
    Some(Sha256::digest(text.as_bytes()).into())
}
