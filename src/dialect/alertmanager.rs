//! Alertmanager's webhook and Grafana's unified alerting, one family of bodies (contracts/alertmanager.md). A request
//! holds many alerts; each is an event of its own, or all are one (`group_mode: group`). Grafana before version 9 sends one rule
//! a body (`legacy`).
//!
//! The alert sources of `incident_io` whose kind is `alertmanager` read their bodies by [`split`] and [`read`] too.

mod alert;
mod group;
mod labels;
mod legacy;
mod parts;
mod reply;

use bytes::Bytes;
use hyper::StatusCode;

use super::json::Document;
use super::{
    Asked, Credentials, Decoded, Dialect, Faults, Most, Replying, Route, Scheme, Split, SplitError, Takes, usual_status,
};
use crate::event::Micros;
use crate::outcome::{Class, Reason, Refusal};

pub(super) use alert::read;
pub(super) use parts::split;

/// Whose members a body may have beyond Alertmanager's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Alertmanager,
    /// More links, an organization beside the fingerprint, alerts that stand for missing data (section 5).
    Grafana,
}

/// One of the two dialects.
pub(super) struct Hook {
    name: &'static str,
    form: Form,
    routes: &'static [Route],
}

pub(super) static ALERTMANAGER: Hook =
    Hook { name: "alertmanager", form: Form::Alertmanager, routes: &ALERTMANAGER_ROUTES };

pub(super) static GRAFANA: Hook = Hook { name: "grafana", form: Form::Grafana, routes: &GRAFANA_ROUTES };

const SCHEMES: &[Scheme] = &[Scheme::Bearer, Scheme::Basic];

const fn by_path(path: &'static str, endpoint: &'static str) -> Route {
    Route::post(path, endpoint, Credentials::PathOrHeader(SCHEMES)).takes(Takes::Batch).answers(200)
}

const fn by_header(path: &'static str, endpoint: &'static str) -> Route {
    Route::post(path, endpoint, Credentials::Header(SCHEMES)).takes(Takes::Batch).answers(200)
}

/// By the path of a vendor that has one for each tool; answered as that one is.
const fn by_tool(path: &'static str, endpoint: &'static str) -> Route {
    Route::post(path, endpoint, Credentials::Path).takes(Takes::Batch)
}

static ALERTMANAGER_ROUTES: [Route; 6] = [
    by_path("/hooks/alertmanager/{key}", "hooks/alertmanager"),
    by_header("/hooks/alertmanager", "hooks/alertmanager"),
    by_tool("/v2/incidents/prometheus/{key}", "hooks/alertmanager"),
    by_tool("/v1/incidents/prometheus/{key}", "hooks/alertmanager"),
    by_tool("/v2/incidents/alertmanager/{key}", "hooks/alertmanager"),
    by_tool("/v1/incidents/alertmanager/{key}", "hooks/alertmanager"),
];

/// The headers may hold a signature.
static GRAFANA_ROUTES: [Route; 6] = [
    by_path("/hooks/grafana/{key}", "hooks/grafana").wants_headers(),
    by_path("/hooks/grafana/{key}", "hooks/grafana").wants_headers().by("PUT"),
    by_header("/hooks/grafana", "hooks/grafana").wants_headers(),
    by_header("/hooks/grafana", "hooks/grafana").wants_headers().by("PUT"),
    by_tool("/v2/incidents/grafana/{key}", "hooks/grafana").wants_headers(),
    by_tool("/v1/incidents/grafana/{key}", "hooks/grafana").wants_headers(),
];

impl Dialect for Hook {
    fn name(&self) -> &'static str {
        self.name
    }

    fn routes(&self) -> &'static [Route] {
        self.routes
    }

    /// Contracts 2.6: that a contact point of Grafana comes again is not relied on.
    fn retries_overload(&self) -> bool {
        self.form == Form::Alertmanager
    }

    /// Section 5: what a signing Grafana does not sign is not its own.
    fn verify(&self, asked: &Asked<'_>, body: &[u8], now: Micros) -> Result<(), Refusal> {
        let demanded = asked.rules.settings.and_then(|settings| settings.grafana_hmac.as_ref());
        match demanded.filter(|_| self.form == Form::Grafana) {
            Some(signature) if !asked.headers.is_some_and(|headers| signature.is_of(headers, body, now)) => {
                let message = "the signature of the body is missing, wrong or too old";
                Err(Refusal::new(Reason::InvalidSignature, message))
            }
            _ => Ok(()),
        }
    }

    fn split(&self, asked: &Asked<'_>, body: &Bytes, most: Most) -> Result<Split, SplitError> {
        split(self.form, asked, body, most)
    }

    fn decode(
        &self,
        asked: &Asked<'_>,
        document: Document<'_>,
        each: &mut dyn FnMut(Decoded<'_>),
    ) -> Result<(), Faults> {
        if self.form == Form::Grafana && asked.envelope.is_none() && legacy::is_one(document) {
            if let Some(decoded) = legacy::read(asked, document)? {
                each(decoded);
            }
            return Ok(());
        }
        each(read(self.form, asked, document)?);
        Ok(())
    }

    fn reply(&self, replying: &Replying<'_>) -> (StatusCode, Bytes) {
        reply::reply(replying)
    }

    /// Section 4: these senders come back after 5xx alone. What they lose to a 429 is lost for good.
    fn status(&self, class: Class) -> StatusCode {
        match class {
            Class::Overload => StatusCode::SERVICE_UNAVAILABLE,
            class => usual_status(class),
        }
    }
}

#[cfg(test)]
mod tests;
