//! The keys of `integrations` for senders that choose their URL: SNS and CloudWatch, and the generic webhook's mapping
//! (contracts/others.md 3 and 9).

use std::sync::Arc;

use crate::config::reader::Section;
use crate::config::report::{Wrong, quote};
use crate::gate::{AlarmLevel, Fields, Mapping, SnsSettings};

/// Longest pointer, in bytes.
const POINTER_BYTES_MAX: usize = 256;

pub(super) fn sns(section: &Section) -> SnsSettings {
    let topics: Vec<Arc<str>> = section.texts("topics").into_iter().map(Arc::from).collect();
    let auto_confirm = section.switch("auto_confirm");
    if auto_confirm && topics.is_empty() && !section.is_broken() {
        let wrong = Wrong::value("no topics to confirm").code("missing");
        section.error("auto_confirm", wrong.hint("add topics: the ARNs of those that may subscribe"));
    }
    let level = |entry: &Section<'_>| {
        let (topic, alarm) = (entry.text("topic").map(Arc::from), entry.text("alarm").map(Arc::from));
        let severity = super::level(entry, "severity")?;
        if topic.is_none() && alarm.is_none() && !entry.is_broken() {
            let wrong = Wrong::value("fits every alarm").code("missing");
            entry.error_here(wrong.hint("write topic, alarm or both; default_severity is for all"));
        }
        Some(AlarmLevel { topic, alarm, severity })
    };
    SnsSettings {
        verify: section.switch("verify"),
        auto_confirm,
        topics,
        insufficient_data_triggers: section.choice("insufficient_data") == Some("trigger"),
        levels: entries(section, "severities").iter().filter_map(level).collect(),
    }
}

pub(super) fn mapping(section: &Section) -> Mapping {
    let pointers = |name: &str| {
        let written = section.texts(name);
        for pointer in &written {
            let is_one = pointer.starts_with('/') && pointer.len() <= POINTER_BYTES_MAX && escapes_are_whole(pointer);
            if !is_one {
                let wrong = Wrong::value(format!("no JSON pointer: {}", quote(pointer)));
                section.error(name, wrong.hint("like /alert/title; ~1 stands for / in a name, ~0 for ~"));
            }
        }
        written
    };
    // Each key is looked at, for its errors.
    let action = |entry: &Section<'_>| {
        let (word, action) = (entry.text("word"), entry.choice("action"));
        Some((word?, action?.to_owned()))
    };
    let severity = |entry: &Section<'_>| {
        let (word, severity) = (entry.text("word"), super::level(entry, "severity"));
        Some((word?, severity?.level()))
    };
    let fields = Fields {
        title: pointers("title"),
        description: pointers("description"),
        action: pointers("action"),
        key: pointers("key"),
        severity: pointers("severity"),
        source: pointers("source"),
        component: pointers("component"),
        group: pointers("group"),
        class: pointers("class"),
        service: pointers("service"),
        link: pointers("link"),
        tags: pointers("tags"),
        started_at: pointers("started_at"),
        actions: entries(section, "actions").iter().filter_map(action).collect(),
        severities: entries(section, "severities").iter().filter_map(severity).collect(),
        default_title: section.text("default_title"),
        default_action: section.choice("default_action").map(str::to_owned),
    };
    Mapping::new(fields)
}

fn escapes_are_whole(pointer: &str) -> bool {
    pointer.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']))
}

/// The entries of a list that may be absent.
fn entries<'t>(section: &Section<'t>, key: &str) -> Vec<Section<'t>> {
    if section.has(key) { section.sections(key) } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use crate::config::load_text;

    /// What is wrong with an integration that has these sections; nothing when it loads.
    fn wrong(sections: &str) -> String {
        let text = format!(
            "integrations: [{{ name: a, keys: [{{ key: '{}' }}], upstreams: [out], {sections} }}]\n\
             upstreams: [{{ name: out, kind: stdout }}]\n",
            "0".repeat(40)
        );
        load_text("surgegate.yaml", &text, &|_| None).err().map(|errors| errors.to_string()).unwrap_or_default()
    }

    #[test]
    fn subscriptions_are_confirmed_of_named_topics_alone() {
        assert_eq!(wrong("sns: { auto_confirm: true, topics: ['arn:aws:sns:eu-west-1:1:alarms'] }"), "");
        assert_eq!(wrong("sns: { verify: true, insufficient_data: trigger }"), "");
        assert_eq!(wrong("sns: { severities: [{ alarm: 'db-*', severity: 5 }] }"), "");
        assert!(wrong("sns: { auto_confirm: true }").contains("no topics to confirm"));
        assert!(wrong("sns: { severities: [{ severity: 5 }] }").contains("fits every alarm"));
        assert!(wrong("sns: { severities: [{ alarm: x, severity: 6 }] }").contains("out of bounds"));
    }

    #[test]
    fn a_mapping_is_made_of_pointers_and_words() {
        let good = "generic: { title: [/a/b, /c~1d], action: [/s], actions: [{ word: up, action: resolve }], \
                    severities: [{ word: bad, severity: 5 }], default_action: trigger, default_title: alert }";
        assert_eq!(wrong(good), "");
        for pointer in ["a", "''", "/a~2", "/a~"] {
            let wrong = wrong(&format!("generic: {{ title: [{pointer}] }}"));
            assert!(wrong.contains("no JSON pointer") || wrong.contains("empty"), "{pointer}: {wrong}");
        }
        assert!(wrong("generic: { actions: [{ word: x, action: explode }] }").contains("not one of the known words"));
    }
}
