//! What `redis.url` names: one server, a Cluster, or a master that Sentinels know. Read by `config`, dialled by `dial`.

use std::fmt;

use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
/// Redis's own limit is what its configuration says; 16 is its default, 1,000,000 more than anybody has.
const DATABASE_MAX: i64 = 1_000_000;

/// Where Redis is, and how it lets us in.
#[derive(Clone, PartialEq, Eq)]
pub struct Servers {
    pub(super) kind: Kind,
    /// Of Sentinels where those are asked; at least one.
    pub(super) hosts: Vec<(String, u16)>,
    pub(super) tls: bool,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: i64,
    /// User and password of the Sentinels.
    pub(super) sentinel_login: Login,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Single,
    Cluster,
    /// The master's name with the Sentinels.
    Sentinel(String),
}

/// What is wrong with a URL; never repeats it, since it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongUrl {
    #[error("not a Redis URL")]
    Scheme,
    #[error("no host")]
    Host,
    #[error("not a port")]
    Port,
    #[error("not a number of a database")]
    Database,
    #[error("no name of a master")]
    Service,
    #[error("nothing may stand behind the database")]
    Query,
    #[error("user or password is not valid percent-encoding")]
    Login,
    #[error("a Cluster has database 0 alone")]
    ClusterDatabase,
    #[error("the servers of a Cluster share TLS, user and password")]
    ClusterDiffers,
    #[error("Sentinels stand in one URL, separated by commas")]
    SentinelList,
}

impl WrongUrl {
    /// How it is written.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Scheme | Self::Query | Self::Login => {
                "write redis://user:password@host:6379/0, rediss:// with TLS, or redis+sentinel://host1,host2/master"
            }
            Self::Host => "write redis://host:6379",
            Self::Port => "a port is 1 to 65535",
            Self::Database => "write redis://host:6379/0",
            Self::Service | Self::SentinelList => "write redis+sentinel://host1:26379,host2:26379/master/0",
            Self::ClusterDatabase => "remove the number",
            Self::ClusterDiffers => "write the same before the @ in each",
        }
    }
}

impl Servers {
    /// One URL is one server, or Sentinels; several are a Cluster.
    ///
    /// # Errors
    /// The first that is wrong.
    pub fn parse(urls: &[String]) -> Result<Self, WrongUrl> {
        let mut read = urls.iter().map(|url| Self::one(url));
        let mut first = read.next().ok_or(WrongUrl::Host)??;
        for next in read {
            let next = next?;
            if first.sentinel().is_some() || next.sentinel().is_some() {
                return Err(WrongUrl::SentinelList);
            }
            if first.database != 0 || next.database != 0 {
                return Err(WrongUrl::ClusterDatabase);
            }
            if (first.tls, &first.user, &first.password) != (next.tls, &next.user, &next.password) {
                return Err(WrongUrl::ClusterDiffers);
            }
            first.hosts.extend(next.hosts);
            first.kind = Kind::Cluster;
        }
        Ok(first)
    }

    /// # Errors
    /// It is none.
    pub fn one(url: &str) -> Result<Self, WrongUrl> {
        let (scheme, rest) = url.split_once("://").ok_or(WrongUrl::Scheme)?;
        let (tls, is_sentinel) = match scheme.to_ascii_lowercase().as_str() {
            "redis" | "valkey" => (false, false),
            "rediss" | "valkeys" => (true, false),
            "redis+sentinel" => (false, true),
            "rediss+sentinel" => (true, true),
            _ => return Err(WrongUrl::Scheme),
        };
        if rest.contains(['?', '#']) {
            return Err(WrongUrl::Query);
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) =
            authority.rsplit_once('@').map_or((None, authority), |(login, hosts)| (Some(login), hosts));
        let (user, password) = login.map_or(Ok((None, None)), read_login)?;
        let usual = if is_sentinel { SENTINEL_PORT } else { PORT };
        let hosts = hosts.split(',').map(|host| read_host(host, usual)).collect::<Result<Vec<_>, _>>()?;
        if !is_sentinel && hosts.len() > 1 {
            return Err(WrongUrl::Host);
        }
        let (kind, database) = if is_sentinel {
            let (service, database) = path.split_once('/').unwrap_or((path, ""));
            if service.is_empty() {
                return Err(WrongUrl::Service);
            }
            (Kind::Sentinel(service.to_owned()), database)
        } else {
            (Kind::Single, path)
        };
        let database = read_database(database)?;
        Ok(Self { kind, hosts, tls, user, password, database, sentinel_login: (None, None) })
    }

    /// Whether Sentinels are asked for the server.
    pub fn asks_sentinels(&self) -> bool {
        self.sentinel().is_some()
    }

    /// Sentinels are asked under a user and a password of their own.
    pub fn let_in_at_sentinels(&mut self, login: Login) {
        self.sentinel_login = login;
    }

    /// A digest of users and passwords.
    pub(super) fn fingerprint(&self) -> String {
        let digest = Sha256::digest(format!("{:?}", (&self.user, &self.password, &self.sentinel_login)));
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(super) fn sentinel(&self) -> Option<&str> {
        match &self.kind {
            Kind::Sentinel(service) => Some(service),
            Kind::Single | Kind::Cluster => None,
        }
    }
}

impl fmt::Display for Servers {
    /// Hosts and ports alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match &self.kind {
            Kind::Single => "",
            Kind::Cluster => "Cluster ",
            Kind::Sentinel(service) => &format!("master {service} of the Sentinels "),
        };
        f.write_str(what)?;
        for (at, (host, port)) in self.hosts.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{}", Address(host, *port))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Servers {
    /// Without what lets us in.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}, database {}, TLS {}", self.database, self.tls)
    }
}

/// A host and a port for people.
pub(super) struct Address<'a>(pub(super) &'a str, pub(super) u16);

impl fmt::Display for Address<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(host, port) = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// User and password.
pub type Login = (Option<String>, Option<String>);

fn read_login(text: &str) -> Result<Login, WrongUrl> {
    let decode = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8().map_err(|_| WrongUrl::Login)?;
        Ok::<_, WrongUrl>(Some(decoded.into_owned()).filter(|text| !text.is_empty()))
    };
    match text.split_once(':') {
        Some((user, password)) => Ok((decode(user)?, decode(password)?)),
        // A user without a password is let in nowhere: it is the password.
        None => Ok((None, decode(text)?)),
    }
}

fn read_host(text: &str, usual: u16) -> Result<(String, u16), WrongUrl> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(WrongUrl::Host)?;
            match port.strip_prefix(':') {
                None if !port.is_empty() => return Err(WrongUrl::Port),
                port => (host, port),
            }
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Err(WrongUrl::Host);
    }
    let port = port.map_or(Ok(usual), |port| port.parse().map_err(|_| WrongUrl::Port))?;
    if port == 0 { Err(WrongUrl::Port) } else { Ok((host.to_owned(), port)) }
}

fn read_database(text: &str) -> Result<i64, WrongUrl> {
    let number = if text.is_empty() { 0 } else { text.parse().map_err(|_| WrongUrl::Database)? };
    if (0..=DATABASE_MAX).contains(&number) { Ok(number) } else { Err(WrongUrl::Database) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(urls: &[&str]) -> Result<Servers, WrongUrl> {
        Servers::parse(&urls.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn a_url_names_its_servers_and_nobody_is_shown_the_password() {
        let one = read(&["rediss://app:p%40ss%3Aword@cache.example/3"]).unwrap();
        assert_eq!((one.user.as_deref(), one.password.as_deref()), (Some("app"), Some("p@ss:word")));
        assert_eq!((one.tls, one.database, &one.kind), (true, 3, &Kind::Single));
        assert_eq!(format!("{one} {one:?}"), "cache.example:6379 cache.example:6379, database 3, TLS true");
        let sentinel = read(&["redis+sentinel://:pw@a,[::1]:7000/main/2"]).unwrap();
        assert_eq!((sentinel.user.as_deref(), sentinel.password.as_deref()), (None, Some("pw")));
        assert_eq!((sentinel.sentinel(), sentinel.database), (Some("main"), 2));
        assert_eq!(sentinel.to_string(), "master main of the Sentinels a:26379, [::1]:7000");
        let cluster = read(&["redis://pw@a", "redis://pw@b:7001"]).unwrap();
        assert_eq!((cluster.kind.clone(), cluster.password.as_deref()), (Kind::Cluster, Some("pw")));
        assert_eq!(cluster.to_string(), "Cluster a:6379, b:7001");
    }

    #[test]
    fn a_wrong_url_is_told_by_what_is_wrong() {
        for (urls, wrong) in [
            (&["http://a"][..], WrongUrl::Scheme),
            (&["a:6379"], WrongUrl::Scheme),
            (&["redis://"], WrongUrl::Host),
            (&["redis://a,b"], WrongUrl::Host),
            (&["redis://a:0"], WrongUrl::Port),
            (&["redis://a:x"], WrongUrl::Port),
            (&["redis://[::1]x"], WrongUrl::Port),
            (&["redis://a/main"], WrongUrl::Database),
            (&["redis://a/-1"], WrongUrl::Database),
            (&["redis://a?db=1"], WrongUrl::Query),
            (&["redis+sentinel://a"], WrongUrl::Service),
            (&["redis+sentinel://a/m", "redis+sentinel://b/m"], WrongUrl::SentinelList),
            (&["redis://a/1", "redis://b"], WrongUrl::ClusterDatabase),
            (&["redis://a", "rediss://b"], WrongUrl::ClusterDiffers),
            (&["redis://x:%ff@a"], WrongUrl::Login),
            (&[], WrongUrl::Host),
        ] {
            assert_eq!(read(urls), Err(wrong), "{urls:?}");
        }
    }
}
