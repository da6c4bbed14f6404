//! One alert read as an event (sections 3 and 5).

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::labels::Texts;
use super::{Form, group};
use crate::dialect::json::{Document, Kind, Value, clean, members_as_text};
use crate::dialect::text::{cut_bytes, truncated, within};
use crate::dialect::{Asked, Decoded, Extra, Faults, Judged};
use crate::event::{
    Action, Content, DESCRIPTION_BYTES_MAX, FIELD_CHARS_MAX, HREF_BYTES_MAX, KEY_BYTES_MAX, Key, KeyKind, LINKS_MAX,
    Link, Micros, Rel, Severity, TAGS_MAX, TITLE_CHARS_MAX, Tag, TagType, is_blank,
};
use crate::vendor::{self, time};

/// Longest name of a tag, in characters (contracts 3.1).
const TAG_NAME_CHARS_MAX: usize = 128;
/// Longest word of a severity or status that is kept as it was said, in characters (contracts 3.1).
const RAW_CHARS_MAX: usize = 64;

/// Members of an alert that have a home in the content.
const CONSUMED: [&str; 7] = ["status", "labels", "annotations", "startsAt", "endsAt", "generatorURL", "fingerprint"];
/// Grafana's links, and what they lead to.
const LINKS: [(&str, Rel); 4] = [
    ("silenceURL", Rel::Silence),
    ("dashboardURL", Rel::Dashboard),
    ("panelURL", Rel::Panel),
    ("imageURL", Rel::Image),
];

/// Reads an alert, where the body's other members are in [`Asked::envelope`]; else a whole group.
///
/// # Errors
/// All faults of the alert at once.
pub(in crate::dialect) fn read<'d>(
    form: Form,
    asked: &Asked<'d>,
    document: Document<'d>,
) -> Result<Decoded<'d>, Faults> {
    if !document.root.is_object() {
        return Err(vec!["alert: must be an object".into()]);
    }
    let Some(envelope) = asked.envelope else { return group::read(form, asked, document) };
    let mut faults = Faults::new();
    let status = document.root.member("status").filter(|value| !value.is_null());
    let action = action(status.or_else(|| envelope.root.member("status")), &mut faults);
    let labels = Texts::of(document, "labels");
    if labels.is_none() {
        faults.push("labels: must be an object".into());
    }
    let labels = labels.unwrap_or_else(|| Texts::none(document));
    let key = key(form, document, envelope, &labels, &mut faults);
    let Some(action) = action.filter(|_| faults.is_empty()) else { return Err(faults) };
    let mut reading = Reading { content: Content::default(), labels, annotations: Texts::of(document, "annotations") };
    reading.severity(form, asked);
    let judged = Judged { key, severity: reading.content.severity, ..Judged::of(action) };
    if asked.rules.judge_only {
        return Ok(Decoded { judged, content: reading.content, extra: Vec::new() });
    }
    reading.content.status_raw = status.and_then(text_of);
    reading.labelled();
    reading.texts(action, asked);
    reading.times(document);
    reading.links(form, document, envelope);
    let extra = reading.extra(form, document, envelope);
    Ok(Decoded { judged, content: reading.content, extra })
}

/// `firing` or `resolved`, of the alert or of its group.
pub(super) fn action(status: Option<Value<'_>>, faults: &mut Faults) -> Option<Action> {
    match status.map(Value::kind) {
        Some(Kind::String("firing")) => Some(Action::Trigger),
        Some(Kind::String("resolved")) => Some(Action::Resolve),
        _ => {
            faults.push("status: must be \"firing\" or \"resolved\"".into());
            None
        }
    }
}

/// The fingerprint, else a hash of the labels; Grafana's fingerprints are unique in an organization (section 5).
fn key(
    form: Form,
    document: Document<'_>,
    envelope: Document<'_>,
    labels: &Texts<'_>,
    faults: &mut Faults,
) -> Option<Key> {
    let said = document.root.member("fingerprint").filter(|value| !value.is_null());
    let text = match said.map(|value| (value, value.kind())) {
        Some((_, Kind::String(text))) => Some(clean(text)).filter(|text| !is_blank(text)),
        Some((value, Kind::Integer(_) | Kind::Number)) => document.number_text(value, &["fingerprint"]),
        Some(_) => {
            faults.push("fingerprint: must be a string".into());
            return None;
        }
        None => None,
    };
    let (text, kind) = match text {
        Some(text) => (text, KeyKind::String),
        None => (Cow::Owned(labels.hashed()), KeyKind::Derived),
    };
    let key = match organization(form, envelope) {
        Some(organization) => Key::parse(&format!("{organization}:{text}"), kind),
        None => Key::parse(&text, kind),
    };
    if key.is_none() {
        faults.push(format!("fingerprint: is longer than {KEY_BYTES_MAX} bytes"));
    }
    key
}

/// `orgId`, of Grafana.
pub(super) fn organization(form: Form, envelope: Document<'_>) -> Option<Cow<'_, str>> {
    let said = envelope.root.member("orgId").filter(|_| form == Form::Grafana)?;
    match said.kind() {
        Kind::String(text) => Some(Cow::Borrowed(text)).filter(|text| !is_blank(text)),
        _ => envelope.number_text(said, &["orgId"]),
    }
}

fn text_of(value: Value<'_>) -> Option<Cow<'_, str>> {
    match value.kind() {
        Kind::String(text) if !is_blank(text) => Some(clean(text)),
        _ => None,
    }
}

/// What is being said by an alert, or by a group.
pub(super) struct Reading<'d> {
    pub(super) content: Content<'d>,
    /// Of the alert; of a group those that its alerts have in common.
    pub(super) labels: Texts<'d>,
    pub(super) annotations: Option<Texts<'d>>,
}

impl<'d> Reading<'d> {
    fn annotation(&self, name: &str) -> Option<Cow<'d, str>> {
        self.annotations?.get(name)
    }

    /// Label `severity`, then `priority`: the first that yields a level (contracts 4). Missing data has a level of its own.
    pub(super) fn severity(&mut self, form: Form, asked: &Asked<'_>) {
        let words = ["severity", "priority"].map(|name| self.labels.get(name));
        let level = words.iter().flatten().find_map(|word| Some((vendor::severity_of_word(word)?, word.clone())));
        let unknown = || words.iter().flatten().next().map(|word| (None, word.clone()));
        let said = level.map(|(level, word)| (Some(level), word)).or_else(unknown);
        let (level, word) = said.map_or((None, None), |(level, word)| (level, Some(word)));
        self.content.severity = level.or_else(|| self.severity_of_missing_data(form, asked));
        self.content.severity_raw = word;
    }

    fn severity_of_missing_data(&self, form: Form, asked: &Asked<'_>) -> Option<Severity> {
        let level = asked.rules.settings?.no_data_severity.filter(|_| form == Form::Grafana)?;
        let name = self.labels.get("alertname")?;
        matches!(&*name, "DatasourceNoData" | "DatasourceError").then_some(level)
    }

    /// The labels, as tags and where they have a home besides.
    pub(super) fn labelled(&mut self) {
        // The word of a severity has no other home: the label is no tag.
        let word = self.content.severity_raw.take();
        self.content.severity_raw = word.map(|word| within(&mut self.content, word, RAW_CHARS_MAX, "labels.severity"));
        for (name, text, is_text) in self.labels.sorted() {
            if name == "severity" {
                continue;
            }
            let is_long = name.len() > TAG_NAME_CHARS_MAX && name.chars().nth(TAG_NAME_CHARS_MAX).is_some();
            if name.is_empty() || is_long || self.content.tags.len() == TAGS_MAX {
                self.content.cut("tag_dropped", format!("labels.{name}"));
                continue;
            }
            if !is_text {
                self.content.warn("tag_coerced", format!("labels.{name}"));
            }
            self.content.tags.push((clean(name), Tag { value: text, kind: TagType::String, color: None, bare: false }));
        }
        let mut field = |name, path| {
            let text = self.labels.get(name)?;
            Some(within(&mut self.content, text, FIELD_CHARS_MAX, path))
        };
        let (source, component) = (field("instance", "labels.instance"), field("job", "labels.job"));
        let (class, service) = (field("alertname", "labels.alertname"), field("service", "labels.service"));
        (self.content.source, self.content.component) = (source, component);
        (self.content.class, self.content.service) = (class, service);
    }

    /// Title and description; a trigger has a title in any case (contracts 6).
    pub(super) fn texts(&mut self, action: Action, asked: &Asked<'_>) {
        let alert = || {
            let name = self.labels.get("alertname")?;
            let instance = self.labels.get("instance");
            Some(instance.map_or(name.clone(), |instance| Cow::Owned(format!("{name} on {instance}"))))
        };
        let title = self.annotation("summary").or_else(|| self.annotation("title")).or_else(alert);
        let description = self.annotation("description").or_else(|| self.annotation("message"));
        self.said(title, description, action, asked.endpoint);
    }

    pub(super) fn said(
        &mut self,
        title: Option<Cow<'d, str>>,
        description: Option<Cow<'d, str>>,
        action: Action,
        endpoint: &str,
    ) {
        let made = title.is_none() && action == Action::Trigger;
        let title = title.or_else(|| {
            let line =
                description.as_deref().and_then(|text| text.lines().map(str::trim).find(|line| !line.is_empty()));
            let name = endpoint.rsplit('/').next().unwrap_or(endpoint);
            made.then(|| line.map_or_else(|| format!("{name} alert"), str::to_owned).into())
        });
        if made {
            self.content.cut("title_made", "");
        }
        self.content.title = title.map(|title| {
            let (title, cut) = truncated(title, TITLE_CHARS_MAX);
            if cut {
                self.content.cut("truncated", "title");
            }
            title
        });
        self.content.description = description.map(|text| {
            let (text, cut) = cut_bytes(text, DESCRIPTION_BYTES_MAX);
            if cut {
                self.content.cut("truncated", "description");
            }
            text
        });
    }

    fn times(&mut self, document: Document<'d>) {
        self.content.started_at = self.time(document, "startsAt");
        self.content.ended_at = self.time(document, "endsAt");
    }

    /// A time that cannot be read is dropped; year 0001 is none (contracts 2.5).
    pub(super) fn time(&mut self, document: Document<'d>, member: &'static str) -> Option<Micros> {
        let said = document.root.member(member).filter(|value| !value.is_null())?;
        let read = match said.kind() {
            Kind::String(text) if is_blank(text) => Ok(None),
            Kind::String(text) => time::parse(text),
            _ => Err(time::NotATime),
        };
        read.unwrap_or_else(|_| {
            self.content.warn("time_ignored", member);
            None
        })
    }

    fn links(&mut self, form: Form, document: Document<'d>, envelope: Document<'d>) {
        self.link(document, "generatorURL", Rel::Source);
        self.link(envelope, "externalURL", Rel::Client);
        self.annotated_links();
        if form == Form::Grafana {
            for (member, rel) in LINKS {
                self.link(document, member, rel);
            }
        }
    }

    pub(super) fn annotated_links(&mut self) {
        for (name, rel) in [("runbook_url", Rel::Runbook), ("dashboard_url", Rel::Dashboard)] {
            let href = self.annotation(name);
            self.href(name, href, rel);
        }
    }

    pub(super) fn link(&mut self, document: Document<'d>, member: &'static str, rel: Rel) {
        let href = document.root.member(member).and_then(text_of);
        self.href(member, href, rel);
    }

    fn href(&mut self, member: &'static str, href: Option<Cow<'d, str>>, rel: Rel) {
        let Some(href) = href else { return };
        if href.len() > HREF_BYTES_MAX || self.content.links.len() == LINKS_MAX {
            return self.content.cut("link_dropped", member);
        }
        self.content.links.push(Link { href, text: None, rel: Some(rel) });
    }

    /// What has no home: members of the alert, of what is said of all, and annotations that nothing above took.
    fn extra(&mut self, form: Form, document: Document<'d>, envelope: Document<'d>) -> Vec<Extra<'d>> {
        let is_link = |name: &str| form == Form::Grafana && LINKS.iter().any(|(link, _)| *link == name);
        let mut extra: Vec<_> = names_of(document)
            .filter(|name| !CONSUMED.contains(name) && !is_link(name))
            .map(|name| Extra::Member(Cow::Borrowed(name)))
            .collect();
        let said_of_all = names_of(envelope).filter(|name| !["status", "version", "externalURL"].contains(name));
        extra.extend(said_of_all.map(|name| Extra::Envelope(Cow::Borrowed(name))));
        extra.extend(self.unused_annotations(document, "annotations"));
        extra
    }

    /// Those that are neither title, nor description, nor link, as they were written.
    pub(super) fn unused_annotations(&self, document: Document<'d>, member: &'static str) -> Option<Extra<'d>> {
        let annotations = self.annotations?;
        let first = |names: [&'static str; 2]| names.into_iter().find(|name| annotations.get(name).is_some());
        let (title, description) = (first(["summary", "title"]), first(["description", "message"]));
        let is_used =
            |name: &str| [title, description].contains(&Some(name)) || ["runbook_url", "dashboard_url"].contains(&name);
        let unused: Vec<_> = annotations.sorted().into_iter().filter(|(name, ..)| !is_used(name)).collect();
        if unused.is_empty() {
            return None;
        }
        let source = document.source(&[member])?;
        let texts = members_as_text(&source)?;
        let members: Vec<String> = unused
            .iter()
            .filter_map(|(name, ..)| Some(format!("{}:{}", serde_json::Value::from(*name), texts.get(*name)?.get())))
            .collect();
        let made = RawValue::from_string(format!("{{{}}}", members.join(","))).ok()?;
        Some(Extra::Made(Cow::Borrowed("annotations"), made))
    }
}

/// The names of the top-level members, each once.
pub(super) fn names_of<'d>(document: Document<'d>) -> impl Iterator<Item = &'d str> {
    let mut seen = std::collections::HashSet::new();
    document.root.members().map(|(name, _)| name).filter(move |name| seen.insert(*name))
}
