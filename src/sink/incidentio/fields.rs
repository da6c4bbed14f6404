//! Custom fields: tags that the configuration maps to them, and those that senders of the vendor's own dialects wrote.

use std::borrow::Cow;

use crate::sink::container::object;
use crate::sink::text::quoted;
use crate::sink::verbatim::Body;
use crate::sink::{Ask, Field, FieldValue};

const ENTRIES: &str = "custom_field_entries";

/// The tags that have a field, and the list of entries as JSON; `None` where there is none.
pub(super) fn of<'a>(ask: &Ask<'a>) -> (Vec<&'a str>, Option<String>) {
    let mut mapped = Vec::new();
    let mut entries: Vec<String> = Vec::new();
    if let Some((_, own)) = ask.said.extra.iter().find(|(name, _)| name == ENTRIES) {
        let own = as_the_vendor_reads(ENTRIES, own.get());
        let inner = own.trim().trim_start_matches('[').trim_end_matches(']').trim().to_owned();
        entries.extend(Some(inner).filter(|inner| !inner.is_empty()));
    }
    for Field { tag, custom_field_id, value } in &ask.upstream.vendor.field_map {
        let said = ask.said.content.tags.iter().find(|(name, _)| **name == **tag);
        let Some((name, said)) = said.filter(|(_, said)| fits(*value, &said.value)) else { continue };
        mapped.push(&**name);
        let value = object([(value.member(), quoted(&said.value))].into_iter());
        let members = [("custom_field_id", quoted(custom_field_id)), ("values", format!("[{value}]"))];
        entries.push(object(members.into_iter()));
    }
    let list = (!entries.is_empty()).then(|| format!("[{}]", entries.join(",")));
    (mapped, list)
}

/// The vendor refuses a number field that is none, and with it the incident.
fn fits(value: FieldValue, text: &str) -> bool {
    !text.is_empty() && (value != FieldValue::Numeric || text.parse::<serde_json::Number>().is_ok())
}

/// A member as the vendor wants it: numbers of custom fields as texts, in the sender's own digits.
pub(super) fn as_the_vendor_reads(name: &str, json: &str) -> String {
    if name != ENTRIES {
        return json.to_owned();
    }
    each(json, |member, json| match member {
        "values" => each(json, |member, json| match member {
            "value_numeric" if !json.starts_with('"') && json != "null" => quoted(json),
            _ => json.to_owned(),
        }),
        _ => json.to_owned(),
    })
}

/// A list of objects with each member changed; what is none, or says a name twice, stays as it is.
fn each(json: &str, change: impl Fn(&str, &str) -> String) -> String {
    let Ok(list) = serde_json::from_str::<Vec<&serde_json::value::RawValue>>(json) else { return json.to_owned() };
    let elements = list.into_iter().map(|element| {
        let Some(body) = Body::read(element.get().as_bytes()) else { return element.get().to_owned() };
        let members: Vec<(Cow<'static, str>, String)> = body.into_members().collect();
        object(members.iter().map(|(name, json)| (&**name, change(name, json))))
    });
    format!("[{}]", elements.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_custom_fields_become_texts_in_their_own_digits() {
        let json =
            r#"[{"custom_field_id":"a","values":[{"value_numeric":123.4500},{"value_numeric":"7"},{"id":"x"}]}, 7]"#;
        let read =
            r#"[{"custom_field_id":"a","values":[{"value_numeric":"123.4500"},{"value_numeric":"7"},{"id":"x"}]},7]"#;
        assert_eq!(as_the_vendor_reads(ENTRIES, json), read);
        assert_eq!(as_the_vendor_reads("other", json), json);
    }
}
