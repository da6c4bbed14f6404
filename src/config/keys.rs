//! Every key of the configuration, once: its type, bounds, default and meaning.
//!
//! The reader takes defaults and bounds from here, refuses what is not here, and the tests hold the
//! commented reference file to it.

use std::collections::HashMap;
use std::sync::LazyLock;

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// A mapping with keys of its own.
    Section,
    /// A list of such mappings, with at least and at most so many.
    Sections(usize, usize),
    Switch,
    /// A whole number within bounds.
    Count(u64, u64),
    /// A number within bounds, given in thousandths.
    Rate(u64, u64),
    /// Bytes within bounds.
    Size(u64, u64),
    /// Within bounds, in milliseconds.
    Duration(u64, u64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of dialects' ids.
    Dialects,
    Address,
    /// `[a-z0-9][a-z0-9-]{0,63}`
    Name,
    /// A list of names that stand elsewhere.
    Names,
    Networks,
    Url,
    /// Text that is never shown.
    Secret,
    /// SHA-256 in hex.
    Digest,
    /// A path, relative to the working directory.
    File,
    Text,
    /// A list of texts.
    Texts,
    /// A URL of Redis, or a list of them; each may hold a password.
    Links,
    /// A list of JSON pointers.
    Pointers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fallback {
    Required,
    /// Nothing; what that means is told in the row's text.
    Absent,
    /// As it would be written.
    Text(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) path: &'static str,
    pub(super) shape: Shape,
    pub(super) default: Fallback,
    pub(super) about: &'static str,
}

impl Row {
    /// Whether it has keys of its own.
    pub(super) fn is_opened(&self) -> bool {
        matches!(self.shape, Shape::Section | Shape::Sections(..))
    }

    /// Whether it is a list of single values.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.shape, Shape::Dialects | Shape::Names | Shape::Networks | Shape::Texts | Shape::Pointers)
    }

    /// The last word of its path.
    pub(super) fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }
}

const fn row(path: &'static str, shape: Shape, default: Fallback, about: &'static str) -> Row {
    Row { path, shape, default, about }
}

const SECOND: u64 = 1000;
const HOUR: u64 = 3600 * SECOND;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

/// Largest body of one event: two records of this size fit the smallest segment.
pub(super) const EVENT_BYTES_MAX: u64 = 512 * KIB;
/// Smallest spool: four segments of eight maximal events.
const SPOOL_BYTES_MIN: u64 = 16 * MIB;

/// Categories of incident.io's statuses (contracts/incident-io.md 3).
const CATEGORIES: &[&str] = &["triage", "declined", "merged", "canceled", "live", "learning", "paused", "closed"];
/// Kinds of upstreams whose sink is there; a test holds them to the sinks.
pub(super) const KINDS: &[&str] = &[
    "webhook",
    "squadcast",
    "stdout",
    "pagerduty",
    "taskcall",
    "incidentio",
    "incidentio_alert",
    "alertmanager",
    "opsgenie",
    "cloudevents",
];

use Fallback::{Absent, Required, Text};
use Shape::{
    Address, Choice, Count, Dialects, Digest, Duration, File, Links, Name, Names, Networks, Pointers, Rate, Secret,
    Section, Sections, Size, Switch, Texts, Url,
};

pub(super) const ROWS: &[Row] = &[
    row("listen", Section, Absent, "Where the proxy listens."),
    row("listen.ingest", Section, Absent, "Events come in here."),
    row("listen.ingest.address", Address, Text("0.0.0.0:8080"), "IP address and port."),
    row("listen.ingest.tls", Section, Absent, "Speak TLS 1.2 and 1.3; without it plain HTTP."),
    row(
        "listen.ingest.tls.certificate",
        File,
        Required,
        "PEM: the server's certificate, then those that lead to its root.",
    ),
    row("listen.ingest.tls.key", File, Required, "PEM: the certificate's private key, not encrypted."),
    row(
        "listen.ingest.tls.client_ca",
        File,
        Absent,
        "PEM: clients must show a certificate that one of these has signed. By default they need none.",
    ),
    row(
        "listen.ingest.trusted_proxies",
        Networks,
        Absent,
        "Networks of proxies: their X-Forwarded-For is believed, and with proxy_protocol only they begin with it.",
    ),
    row(
        "listen.ingest.proxy_protocol",
        Switch,
        Text("false"),
        "Connections begin with the PROXY protocol, version 1 or 2.",
    ),
    row("listen.observe", Section, Absent, "/livez, /readyz and /metrics; read-only."),
    row("listen.observe.address", Address, Text("0.0.0.0:9464"), "IP address and port."),
    row("listen.admin", Section, Absent, "Status page and admin API."),
    row("listen.admin.address", Address, Text("127.0.0.1:9465"), "IP address and port."),
    row(
        "listen.admin.token_file",
        File,
        Absent,
        "Holds the token for writes. Without it writes are refused unless the address is loopback.",
    ),
    row("limits", Section, Absent, "What one request and one connection may take."),
    row("limits.body_bytes", Size(1, EVENT_BYTES_MAX), Text("30720"), "Largest event."),
    row(
        "limits.batch_body_bytes",
        Size(1, 64 * MIB),
        Text("4194304"),
        "Largest body of a dialect that sends many events at once.",
    ),
    row("limits.gzip", Switch, Text("true"), "Decode Content-Encoding: gzip."),
    row(
        "limits.connections",
        Count(1, 10_000_000),
        Absent,
        "Connections at once; by default the process's file descriptors less 512.",
    ),
    row("limits.body_bytes_in_flight", Size(MIB, TIB), Text("128MiB"), "All bodies held in memory together."),
    row("limits.header_bytes", Size(KIB, MIB), Text("16KiB"), "All headers of a request."),
    row("limits.headers", Count(1, 1000), Text("64"), "Headers of a request."),
    row("limits.uri_bytes", Size(64, 64 * KIB), Text("2KiB"), "Path and query of a request."),
    row("limits.header_timeout", Duration(1, HOUR), Text("5s"), "Until a request's headers are there."),
    row("limits.body_timeout", Duration(1, HOUR), Text("10s"), "Until a request's body is there."),
    row(
        "limits.body_bytes_per_second",
        Size(1, MIB),
        Text("1KiB"),
        "Slowest pace of a body, from its third second on.",
    ),
    row("limits.idle_timeout", Duration(1, DAY), Text("60s"), "Until a connection without a request is closed."),
    row(
        "limits.unauthenticated_requests_per_second",
        Count(1, 1_000_000),
        Text("1000"),
        "Requests with a missing or wrong key, all senders together; beyond it their connections are closed.",
    ),
    row("integrations", Sections(1, 100_000), Required, "Who may send events, and where they go."),
    row("integrations[].name", Name, Required, "Unique. State is kept under it: renaming starts anew."),
    row(
        "integrations[].keys",
        Sections(1, 2),
        Required,
        "One key, or two while senders change over; each entry has exactly one of the three.",
    ),
    row(
        "integrations[].keys[].key",
        Secret,
        Absent,
        "The key itself; best 40 lower-case hex characters, from the environment.",
    ),
    row("integrations[].keys[].key_file", File, Absent, "A file that holds it."),
    row("integrations[].keys[].key_sha256", Digest, Absent, "The SHA-256 of it, in hex."),
    row("integrations[].enabled", Switch, Text("true"), "false: its events are answered 403."),
    row("integrations[].dialects", Dialects, Absent, "Dialects it may speak; all by default."),
    row("integrations[].source_networks", Networks, Absent, "Networks it may send from; any by default."),
    row("integrations[].upstreams", Names, Required, "Upstreams its events go to, in order."),
    row("integrations[].rate_limit", Section, Absent, "How much it may send."),
    row(
        "integrations[].rate_limit.events_per_second",
        Count(1, 10_000_000),
        Absent,
        "New incidents; no limit by default.",
    ),
    row(
        "integrations[].rate_limit.burst",
        Count(1, 100_000_000),
        Absent,
        "New incidents at once; one second's worth by default.",
    ),
    row(
        "integrations[].rate_limit.requests_per_second",
        Count(1, 10_000_000),
        Text("10000"),
        "Requests, whatever they hold.",
    ),
    row(
        "integrations[].on_limit",
        Choice(&["auto", "reject", "spool"]),
        Text("auto"),
        "Above the event limit: reject, spool (accepted, forwarded at the limit's pace), or auto: reject only senders that try again.",
    ),
    row(
        "integrations[].ack",
        Choice(&["spooled", "delivered"]),
        Text("spooled"),
        "What an answer waits for: the log, or the first upstream too, which may then refuse the event.",
    ),
    row(
        "integrations[].ack_timeout",
        Duration(1, HOUR),
        Text("10s"),
        "How long an answer waits for the upstream; then it is that of spooled.",
    ),
    row(
        "integrations[].respond",
        Choice(&["proxy", "upstream"]),
        Text("proxy"),
        "Whose answer senders get, with whose ids; upstream waits as ack: delivered, and takes that vendor's dialect alone.",
    ),
    row(
        "integrations[].id_passthrough",
        Switch,
        Text("false"),
        "With respond: upstream: an id that neither has given here goes upstream as it came; else it is 404.",
    ),
    row(
        "integrations[].body_bytes",
        Size(1, EVENT_BYTES_MAX),
        Absent,
        "Largest event of this integration; limits.body_bytes by default.",
    ),
    row(
        "integrations[].forward_duplicates",
        Choice(&["none", "severity_increase", "all"]),
        Text("severity_increase"),
        "Which duplicates of an open incident go upstream.",
    ),
    row(
        "integrations[].unknown_resolve",
        Choice(&["forward_if_keyed", "drop", "reject"]),
        Text("forward_if_keyed"),
        "What becomes of a resolve or acknowledge of an incident the proxy does not know.",
    ),
    row(
        "integrations[].default_severity",
        Count(1, 5),
        Absent,
        "Level of events that name none: 1 (lowest) to 5 (critical).",
    ),
    row(
        "integrations[].require_description",
        Switch,
        Text("true"),
        "Refuse events without a description where the dialect demands one.",
    ),
    row(
        "integrations[].default_severity_id",
        Shape::Text,
        Absent,
        "incident.io dialects: the severity of an incident that names none; without it one must be named but for triage and declined.",
    ),
    row(
        "integrations[].severities",
        Sections(1, 100),
        Absent,
        "incident.io dialects: the account's severities. They are served to its clients, and no other id is taken; without them any is.",
    ),
    row("integrations[].severities[].id", Shape::Text, Required, "Its id; unique."),
    row("integrations[].severities[].name", Shape::Text, Required, "Its name."),
    row(
        "integrations[].severities[].rank",
        Count(0, 1_000_000),
        Required,
        "Its place among them: a lower rank is less severe. Unique.",
    ),
    row(
        "integrations[].incident_statuses",
        Sections(1, 100),
        Absent,
        "incident.io dialects: the account's statuses. They are served to its clients, and say which edit resolves an incident.",
    ),
    row("integrations[].incident_statuses[].id", Shape::Text, Required, "Its id; unique."),
    row("integrations[].incident_statuses[].name", Shape::Text, Required, "Its name."),
    row(
        "integrations[].incident_statuses[].category",
        Choice(CATEGORIES),
        Required,
        "What it means: closed, declined, canceled, merged and learning end an incident; triage, live and paused do not.",
    ),
    row(
        "integrations[].success_status",
        Count(200, 299),
        Text("202"),
        "Status of an accepted event in the Squadcast dialect.",
    ),
    row(
        "integrations[].alert_sources",
        Sections(1, 1_000),
        Absent,
        "incident.io alert events: the sources that send for this integration, each with a secret of its own.",
    ),
    row(
        "integrations[].alert_sources[].id",
        Shape::Text,
        Required,
        "The id in the source's URL: letters, digits, - and _. Unique over all integrations.",
    ),
    row(
        "integrations[].alert_sources[].kind",
        Choice(&["http", "alertmanager", "http_custom"]),
        Text("http"),
        "The form of its bodies, the word before the id in its URL. http_custom: any JSON, read as generic says, else by a guess.",
    ),
    row(
        "integrations[].alert_sources[].secret",
        Secret,
        Absent,
        "The source's secret; each entry has exactly one of secret and secret_file.",
    ),
    row("integrations[].alert_sources[].secret_file", File, Absent, "A file that holds it."),
    row(
        "integrations[].alert_sources[].require_dedup_key",
        Switch,
        Text("false"),
        "Refuse events without a deduplication_key; by default one is derived from the source and the title.",
    ),
    row(
        "integrations[].group_mode",
        Choice(&["alert", "group"]),
        Text("alert"),
        "alertmanager and grafana: an incident for each alert, or one for each group.",
    ),
    row(
        "integrations[].no_data_severity",
        Count(1, 5),
        Absent,
        "grafana: level of alerts that stand for missing data (DatasourceNoData, DatasourceError) and name none.",
    ),
    row(
        "integrations[].grafana_hmac",
        Section,
        Absent,
        "grafana: bodies must be signed as its webhook contact point does. Off by default.",
    ),
    row("integrations[].grafana_hmac.secret", Secret, Absent, "The secret; exactly one of this and secret_file."),
    row("integrations[].grafana_hmac.secret_file", File, Absent, "A file that holds it."),
    row(
        "integrations[].grafana_hmac.header",
        Shape::Text,
        Absent,
        "The header with the signature; X-Grafana-Alerting-Signature by default.",
    ),
    row(
        "integrations[].grafana_hmac.timestamp_header",
        Shape::Text,
        Absent,
        "The header with the time that is signed too; more than 5 minutes off it is refused. None by default.",
    ),
    row("integrations[].grafana", Section, Absent, "grafana: what rules of versions before 9 mean."),
    row(
        "integrations[].grafana.no_data",
        Choice(&["trigger", "ignore"]),
        Text("trigger"),
        "A rule that has no data: an incident, or nothing.",
    ),
    row("integrations[].sns", Section, Absent, "sns: what is believed, and what CloudWatch's alarms mean."),
    row(
        "integrations[].sns.verify",
        Switch,
        Text("false"),
        "Bodies must be signed by Amazon SNS. The certificate is fetched from there: the proxy must reach it.",
    ),
    row(
        "integrations[].sns.auto_confirm",
        Switch,
        Text("false"),
        "Confirm subscriptions of the topics below by visiting Amazon's URL. By default somebody does that by hand.",
    ),
    row("integrations[].sns.topics", Texts, Absent, "ARNs of topics whose subscriptions are confirmed."),
    row(
        "integrations[].sns.insufficient_data",
        Choice(&["ignore", "trigger"]),
        Text("ignore"),
        "An alarm that lacks data: nothing, or an incident.",
    ),
    row(
        "integrations[].sns.severities",
        Sections(1, 1_000),
        Absent,
        "Levels of alarms, which name none; the first entry that fits counts.",
    ),
    row("integrations[].sns.severities[].topic", Shape::Text, Absent, "ARN of the topic; * stands for any text."),
    row("integrations[].sns.severities[].alarm", Shape::Text, Absent, "Name of the alarm; * stands for any text."),
    row("integrations[].sns.severities[].severity", Count(1, 5), Required, "1 (lowest) to 5 (critical)."),
    row("integrations[].zabbix", Section, Absent, "zabbix: what its events mean."),
    row(
        "integrations[].zabbix.key",
        Choice(&["event_id", "trigger_id"]),
        Text("event_id"),
        "What an incident is known by: the problem's id, or its trigger's, so that a trigger has one incident at a time.",
    ),
    row(
        "integrations[].generic",
        Section,
        Absent,
        "generic, and JSON of other shapes that SNS brings: where in a body things stand. Without it that is guessed.",
    ),
    row("integrations[].generic.title", Pointers, Absent, "JSON pointers; the first that leads to something counts."),
    row("integrations[].generic.description", Pointers, Absent, "The same; and so for all that follow."),
    row("integrations[].generic.action", Pointers, Absent, "To a word that says whether it begins or ends."),
    row("integrations[].generic.key", Pointers, Absent, "To what the incident is known by."),
    row("integrations[].generic.severity", Pointers, Absent, "To a word for its level."),
    row("integrations[].generic.source", Pointers, Absent, "To what it is about, a host say."),
    row("integrations[].generic.component", Pointers, Absent, "To the part of it."),
    row("integrations[].generic.group", Pointers, Absent, "To what it belongs to."),
    row("integrations[].generic.class", Pointers, Absent, "To what kind of alert it is."),
    row("integrations[].generic.service", Pointers, Absent, "To the service."),
    row("integrations[].generic.link", Pointers, Absent, "To a URL."),
    row(
        "integrations[].generic.tags",
        Pointers,
        Absent,
        "To an object, a list of words, or words with commas between.",
    ),
    row("integrations[].generic.started_at", Pointers, Absent, "To a time: RFC 3339, Unix seconds or milliseconds."),
    row(
        "integrations[].generic.actions",
        Sections(1, 100),
        Absent,
        "Words, in any case, beside the usual ones (firing, alerting, open, problem; resolved, ok, closed, recovered; acknowledged).",
    ),
    row("integrations[].generic.actions[].word", Shape::Text, Required, "The sender's word."),
    row(
        "integrations[].generic.actions[].action",
        Choice(&["trigger", "acknowledge", "resolve"]),
        Required,
        "What it means.",
    ),
    row("integrations[].generic.severities", Sections(1, 100), Absent, "Words for levels, beside the usual ones."),
    row("integrations[].generic.severities[].word", Shape::Text, Required, "The sender's word, in any case."),
    row("integrations[].generic.severities[].severity", Count(1, 5), Required, "1 (lowest) to 5 (critical)."),
    row("integrations[].generic.default_title", Shape::Text, Absent, "Title of an event that has none."),
    row(
        "integrations[].generic.default_action",
        Choice(&["trigger", "acknowledge", "resolve"]),
        Absent,
        "What an event means that has no word or an unknown one; without it the former is a trigger, and the latter is refused where actions are configured.",
    ),
    row(
        "integrations[].assignment",
        Section,
        Absent,
        "taskcall dialect: who is called by incidents that name nobody; without it they are refused. One of the three at least.",
    ),
    row("integrations[].assignment.service_ref", Shape::Text, Absent, "The reference of a service."),
    row("integrations[].assignment.policy_refs", Texts, Absent, "References of escalation policies."),
    row("integrations[].assignment.user_refs", Texts, Absent, "Preferred user names."),
    row("upstreams", Sections(1, 10_000), Required, "Where events are forwarded to."),
    row("upstreams[].name", Name, Required, "Unique. Queued events are kept under it."),
    row(
        "upstreams[].kind",
        Choice(KINDS),
        Required,
        "What it speaks: webhook (the normalized event), stdout (the same, one a line), or a vendor's API.",
    ),
    row(
        "upstreams[].url",
        Url,
        Absent,
        "Absolute http or https URL. webhook, alertmanager, cloudevents: the whole, required. squadcast: the whole, or the address to which /v2/incidents/api/ and the credential are added; required. Others: the address below which the vendor's paths stand; the vendor's own by default.",
    ),
    row(
        "upstreams[].credential",
        Secret,
        Absent,
        "What the vendor calls key, token or secret; for webhook the signing secret.",
    ),
    row("upstreams[].credential_file", File, Absent, "A file that holds it."),
    row(
        "upstreams[].mode",
        Choice(&["verbatim", "normalized"]),
        Absent,
        "verbatim (the body as received, where the sender speaks the vendor's own dialect) or normalized; verbatim by default for vendors, normalized for webhook and stdout.",
    ),
    row(
        "upstreams[].rate_limit",
        Section,
        Absent,
        "How much it takes. By default what the vendor takes in any 60 s: squadcast 15, taskcall and opsgenie 60, pagerduty and incidentio_alert 120, incidentio 1200; no limit else.",
    ),
    row(
        "upstreams[].rate_limit.requests_per_second",
        Rate(1, 1_000_000_000),
        Absent,
        "Up to three decimals: 0.25 is one request each 4 s.",
    ),
    row(
        "upstreams[].rate_limit.burst",
        Count(1, 1_000_000),
        Absent,
        "Requests at once when free; one second's worth by default.",
    ),
    row("upstreams[].timeout", Duration(1, HOUR), Text("10s"), "Until an attempt is given up."),
    row(
        "upstreams[].connections",
        Count(1, 10_000),
        Text("64"),
        "Requests at once. With 1 an event that is not answered holds up all others for as long as `timeout`.",
    ),
    row(
        "upstreams[].give_up_after",
        Duration(SECOND, 365 * DAY),
        Text("24h"),
        "Until an event that fails becomes a dead letter.",
    ),
    row(
        "upstreams[].redeliver_after",
        Duration(SECOND, 30 * DAY),
        Text("5m"),
        "A trigger that became a dead letter is tried again at most this often, when its sender repeats it.",
    ),
    row("upstreams[].batch", Section, Absent, "webhook: many events in one request. Off by default."),
    row("upstreams[].batch.max_events", Count(1, 10_000), Text("100"), "Events in one request."),
    row(
        "upstreams[].batch.max_wait",
        Duration(0, 60 * SECOND),
        Text("10ms"),
        "How long the first event waits for others.",
    ),
    row(
        "upstreams[].region",
        Choice(&["eu", "us"]),
        Absent,
        "taskcall, opsgenie and pagerduty: where the vendor keeps the account's data; us by default for pagerduty.",
    ),
    row("upstreams[].api", Choice(&["v2", "v1"]), Absent, "incidentio: which of its incident APIs; v2 by default."),
    row(
        "upstreams[].visibility",
        Choice(&["public", "private"]),
        Absent,
        "incidentio: of incidents whose event says none; required there.",
    ),
    row(
        "upstreams[].severity_map",
        Section,
        Absent,
        "incidentio: severity ids by level, 5 (critical) to 1. A level without one takes that of the next worse.",
    ),
    row("upstreams[].severity_map.5", Shape::Text, Absent, "Critical."),
    row("upstreams[].severity_map.4", Shape::Text, Absent, "High."),
    row("upstreams[].severity_map.3", Shape::Text, Absent, "Medium."),
    row("upstreams[].severity_map.2", Shape::Text, Absent, "Low."),
    row("upstreams[].severity_map.1", Shape::Text, Absent, "Minor."),
    row(
        "upstreams[].default_severity_id",
        Shape::Text,
        Absent,
        "incidentio: the severity where the map has none; this or the map is required there.",
    ),
    row(
        "upstreams[].closed_status_id",
        Shape::Text,
        Absent,
        "incidentio: the status that a resolve moves an incident to; without it resolves cannot be forwarded.",
    ),
    row("upstreams[].incident_type_id", Shape::Text, Absent, "incidentio: the type of incidents."),
    row("upstreams[].field_map", Sections(1, 64), Absent, "incidentio: tags that become custom fields."),
    row("upstreams[].field_map[].tag", Shape::Text, Required, "Name of the tag."),
    row("upstreams[].field_map[].custom_field_id", Shape::Text, Required, "Id of the custom field."),
    row(
        "upstreams[].field_map[].value",
        Choice(&["text", "link", "numeric", "option_id", "catalog_entry_id"]),
        Text("text"),
        "What the tag's value is to the field.",
    ),
    row(
        "upstreams[].service_ref_id",
        Shape::Text,
        Absent,
        "taskcall: the service of incidents whose event names nobody. One of service_ref_id, policy_ref_id and users is required there.",
    ),
    row("upstreams[].policy_ref_id", Texts, Absent, "taskcall: the escalation policies of such incidents."),
    row("upstreams[].users", Texts, Absent, "taskcall: the users of such incidents, by preferred user name."),
    row(
        "upstreams[].path_style",
        Choice(&["root", "incidents"]),
        Absent,
        "taskcall: paths like /create (root, the default) or /incidents/create (incidents).",
    ),
    row(
        "upstreams[].amend_both",
        Switch,
        Absent,
        "taskcall: write the urgency of an amend-urgency under the vendor's second name too. By default urgency_level alone.",
    ),
    row(
        "upstreams[].runbooks",
        Choice(&["response-sets", "workflows"]),
        Absent,
        "taskcall: what the account calls its runbooks: run-response-set and run-workflow are both sent as that one, and both lists are asked for by it. By default each as it came.",
    ),
    row(
        "upstreams[].source_config_id",
        Shape::Text,
        Absent,
        "incidentio_alert: the id of the alert source; required there.",
    ),
    row(
        "upstreams[].responders",
        Sections(1, 50),
        Absent,
        "opsgenie: who is called for alerts whose event names nobody.",
    ),
    row("upstreams[].responders[].type", Choice(&["team", "user", "escalation", "schedule"]), Required, "What it is."),
    row(
        "upstreams[].responders[].id",
        Shape::Text,
        Absent,
        "Its id; each entry has exactly one of id, name and username.",
    ),
    row("upstreams[].responders[].name", Shape::Text, Absent, "Its name."),
    row("upstreams[].responders[].username", Shape::Text, Absent, "A user's name."),
    row(
        "upstreams[].source",
        Shape::Text,
        Absent,
        "pagerduty: the source of alerts whose event names none; the integration's name by default. cloudevents: the source of all events; /surgegate/ and the integration's name by default.",
    ),
    row(
        "upstreams[].type_prefix",
        Shape::Text,
        Absent,
        "cloudevents: what stands before the action in an event's type; io.surgegate.incident by default.",
    ),
    row("dedup", Section, Absent, "How long incidents are remembered."),
    row("dedup.open_ttl", Duration(SECOND, 3650 * DAY), Text("30d"), "An open incident, from its last event."),
    row(
        "dedup.resolved_ttl",
        Duration(SECOND, 3650 * DAY),
        Text("24h"),
        "A resolved incident, so that late duplicates are known.",
    ),
    row("dedup.idempotency_ttl", Duration(DAY, 3650 * DAY), Text("7d"), "An idempotency key, from its creation."),
    row("dedup.replay_ttl", Duration(SECOND, 3650 * DAY), Text("24h"), "A transport's own message id."),
    row(
        "dedup.max_keys",
        Count(1, 100_000_000),
        Text("1000000"),
        "Incidents remembered at once; open ones are never forgotten to make room.",
    ),
    row("spool", Section, Absent, "The log on disk that accepted events are kept in."),
    row("spool.directory", File, Text("./data"), "Made when missing."),
    row(
        "spool.durability",
        Choice(&["fsync", "memory"]),
        Text("fsync"),
        "fsync: an answered event survives a crash. memory: it may not.",
    ),
    row(
        "spool.max_bytes",
        Size(SPOOL_BYTES_MIN, 1024 * TIB),
        Text("10GiB"),
        "All files in the directory together; when full, new events are refused.",
    ),
    row(
        "spool.retain",
        Duration(0, 3650 * DAY),
        Text("24h"),
        "How long delivered events stay readable, while there is space.",
    ),
    row(
        "spool.index_bytes",
        Size(MIB, TIB),
        Text("64MiB"),
        "Memory for knowing what waits and where it stands; when full, new events are refused.",
    ),
    row("redis", Section, Absent, "State shared between replicas; without it each replica stands alone."),
    row(
        "redis.url",
        Links,
        Required,
        "redis://user:password@host:6379/0, rediss:// with TLS, or redis+sentinel://host1,host2/master; several of the first two are a Cluster.",
    ),
    row(
        "redis.scope",
        Choice(&["mirror", "shared"]),
        Text("shared"),
        "shared: a key is claimed in Redis before its event is logged; mirror: states are copied to it behind the answer.",
    ),
    row(
        "redis.timeout",
        Duration(1, 10 * SECOND),
        Text("5ms"),
        "Longest wait of a request for Redis; after it the replica decides alone.",
    ),
    row(
        "redis.key_prefix",
        Name,
        Text("surgegate"),
        "Every key begins with it: one for each installation on a server.",
    ),
    row(
        "redis.replica_id",
        Count(0, 1023),
        Absent,
        "Makes incident numbers unique; by default the host name's ordinal (pod-3), else the lowest free one, leased in Redis.",
    ),
    row("redis.sentinel_user", Shape::Text, Absent, "The user whom the Sentinels let in, where they have users."),
    row("redis.sentinel_password", Secret, Absent, "The Sentinels' own password; the URL's is the servers'."),
    row("redis.ca_file", File, Absent, "PEM: authorities that sign the servers' certificates; the web's by default."),
    row("shutdown", Section, Absent, "How the process stops."),
    row("shutdown.drain", Duration(0, HOUR), Text("20s"), "How long the listener goes on while readiness is down."),
    row("log", Section, Absent, "The process's own log, on standard error."),
    row(
        "log.format",
        Choice(&["auto", "text", "json"]),
        Text("auto"),
        "auto: text on a terminal, JSON lines elsewhere.",
    ),
    row(
        "log.level",
        Choice(&["error", "warn", "info", "debug", "trace"]),
        Text("info"),
        "Least severe level that is logged.",
    ),
];

/// The keys of each section, by their last word. A configuration can have a hundred thousand sections.
static SECTIONS: LazyLock<HashMap<&'static str, Vec<(&'static str, &'static Row)>>> = LazyLock::new(|| {
    let mut sections: HashMap<_, Vec<_>> = HashMap::new();
    for row in ROWS {
        let (parent, name) = row.path.rsplit_once('.').unwrap_or(("", row.path));
        sections.entry(parent.trim_end_matches("[]")).or_default().push((name, row));
    }
    sections
});

/// The keys of a section or of an entry of a list, by their last word.
pub(super) fn of_section(section: &str) -> impl Iterator<Item = (&'static str, &'static Row)> + use<> {
    keys_of(section).iter().copied()
}

pub(super) fn keys_of(section: &str) -> &'static [(&'static str, &'static Row)] {
    SECTIONS.get(section.trim_end_matches("[]")).map_or(&[], Vec::as_slice)
}

/// Whether some key is called so.
pub(super) fn is_name(word: &str) -> bool {
    ROWS.iter().any(|row| row.name() == word)
}

/// The section that a key belongs to, if there is only one, or one above all others.
pub(super) fn home_of(word: &str) -> Option<&'static str> {
    let homes = || ROWS.iter().filter(|row| row.name() == word).map(|row| row.path);
    let depth = |path: &str| path.matches('.').count();
    let highest = homes().map(depth).min()?;
    let mut homes = homes().filter(|path| depth(path) == highest);
    let home = homes.next()?.rsplit_once('.').map_or("", |(parent, _)| parent);
    homes.next().is_none().then_some(home)
}

/// The row of a key outside lists.
pub(super) fn find(path: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.path == path)
}

/// Whether a section does something by standing there: left out is not the same as empty. So is each section whose
/// keys have no defaults, or that needs one of them.
pub(super) fn is_off(section: &Row) -> bool {
    let mut keys = of_section(section.path).map(|(_, row)| row).peekable();
    section.path == "upstreams[].batch"
        || keys.peek().is_some() && {
            let keys: Vec<_> = keys.collect();
            keys.iter().all(|row| row.default == Fallback::Absent && !row.is_opened())
                || keys.iter().any(|row| row.default == Fallback::Required)
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_stands_once_behind_its_section_and_is_described() {
        let mut seen = std::collections::HashSet::new();
        for row in ROWS {
            assert!(seen.insert(row.path), "{} stands twice", row.path);
            assert!(!row.about.is_empty() && row.about.ends_with('.'), "{}", row.path);
            if let Some((parent, _)) = row.path.rsplit_once('.') {
                assert!(seen.contains(parent.trim_end_matches("[]")), "{} has no section before it", row.path);
            }
        }
    }
}
