//! Where the load goes: `HOST:PORT` or `http://HOST:PORT[/PREFIX]`, plain HTTP/1.1.
//! Called by the command lines of [`crate::run`] and [`crate::saturate`].

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, bail, ensure};

/// A server to load: its address, and what goes into the request head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub address: SocketAddr,
    /// The `Host` header: as written by the user, not as resolved.
    pub host: String,
    /// The URL's own path, without a slash at its end; often empty.
    pub base_path: String,
}

/// Reads a target and resolves its name once.
///
/// # Errors
/// Another scheme than `http`, no port, or a name that does not resolve.
pub fn parse(text: &str) -> anyhow::Result<Target> {
    let rest = match text.split_once("://") {
        Some(("http", rest)) => rest,
        Some((scheme, _)) => bail!("target `{text}`: {scheme} is not supported, only http"),
        None => text,
    };
    let (host, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    ensure!(
        path.bytes().all(|b| b.is_ascii_graphic() && !b"?#".contains(&b)),
        "target `{text}`: the path may hold neither blanks nor a query"
    );
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let resolvable = if has_port { host.to_owned() } else { format!("{host}:80") };
    let address = resolvable
        .to_socket_addrs()
        .with_context(|| format!("target `{text}` must be HOST:PORT or http://HOST:PORT"))?
        .next()
        .with_context(|| format!("target `{text}` resolves to no address"))?;
    Ok(Target { address, host: host.to_owned(), base_path: path.trim_end_matches('/').to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_an_address_or_an_http_url() {
        let plain = parse("127.0.0.1:8080").expect("an address");
        assert_eq!((plain.address.port(), plain.base_path.as_str()), (8080, ""));
        let url = parse("http://127.0.0.1:8080/edge/").expect("a URL");
        assert_eq!((url.host.as_str(), url.base_path.as_str()), ("127.0.0.1:8080", "/edge"));
        assert_eq!(parse("http://127.0.0.1").expect("port 80").address.port(), 80);
    }

    #[test]
    fn other_schemes_and_queries_are_refused() {
        assert!(parse("https://127.0.0.1:1").is_err());
        assert!(parse("http://127.0.0.1:1/a?b").is_err());
        assert!(parse("127.0.0.1:99999").is_err());
    }
}
