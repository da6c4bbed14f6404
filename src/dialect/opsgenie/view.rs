//! What reads show of an alert beside its state: kept in its last record, told again by every write (contracts 3.3).
//! A statement says under `op` how it is to be taken up; the rest of its members are those of the view.

use serde_json::{Map, Value};

use crate::dialect::{VIEW_BYTES_MAX, View};

/// What a statement's members do to the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// A new alert; nothing while it is open (contracts/opsgenie.md 5).
    Create,
    /// Members are replaced, `null` takes one away.
    Set,
    /// Lists grow by what they do not hold, objects are merged.
    Add,
}

const OP: &str = "op";
/// Most entries of a list or of `details`; the vendor takes fewer.
const ENTRIES_MAX: usize = 100;

impl Op {
    const ALL: [(Self, &str); 3] = [(Self::Create, "create"), (Self::Set, "set"), (Self::Add, "add")];

    /// A statement that so far says no more than this.
    pub(super) fn begin(self) -> View {
        let word = Self::ALL.into_iter().find(|(op, _)| *op == self).map_or("", |(_, word)| word);
        Map::from_iter([(OP.to_owned(), word.into())])
    }
}

/// What a statement makes of the view before it.
pub(super) fn fold(before: View, mut said: View) -> View {
    let word = said.remove(OP);
    let op = Op::ALL.into_iter().find(|(_, word_of)| word.as_ref().is_some_and(|word| word == word_of));
    let mut after = before;
    match op.map(|(op, _)| op) {
        Some(Op::Create) if after.is_empty() => after = said,
        Some(Op::Create) | None => {}
        Some(Op::Set) => {
            for (name, value) in said {
                if value.is_null() {
                    after.remove(&name);
                } else {
                    after.insert(name, value);
                }
            }
        }
        Some(Op::Add) => said.into_iter().for_each(|(name, value)| add(&mut after, name, value)),
    }
    bounded(after)
}

fn add(view: &mut View, name: String, said: Value) {
    match (view.get_mut(&name), said) {
        (Some(Value::Array(known)), Value::Array(more)) => {
            for entry in more {
                if known.len() < ENTRIES_MAX && !known.contains(&entry) {
                    known.push(entry);
                }
            }
        }
        (Some(Value::Object(known)), Value::Object(more)) => {
            for (name, value) in more {
                if known.len() < ENTRIES_MAX || known.contains_key(&name) {
                    known.insert(name, value);
                }
            }
        }
        (_, said) => {
            view.insert(name, said);
        }
    }
}

/// Cuts what is longest until a record can hold it.
fn bounded(mut view: View) -> View {
    if weight(&view) <= VIEW_BYTES_MAX {
        return view;
    }
    for name in ["actions", "responders", "visibleTo", "description", "details", "tags"] {
        let over = serde_json::to_vec(&view).unwrap_or_default().len().saturating_sub(VIEW_BYTES_MAX);
        if over == 0 {
            break;
        }
        match view.get_mut(name) {
            Some(Value::String(text)) => {
                let bytes: usize = text.chars().map(escaped_bytes).sum();
                let mut room = bytes.saturating_sub(over);
                let fits = |(_, character): &(usize, char)| {
                    let bytes = escaped_bytes(*character);
                    let fits = bytes <= room;
                    room = room.saturating_sub(bytes);
                    fits
                };
                let kept = text.char_indices().take_while(fits).map(|(at, character)| at + character.len_utf8()).last();
                text.truncate(kept.unwrap_or(0));
            }
            Some(Value::Array(list)) => list.clear(),
            Some(Value::Object(members)) => members.clear(),
            _ => {}
        }
    }
    view
}

/// Bytes a character takes inside a JSON text.
fn escaped_bytes(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        other => other.len_utf8(),
    }
}

/// At least as many bytes as the members take as JSON.
fn weight(members: &Map<String, Value>) -> usize {
    // An escape makes six bytes of one.
    fn text(text: &str) -> usize {
        6 * text.len() + 4
    }
    fn of(value: &Value) -> usize {
        match value {
            Value::String(said) => text(said),
            Value::Array(list) => list.iter().map(of).sum::<usize>() + list.len() + 2,
            Value::Object(members) => weight(members),
            _ => 32,
        }
    }
    members.iter().map(|(name, value)| text(name) + of(value)).sum::<usize>() + 2
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn view(value: Value) -> View {
        value.as_object().unwrap().clone()
    }

    fn said(op: Op, members: Value) -> View {
        let mut said = op.begin();
        said.extend(view(members));
        said
    }

    #[test]
    fn a_create_of_an_open_alert_shows_nothing_new_and_updates_do() {
        let first = fold(View::new(), said(Op::Create, json!({"message": "m", "tags": ["a"]})));
        assert_eq!(first, view(json!({"message": "m", "tags": ["a"]})));
        let again = fold(first.clone(), said(Op::Create, json!({"message": "other"})));
        assert_eq!(again, first);
        let tagged = fold(again, said(Op::Add, json!({"tags": ["b", "a"], "details": {"x": "1"}})));
        assert_eq!(tagged, view(json!({"message": "m", "tags": ["a", "b"], "details": {"x": "1"}})));
        let detailed = fold(tagged, said(Op::Add, json!({"details": {"y": "2", "x": "3"}})));
        assert_eq!(detailed["details"], json!({"x": "3", "y": "2"}));
        let set = fold(detailed, said(Op::Set, json!({"message": "n", "details": null})));
        assert_eq!(set, view(json!({"message": "n", "tags": ["a", "b"]})));
    }

    #[test]
    fn a_view_stays_within_its_record_however_it_grows() {
        let mut now =
            fold(View::new(), said(Op::Create, json!({"message": "m", "description": "\u{1}".repeat(9_000)})));
        let size = |view: &View| serde_json::to_vec(view).unwrap().len();
        assert!(size(&now) <= VIEW_BYTES_MAX, "{}", size(&now));
        assert!(!now["description"].as_str().unwrap().is_empty());
        for step in 0..200 {
            now = fold(now, said(Op::Add, json!({"details": {format!("{step}"): "ü".repeat(2_000)}})));
            assert!(size(&now) <= VIEW_BYTES_MAX, "{}", size(&now));
        }
        assert_eq!(now["message"], "m");
        for step in 0..200 {
            now = fold(now, said(Op::Add, json!({"tags": [format!("{step}")]})));
        }
        assert_eq!(now["tags"].as_array().unwrap().len(), ENTRIES_MAX);
    }
}
