//! What the configuration says of an upstream that only one kind has a use for (INTERFACE 3, contracts 7).

use std::sync::Arc;

use crate::event::{Severity, Visibility};

/// All of it is absent unless written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VendorConfig {
    /// `incidentio`.
    pub api: IncidentApi,
    /// `incidentio`: of incidents whose event says none. Required.
    pub visibility: Option<Visibility>,
    /// `incidentio`: where neither the map nor the ranks give one.
    pub default_severity_id: Option<Arc<str>>,
    /// `incidentio`: by level, 1 first.
    pub severity_map: [Option<Arc<str>>; 5],
    /// `incidentio`: what a resolve moves an incident to.
    pub closed_status_id: Option<Arc<str>>,
    /// `incidentio`.
    pub incident_type_id: Option<Arc<str>>,
    /// `incidentio`: tags that become custom fields.
    pub field_map: Vec<Field>,
    /// `taskcall`: the assignment of incidents whose event says none.
    pub service_ref_id: Option<Arc<str>>,
    pub policy_ref_id: Vec<Arc<str>>,
    pub users: Vec<Arc<str>>,
    /// `taskcall`.
    pub path_style: PathStyle,
    /// `taskcall`: an urgency is written under both of its names.
    pub amend_both: bool,
    /// `taskcall`: what its account calls them; `None`: what the sender calls them.
    pub runbooks: Option<Runbooks>,
    /// `incidentio_alert`. Required.
    pub source_config_id: Option<Arc<str>>,
    /// `opsgenie`.
    pub responders: Vec<Responder>,
    /// `pagerduty`: `payload.source` where the event says none. `cloudevents`: the source of all.
    pub source: Option<Arc<str>>,
    /// `cloudevents`: before the action in `type`.
    pub type_prefix: Option<Arc<str>>,
}

impl VendorConfig {
    /// The id that the configured map gives to a level; of a level it leaves out the next worse one it has (contracts 4:
    /// never less urgent), else the default.
    pub fn severity_id(&self, severity: Option<Severity>) -> Option<&Arc<str>> {
        let from = severity.map(|severity| usize::from(severity.level() - 1));
        let mapped = from.and_then(|from| self.severity_map.get(from..)?.iter().flatten().next());
        mapped.or(self.default_severity_id.as_ref())
    }
}

/// Which of incident.io's incident APIs is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncidentApi {
    V1,
    #[default]
    V2,
}

/// A tag that becomes a custom field at incident.io.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub tag: Arc<str>,
    pub custom_field_id: Arc<str>,
    pub value: FieldValue,
}

/// Which member of a custom field's value the tag's text becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValue {
    Text,
    Link,
    Numeric,
    OptionId,
    CatalogEntryId,
}

impl FieldValue {
    pub const fn member(self) -> &'static str {
        match self {
            Self::Text => "value_text",
            Self::Link => "value_link",
            Self::Numeric => "value_numeric",
            Self::OptionId => "value_option_id",
            Self::CatalogEntryId => "value_catalog_entry_id",
        }
    }
}

/// How TaskCall's paths are written (contracts 8, row 22).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathStyle {
    /// `/create`
    #[default]
    Root,
    /// `/incidents/create`
    Incidents,
}

/// What TaskCall calls what runs by itself (contracts 8, row 29): the older name, or the newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runbooks {
    ResponseSets,
    Workflows,
}

impl Runbooks {
    /// The operation that runs one.
    pub const fn operation(self) -> &'static str {
        match self {
            Self::ResponseSets => "run-response-set",
            Self::Workflows => "run-workflow",
        }
    }

    /// Its member that names one.
    pub const fn member(self) -> &'static str {
        match self {
            Self::ResponseSets => "response_set_ref_id",
            Self::Workflows => "workflow_ref_id",
        }
    }

    /// The list of all.
    pub const fn list(self) -> &'static str {
        match self {
            Self::ResponseSets => "response-sets",
            Self::Workflows => "workflows",
        }
    }
}

/// Somebody whom Opsgenie calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Responder {
    /// `team`, `user`, `escalation` or `schedule`.
    pub kind: &'static str,
    /// `id`, `name` or `username`,
    pub by: &'static str,
    /// and its value.
    pub named: Arc<str>,
}
