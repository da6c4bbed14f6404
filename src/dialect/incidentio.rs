//! incident.io: incidents v1 and v2, what their clients read, and alert events v2 (contracts/incident-io.md). What they share
//! stands beside them.

mod alert;
mod body;
mod create;
mod edit;
mod errors;
mod filters;
mod incidents;
mod lists;
mod object;
mod reads;

use super::{Credentials, Scheme};

pub(super) use alert::Alert;
pub(super) use incidents::{V1, V2};

/// Which of the two incident APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

const BEARER: Credentials = Credentials::Header(&[Scheme::Bearer]);

/// The two that read the same lists: who may speak one may ask by the other's paths.
static READERS: [&str; 2] = ["incidentio_v1", "incidentio_v2"];

/// Longest id, in bytes; the vendor's own have 26 characters, and it may change that.
const ID_BYTES_MAX: usize = 512;

/// Categories of statuses that end an incident (section 5).
const ENDED: [&str; 5] = ["closed", "declined", "canceled", "merged", "learning"];
