//! A body taken apart (sections 2 and 3): each alert by itself and what is said of all, or the group as one event.

use std::fmt::Write;

use bytes::Bytes;

use super::{Form, legacy};
use crate::dialect::json::list::{List, Listed, list_in};
use crate::dialect::json::{Document, with_document};
use crate::dialect::{Asked, Faults, Most, Split, SplitError};
use crate::gate::GroupMode;

/// `alerts[]` in an object: an alert's own top is the body's third level.
const ALERT_LEVELS: usize = 2;

/// Takes a body apart as the integration's `group_mode` says.
///
/// # Errors
/// It is no JSON, no list of alerts, or larger than it may be.
pub(in crate::dialect) fn split(form: Form, asked: &Asked<'_>, body: &Bytes, most: Most) -> Result<Split, SplitError> {
    if form == Form::Grafana
        && let Some(split) = one_rule(asked, body)?
    {
        return Ok(split);
    }
    let listed = list_in(body, "alerts", most.elements).map_err(SplitError::Json)?;
    let Some(Listed { list, others }) = listed else {
        return Err(fault("body: must be a JSON object"));
    };
    let alerts = match list {
        List::Of(alerts) => alerts,
        List::TooMany => return Err(SplitError::TooMany),
        List::Other => return Err(fault("alerts: must be an array")),
        List::Absent => return Err(fault("alerts: is required")),
    };
    let left_out = others.iter().rev().find(|(name, _)| *name == "\"truncatedAlerts\"");
    let left_out = left_out.and_then(|(_, count)| count.parse().ok()).unwrap_or(0);
    let is_group = asked.rules.settings.is_some_and(|settings| settings.group_mode == GroupMode::Group);
    if !is_group {
        let envelope = object(&others);
        if envelope.len() > most.event_bytes {
            return Err(SplitError::EnvelopeTooLarge);
        }
        if alerts.is_empty() {
            // With an alert what is said of all is read, and judged, with that.
            with_document(body, |_| ()).map_err(SplitError::Json)?;
        }
        let elements = alerts.iter().map(|alert| body.slice_ref(alert.as_bytes())).collect();
        return Ok(Split { envelope: Some(envelope.into()), elements, levels: ALERT_LEVELS, left_out });
    }
    let elements = match alerts.as_slice() {
        // One event a request, also of a group without alerts (section 3).
        _ if body.len() <= most.event_bytes => vec![body.clone()],
        alerts => vec![as_far_as_it_fits(&others, alerts, most.event_bytes).into()],
    };
    Ok(Split { envelope: None, elements, levels: 0, left_out })
}

/// The body of a Grafana before version 9: one event, and what is wrong with it is wrong with the request.
fn one_rule(asked: &Asked<'_>, body: &Bytes) -> Result<Option<Split>, SplitError> {
    let may_be = [&b"ruleId"[..], b"evalMatches"].iter().any(|name| memchr::memmem::find(body, name).is_some());
    if !may_be {
        return Ok(None);
    }
    let judged = |document: Document<'_>| legacy::is_one(document).then(|| legacy::read(asked, document).map(drop));
    match with_document(body, judged).map_err(SplitError::Json)? {
        None => Ok(None),
        Some(Err(faults)) => Err(SplitError::Faults(faults)),
        Some(Ok(())) => Ok(Some(Split { envelope: None, elements: vec![body.clone()], levels: 0, left_out: 0 })),
    }
}

fn fault(text: &str) -> SplitError {
    SplitError::Faults(Faults::from([text.to_owned()]))
}

/// The members, as they were written.
fn object(members: &[(&str, &str)]) -> String {
    let length: usize = members.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    let mut text = String::with_capacity(length + 2);
    text.push('{');
    for (name, value) in members {
        let comma = if text.len() > 1 { "," } else { "" };
        // Writing to a text cannot fail.
        let _ = write!(text, "{comma}{name}:{value}");
    }
    text.push('}');
    text
}

/// A group that is larger than an event may be: what it says of all, and its first alerts. Where not even that fits it is
/// refused for its size, as any event.
fn as_far_as_it_fits(others: &[(&str, &str)], alerts: &[&str], bytes_max: usize) -> String {
    let mut text = object(others);
    text.pop();
    text += if others.is_empty() { "\"alerts\":[" } else { ",\"alerts\":[" };
    for (index, alert) in alerts.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        if text.len() + comma.len() + alert.len() + "]}".len() > bytes_max {
            break;
        }
        text += comma;
        text += alert;
    }
    text + "]}"
}
