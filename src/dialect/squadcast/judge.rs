//! What deciding needs of the usual event, in one look over its body. Held to the full reading by a property test.

use super::{TEXT_BYTES_USUAL, V2};
use crate::dialect::json::glance;
use crate::dialect::{Judged, Rules};
use crate::event::{Action, KEY_BYTES_MAX, Key, KeyKind, TAGS_MAX};
use crate::vendor;

/// The members as far as they were seen. One that is repeated is for the full reading, as any that is not named here.
#[derive(Default)]
struct Seen<'d> {
    message: Option<&'d [u8]>,
    description: Option<&'d [u8]>,
    status: Option<&'d [u8]>,
    event_id: Option<&'d [u8]>,
    tags: bool,
    severity: Option<&'d [u8]>,
    priority: Option<&'d [u8]>,
}

pub(super) fn judge(endpoint: &str, body: &[u8], rules: Rules<'_>) -> Option<Judged> {
    if endpoint != V2 {
        return None;
    }
    let mut seen = Seen::default();
    glance::members(body, |name, value| {
        let slot = match name {
            b"message" => &mut seen.message,
            b"description" => &mut seen.description,
            b"status" => &mut seen.status,
            b"event_id" => &mut seen.event_id,
            b"tags" if !seen.tags => {
                seen.tags = true;
                return tags(value, &mut seen.severity, &mut seen.priority);
            }
            _ => return None,
        };
        slot.replace(value.text()?).is_none().then_some(())
    })?;
    let action = match seen.status {
        None | Some(b"trigger") => Action::Trigger,
        Some(b"resolve") => Action::Resolve,
        Some(_) => return None,
    };
    let is_whole = seen.message.is_some_and(|text| text.first().is_some_and(u8::is_ascii_graphic))
        && (seen.description.is_some() || !rules.require_description);
    if !is_whole && action == Action::Trigger {
        return None;
    }
    let key = match seen.event_id {
        None if action == Action::Trigger => None,
        id => {
            let id = id.filter(|id| id.len() <= KEY_BYTES_MAX && id.first().is_some_and(u8::is_ascii_graphic))?;
            Some(Key::parse(std::str::from_utf8(id).ok()?, KeyKind::String)?)
        }
    };
    let severity = seen.priority.and_then(|word| vendor::severity_of_priority(std::str::from_utf8(word).ok()?));
    let severity = severity.or_else(|| vendor::severity_of_word(std::str::from_utf8(seen.severity?).ok()?));
    Some(Judged { key, severity, ..Judged::of(action) })
}

/// The two tags that judging needs, where they are plain strings and no other tag could crowd them out.
fn tags<'d>(value: glance::At<'_, 'd>, severity: &mut Option<&'d [u8]>, priority: &mut Option<&'d [u8]>) -> Option<()> {
    let mut count = 0_usize;
    value.members(|name, value| {
        count = count.wrapping_add(1);
        // Longer words are cut, or no levels.
        let is_short = |text: &&[u8]| text.len() <= TEXT_BYTES_USUAL;
        let slot = match name {
            b"severity" => &mut *severity,
            _ if name.eq_ignore_ascii_case(b"severity") => &mut *severity,
            _ if name.eq_ignore_ascii_case(b"priority") => &mut *priority,
            _ => return value.pass(),
        };
        slot.replace(value.text().filter(is_short)?).is_none().then_some(())
    })?;
    (count <= TAGS_MAX).then_some(())
}
