//! Keys and the two limits. STUB: signatures only.

use std::sync::Arc;
use std::time::Duration;

use crate::claim::Targets;
use crate::event::Severity;
use crate::machine::Policy;

/// Per-second limit with its burst. `burst` defaults to one second's worth, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub per_second: std::num::NonZeroU32,
    pub burst: std::num::NonZeroU32,
}

/// What happens to a new incident above the event limit (INTERFACE 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLimit {
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
    pub source_networks: Option<Vec<(std::net::IpAddr, u8)>>,
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
}

pub struct Integration {
    pub config: IntegrationConfig,
    pub targets: Targets,
}

impl Integration {
    /// Takes one token of the event limit, or says how long until there is one.
    pub fn take_event_token(&self) -> Result<(), Duration> {
        Ok(())
    }
}
