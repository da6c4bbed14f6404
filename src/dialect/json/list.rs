//! A body that holds a list of events beside what it says of all of them, taken apart by its bytes: one pass that
//! builds nothing of the elements. Each is read by itself later, so what is wrong in one is told of that one.
//!
//! Called by dialects that take batches ([`super::super::Dialect::split`]).

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{JsonError, with_document};

/// A body taken apart.
#[derive(Debug)]
pub struct Listed<'b> {
    pub list: List<'b>,
    /// The members beside the list, each name and value as it was written; in order, repeated names included.
    pub others: Vec<(&'b str, &'b str)>,
}

/// What stands where the list belongs; of a repeated name the last.
#[derive(Debug, PartialEq, Eq)]
pub enum List<'b> {
    Absent,
    /// Something else than an array.
    Other,
    /// The elements' texts.
    Of(Vec<&'b str>),
    TooMany,
}

/// Takes apart an object whose member `name` is a list of at most `most` elements. `Ok(None)`: JSON, but no object.
///
/// What stands in the elements, and in the others' values, is looked at for its syntax alone: each has to be parsed yet.
///
/// # Errors
/// The body is not JSON.
pub fn list_in<'b>(body: &'b [u8], name: &str, most: usize) -> Result<Option<Listed<'b>>, JsonError> {
    let original = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let text = std::str::from_utf8(original).map_err(|_| JsonError::NotUtf8)?;
    if !text.trim_ascii_start().starts_with('{') {
        return with_document(body, |_| None);
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let taken = json.deserialize_map(Top { name, most }).and_then(|taken| json.end().map(|()| taken));
    let Taken { listed, repeated } = taken.map_err(|error| super::stopped(&error))?;
    if repeated {
        // A list that another one replaces is read by nobody else.
        with_document(body, |_| ())?;
    }
    Ok(Some(listed))
}

struct Taken<'b> {
    listed: Listed<'b>,
    repeated: bool,
}

struct Top<'n> {
    name: &'n str,
    most: usize,
}

impl Top<'_> {
    fn is_list(&self, name: &RawValue) -> bool {
        let quoted = name.get();
        match quoted.contains('\\') {
            false => quoted.get(1..quoted.len().saturating_sub(1)) == Some(self.name),
            true => serde_json::from_str::<String>(quoted).is_ok_and(|name| name == self.name),
        }
    }
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = Taken<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut listed = Listed { list: List::Absent, others: Vec::new() };
        let mut repeated = false;
        while let Some(name) = map.next_key::<&RawValue>()? {
            if self.is_list(name) {
                repeated |= listed.list != List::Absent;
                listed.list = map.next_value_seed(Elements { most: self.most })?;
            } else {
                listed.others.push((name.get(), map.next_value::<&RawValue>()?.get()));
            }
        }
        Ok(Taken { listed, repeated })
    }
}

#[derive(Clone, Copy)]
struct Elements {
    most: usize,
}

impl<'de> DeserializeSeed<'de> for Elements {
    type Value = List<'de>;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<Self::Value, D::Error> {
        value.deserialize_any(self)
    }
}

/// What is no array is told as such, whatever it is.
impl<'de> Visitor<'de> for Elements {
    type Value = List<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element::<&RawValue>()? {
            if elements.len() == self.most {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(List::TooMany);
            }
            elements.push(element.get());
        }
        Ok(List::Of(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(List::Other)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(List::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(List::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(List::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(List::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(List::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(List::Other)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(body: &str) -> Vec<&str> {
        match list_in(body.as_bytes(), "alerts", 100).unwrap().unwrap().list {
            List::Of(texts) => texts,
            list => panic!("{list:?}"),
        }
    }

    #[test]
    fn elements_and_members_are_the_senders_bytes() {
        let body = "\u{feff} {\"a\" : 1.50, \"alerts\":[ {\"x\":[1, 2]} ,\"s\",null,-0 ],\"\\u0061\":{}} ";
        assert_eq!(texts(body), ["{\"x\":[1, 2]}", "\"s\"", "null", "-0"]);
        let others = list_in(body.as_bytes(), "alerts", 100).unwrap().unwrap().others;
        assert_eq!(others, [("\"a\"", "1.50"), ("\"\\u0061\"", "{}")]);
    }

    #[test]
    fn of_repeated_lists_the_last_one_counts_however_its_name_is_escaped() {
        assert_eq!(texts(r#"{"alerts":[1],"alerts":[2,3]}"#), ["2", "3"]);
        assert_eq!(texts(r#"{"alerts":{},"\u0061lerts":[4]}"#), ["4"]);
        let list = |body: &'static str| list_in(body.as_bytes(), "alerts", 2).map(|listed| listed.map(|one| one.list));
        assert_eq!(list(r#"{"alerts":[1],"alerts":null}"#), Ok(Some(List::Other)));
        assert!(list(r#"{"alerts":["\ud800"],"alerts":[1]}"#).is_err(), "nobody else looks into the first");
    }

    #[test]
    fn what_is_no_list_is_told() {
        let list = |body: &'static str| list_in(body.as_bytes(), "alerts", 2).unwrap().unwrap().list;
        for body in [
            r#"{"alerts":null}"#,
            r#"{"alerts":{"a":{}}}"#,
            r#"{"alerts":1}"#,
            r#"{"alerts":-1}"#,
            r#"{"alerts":1.5}"#,
            r#"{"alerts":true}"#,
            r#"{"alerts":"x"}"#,
        ] {
            assert_eq!(list(body), List::Other, "{body}");
        }
        assert_eq!(list(r#"{"alerts":[1,2]}"#), List::Of(vec!["1", "2"]));
        assert_eq!(list(r#"{"alerts":[1,2,3]}"#), List::TooMany);
        assert_eq!(list_in(b"{}", "alerts", 2).unwrap().unwrap().list, List::Absent);
        assert!(list_in(b"[]", "alerts", 2).unwrap().is_none());
        assert!(list_in(b" 5 ", "alerts", 2).unwrap().is_none());
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for body in [&b""[..], b" ", b"{", b"{\"alerts\":[1,]}", b"{\"alerts\":[1]}x", b"{\"a\":\"\xFF\"}", b"alert: x"]
        {
            assert!(list_in(body, "alerts", 9).is_err(), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn the_parts_are_those_that_a_parser_sees(
            elements in prop::collection::vec("[0-9]{1,3}|\"[a-z,\\[\\]{}]{0,6}\"|\\{\"a\":\\[[0-9]{0,2}\\]\\}|null", 0..8),
            others in prop::collection::vec(("[b-e]{1,2}", "[0-9]|\"\\\\\"x\"|\\[\\]"), 0..4),
        ) {
            let members: Vec<String> = others.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
            let mut all = members.clone();
            all.insert(members.len() / 2, format!("\"alerts\" :[ {} ]", elements.join(" , ")));
            let body = format!("{{{}}}", all.join(","));
            let theirs: Result<serde_json::Value, _> = serde_json::from_str(&body);
            let ours = list_in(body.as_bytes(), "alerts", 100);
            prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{}", body);
            if let (Ok(Some(ours)), Ok(theirs)) = (ours, theirs) {
                let List::Of(texts) = ours.list else { panic!("{body}") };
                let read: Vec<serde_json::Value> = texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
                prop_assert_eq!(serde_json::Value::from(read), theirs["alerts"].clone());
                prop_assert_eq!(ours.others.len(), others.len());
            }
        }
    }
}
