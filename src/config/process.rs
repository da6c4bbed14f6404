//! The sections that are about the process as a whole: `listen`, `limits`, `dedup`, `spool`, `redis`, `shutdown`, `log`.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::reader::Section;
use super::report::{Place, Wrong};
use super::{Admin, Log, LogFormat, files};
use crate::redis::{Config as RedisConfig, Scope, Servers, servers::WrongUrl};
use crate::{body, dedup, listen, store};

/// Preallocated at once; large enough that a busy proxy opens a new one every few seconds only.
const SEGMENT_BYTES: u64 = 64 << 20;
/// A body slower than the pace is let be for this long: TLS and congestion windows have to open.
const SLOW_GRACE: Duration = Duration::from_secs(2);

/// `usize` on the machine at hand; table bounds keep it exact on 64 bits.
pub(super) fn whole(number: Option<u64>) -> usize {
    usize::try_from(number.unwrap_or_default()).unwrap_or(usize::MAX)
}

pub(super) fn whole32(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

pub(super) fn listeners(root: &Section, limits: &Section) -> (listen::Config, SocketAddr, Admin) {
    let listen = root.section("listen");
    let sections = ["ingest", "observe", "admin"].map(|name| listen.section(name));
    let mut taken: Vec<(SocketAddr, Place)> = Vec::new();
    let addresses = sections.each_ref().map(|section| {
        let address = section.address("address").unwrap_or(UNREAD);
        if let Some((_, first)) = taken.iter().find(|(other, _)| overlap(*other, address)) {
            let wrong = Wrong::value("another listener has this address").code("conflict");
            let hint = match first.line {
                0 => "give each listener a port of its own".to_owned(),
                line => format!("the other stands at line {line}; give each listener a port of its own"),
            };
            section.error("address", wrong.hint(hint));
        }
        taken.push((address, section.place_of("address")));
        address
    });
    let [ingest_address, observe_address, admin_address] = addresses;
    let [ingest, _, admin] = sections;
    let config = listen::Config {
        address: ingest_address,
        connections: limits.count("connections").map(|count| whole(Some(count))),
        header_bytes: whole(limits.size("header_bytes")),
        headers: whole(limits.count("headers")),
        uri_bytes: whole(limits.size("uri_bytes")),
        header_timeout: limits.duration("header_timeout"),
        idle_timeout: limits.duration("idle_timeout"),
        unauthenticated_requests_per_second: whole32(
            limits.count("unauthenticated_requests_per_second").unwrap_or_default(),
        ),
        tls: tls(&ingest),
        proxies: listen::Proxies {
            trusted: ingest.networks("trusted_proxies").map(|list| list.into_iter().map(|(_, net)| net).collect()),
            protocol: ingest.switch("proxy_protocol"),
        },
    };
    let token = admin.file("token_file").and_then(|path| files::secret(&admin, "token_file", &path));
    if token.as_ref().is_some_and(|token| is_weak(token)) {
        let wrong =
            Wrong::value("a token that can be guessed: short, or of few different characters").code("weak_token");
        admin.warning("token_file", wrong.hint("`surgegate keys generate` makes 40 characters that nobody guesses"));
    }
    if !admin_address.ip().is_loopback() && !admin.has("token_file") {
        let wrong = Wrong::value("not a loopback address and no token_file: writes are refused").code("read_only");
        admin.warning("address", wrong.hint("set listen.admin.token_file"));
    }
    (config, observe_address, Admin { address: admin_address, token })
}

/// Whether a token is no match for somebody who tries a thousand a second: 16 hex digits would be.
fn is_weak(token: &str) -> bool {
    const CHARS_MIN: usize = 16;
    const DIFFERENT_MIN: usize = 6;
    token.chars().count() < CHARS_MIN || token.chars().collect::<HashSet<_>>().len() < DIFFERENT_MIN
}

/// The files alone; what they hold is read when they are used.
fn tls(ingest: &Section) -> Option<listen::tls::Config> {
    let tls = ingest.section("tls");
    let file = |key| tls.file(key).inspect(|path| tls.note_read(path));
    tls.is_given().then(|| listen::tls::Config {
        certificate: file("certificate").unwrap_or_default(),
        key: file("key").unwrap_or_default(),
        client_ca: file("client_ca"),
    })
}

/// Stands in for an address that was reported; such a configuration is never used.
const UNREAD: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Whether binding the second would fail. Port 0 takes a free one.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (any || one.ip() == other.ip())
}

pub(super) fn body(limits: &Section) -> body::Limits {
    let body = body::Limits {
        body_bytes: whole(limits.size("body_bytes")),
        batch_body_bytes: whole(limits.size("batch_body_bytes")),
        gzip: limits.switch("gzip"),
        body_bytes_in_flight: whole(limits.size("body_bytes_in_flight")),
        body_timeout: limits.duration("body_timeout"),
        body_bytes_per_second: whole(limits.size("body_bytes_per_second")),
        slow_grace: SLOW_GRACE,
    };
    if body.batch_body_bytes < body.body_bytes {
        let wrong = Wrong::value("less than limits.body_bytes").code("conflict");
        limits.error("batch_body_bytes", wrong.hint("a batch holds at least one event"));
    }
    if body.body_bytes_in_flight < body.batch_body_bytes {
        let wrong = Wrong::value("less than limits.batch_body_bytes").code("conflict");
        limits.error("body_bytes_in_flight", wrong.hint("a single batch could never be read"));
    }
    body
}

/// `redeliver_after`: the shortest of the upstreams'.
pub(super) fn dedup(root: &Section, redeliver_after: Duration) -> dedup::Config {
    let dedup = root.section("dedup");
    dedup::Config {
        open_ttl: dedup.duration("open_ttl"),
        resolved_ttl: dedup.duration("resolved_ttl"),
        idempotency_ttl: dedup.duration("idempotency_ttl"),
        replay_ttl: dedup.duration("replay_ttl"),
        max_keys: whole(dedup.count("max_keys")),
        redeliver_after,
        replica_id: 0,
        is_shared: root.section("redis").is_given(),
    }
}

pub(super) fn spool(root: &Section) -> store::Config {
    let spool = root.section("spool");
    let max_bytes = spool.size("max_bytes").unwrap_or_default();
    store::Config {
        directory: spool.file("directory").unwrap_or_default(),
        durability: match spool.choice("durability") {
            Some("memory") => store::Durability::Memory,
            _ => store::Durability::Fsync,
        },
        max_bytes,
        // Two are always in use or made ahead; of few large ones one that is still needed would block much of the spool.
        segment_bytes: whole32(SEGMENT_BYTES.min(max_bytes / 16)),
        retain: spool.duration("retain"),
        index_bytes: spool.size("index_bytes").unwrap_or_default(),
        unreadable: store::Unreadable::default(),
    }
}

/// `None`: this replica stands alone.
pub(super) fn redis(root: &Section) -> Option<RedisConfig> {
    let redis = root.section("redis");
    if !redis.is_given() {
        return None;
    }
    let wrong = |wrong: WrongUrl| Wrong::value(wrong.to_string()).hint(wrong.hint());
    let urls = redis.links("url", |url| Servers::one(url).map(drop).map_err(wrong));
    let scope = match redis.choice("scope") {
        Some("mirror") => Scope::Mirror,
        _ => Scope::Shared,
    };
    let timeout = redis.duration("timeout");
    let key_prefix = redis.name("key_prefix").unwrap_or_default();
    let replica_id = redis.count("replica_id").and_then(|id| u16::try_from(id).ok());
    let ca_file = redis.file("ca_file").inspect(|path| redis.note_read(path));
    let login = (redis.text("sentinel_user"), redis.text("sentinel_password"));
    let servers = Servers::parse(&urls).map_err(|error| {
        // What is wrong with one of them alone was told, and so was that there is none.
        if urls.len() > 1 {
            redis.error("url", wrong(error).code("conflict"));
        }
    });
    let mut servers = servers.ok()?;
    for (key, given) in [("sentinel_user", login.0.is_some()), ("sentinel_password", login.1.is_some())] {
        if given && !servers.asks_sentinels() {
            let wrong = Wrong::value("redis.url names no Sentinels").code("conflict");
            redis.error(key, wrong.hint("write redis.url as redis+sentinel://HOST:26379/NAME, or remove this key"));
        }
    }
    servers.let_in_at_sentinels(login);
    Some(RedisConfig { servers, scope, timeout, key_prefix, replica_id, ca_file })
}

pub(super) fn log(root: &Section) -> Log {
    let log = root.section("log");
    Log {
        format: match log.choice("format") {
            Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            _ => LogFormat::Auto,
        },
        level: match log.choice("level") {
            Some("error") => tracing::Level::ERROR,
            Some("warn") => tracing::Level::WARN,
            Some("debug") => tracing::Level::DEBUG,
            Some("trace") => tracing::Level::TRACE,
            _ => tracing::Level::INFO,
        },
    }
}
