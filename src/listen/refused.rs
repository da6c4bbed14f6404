//! Why an address cannot be listened on, in words, and what to do. For a start that fails and for `validate`.

use std::io;
use std::net::SocketAddr;

/// A listener that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({door}): {}", self.reason())]
pub struct Refused {
    /// `ingest`, `observe` or `admin`: the key below `listen`.
    pub door: &'static str,
    pub address: SocketAddr,
    pub source: io::Error,
}

impl Refused {
    /// What the machine says, in plain words.
    pub fn reason(&self) -> String {
        match self.source.kind() {
            io::ErrorKind::AddrInUse => "address in use: another process has it".to_owned(),
            io::ErrorKind::PermissionDenied => {
                format!("no permission to listen on port {}", self.address.port())
            }
            io::ErrorKind::AddrNotAvailable => "not an address of this machine".to_owned(),
            _ => self.source.to_string(),
        }
    }

    /// What to do.
    pub fn hint(&self) -> String {
        let key = format!("listen.{}.address", self.door);
        match self.source.kind() {
            io::ErrorKind::AddrInUse => {
                format!("stop that process (`ss -ltnp` names it), or change {key}")
            }
            io::ErrorKind::PermissionDenied => {
                format!("ports below 1024 need root or CAP_NET_BIND_SERVICE: change {key} to a higher one")
            }
            io::ErrorKind::AddrNotAvailable => {
                format!("change {key}: 0.0.0.0 stands for every address of the machine, 127.0.0.1 for itself alone")
            }
            _ => format!("change {key}"),
        }
    }
}
