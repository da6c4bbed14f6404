//! An event as people may see it: what it says, without the body it came in and with its key masked wherever it stands.
//! For the admin API; nothing is sent so.

use serde_json::Value;

use super::{Said, webhook};
use crate::event::Key;
use crate::store::Stored;

/// Shorter keys stand in too many words to be looked for inside them.
const KEY_CHARS_INSIDE_MIN: usize = 4;

/// The normalized event (INTERFACE 5) for people; `None` where it cannot be said.
pub fn masked(stored: &Stored, said: &Said<'_>) -> Option<Value> {
    let encoded = webhook::normalized(stored, said).ok()?;
    let mut event: Value = serde_json::from_slice(&encoded.call.body).ok()?;
    let members = event.as_object_mut()?;
    members.shift_remove("raw");
    members.shift_remove("raw_base64");
    members.insert("outcome".to_owned(), stored.outcome.name().into());
    if let Some(key) = &stored.event.key {
        for (name, value) in members.iter_mut().filter(|(name, _)| !OURS.contains(&name.as_str())) {
            if name == "key" { *value = key.masked().into() } else { mask(value, key) }
        }
    }
    Some(event)
}

/// Members that no sender fills.
const OURS: [&str; 9] =
    ["schema", "event_uid", "received_at", "integration", "dialect", "endpoint", "action", "incident", "outcome"];

fn mask(value: &mut Value, key: &Key) {
    match value {
        Value::String(text) => *text = masked_text(text, key),
        Value::Array(items) => items.iter_mut().for_each(|item| mask(item, key)),
        Value::Object(members) => {
            let own = std::mem::take(members).into_iter();
            members.extend(own.map(|(name, mut value)| {
                mask(&mut value, key);
                (masked_text(&name, key), value)
            }));
        }
        Value::Number(number) if number.to_string() == key.canon() => *value = key.masked().into(),
        _ => {}
    }
}

/// A text of others about an event, its key masked.
pub fn masked_text(text: &str, key: &Key) -> String {
    if text == key.canon() || key.canon().chars().count() >= KEY_CHARS_INSIDE_MIN {
        text.replace(key.canon(), &key.masked())
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::KeyKind;
    use serde_json::json;

    fn masked_with(key: &str, mut value: Value) -> Value {
        mask(&mut value, &Key::parse(key, KeyKind::String).unwrap());
        value
    }

    #[test]
    fn a_key_is_masked_wherever_it_stands() {
        let said = json!({"title": "on disk-db-7!", "tags": {"disk-db-7": ["x disk-db-7"]}, "n": 7, "m": null});
        let shown = json!({"title": "on di***-7!", "tags": {"di***-7": ["x di***-7"]}, "n": 7, "m": null});
        assert_eq!(masked_with("disk-db-7", said), shown);
        assert_eq!(masked_with("20261121", json!([20_261_121, 2026])), json!(["20***21", 2026]));
        assert_eq!(masked_with("db", json!(["db", "a db"])), json!(["***", "a db"]), "a short one stands in any word");
    }
}
