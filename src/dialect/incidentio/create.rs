//! Reads a create, v1 and v2 (contracts/incident-io.md 2 and 3): the request path asks for the judgement, with what
//! answers will show; forwarding asks for all of it again.

use std::borrow::Cow;

use super::body::{Found, Object};
use super::{ID_BYTES_MAX, Version, lists, object};
use crate::dialect::json::{Document, Kind, Value, clean};
use crate::dialect::text::{set_description, set_title};
use crate::dialect::{Asked, Decoded, Extra, Faults, Judged, View};
use crate::event::{Action, Content, KEY_BYTES_MAX, Key, KeyKind, Mode, Severity, Visibility, is_blank};
use crate::gate::Settings;

/// Statuses of v1.
pub(super) const STATUSES: [&str; 6] = ["triage", "investigating", "fixing", "monitoring", "closed", "declined"];
/// Longest `severity_raw` of the model (contracts 3.1).
const RAW_BYTES_MAX: usize = 64;

/// Members with a home in the model. All others are kept as the sender wrote them.
const HOMES: [&str; 6] = ["idempotency_key", "visibility", "severity_id", "name", "summary", "mode"];

impl Version {
    fn modes(self) -> &'static [&'static str] {
        match self {
            Self::V1 => &["real", "test"],
            Self::V2 => &["standard", "retrospective", "test", "tutorial"],
        }
    }

    fn status_member(self) -> &'static str {
        match self {
            Self::V1 => "status",
            Self::V2 => "incident_status_id",
        }
    }

    /// Stands before a body's hash: bodies of different versions are not compared.
    fn mark(self) -> char {
        match self {
            Self::V1 => '1',
            Self::V2 => '2',
        }
    }
}

/// A mode's word, as either version writes it.
pub(super) fn mode_of(word: &str) -> Mode {
    match word {
        "test" => Mode::Test,
        "tutorial" => Mode::Tutorial,
        "retrospective" => Mode::Retrospective,
        _ => Mode::Real,
    }
}

/// What a create says.
struct Said<'d> {
    key: Option<Key>,
    visibility: Option<Visibility>,
    mode: Option<&'static str>,
    status: Option<&'d str>,
    severity_id: Option<Cow<'d, str>>,
    severity: Option<Severity>,
    name: Option<&'d str>,
    summary: Option<&'d str>,
    team: Option<&'d str>,
    incident_type: Option<&'d str>,
    /// A number stands where the vendor wants text.
    numeric: bool,
}

pub(super) fn decode(
    version: Version,
    asked: &Asked<'_>,
    document: Document<'_>,
    each: &mut dyn FnMut(Decoded<'_>),
) -> Result<(), Faults> {
    let top = Object::top(document.root);
    let mut found = Found::default();
    let said = read(version, &top, asked.rules.settings, &mut found);
    // What was accepted once is never refused again.
    if asked.rules.settings.is_some() && !found.0.is_empty() {
        return Err(found.0);
    }
    let view = asked.rules.settings.map(|_| Box::new(view(version, &said, document)));
    let judged = Judged { key: said.key.clone(), severity: said.severity, view, ..Judged::of(Action::Trigger) };
    if asked.rules.judge_only {
        let content = Content { severity: said.severity, ..Content::default() };
        each(Decoded { judged, content, extra: Vec::new() });
        return Ok(());
    }
    let names = document.root.members().map(|(name, _)| name);
    let keeps_severity = said.severity_id.as_deref().is_some_and(|id| id.len() > RAW_BYTES_MAX);
    let is_home = |name: &str| {
        (HOMES.contains(&name) && !(keeps_severity && name == "severity_id")) || name == version.status_member()
    };
    let extra = names.filter(|name| !is_home(name)).map(|name| Extra::Member(Cow::Borrowed(name))).collect();
    each(Decoded { judged, content: content(&said), extra });
    Ok(())
}

fn read<'d>(version: Version, top: &Object<'d>, settings: Option<&'d Settings>, found: &mut Found) -> Said<'d> {
    let key = key(top, found);
    let visibility = match top.word(found, "visibility", &["public", "private"]) {
        Some("public") => Some(Visibility::Public),
        Some(_) => Some(Visibility::Private),
        None => {
            if top.get("visibility").is_none() {
                top.missing(found, "visibility");
            }
            None
        }
    };
    let status = match version {
        Version::V1 => top.word(found, "status", &STATUSES),
        Version::V2 => top.id(found, "incident_status_id"),
    };
    let (severity_id, severity) = severity(version, top, status, settings, found);
    let numeric = lists::check(version, top, found);
    if version == Version::V2 {
        retrospective(top, found);
        top.text(found, "slack_channel_name_override");
    } else {
        top.text(found, "source_message_channel_id");
        top.text(found, "source_message_timestamp");
    }
    Said {
        key,
        visibility,
        mode: top.word(found, "mode", version.modes()),
        status,
        severity_id,
        severity,
        name: top.text(found, "name").filter(|name| !is_blank(name)),
        summary: top.text(found, "summary"),
        team: top.bounded(found, "slack_team_id", ID_BYTES_MAX),
        incident_type: top.id(found, "incident_type_id"),
        numeric,
    }
}

/// The options of an incident that is over.
fn retrospective(top: &Object<'_>, found: &mut Found) {
    const NAME: &str = "retrospective_incident_options";
    let Some(options) = top.object(found, NAME) else { return };
    if options.get("external_id").is_some_and(|id| !matches!(id.kind(), Kind::Integer(_))) {
        options.wrong_type(found, "external_id", "integer");
    }
    options.text(found, "postmortem_document_url");
    options.text(found, "slack_channel_id");
    let mode = top.get("mode").map(Value::kind);
    if !matches!(mode, Some(Kind::String("retrospective"))) {
        top.wrong(found, NAME, "is allowed with mode retrospective alone");
    }
}

fn key(top: &Object<'_>, found: &mut Found) -> Option<Key> {
    const NAME: &str = "idempotency_key";
    if top.get(NAME).is_none() {
        top.missing(found, NAME);
    }
    let text = clean(top.bounded(found, NAME, KEY_BYTES_MAX)?);
    if is_blank(&text) {
        top.wrong(found, NAME, "must not be blank");
    }
    Key::parse(&text, KeyKind::String)
}

/// The severity's id and level; demanded but where the status says that it is not known yet (contracts 8, row 15).
fn severity<'d>(
    version: Version,
    top: &Object<'d>,
    status: Option<&str>,
    settings: Option<&'d Settings>,
    found: &mut Found,
) -> (Option<Cow<'d, str>>, Option<Severity>) {
    const NAME: &str = "severity_id";
    let said = top.id(found, NAME).map(Cow::Borrowed);
    let Some(settings) = settings else { return (said, None) };
    let id = said.or_else(|| settings.default_severity_id.as_deref().map(Cow::Borrowed));
    let Some(id) = id else {
        let category = match version {
            Version::V1 => Some(status.unwrap_or("triage")),
            Version::V2 => status.and_then(|id| lists::status(settings, id)).map(|row| &*row.category),
        };
        if !matches!(category, Some("triage" | "declined")) && !top.is_told(found, NAME) {
            top.missing(found, NAME);
        }
        return (None, None);
    };
    if !settings.severities.is_empty() && lists::severity(settings, &id).is_none() {
        top.wrong(found, NAME, "names no severity of this account");
    }
    let level = lists::level(settings, &id);
    (Some(id), level)
}

/// What answers show of it, and what tells a repeat from another body.
fn view(version: Version, said: &Said<'_>, document: Document<'_>) -> View {
    let mut view = View::new();
    let mut put = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            view.insert(name.to_owned(), value.into());
        }
    };
    put(object::NAME, Some(&object::short(&title(said), object::NAME_BYTES_MAX)));
    put(object::SUMMARY, said.summary.map(|text| object::short(text, object::SUMMARY_BYTES_MAX)).as_deref());
    put(object::MODE, said.mode.filter(|mode| !matches!(*mode, "real" | "standard")));
    put(
        object::VISIBILITY,
        said.visibility.map(|visibility| if visibility == Visibility::Public { "public" } else { "private" }),
    );
    put(object::SEVERITY, said.severity_id.as_deref());
    match version {
        Version::V1 => put(object::STATUS, said.status.or(Some("triage"))),
        Version::V2 => put(object::STATUS_ID, said.status),
    }
    put(object::TEAM, said.team.filter(|team| !team.is_empty()));
    put(object::TYPE, said.incident_type);
    let digest = document.root.digest();
    let digits = digest.iter().take(16).flat_map(|byte| [*byte >> 4, *byte & 15]);
    let hash: String = digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect();
    put(object::HASH, Some(&format!("{}{hash}", version.mark())));
    view
}

fn title<'d>(said: &Said<'d>) -> Cow<'d, str> {
    let line = || said.summary.and_then(|text| text.lines().find(|line| !is_blank(line)));
    said.name.or_else(line).map_or(Cow::Borrowed("Incident"), clean)
}

fn content<'d>(said: &Said<'d>) -> Content<'d> {
    let mut content = Content {
        severity: said.severity,
        severity_raw: said.severity_id.clone().filter(|id| id.len() <= RAW_BYTES_MAX),
        status_raw: said.status.filter(|status| status.len() <= RAW_BYTES_MAX).map(Cow::Borrowed),
        visibility: said.visibility,
        mode: Some(mode_of(said.mode.unwrap_or_default())),
        ..Content::default()
    };
    set_title(&mut content, title(said), "name");
    if let Some(summary) = said.summary {
        set_description(&mut content, clean(summary), "summary");
    }
    if said.numeric {
        content.warn("number_as_text", "custom_field_entries");
    }
    content
}
