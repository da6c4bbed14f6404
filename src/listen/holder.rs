//! Who listens on a port, from the kernel's lists: for messages about an address that is taken.

use std::fmt;
use std::fs;

/// A process that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// Who listens on the port; `None` where it does not tell this user.
pub(super) fn holder(port: u16) -> Option<Holder> {
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
        // Another may choose its name.
        let name = name.trim().chars().filter(|character| !character.is_control()).collect();
        Holder { pid, name }
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
        assert_eq!(holder(address.port()).map(|holder| holder.pid), Some(std::process::id()));
        drop(listener);
        assert_eq!(holder(address.port()).filter(|holder| holder.pid == std::process::id()), None);
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
