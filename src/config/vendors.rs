//! The keys of `upstreams` that only some kinds have a use for, what each kind cannot do without, and the vendors' own
//! addresses (INTERFACE 3, contracts 7).

use std::sync::Arc;

use super::reader::Section;
use super::report::Wrong;
use crate::event::Visibility;
use crate::sink::{Field, FieldValue, IncidentApi, Kind, PathStyle, Responder, Runbooks, VendorConfig};

use Kind::{
    Alertmanager, CloudEvents, IncidentIo, IncidentIoAlert, Opsgenie, PagerDuty, Squadcast, Stdout, TaskCall, Webhook,
};

/// Which kinds have a use for a key; those not named are for all.
pub(super) const KEYS: &[(&str, &[Kind])] = &[
    ("batch", &[Webhook]),
    ("api", &[IncidentIo]),
    ("visibility", &[IncidentIo]),
    ("default_severity_id", &[IncidentIo]),
    ("severity_map", &[IncidentIo]),
    ("closed_status_id", &[IncidentIo]),
    ("incident_type_id", &[IncidentIo]),
    ("field_map", &[IncidentIo]),
    ("region", &[TaskCall, Opsgenie, PagerDuty]),
    ("service_ref_id", &[TaskCall]),
    ("policy_ref_id", &[TaskCall]),
    ("users", &[TaskCall]),
    ("path_style", &[TaskCall]),
    ("amend_both", &[TaskCall]),
    ("runbooks", &[TaskCall]),
    ("source_config_id", &[IncidentIoAlert]),
    ("responders", &[Opsgenie]),
    ("source", &[PagerDuty, CloudEvents]),
    ("type_prefix", &[CloudEvents]),
];

/// At least one of these keys must stand there.
pub(super) struct Need {
    pub(super) one_of: &'static [&'static str],
    pub(super) hint: &'static str,
}

impl Need {
    /// One value, and no secret in the file.
    pub(super) fn plainest(&self) -> &'static str {
        let plain = |key: &&&str| matches!(**key, "credential_file" | "default_severity_id");
        self.one_of.iter().find(plain).or(self.one_of.first()).copied().unwrap_or_default()
    }
}

const CREDENTIAL: &[&str] = &["credential", "credential_file"];

/// What a kind cannot work without.
pub(super) const fn needs(kind: Kind) -> &'static [Need] {
    match kind {
        Stdout => &[],
        Webhook => &[Need { one_of: &["url"], hint: "the address events are sent to" }],
        Squadcast => &[Need {
            one_of: &["url"],
            hint: "the vendor has no address that fits all: copy that of your region and write the key as `credential`, or \
                   copy the whole URL with the key in it",
        }],
        Alertmanager => {
            &[Need { one_of: &["url"], hint: "the receiver's address: it gets Alertmanager's webhook, version 4" }]
        }
        CloudEvents => {
            &[Need { one_of: &["url"], hint: "the receiver's address: it gets CloudEvents in structured mode" }]
        }
        IncidentIo => &[
            Need { one_of: CREDENTIAL, hint: "an API key that may create incidents" },
            Need {
                one_of: &["visibility"],
                hint: "public or private: who may see incidents whose event does not say it; nothing is made public by itself",
            },
            Need {
                one_of: &["severity_map", "default_severity_id"],
                hint: "incident.io wants a severity: map levels to its ids, or name one for all",
            },
        ],
        IncidentIoAlert => &[
            Need { one_of: CREDENTIAL, hint: "the secret of the alert source" },
            Need { one_of: &["source_config_id"], hint: "the id of the alert source, from its URL" },
        ],
        TaskCall => &[
            Need { one_of: CREDENTIAL, hint: "an API key of the organization" },
            Need { one_of: &["region", "url"], hint: "eu or us, where the organization's data is" },
            Need {
                one_of: &["service_ref_id", "policy_ref_id", "users"],
                hint: "TaskCall takes no incident without one of them: whom incidents are for whose event does not say it",
            },
        ],
        PagerDuty => &[Need { one_of: CREDENTIAL, hint: "the routing key of an Events API v2 integration" }],
        Opsgenie => &[
            Need { one_of: CREDENTIAL, hint: "the key of an API integration" },
            Need { one_of: &["region", "url"], hint: "eu or us, where the account's data is" },
        ],
    }
}

/// Where the vendor is reached unless the configuration says otherwise.
fn home(kind: Kind, region: Option<&str>) -> Option<&'static str> {
    match (kind, region) {
        (IncidentIo | IncidentIoAlert, _) => Some("https://api.incident.io"),
        (TaskCall, Some("eu")) => Some("https://incidents-api.taskcallapp.com"),
        (TaskCall, Some(_)) => Some("https://incidents-api.us.taskcallapp.com"),
        (PagerDuty, Some("eu")) => Some("https://events.eu.pagerduty.com"),
        (PagerDuty, _) => Some("https://events.pagerduty.com"),
        (Opsgenie, Some("eu")) => Some("https://api.eu.opsgenie.com"),
        (Opsgenie, Some(_)) => Some("https://api.opsgenie.com"),
        _ => None,
    }
}

/// What stands there, whatever the kind.
#[derive(Default)]
pub(super) struct Written {
    region: Option<&'static str>,
    vendor: VendorConfig,
}

/// Reads all of it, for its errors too.
pub(super) fn read(section: &Section) -> Written {
    // A configuration may have ten thousand upstreams, and most have none of these keys.
    if !KEYS.iter().any(|(key, _)| section.has(key)) {
        return Written::default();
    }
    let id = |key: &str| section.text(key).map(Arc::from);
    let ids = |key: &str| section.texts(key).into_iter().map(Arc::from).collect();
    let map = section.section("severity_map");
    let vendor = VendorConfig {
        api: if section.choice("api") == Some("v1") { IncidentApi::V1 } else { IncidentApi::V2 },
        visibility: match section.choice("visibility") {
            Some("public") => Some(Visibility::Public),
            Some("private") => Some(Visibility::Private),
            _ => None,
        },
        default_severity_id: id("default_severity_id"),
        severity_map: ["1", "2", "3", "4", "5"].map(|level| map.text(level).map(Arc::from)),
        closed_status_id: id("closed_status_id"),
        incident_type_id: id("incident_type_id"),
        field_map: fields(section),
        service_ref_id: id("service_ref_id"),
        policy_ref_id: ids("policy_ref_id"),
        users: ids("users"),
        path_style: if section.choice("path_style") == Some("incidents") {
            PathStyle::Incidents
        } else {
            PathStyle::Root
        },
        amend_both: section.switch("amend_both"),
        runbooks: match section.choice("runbooks") {
            Some("response-sets") => Some(Runbooks::ResponseSets),
            Some("workflows") => Some(Runbooks::Workflows),
            _ => None,
        },
        source_config_id: id("source_config_id"),
        responders: responders(section),
        source: id("source"),
        type_prefix: id("type_prefix"),
    };
    Written { region: section.choice("region"), vendor }
}

fn fields(section: &Section) -> Vec<Field> {
    let field = |entry: &Section<'_>| {
        let value = match entry.choice("value") {
            Some("link") => FieldValue::Link,
            Some("numeric") => FieldValue::Numeric,
            Some("option_id") => FieldValue::OptionId,
            Some("catalog_entry_id") => FieldValue::CatalogEntryId,
            _ => FieldValue::Text,
        };
        let (tag, id) = (entry.text("tag"), entry.text("custom_field_id"));
        Some(Field { tag: tag?.into(), custom_field_id: id?.into(), value })
    };
    if section.has("field_map") { section.sections("field_map").iter().filter_map(field).collect() } else { Vec::new() }
}

fn responders(section: &Section) -> Vec<Responder> {
    const NAMES: [&str; 3] = ["id", "name", "username"];
    let responder = |entry: &Section<'_>| {
        let kind = entry.choice("type");
        let named: Vec<_> = NAMES.into_iter().filter_map(|by| Some((by, entry.text(by)?))).collect();
        let given = NAMES.into_iter().filter(|by| entry.has(by)).count();
        if given != 1 && !entry.is_broken() {
            let wrong = Wrong::value("exactly one of id, name and username is needed").code("conflict");
            entry.error_here(wrong.hint("write which team, user, escalation or schedule it is"));
        }
        let (by, named) = named.into_iter().next()?;
        Some(Responder { kind: kind?, by, named: named.into() })
    };
    if section.has("responders") {
        section.sections("responders").iter().filter_map(responder).collect()
    } else {
        Vec::new()
    }
}

/// Holds what is written to what the kind needs and has a use for; its URL, where the vendor's own holds.
pub(super) fn fit(
    section: &Section,
    kind: Kind,
    url: Option<hyper::Uri>,
    written: Written,
) -> (Option<hyper::Uri>, VendorConfig) {
    for (key, _) in KEYS.iter().filter(|(key, kinds)| section.has(key) && !kinds.contains(&kind)) {
        let kinds = KEYS.iter().find(|(name, _)| name == key).map_or(&[][..], |(_, kinds)| kinds);
        let of = kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(" and ");
        let wrong = Wrong::value("not for this kind of upstream").code("conflict");
        section.error(key, wrong.hint(format!("only {of} has a use for it: remove it")));
    }
    for Need { one_of, hint } in needs(kind).iter().filter(|need| !need.one_of.iter().any(|key| section.has(key))) {
        let message = match one_of.split_last() {
            Some((last, rest @ [_, ..])) => format!("missing: one of {} and {last}", rest.join(", ")),
            _ => "missing".to_owned(),
        };
        let key = one_of.first().copied().unwrap_or_default();
        section.error(key, Wrong::value(message).code("missing").hint(*hint));
    }
    let Written { region, vendor } = written;
    let takes_region = matches!(kind, TaskCall | Opsgenie | PagerDuty);
    if takes_region && region.is_some() && url.is_some() {
        let wrong = Wrong::value("both a region and a URL").code("conflict");
        section.error("region", wrong.hint("the URL says where it is: keep one of the two"));
    }
    if matches!(kind, IncidentIo) && vendor.closed_status_id.is_none() {
        let wrong = Wrong::value("resolves cannot be forwarded without closed_status_id").code("incomplete");
        section.warning("kind", wrong.hint("the id of the status that closes an incident"));
    }
    let is_base = matches!(kind, IncidentIo | IncidentIoAlert | TaskCall | PagerDuty | Opsgenie);
    if is_base && url.as_ref().is_some_and(|url| url.query().is_some()) {
        let wrong = Wrong::value("a query in an address below which paths are built").code("conflict");
        section.error("url", wrong.hint("write the address only"));
    }
    let vendors = || home(kind, region).map(hyper::Uri::from_static);
    (url.or_else(vendors), vendor)
}
