//! Makes connections: TCP or TLS, login, RESP3 with client tracking, and a write that shows whether the server takes
//! any. Called by `node` and `topology`; every wait has its bound.

use std::fmt;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::io::tcp::TcpSettings;
use ::redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use ::redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, Pipeline, ProtocolVersion, PushInfo,
    RedisConnectionInfo, RedisError, TlsCertificates, TlsMode,
};
use tokio::time::timeout;

use super::servers::Servers;
use super::{Config, node};

/// For name, TCP, TLS and login.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// For all Sentinels together.
const RESOLVE_MAX: Duration = Duration::from_secs(3);
/// A server's words in our log.
const WORDS_MAX: usize = 200;

/// Why a server cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// Its words, or those of the way to it.
    #[error("{0}")]
    Refused(String),
    #[error("no connection within {CONNECT_MAX:?}")]
    Connect,
    #[error("no Sentinel told the master within {RESOLVE_MAX:?}")]
    Resolve,
    #[error("no answer within {0:?}")]
    Silent(Duration),
    #[error("answers take longer than redis.timeout, {0:?}")]
    Slow(Duration),
    #[error("the connection was lost")]
    Lost,
    #[error("another server is the master now")]
    Moved,
    #[error("redis.ca_file: {0}")]
    Authority(std::io::Error),
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        Self::refused(error)
    }
}

impl Trouble {
    /// What a server says may be anything: at most so much of it, in one line.
    pub(super) fn refused(said: impl fmt::Display) -> Self {
        Self::Refused(said.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_MAX).collect())
    }
}

/// How each server of a configuration is spoken to.
pub(super) struct Dial {
    servers: Servers,
    authority: Option<Vec<u8>>,
}

impl Dial {
    /// # Errors
    /// The file of the authority cannot be read.
    pub(super) fn new(config: &Config) -> Result<Self, Trouble> {
        let authority = config.ca_file.as_ref().map(std::fs::read).transpose().map_err(Trouble::Authority)?;
        Ok(Self { servers: config.servers.clone(), authority })
    }

    fn certificates(&self) -> TlsCertificates {
        TlsCertificates { client_tls: None, root_cert: self.authority.clone() }
    }

    pub(super) fn client(&self, host: &str, port: u16) -> Result<Client, Trouble> {
        let mut login = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_skip_set_lib_name()
            .set_db(self.servers.database);
        if let Some(user) = &self.servers.user {
            login = login.set_username(user);
        }
        if let Some(password) = &self.servers.password {
            login = login.set_password(password);
        }
        let info = address(host, port, self.servers.tls)
            .into_connection_info()?
            .set_redis_settings(login)
            .set_tcp_settings(TcpSettings::default().set_nodelay(true));
        Ok(if self.servers.tls { Client::build_with_tls(info, self.certificates())? } else { Client::open(info)? })
    }

    /// Asks the Sentinels; `None`: there are none to ask.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub(super) fn sentinels(&self) -> Result<Option<SentinelClient>, Trouble> {
        let servers = &self.servers;
        let Some(service) = servers.sentinel() else { return Ok(None) };
        let sentinels = servers.hosts.iter().map(|(host, port)| address(host, *port, servers.tls));
        let mut builder = SentinelClientBuilder::new(sentinels, service, SentinelServerType::Master)?
            .set_client_to_redis_protocol(ProtocolVersion::RESP3)
            .set_client_to_redis_db(servers.database);
        if let Some(user) = &servers.user {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = &servers.password {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(user) = &servers.sentinel_login.0 {
            builder = builder.set_client_to_sentinel_username(user);
        }
        if let Some(password) = &servers.sentinel_login.1 {
            builder = builder.set_client_to_sentinel_password(password);
        }
        if servers.tls {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_redis_certificates(self.certificates())
                .set_client_to_sentinel_certificates(self.certificates());
        }
        Ok(Some(builder.build()?))
    }

    /// Connects and logs in. `pushed` is called on the connection's own task.
    pub(super) async fn connect<F>(&self, client: &Client, pushed: F) -> Result<MultiplexedConnection, Trouble>
    where
        F: Fn(PushInfo) -> Result<(), ()> + Send + Sync + 'static,
    {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_MAX))
            .set_response_timeout(None)
            .set_push_sender(pushed);
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        Ok(timeout(CONNECT_MAX, connecting).await.map_err(|_| Trouble::Connect)??)
    }
}

/// Whether one of the servers lets us in, and answers; nothing is written. Within some seconds.
///
/// # Errors
/// Why the last of them does not.
pub async fn reach(config: &Config) -> Result<(), Unreached> {
    let dial = Dial::new(config)?;
    let hosts = match dial.sentinels()? {
        Some(mut sentinels) => vec![master(&mut sentinels).await?],
        None => config.servers.hosts.clone(),
    };
    let mut last = Trouble::Lost;
    for (host, port) in hosts {
        let said = async {
            let client = dial.client(&host, port)?;
            let mut connection = dial.connect(&client, |_| Ok(())).await?;
            let mut ping = Pipeline::new();
            ping.cmd("PING");
            node::send(&mut connection, &ping, CONNECT_MAX).await
        };
        match said.await {
            Ok(_) => return Ok(()),
            Err(trouble) => last = trouble,
        }
    }
    Err(last.into())
}

/// Why Redis cannot be used, for people; holds no secret.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Unreached(#[from] Trouble);

/// The master that the Sentinels know now, which says itself that it is one.
pub(super) async fn master(sentinels: &mut SentinelClient) -> Result<(String, u16), Trouble> {
    let client = timeout(RESOLVE_MAX, sentinels.async_get_client()).await.map_err(|_| Trouble::Resolve)??;
    match client.get_connection_info().addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => Ok((host.clone(), *port)),
        _ => Err(Trouble::refused("the Sentinels named no host")),
    }
}

fn address(host: &str, port: u16, tls: bool) -> ConnectionAddr {
    let host = host.to_owned();
    if tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    }
}
