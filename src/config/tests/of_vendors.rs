//! Upstreams of vendors: what each kind needs, takes by default, and has no use for.

use crate::config::keys::KINDS;
use crate::config::report::Report;
use crate::config::vendors;
use crate::sink::{FieldValue, PathStyle, Responder, Runbooks, SINKS, UpstreamConfig};

use super::*;

fn upstream(kind: &str, keys: &str) -> String {
    text("", "", "")
        .replace("    kind: webhook\n    url: https://a.example/hook\n", &format!("    kind: {kind}\n{keys}"))
}

fn lines(keys: &[&str]) -> String {
    keys.iter().map(|key| format!("    {key}\n")).collect()
}

fn of(kind: &str, keys: &[&str]) -> UpstreamConfig {
    read(&upstream(kind, &lines(keys))).unwrap_or_else(|errors| panic!("{errors}")).upstreams.remove(0)
}

/// As [`of`], of a kind whose sink may still be missing.
fn fitted(kind: Kind, keys: &[&str]) -> Result<(Option<String>, crate::sink::VendorConfig), Vec<String>> {
    let text = upstream("webhook", &lines(keys));
    let mut report = Report::default();
    let source = report.add_source("surgegate.yaml", text.as_str(), Format::Yaml);
    let root = tree::parse(&mut report, source, &text).unwrap();
    let root = Section::root(&report, &root);
    let section = root.sections("upstreams").remove(0);
    let written = vendors::read(&section);
    let (url, vendor) = vendors::fit(&section, kind, section.url("url"), written);
    drop((section, root));
    let is_error = |finding: &Finding| finding.level == Level::Error;
    match report.finish() {
        Ok(_) => Ok((url.map(|url| url.to_string()), vendor)),
        Err(errors) => Err(errors.findings.into_iter().filter(is_error).map(|finding| finding.message).collect()),
    }
}

#[test]
fn the_configuration_takes_each_kind_that_has_a_sink_and_no_other() {
    let mut sinks: Vec<_> = SINKS.iter().map(|sink| sink.kind().name()).collect();
    let mut kinds = KINDS.to_vec();
    sinks.sort_unstable();
    kinds.sort_unstable();
    assert_eq!(kinds, sinks, "hold KINDS in src/config/keys.rs to the sinks");
}

#[test]
fn each_vendor_has_its_own_address_and_pace() {
    let taskcall = |region: &str| of("taskcall", &["credential: k", "users: [jdoe]", region]);
    let url = |upstream: &UpstreamConfig| upstream.url.as_ref().unwrap().to_string();
    assert_eq!(url(&taskcall("region: eu")), "https://incidents-api.taskcallapp.com/");
    assert_eq!(url(&taskcall("region: us")), "https://incidents-api.us.taskcallapp.com/");
    assert_eq!(url(&taskcall("url: http://127.0.0.1:1/below")), "http://127.0.0.1:1/below");
    let pagerduty = |region: &[&str]| of("pagerduty", &[&["credential: k"], region].concat());
    assert_eq!(url(&pagerduty(&[])), "https://events.pagerduty.com/");
    assert_eq!(url(&pagerduty(&["region: eu"])), "https://events.eu.pagerduty.com/");
    let a_minute = |requests| Some(Pace { requests, per: Duration::from_secs(60), burst: requests });
    assert_eq!((taskcall("region: eu").pace, pagerduty(&[]).pace), (a_minute(60), a_minute(120)));
    let slower = of("pagerduty", &["credential: k", "rate_limit: { burst: 5 }"]).pace;
    assert_eq!(slower, Some(Pace { burst: 5, ..a_minute(120).unwrap() }));
    let home = |kind, keys: &[&str]| fitted(kind, keys).unwrap().0.unwrap();
    let opsgenie = |region| home(Kind::Opsgenie, &["credential: k", region]);
    assert_eq!(opsgenie("region: us"), "https://api.opsgenie.com/");
    assert_eq!(opsgenie("region: eu"), "https://api.eu.opsgenie.com/");
    let alerts = home(Kind::IncidentIoAlert, &["credential: k", "source_config_id: S"]);
    assert_eq!(alerts, "https://api.incident.io/");
    assert_eq!(
        Kind::ALL.map(|kind| kind.pace().map_or(0, |pace| pace.requests)),
        [0, 15, 0, 1200, 120, 60, 120, 60, 0, 0]
    );
}

#[test]
fn a_route_that_cannot_work_is_an_error() {
    let taskcall = |keys: &[&str]| errors(&upstream("taskcall", &lines(keys)));
    assert_eq!(
        taskcall(&[]),
        [
            "6:5 upstreams[0].credential: missing: one of credential and credential_file",
            "6:5 upstreams[0].region: missing: one of region and url",
            "6:5 upstreams[0].service_ref_id: missing: one of service_ref_id, policy_ref_id and users",
        ]
    );
    let twice = taskcall(&["credential: k", "users: [a]", "region: eu", "url: http://a.example"]);
    assert_eq!(twice, ["10:13 upstreams[0].region: both a region and a URL"]);
    let query = taskcall(&["credential: k", "users: [a]", "url: http://a.example?x=1"]);
    assert_eq!(query, ["10:10 upstreams[0].url: a query in an address below which paths are built"]);
    let useless = errors(&upstream("pagerduty", &lines(&["credential: k", "users: [a]", "visibility: public"])));
    assert_eq!(
        useless,
        [
            "9:12 upstreams[0].users: not for this kind of upstream",
            "10:17 upstreams[0].visibility: not for this kind of upstream",
        ]
    );
    let wrong = |kind, keys: &[&str]| fitted(kind, keys).unwrap_err();
    assert_eq!(
        wrong(Kind::IncidentIo, &["credential: k"]),
        [
            "upstreams[0].visibility: missing",
            "upstreams[0].severity_map: missing: one of severity_map and default_severity_id"
        ]
        .map(str::to_owned)
    );
    assert_eq!(wrong(Kind::IncidentIoAlert, &["credential: k"]), ["upstreams[0].source_config_id: missing"]);
    assert_eq!(wrong(Kind::Alertmanager, &[]), ["upstreams[0].url: missing"]);
    assert_eq!(wrong(Kind::Opsgenie, &["credential: k"]), ["upstreams[0].region: missing: one of region and url"]);
    let responder =
        wrong(Kind::Opsgenie, &["credential: k", "region: eu", "responders: [{ type: team, id: a, name: b }]"]);
    assert_eq!(responder, ["upstreams[0].responders[0]: exactly one of id, name and username is needed"]);
}

#[test]
fn what_is_written_of_a_vendor_is_what_its_sink_gets() {
    let keys = [
        "credential: k",
        "visibility: private",
        "severity_map: { 5: S5, 3: S3 }",
        "default_severity_id: S0",
        "closed_status_id: C",
        "incident_type_id: T",
        "field_map: [{ tag: team, custom_field_id: F }, { tag: url, custom_field_id: G, value: link }]",
    ];
    let (_, vendor) = fitted(Kind::IncidentIo, &keys).unwrap();
    let id = |level| vendor.severity_id(crate::event::Severity::new(level)).map(|id| id.to_string());
    // A level without one takes that of the next worse.
    let ids = [1, 2, 3, 4, 5].map(|level| id(level).unwrap());
    assert_eq!(ids, ["S3", "S3", "S3", "S5", "S5"]);
    assert_eq!(vendor.severity_id(None).map(|id| &**id), Some("S0"));
    assert_eq!(vendor.visibility, Some(crate::event::Visibility::Private));
    assert_eq!((vendor.closed_status_id.as_deref(), vendor.incident_type_id.as_deref()), (Some("C"), Some("T")));
    let fields: Vec<_> =
        vendor.field_map.iter().map(|field| (&*field.tag, &*field.custom_field_id, field.value)).collect();
    assert_eq!(fields, [("team", "F", FieldValue::Text), ("url", "G", FieldValue::Link)]);
    let keys = ["credential: k", "region: eu", "responders: [{ type: team, name: storage }]"];
    let (_, vendor) = fitted(Kind::Opsgenie, &keys).unwrap();
    assert_eq!(vendor.responders, [Responder { kind: "team", by: "name", named: "storage".into() }]);
    let vendor =
        of("taskcall", &["credential: k", "region: eu", "policy_ref_id: [A, B]", "path_style: incidents"]).vendor;
    assert_eq!((vendor.policy_ref_id.len(), vendor.path_style), (2, PathStyle::Incidents));
    assert_eq!((vendor.amend_both, vendor.runbooks), (false, None));
    let keys = ["credential: k", "region: eu", "users: [u]", "amend_both: true", "runbooks: workflows"];
    let vendor = of("taskcall", &keys).vendor;
    assert_eq!((vendor.amend_both, vendor.runbooks), (true, Some(Runbooks::Workflows)));
}

#[test]
fn an_answer_is_relayed_to_senders_of_the_same_dialect_alone() {
    let keys = lines(&["credential: k", "users: [jdoe]", "region: eu"]);
    let with = |integration: &str| {
        let upstreams = upstream("taskcall", &keys);
        read(&upstreams.replace("upstreams: [pager]\n", &format!("upstreams: [pager]\n    {integration}\n")))
    };
    let dialects = |integration: &str| {
        let config = with(integration).unwrap_or_else(|errors| panic!("{errors}"));
        config.integrations[0].dialects.clone()
    };
    assert_eq!(dialects("respond: proxy"), None);
    assert_eq!(dialects("respond: upstream"), Some(vec!["taskcall".to_owned()]), "held to what the upstream speaks");
    assert_eq!(dialects("respond: upstream\n    dialects: [taskcall]"), Some(vec!["taskcall".to_owned()]));
    let refused = with("respond: upstream\n    dialects: [taskcall, squadcast]").unwrap_err().to_string();
    assert!(
        refused.contains("squadcast") && refused.contains("is not what upstreams of kind taskcall speak"),
        "{refused}"
    );
    let refused = with("id_passthrough: true").unwrap_err().to_string();
    assert!(refused.contains("id_passthrough"), "{refused}");
    let ack = |integration: &str| with(integration).unwrap().integrations[0].ack;
    assert_eq!(ack("ack: spooled\n    ack_timeout: 3s"), None);
    let waits = |timeout, relays| Some(crate::gate::Ack { timeout: Duration::from_secs(timeout), relays });
    assert_eq!(ack("ack: delivered"), waits(10, false));
    assert_eq!(ack("respond: upstream\n    ack_timeout: 3s"), waits(3, true));
}
