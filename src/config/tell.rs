//! What a value may be, told to people: in the schema and in the reference.

use std::time::Duration;

use super::keys::Shape;
use super::units::{show_duration, show_size};
use crate::dialect;

/// What a value may be, e.g. `duration, 1ms to 1h`; nothing for a section.
pub(super) fn shape(shape: &Shape) -> String {
    let time = |millis: u64| show_duration(Duration::from_millis(millis));
    match *shape {
        Shape::Section => String::new(),
        Shape::Sections(least, most) => format!("list of {least} to {most} mappings"),
        Shape::Switch => "true or false".to_owned(),
        Shape::Count(least, most) => format!("whole number, {least} to {most}"),
        Shape::Rate(least, most) => format!("number, {} to {}", thousandths(least), thousandths(most)),
        Shape::Size(least, most) => format!("size, {} to {}", show_size(least), show_size(most)),
        Shape::Duration(least, most) => format!("duration, {} to {}", time(least), time(most)),
        Shape::Choice([word]) => format!("`{word}`"),
        Shape::Choice(words) => format!("one of {}", listed(words)),
        Shape::Dialects => format!("list of {}", listed(&dialect::names().collect::<Vec<_>>())),
        Shape::Address => "IP address and port".to_owned(),
        Shape::Name => "1 to 64 of a-z, 0-9 and -, not beginning with -".to_owned(),
        Shape::Names => "list of names".to_owned(),
        Shape::Networks => "list of networks".to_owned(),
        Shape::Url => "URL".to_owned(),
        Shape::Secret => "text, secret".to_owned(),
        Shape::Digest => "64 hex digits".to_owned(),
        Shape::File => "path".to_owned(),
        Shape::Text => "text".to_owned(),
        Shape::Texts => "list of texts".to_owned(),
        Shape::Links => "URL or list of URLs".to_owned(),
        Shape::Pointers => "list of JSON pointers".to_owned(),
    }
}

fn thousandths(number: u64) -> String {
    let text = format!("{}.{:03}", number / 1000, number % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn listed(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
