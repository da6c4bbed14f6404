//! Whether each listener can have its address, and else who has it.

use std::fs;
use std::io;
use std::net::SocketAddr;

use tokio::net::TcpSocket;

use super::Book;
use super::spool::Spool;
use crate::config::Config;
use crate::listen::Refused;

/// A process that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Holder {
    pid: u32,
    name: String,
}

pub(super) fn check(config: &Config, spool: &Spool, book: &mut Book<'_>) {
    let doors = [("ingest", config.ingest.address), ("observe", config.observe), ("admin", config.admin.address)];
    for (door, address) in doors {
        let Err(source) = try_bind(address) else { continue };
        let refused = Refused { door, address, source };
        let key = format!("listen.{door}.address");
        if refused.source.kind() != io::ErrorKind::AddrInUse {
            book.error("address", &key, &format!("{address}: {}", refused.reason()), refused.hint());
            continue;
        }
        let holder = holder(address.port());
        match (&holder, spool.owner) {
            // The proxy that runs on this spool: a start would take its place, or a reload go on there.
            (Some(holder), Some(owner)) if holder.pid == owner => {}
            (None, Some(_)) => {}
            (Some(Holder { pid, name }), _) => {
                let message = format!("{address}: address in use by {name} (process {pid})");
                book.error("address_in_use", &key, &message, format!("stop it, or change {key}"));
            }
            (None, None) => {
                book.error("address_in_use", &key, &format!("{address}: {}", refused.reason()), refused.hint());
            }
        }
    }
}

/// Takes the address as a listener does, but never listens: no connection comes in.
fn try_bind(address: SocketAddr) -> io::Result<()> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)
}

/// Who listens on the port, from the kernel's lists; `None` where it does not tell this user.
fn holder(port: u16) -> Option<Holder> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|list| fs::read_to_string(list).ok())
        .flat_map(|list| list.lines().filter_map(|line| listening(line, port)).collect::<Vec<_>>())
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().find(|pid| holds(*pid, &inodes)).map(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Holder { pid, name: name.trim().to_owned() }
    })
}

/// The inode of a socket that listens on the port, from its line:
/// `  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 4711 1 ...`.
fn listening(line: &str, port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    let words: Vec<&str> = line.split_whitespace().collect();
    let (_, local) = words.get(1)?.rsplit_once(':')?;
    let is_it = u16::from_str_radix(local, 16).ok()? == port && *words.get(3)? == LISTEN;
    is_it.then(|| words.get(9).map(|inode| (*inode).to_owned())).flatten()
}

fn holds(pid: u32, sockets: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let targets = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.into_iter().any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_this_process_is_found_and_one_that_is_gone_is_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(try_bind(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(holder(address.port()).map(|holder| holder.pid), Some(std::process::id()));
        drop(listener);
        try_bind(address).unwrap();
    }

    #[test]
    fn an_address_of_another_machine_is_told_as_that() {
        let refused = |address: &str| try_bind(address.parse().unwrap()).unwrap_err().kind();
        assert_eq!(refused("192.0.2.1:8080"), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn only_sockets_that_listen_on_the_port_count() {
        let line = |state: &str| format!("  0: 0100007F:1F90 00000000:0000 {state} 0:0 00:0 0  0  0 4711 1 0 100");
        assert_eq!(listening(&line("0A"), 8080).as_deref(), Some("4711"));
        assert_eq!(listening(&line("01"), 8080), None);
        assert_eq!(listening(&line("0A"), 8081), None);
        assert_eq!(listening("  sl  local_address rem_address   st", 8080), None);
    }
}
