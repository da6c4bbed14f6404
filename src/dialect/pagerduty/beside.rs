//! What stands beside the payload: links, images, the client; and every member without a home
//! (contracts/pagerduty.md 2, 3, 6).

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::Api;
use super::reading::Reading;
use crate::dialect::Extra;
use crate::dialect::json::{Kind, Value, clean};
use crate::event::{Action, HREF_BYTES_MAX, Image, LINKS_MAX, Link, Rel, is_blank};

impl<'d> Reading<'d> {
    pub(super) fn beside(&mut self, api: Api, action: Action) {
        let says_more = matches!(action, Action::Trigger | Action::Change);
        let mut homes: Vec<&str> = vec!["routing_key", "service_key", api.members().0, api.members().1];
        if says_more {
            homes.extend(if api == Api::V1 { ["description", "details"].as_slice() } else { &["payload"] });
            self.client(&mut homes);
            if api == Api::V1 {
                self.contexts(&mut homes);
            } else {
                self.links(&mut homes);
                self.images(&mut homes);
            }
        }
        // Alertmanager's v1 messages have them, empty (section 3).
        let is_nothing = |name: &str, value: &Value<'_>| {
            value.is_null() || name == "event_action" && matches!(value.kind(), Kind::String(""))
        };
        let last: HashMap<&str, Value<'d>> = self.document.root.members().collect();
        let mut seen = HashSet::new();
        for (name, _) in self.document.root.members() {
            let is_new = !homes.contains(&name) && seen.insert(name);
            if is_new && last.get(name).is_some_and(|value| !is_nothing(name, value)) {
                self.extra.push(Extra::Member(Cow::Borrowed(name)));
            }
        }
    }

    /// First of all links: it must find room.
    fn client(&mut self, homes: &mut Vec<&str>) {
        let Some(url) = self.member("client_url").and_then(text_of).and_then(|url| self.fits(url, "client_url")) else {
            return;
        };
        homes.push("client_url");
        let text = self.member("client").and_then(text_of);
        if text.is_some() {
            homes.push("client");
        }
        self.content.links.push(Link { href: url, text, rel: Some(Rel::Client) });
    }

    fn links(&mut self, homes: &mut Vec<&str>) {
        for link in self.list("links", homes) {
            self.link(link, "links");
        }
    }

    fn images(&mut self, homes: &mut Vec<&str>) {
        for image in self.list("images", homes) {
            self.image(image, "images");
        }
    }

    /// v1's links and images in one list.
    fn contexts(&mut self, homes: &mut Vec<&str>) {
        for context in self.list("contexts", homes) {
            match context.member("type").map(Value::kind) {
                Some(Kind::String("link")) => self.link(context, "contexts"),
                Some(Kind::String("image")) => self.image(context, "contexts"),
                _ => self.content.warn("link_dropped", "contexts"),
            }
        }
    }

    /// The elements of a list; what is no list has no home.
    fn list(&mut self, name: &'static str, homes: &mut Vec<&str>) -> impl Iterator<Item = Value<'d>> + use<'d> {
        let value = self.member(name).filter(|value| matches!(value.kind(), Kind::Array));
        match value {
            Some(_) => homes.push(name),
            None if self.member(name).is_some() => self.content.warn("member_ignored", name),
            None => {}
        }
        value.into_iter().flat_map(Value::elements)
    }

    fn link(&mut self, link: Value<'d>, list: &'static str) {
        // What leads nowhere is no link to the vendor either, but it may say so.
        let Some(href) = link.member("href").and_then(text_of) else {
            return self.content.warn("link_dropped", list);
        };
        match self.fits(href, list) {
            Some(href) if self.content.links.len() < LINKS_MAX => {
                let text = link.member("text").and_then(text_of);
                self.content.links.push(Link { href, text, rel: None });
            }
            _ => self.content.cut("link_dropped", list),
        }
    }

    fn image(&mut self, image: Value<'d>, list: &'static str) {
        let Some(src) = image.member("src").and_then(text_of) else {
            return self.content.warn("image_dropped", list);
        };
        match self.fits(src, list) {
            Some(src) if self.content.images.len() < LINKS_MAX => {
                let href = image.member("href").and_then(text_of).and_then(|href| self.fits(href, list));
                let alt = image.member("alt").and_then(text_of);
                self.content.images.push(Image { src, href, alt });
            }
            _ => self.content.cut("image_dropped", list),
        }
    }

    fn fits(&mut self, href: Cow<'d, str>, member: &'static str) -> Option<Cow<'d, str>> {
        if href.len() > HREF_BYTES_MAX {
            self.content.cut("href_too_long", member);
            return None;
        }
        Some(href)
    }
}

fn text_of(value: Value<'_>) -> Option<Cow<'_, str>> {
    match value.kind() {
        Kind::String(text) if !is_blank(text) => Some(clean(text)),
        _ => None,
    }
}
