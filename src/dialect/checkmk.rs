//! Checkmk's notification script (contracts/others.md 8): Nagios' states under names of its own.

use super::hooks::{self, Reading};
use super::json::Document;
use super::nagios::{Notice, is_service};
use super::{Asked, Credentials, Decoded, Dialect, Faults, Route};
use crate::event::Action;

pub(super) struct Checkmk;

static ROUTES: [Route; 4] = hooks::routes!("checkmk");

impl Dialect for Checkmk {
    fn name(&self) -> &'static str {
        "checkmk"
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
        let reading = Reading::of(document);
        let is_service = is_service(reading.text("source").as_deref(), hooks::is_said(document, &["serviceDesc"]));
        let [state, output] = if is_service { ["serviceState", "serviceOutput"] } else { ["hostState", "hostOutput"] };
        let notice = Notice {
            host: reading.text("hostname"),
            host_member: "hostname",
            service: reading.text("serviceDesc").filter(|_| is_service),
            service_member: is_service.then_some("serviceDesc"),
            state: reading.text(state),
            state_member: state,
            output: reading.text(output),
            kind: reading.text("notificationType"),
        };
        notice.tell(asked, reading, each, |reading, judged| {
            let told_at = reading.text("notifyDateTime");
            let at = reading.time("notifyDateTime", told_at);
            match judged.action {
                Action::Resolve => reading.content.ended_at = at,
                _ => reading.content.started_at = at,
            }
            reading.has_homes(&["source", "hostname", "serviceDesc", "notificationType", "notifyDateTime"]);
            reading.has_homes(&[state, output]);
            if !is_service {
                // Of a host they are empty.
                reading.has_homes(&["serviceState", "serviceOutput"]);
            }
        })
    }
}
