//! STUB.
pub mod framing;

use std::net::SocketAddr;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Config {
    pub address: SocketAddr,
    /// `None`: descriptors - 512.
    pub connections: Option<usize>,
    pub header_bytes: usize,
    pub headers: usize,
    pub uri_bytes: usize,
    pub header_timeout: Duration,
    pub idle_timeout: Duration,
    pub unauthenticated_requests_per_second: u32,
}
