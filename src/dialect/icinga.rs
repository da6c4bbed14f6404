//! Icinga 2's notification script (contracts/others.md 7): Nagios' states, the details in an object of their own.

use super::hooks::{self, Reading, is_said, text_at, value_at};
use super::json::Document;
use super::nagios::{Notice, is_service};
use super::{Asked, Credentials, Decoded, Dialect, Faults, Route};
use crate::event::TagType;

pub(super) struct Icinga;

static ROUTES: [Route; 6] = hooks::routes!("icinga", "icinga2");

impl Dialect for Icinga {
    fn name(&self) -> &'static str {
        "icinga"
    }

    fn routes(&self) -> &'static [Route] {
        &ROUTES
    }

    fn decode(
        &self,
        asked: &Asked<'_>,
        document: Document<'_>,
        each: &mut dyn FnMut(Decoded<'_>),
    ) -> Result<(), Faults> {
        if !value_at(document, &["data"]).is_some_and(super::json::Value::is_object) {
            return Err(vec!["data: must be an object".into()]);
        }
        let reading = Reading::of(document);
        let of_data = |name| text_at(document, &["data", name]);
        let source = reading.text("alert_source");
        let is_service = is_service(source.as_deref(), is_said(document, &["data", "service_description"]));
        let [state, output] =
            if is_service { ["service_state", "service_output"] } else { ["host_state", "host_output"] };
        let notice = Notice {
            host: reading.text("hostname"),
            host_member: "hostname",
            service: of_data("service_description").filter(|_| is_service),
            service_member: is_service.then_some("data.service_description"),
            state: of_data(state),
            state_member: if is_service { "data.service_state" } else { "data.host_state" },
            output: of_data(output),
            kind: reading.text("notification_type"),
        };
        notice.tell(asked, reading, each, |reading, _| {
            if let Some(alias) = reading.text("host_alias") {
                reading.tag("host_alias".into(), Some(alias), TagType::String);
            }
            reading.has_homes(&["alert_source", "hostname", "host_alias", "notification_type", "data"]);
            reading.rest_of("data", &["data"], &[state, output, "service_description"]);
        })
    }
}
