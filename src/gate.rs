//! The gate: who may send, and how much. `keys` finds the integration of a presented key, `rate` holds the
//! two limits of contracts 2.1. Unknown keys create no state.

mod keys;
mod mapping;
mod rate;
mod settings;
mod signature;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

pub use keys::Keys;
pub use mapping::{Fields, Mapping};
pub use rate::Rate;
pub use settings::{AlarmLevel, AlertSource, GroupMode, Settings, SeverityRow, SnsSettings, StatusRow, ZabbixKey};
pub use signature::Signature;
use tokio::time::Instant;

use crate::claim::{Admitted, Claim, Pacing, Targets};
use crate::event::{Event, Severity};
use crate::machine::{ForwardDuplicates, Policy};
use crate::metrics::Ticket;
use crate::metrics::tally::Tally;
use crate::outcome::{Outcome, Reason, Refusal};
use rate::Limiter;

/// What happens to a new incident above the event limit (INTERFACE 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLimit {
    /// Refuse senders that come back (contracts 2.6), keep for the others.
    #[default]
    Auto,
    Reject,
    Spool,
}

/// An integration as meant by the configuration.
#[derive(Clone, Debug)]
pub struct IntegrationConfig {
    pub name: Arc<str>,
    /// SHA-256 of each key; one or two.
    pub key_hashes: Vec<[u8; 32]>,
    pub enabled: bool,
    /// `None`: all.
    pub dialects: Option<Vec<String>>,
    /// `None`: any. Network address and prefix length.
    pub source_networks: Option<Vec<(IpAddr, u8)>>,
    pub upstreams: Vec<Arc<str>>,
    /// `None`: no event limit.
    pub event_rate: Option<Rate>,
    pub request_rate: Rate,
    pub on_limit: OnLimit,
    /// `None`: the listener's limit.
    pub body_bytes: Option<usize>,
    pub policy: Policy,
    pub default_severity: Option<Severity>,
    pub require_description: bool,
    /// Squadcast dialect; 202.
    pub success_status: u16,
    /// `None`: an answer waits for the log alone.
    pub ack: Option<Ack>,
    /// Ids that we did not give go to the first-listed upstream as they came; else they are 404.
    pub passes_ids: bool,
    pub settings: Settings,
}

/// What answers wait for beside the log (DESIGN 5.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// For the first-listed upstream; then the spooled answer is given.
    pub timeout: Duration,
    /// Senders get that upstream's answer, and its ids; else ours.
    pub relays: bool,
}

/// Whom an integration's events go to. The sinks tell, whom the gate does not know.
pub trait Whom: Send + Sync {
    /// Those of them that a trigger of a living incident raises, in configured order.
    fn raised(&self, event: &Event) -> &Targets;

    /// The upstreams that can be told this event, in configured order.
    fn targets(&self, event: &Event) -> &Targets;

    /// Whether one of them does what the event asks for, and does not merely record it.
    fn is_done(&self, event: &Event) -> bool;
}

impl Whom for Targets {
    fn raised(&self, _event: &Event) -> &Targets {
        self
    }

    /// All of them, whatever it says.
    fn targets(&self, _event: &Event) -> &Targets {
        self
    }

    fn is_done(&self, _event: &Event) -> bool {
        !self.is_empty()
    }
}

/// The event limit of one integration, held by all replicas together. Never waits.
pub trait SharedLimit: Send + Sync {
    /// Takes a token, or says how long until there may be one.
    ///
    /// # Errors
    /// That time.
    fn take(&self, now: Instant) -> Result<(), Duration>;
}

/// Makes them; `redis` does, which the gate does not know.
pub trait Fleet: Send + Sync {
    fn limit(&self, integration: &str, rate: Rate) -> Arc<dyn SharedLimit>;
}

impl SharedLimit for Limiter {
    fn take(&self, now: Instant) -> Result<(), Duration> {
        Limiter::take(self, now)
    }
}

/// A configured integration with its live limits; made anew when the configuration changes.
pub struct Integration {
    pub config: IntegrationConfig,
    whom: Box<dyn Whom>,
    requests: Arc<Limiter>,
    events: Option<Arc<dyn SharedLimit>>,
    /// Goes on over reloads.
    tally: Arc<Tally>,
}

impl Integration {
    /// `before`: the same integration in the configuration that this one replaces. Limits that did not change go on
    /// where they stand: a reload is no new burst.
    pub fn new(config: IntegrationConfig, whom: Box<dyn Whom>, before: Option<&Self>) -> Self {
        Self::in_fleet(config, whom, before, None)
    }

    /// As [`Integration::new`], with the event limit that a fleet holds together; the request limit is this replica's.
    pub fn in_fleet(
        config: IntegrationConfig,
        whom: Box<dyn Whom>,
        before: Option<&Self>,
        fleet: Option<&dyn Fleet>,
    ) -> Self {
        let requests = match before {
            Some(before) if before.config.request_rate == config.request_rate => Arc::clone(&before.requests),
            _ => Arc::new(Limiter::new(config.request_rate)),
        };
        let events = match before {
            Some(before) if before.config.event_rate == config.event_rate => before.events.clone(),
            _ => config.event_rate.map(|rate| match fleet {
                Some(fleet) => fleet.limit(&config.name, rate),
                None => Arc::new(Limiter::new(rate)) as Arc<dyn SharedLimit>,
            }),
        };
        let tally = before.map_or_else(Arc::default, |before| Arc::clone(&before.tally));
        Self { config, whom, requests, events, tally }
    }

    /// What its events came to.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The upstreams that a trigger of a living incident goes to (contracts 5.4, 7).
    pub fn raised(&self, event: &Event) -> &Targets {
        if self.config.policy.forward_duplicates == ForwardDuplicates::All {
            return self.whom.targets(event);
        }
        self.whom.raised(event)
    }

    /// The upstreams that can be told this event.
    pub fn targets(&self, event: &Event) -> &Targets {
        self.whom.targets(event)
    }

    /// Whether one of its upstreams does what the event asks for, and does not merely record it.
    pub fn is_done(&self, event: &Event) -> bool {
        self.whom.is_done(event)
    }

    /// Whether this integration may send in one of these dialects from `source` (contracts 2.2).
    ///
    /// # Errors
    /// A refusal of class forbidden.
    pub fn allows(&self, dialects: &[&str], source: IpAddr) -> Result<(), Refusal> {
        if !self.config.enabled {
            return Err(Refusal::new(Reason::IntegrationDisabled, "this integration is disabled"));
        }
        let is_taken = |allowed: &Vec<String>| allowed.iter().any(|name| dialects.contains(&&**name));
        if !self.config.dialects.as_ref().is_none_or(is_taken) {
            let message = format!("this integration does not take the dialect {}", dialects.first().unwrap_or(&""));
            return Err(Refusal::new(Reason::DialectNotAllowed, message));
        }
        let networks = self.config.source_networks.as_ref();
        if networks.is_some_and(|networks| !networks.iter().any(|network| contains(*network, source))) {
            return Err(Refusal::new(Reason::SourceNotAllowed, "this integration does not take requests from here"));
        }
        Ok(())
    }

    /// Step 6 of contracts 2.1: counted on every request with a good key.
    ///
    /// # Errors
    /// A refusal of class overload that says when to come back.
    pub fn take_request(&self, now: Instant) -> Result<(), Refusal> {
        self.requests.take(now).map_err(|wait| {
            Refusal::new(Reason::RequestLimit, "too many requests for this integration")
                .retry_after(whole_seconds(wait))
        })
    }

    /// Takes one token of the event limit, or says how long until there is one.
    ///
    /// # Errors
    /// The time until a token is free.
    pub fn take_event_token(&self) -> Result<(), Duration> {
        self.events.as_ref().map_or(Ok(()), |events| events.take(Instant::now()))
    }

    /// Requests and burst a second, for the `RateLimit-Policy` of a 429.
    pub fn limit_of(&self, reason: Reason) -> Option<Rate> {
        match reason {
            Reason::RequestLimit => Some(self.config.request_rate),
            Reason::EventLimit => self.config.event_rate,
            _ => None,
        }
    }

    /// Step 11 of contracts 2.1: only what creates an incident takes a token; `retries` says whether senders
    /// of this dialect come back. The only maker of an [`Admitted`].
    ///
    /// # Errors
    /// The refusal, with the ticket to settle; the claim is released.
    pub fn admit(
        &self,
        claim: Claim,
        event: Event,
        ticket: Ticket,
        retries: bool,
        pacing: Pacing,
    ) -> Result<Admitted, (Refusal, Ticket)> {
        let mut pacing = pacing;
        if claim.outcome == Outcome::Created
            && let Err(wait) = self.take_event_token()
        {
            let refuses = match self.config.on_limit {
                OnLimit::Reject => true,
                OnLimit::Spool => false,
                OnLimit::Auto => retries,
            };
            if refuses {
                let refusal = Refusal::new(Reason::EventLimit, "too many new incidents for this integration");
                return Err((refusal.retry_after(whole_seconds(wait)), ticket));
            }
            pacing = pacing.with(Pacing::EVENT_LIMIT);
        }
        Ok(Admitted { claim, event, pacing, ticket })
    }
}

/// The global bucket of requests whose key proves missing or wrong (DESIGN 5.8).
pub struct UnauthenticatedBucket(Limiter);

impl UnauthenticatedBucket {
    pub fn new(per_second: NonZeroU32) -> Self {
        Self(Limiter::new(Rate { per_second, burst: per_second }))
    }

    /// False when the bucket is empty.
    pub fn take(&self, now: Instant) -> bool {
        self.0.take(now).is_ok()
    }
}

fn whole_seconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_secs_f64().ceil() as u64).unwrap_or(u32::MAX)
}

/// Whether `address` lies in the network; IPv4 addresses mapped into IPv6 count as IPv4.
pub fn contains((network, prefix): (IpAddr, u8), address: IpAddr) -> bool {
    let same_head = |a: u128, b: u128, width: u32| {
        let shift = width.saturating_sub(u32::from(prefix)).min(128);
        shift == 128 || a >> shift == b >> shift
    };
    match (network.to_canonical(), address.to_canonical()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same_head(u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same_head(a.to_bits(), b.to_bits(), 128),
        _ => false,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::metrics::Metrics;

    pub(crate) fn config(name: &str) -> IntegrationConfig {
        let thousand = NonZeroU32::new(10_000).unwrap();
        IntegrationConfig {
            name: name.into(),
            key_hashes: vec![keys::hash_of("k")],
            enabled: true,
            dialects: None,
            source_networks: None,
            upstreams: vec!["pager".into()],
            event_rate: None,
            request_rate: Rate { per_second: thousand, burst: thousand },
            on_limit: OnLimit::Auto,
            body_bytes: None,
            policy: Policy::default(),
            default_severity: None,
            require_description: true,
            success_status: 202,
            ack: None,
            passes_ids: false,
            settings: Settings::default(),
        }
    }

    fn one_a_second() -> Option<Rate> {
        Some(Rate { per_second: NonZeroU32::MIN, burst: NonZeroU32::MIN })
    }

    #[test]
    fn networks_match_by_prefix_and_never_across_families() {
        let net = |text: &str, prefix| (text.parse::<IpAddr>().unwrap(), prefix);
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(contains(net("10.1.0.0", 16), at("10.1.255.3")));
        assert!(!contains(net("10.1.0.0", 16), at("10.2.0.3")));
        assert!(contains(net("0.0.0.0", 0), at("203.0.113.9")));
        assert!(contains(net("10.1.0.0", 16), at("::ffff:10.1.2.3")));
        assert!(!contains(net("::", 0), at("10.1.2.3")));
        assert!(contains(net("2001:db8::", 32), at("2001:db8:1::1")));
    }

    #[test]
    fn only_new_incidents_take_a_token_and_senders_that_do_not_return_are_kept() {
        let metrics = Metrics::new(1).unwrap();
        let admit = |integration: &Integration, outcome, retries| {
            let claim = Claim::new(None, None, outcome, Arc::from([]));
            let event = crate::event::tests::event("k");
            integration.admit(claim, event, metrics.receive(0), retries, Pacing::default())
        };
        let mut config = config("a");
        config.event_rate = one_a_second();
        let integration = Integration::new(config, Box::new(Targets::from([])), None);
        assert!(admit(&integration, Outcome::Created, true).is_ok_and(|a| a.pacing == Pacing::default()));
        assert!(admit(&integration, Outcome::Resolved, true).is_ok());
        let (refusal, ticket) = admit(&integration, Outcome::Created, true).err().unwrap();
        assert_eq!((refusal.reason, refusal.retry_after_s), (Reason::EventLimit, Some(1)));
        ticket.reject(refusal.reason);
        assert!(admit(&integration, Outcome::Created, false).is_ok_and(|a| a.pacing.has(Pacing::EVENT_LIMIT)));
    }
}
