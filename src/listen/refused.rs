//! Why an address cannot be listened on, in words, and what to do. For a start that fails and for `validate`.

use std::io;
use std::net::SocketAddr;

use super::holder::{Holder, holder};

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
    /// Who has the address, where the machine tells this user.
    pub fn holder(&self) -> Option<Holder> {
        holder(self.address.port())
    }

    /// What the machine says, in plain words.
    pub fn reason(&self) -> String {
        match self.source.kind() {
            io::ErrorKind::AddrInUse => match self.holder() {
                Some(holder) => format!("address in use: {holder} has it"),
                None => "address in use: another process has it".to_owned(),
            },
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
                format!("stop that process, or change {key}")
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(address: SocketAddr) -> Refused {
        let source = super::super::bind(address).unwrap_err();
        Refused { door: "ingest", address, source }
    }

    #[test]
    fn a_port_that_is_taken_names_the_process_that_has_it_and_the_key_to_change() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let refused = refused(address);
        let shown = refused.to_string();
        assert!(shown.starts_with(&format!("cannot listen on {address} (ingest): address in use: ")), "{shown}");
        assert!(shown.contains(&format!("(process {})", std::process::id())), "{shown}");
        assert!(refused.hint().contains("listen.ingest.address"), "{}", refused.hint());
    }

    #[test]
    fn an_address_of_another_machine_is_told_as_that() {
        let shown = refused("192.0.2.1:8080".parse().unwrap()).to_string();
        assert_eq!(shown, "cannot listen on 192.0.2.1:8080 (ingest): not an address of this machine");
    }
}
