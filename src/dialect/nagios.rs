//! Nagios' notification script (contracts/others.md 6), and what Icinga's and Checkmk's share with it: hosts and services
//! with a state each.

use std::borrow::Cow;

use super::hooks::{self, Reading};
use super::json::Document;
use super::{Asked, Credentials, Decoded, Dialect, Faults, Judged, Route};
use crate::event::{Action, Key, KeyKind, Severity};

pub(super) struct Nagios;

static ROUTES: [Route; 4] = hooks::routes!("nagios");

/// Members that have a home.
const HOMES: [&str; 8] = [
    "alert_source",
    "hostname",
    "servicedesc",
    "host_state",
    "service_state",
    "host_output",
    "service_output",
    "hostaddress",
];

impl Dialect for Nagios {
    fn name(&self) -> &'static str {
        "nagios"
    }

    fn routes(&self) -> &'static [Route] {
        &ROUTES
    }

    fn decode(
        &self,
        asked: &Asked<'_>,
        document: Document<'_>,
        each: &mut dyn FnMut(Decoded<'_>),
    ) -> Result<(), Faults> {
        let reading = Reading::of(document);
        let source = reading.text("alert_source");
        let is_service = is_service(source.as_deref(), hooks::is_said(document, &["servicedesc"]));
        let notice = Notice {
            host: reading.text("hostname"),
            host_member: "hostname",
            service: reading.text("servicedesc").filter(|_| is_service),
            service_member: is_service.then_some("servicedesc"),
            state: reading.text(if is_service { "service_state" } else { "host_state" }),
            state_member: if is_service { "service_state" } else { "host_state" },
            output: reading.text(if is_service { "service_output" } else { "host_output" }),
            kind: reading.text("notification_type"),
        };
        notice.tell(asked, reading, each, |reading, _| {
            if let Some(address) = reading.text("hostaddress") {
                reading.tag("hostaddress".into(), Some(address), crate::event::TagType::String);
            }
            // The state of the host beside its service's is not said by this event.
            let beside = if is_service { ["host_state", "host_output"] } else { ["service_state", "service_output"] };
            HOMES.iter().filter(|name| !beside.contains(name)).for_each(|name| reading.has_homes(&[name]));
        })
    }
}

/// `HOST` or `SERVICE`, in any case; else whether a service is named.
pub(super) fn is_service(source: Option<&str>, names_one: bool) -> bool {
    match source {
        Some(word) if word.eq_ignore_ascii_case("service") => true,
        Some(word) if word.eq_ignore_ascii_case("host") => false,
        _ => names_one,
    }
}

/// A state of a host or a service, told by one of the three.
pub(super) struct Notice<'d> {
    pub(super) host: Option<Cow<'d, str>>,
    pub(super) host_member: &'static str,
    pub(super) service: Option<Cow<'d, str>>,
    /// Where a service must be named.
    pub(super) service_member: Option<&'static str>,
    pub(super) state: Option<Cow<'d, str>>,
    pub(super) state_member: &'static str,
    pub(super) output: Option<Cow<'d, str>>,
    pub(super) kind: Option<Cow<'d, str>>,
}

/// What a state is.
fn of_state(state: &str) -> Option<(Action, Option<Severity>)> {
    let level = |level| Some((Action::Trigger, Severity::new(level)));
    match state.trim().to_ascii_uppercase().as_str() {
        "UP" | "OK" => Some((Action::Resolve, None)),
        "DOWN" | "CRITICAL" => level(5),
        "UNREACHABLE" => level(4),
        // Checkmk writes what Nagios abbreviates, and the other way round.
        "WARNING" | "WARN" | "UNKNOWN" => level(3),
        "CRIT" => level(5),
        "UNREACH" => level(4),
        _ => None,
    }
}

impl<'d> Notice<'d> {
    fn name(&self) -> String {
        let host = self.host.as_deref().unwrap_or_default();
        self.service.as_ref().map_or_else(|| host.to_owned(), |service| format!("{host}/{service}"))
    }

    /// `None`: it says nothing that an incident is made of. The kind of notification wins over the state.
    ///
    /// # Errors
    /// All faults at once.
    fn judge(&self, document: Document<'_>) -> Result<Option<Judged>, Faults> {
        let mut faults = Faults::new();
        let state = self.state.as_deref().map(|state| (state, of_state(state)));
        let by_state = state.and_then(|(_, said)| said);
        let severity = by_state.and_then(|(_, level)| level);
        let kind = self.kind.as_deref().map(|kind| kind.trim().to_ascii_uppercase());
        let said = match kind.as_deref() {
            Some("ACKNOWLEDGEMENT") => Some(Some((Action::Acknowledge, severity))),
            Some("RECOVERY") => Some(Some((Action::Resolve, None))),
            Some("CUSTOM") => Some(None),
            Some(kind) if kind.starts_with("DOWNTIME") || kind.starts_with("FLAPPING") => Some(None),
            _ => None,
        };
        let mut required = |member: &str, of: &str| {
            let (path, before) = (member.split('.').collect::<Vec<_>>(), faults.len());
            if hooks::key_part_at(document, &path, &mut faults).is_none() && faults.len() == before {
                faults.push(format!("{member}: is required{of}"));
            }
        };
        required(self.host_member, "");
        if let Some(member) = self.service_member {
            required(member, " of a service");
        }
        let said = said.unwrap_or_else(|| {
            match state {
                None => faults.push(format!("{}: is required", self.state_member)),
                Some((_, None)) => faults.push(format!("{}: is no state that is known", self.state_member)),
                Some(_) => {}
            }
            by_state
        });
        let key = super::hooks::made_key(&self.name(), KeyKind::String, self.host_member, &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(said.map(|(action, severity)| self.judged(action, severity, key)))
    }

    fn judged(&self, action: Action, severity: Option<Severity>, key: Option<Key>) -> Judged {
        let severity = severity.filter(|_| action == Action::Trigger);
        Judged { key, severity, ..Judged::of(action) }
    }

    /// Reads the rest, unless it is only judged: `more` is what the tool says beside it.
    ///
    /// # Errors
    /// Those of [`Self::judge`].
    pub(super) fn tell(
        self,
        asked: &Asked<'_>,
        mut reading: Reading<'d>,
        each: &mut dyn FnMut(Decoded<'_>),
        more: impl FnOnce(&mut Reading<'d>, &Judged),
    ) -> Result<(), Faults> {
        let Some(judged) = self.judge(reading.document)? else { return Ok(()) };
        if asked.rules.judge_only {
            each(Reading::judged(judged));
            return Ok(());
        }
        self.content(&mut reading, &judged);
        more(&mut reading, &judged);
        each(reading.said(judged));
        Ok(())
    }

    fn content(&self, reading: &mut Reading<'d>, judged: &Judged) {
        let state = self.state.as_deref().map(|state| state.trim().to_ascii_uppercase());
        let state = state.or_else(|| self.kind.as_deref().map(|kind| kind.trim().to_ascii_uppercase()));
        reading.title(Some(format!("{} is {}", self.name(), state.unwrap_or_default()).into()));
        reading.description(self.output.clone());
        reading.status(self.kind.clone().or_else(|| self.state.clone()));
        reading.severity(judged.severity, self.state.clone());
        reading.content.source = reading.field("source", self.host.clone());
        reading.content.component = reading.field("component", self.service.clone());
    }
}

#[cfg(test)]
mod tests;
