//! Where a request really comes from, when proxies stand before us: the PROXY protocol at a connection's begin, and
//! `X-Forwarded-For` in a request's head. Used for `source_networks`; nothing is looked at unless it is configured.

use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use ppp::{PartialResult, v1, v2};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::gate;

/// Longest PROXY protocol header: every receiver must take as much, and no sender needs more.
const PROXY_BYTES_MAX: usize = 536;
/// How version 1 begins, and its longest line.
const V1_TAG: &[u8] = b"PROXY ";
const V1_BYTES_MAX: usize = 107;
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Which peers are proxies.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// Networks of proxies; `None`: none are named.
    pub trusted: Option<Vec<(IpAddr, u8)>>,
    /// They begin each connection with the PROXY protocol; unnamed, everybody does.
    pub protocol: bool,
}

impl Proxies {
    fn trust(&self, address: IpAddr) -> bool {
        self.trusted.iter().flatten().any(|network| gate::contains(*network, address))
    }

    /// Whether this peer begins with the PROXY protocol.
    pub(super) fn announces(&self, peer: IpAddr) -> bool {
        self.protocol && (self.trusted.is_none() || self.trust(peer))
    }

    /// Whether the `X-Forwarded-For` of this source is believed.
    pub(super) fn forwards(&self, source: IpAddr) -> bool {
        self.trusted.is_some() && self.trust(source)
    }

    /// The last address on a request's way that is no proxy's; where something else than an address stands, the
    /// proxy that wrote it.
    pub(super) fn source_of(&self, headers: &HeaderMap, proxy: IpAddr) -> IpAddr {
        let mut source = proxy;
        for value in headers.get_all(FORWARDED_FOR).iter().rev() {
            for word in value.as_bytes().rsplit(|byte| *byte == b',') {
                match std::str::from_utf8(word).ok().and_then(address) {
                    Some(address) => source = address,
                    None => return source,
                }
                if !self.trust(source) {
                    return source;
                }
            }
        }
        source
    }
}

/// An address, alone or with a port, IPv6 in brackets or not.
fn address(word: &str) -> Option<IpAddr> {
    let word = word.trim();
    let bare = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')).unwrap_or(word);
    let address = bare.parse().or_else(|_| word.parse().map(|socket: SocketAddr| socket.ip()));
    address.ok().map(|address| address.to_canonical())
}

/// Reads the PROXY protocol's header, version 1 or 2, and nothing behind it. `None`: the proxy speaks for itself, or
/// names no address. The caller's watch ends one that takes too long.
///
/// # Errors
/// No such header, one that is malformed or too long, or the connection's own.
pub(super) async fn announced(stream: &mut TcpStream) -> Result<Option<IpAddr>> {
    let mut header = [0; PROXY_BYTES_MAX];
    let mut taken = 0;
    loop {
        let seen = taken + stream.peek(&mut header[taken..]).await?;
        if seen == taken {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let parsed = parse(&header[..seen]);
        // What does not end the header is part of it.
        let to = if let Ok(Some((length, _))) = parsed { length } else { seen };
        stream.read_exact(&mut header[taken..to]).await?;
        taken = to;
        match parsed {
            Ok(Some((_, source))) => return Ok(source),
            Ok(None) if taken < PROXY_BYTES_MAX => {}
            Ok(None) => return Err(malformed("longer than 536 bytes")),
            Err(error) => return Err(error),
        }
    }
}

/// Length and source of a whole header; `None` while it is not whole.
fn parse(bytes: &[u8]) -> Result<Option<(usize, Option<IpAddr>)>> {
    let wrong = || malformed("malformed or missing");
    let tag = bytes.len().min(V1_TAG.len());
    if bytes.get(..tag) == V1_TAG.get(..tag) {
        // One line; the library would judge half a line.
        if !bytes.contains(&b'\n') {
            return if bytes.len() < V1_BYTES_MAX { Ok(None) } else { Err(wrong()) };
        }
        let header = v1::Header::try_from(bytes).map_err(|_| wrong())?;
        let source = match header.addresses {
            v1::Addresses::Tcp4(addresses) => Some(addresses.source_address.into()),
            v1::Addresses::Tcp6(addresses) => Some(addresses.source_address.into()),
            v1::Addresses::Unknown => None,
        };
        return Ok(Some((header.header.len(), source)));
    }
    let parsed = v2::Header::try_from(bytes);
    if parsed.is_incomplete() {
        return Ok(None);
    }
    let header = parsed.map_err(|_| wrong())?;
    let source = match header.addresses {
        _ if header.command == v2::Command::Local => None,
        v2::Addresses::IPv4(addresses) => Some(addresses.source_address.into()),
        v2::Addresses::IPv6(addresses) => Some(addresses.source_address.into()),
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
    };
    Ok(Some((header.len(), source)))
}

fn malformed(why: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("the PROXY protocol's header is {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(networks: &[(&str, u8)]) -> Proxies {
        let networks = networks.iter().map(|(address, prefix)| (address.parse().unwrap(), *prefix));
        Proxies { trusted: Some(networks.collect()), protocol: true }
    }

    fn source(lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        proxies(&[("10.0.0.0", 8), ("2001:db8::", 32)]).source_of(&headers, "10.0.0.1".parse().unwrap()).to_string()
    }

    #[test]
    fn the_source_is_the_last_address_that_is_no_proxys() {
        assert_eq!(source(&[]), "10.0.0.1");
        assert_eq!(source(&["192.0.2.7"]), "192.0.2.7");
        assert_eq!(
            source(&["6.6.6.6, 192.0.2.7, 10.1.1.1"]),
            "192.0.2.7",
            "what a client says of itself is not believed"
        );
        assert_eq!(source(&["6.6.6.6", "192.0.2.7", "10.1.1.1"]), "192.0.2.7", "lines are joined in order");
        assert_eq!(source(&["10.2.2.2, 10.1.1.1"]), "10.2.2.2", "all are proxies: the first");
        assert_eq!(source(&["192.0.2.7:4711"]), "192.0.2.7");
        assert_eq!(source(&["[2001:db9::7]:443, [2001:db8::1]"]), "2001:db9::7");
        assert_eq!(source(&["::ffff:192.0.2.7"]), "192.0.2.7");
        assert_eq!(source(&["192.0.2.7, unknown, 10.1.1.1"]), "10.1.1.1", "behind what is no address all is hearsay");
    }

    #[test]
    fn only_named_proxies_are_believed() {
        let [named, other] = ["10.9.9.9", "192.0.2.1"].map(|address| address.parse().unwrap());
        let proxies = proxies(&[("10.0.0.0", 8)]);
        assert!(proxies.forwards(named) && proxies.announces(named));
        assert!(!proxies.forwards(other) && !proxies.announces(other));
        let unnamed = Proxies { trusted: None, protocol: true };
        assert!(unnamed.announces(other) && !unnamed.forwards(other));
        assert!(!Proxies::default().announces(other));
    }

    #[test]
    fn a_header_is_read_whole_in_either_version() {
        let v1 = b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\nPOST /";
        assert_eq!(parse(v1).unwrap(), Some((40, Some("192.0.2.7".parse().unwrap()))));
        for cut in 0..40 {
            assert!(parse(&v1[..cut]).unwrap().is_none(), "{cut}");
        }
        assert_eq!(parse(b"PROXY UNKNOWN\r\n").unwrap(), Some((15, None)));
        let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        v2.extend_from_slice(&[192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x67, 1, 187]);
        assert_eq!(parse(&v2).unwrap(), Some((28, Some("192.0.2.7".parse().unwrap()))));
        for cut in 0..28 {
            assert!(parse(&v2[..cut]).unwrap().is_none(), "{cut}");
        }
        v2[12] = 0x20;
        assert_eq!(parse(&v2).unwrap(), Some((28, None)), "a proxy's own health check");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::test_cases(512)))]
        #[test]
        fn any_bytes_are_a_header_or_none_and_a_header_lies_within_them(
            begin in proptest::sample::select(vec![&b""[..], V1_TAG, b"PROXY TCP6 ", b"\r\n\r\n\0\r\nQUIT\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0"]),
            rest in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..PROXY_BYTES_MAX - 20),
        ) {
            let bytes = [begin, &rest].concat();
            if let Ok(Some((length, _))) = parse(&bytes) {
                proptest::prop_assert!((15..=bytes.len()).contains(&length));
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused_at_once() {
        let long = format!("PROXY UNKNOWN {}", "f".repeat(100));
        for wrong in [
            long.as_str(),
            "GET / HTTP/1.1\r\n",
            "PROXY TCP4 192.0.2.7\r\n",
            "PROXY TCP9 1 2 3 4\r\n",
            "\x16\x03\x01\x02\0\x01",
        ] {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }
}
