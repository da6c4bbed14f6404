//! Certificates of a test's own making, and TLS clients that trust them.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned, SupportedProtocolVersion};
use tempfile::TempDir;

use super::{PATIENCE, Raw};

/// The name that servers' certificates are for.
const NAME: &str = "alerts.example.com";
pub fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).unwrap()
}

pub static TLS_1_2: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS12];
pub static TLS_1_3: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];

pub type Connection = StreamOwned<ClientConnection, TcpStream>;

/// An authority and what it has signed, in files.
pub struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "an authority of this test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { folder: TempDir::new().unwrap(), issuer };
        std::fs::write(authority.path("ca.crt"), authority.issuer.pem()).unwrap();
        authority.certify("tls", 2030);
        authority
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `NAME.crt` and `NAME.key`, good until the begin of that year. For servers and clients.
    pub fn certify(&self, name: &str, until: i32) {
        self.sign(name, |params| {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(until, 1, 1);
        });
    }

    /// As [`Authority::certify`], from and until so many days from now.
    pub fn certify_days(&self, name: &str, from: i64, until: i64) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
        let epoch = date_time_ymd(1970, 1, 1);
        self.sign(name, |params| {
            let on = |days: i64| epoch + std::time::Duration::from_secs((now + days * 86_400) as u64);
            params.not_before = on(from);
            params.not_after = on(until);
        });
    }

    /// Writes `NAME.crt` and `NAME.key` for a server of these hosts.
    pub fn certify_hosts(&self, name: &str, hosts: &[&str]) {
        let names = hosts.iter().map(|host| SanType::DnsName((*host).try_into().unwrap())).collect();
        self.sign(name, |params| params.subject_alt_names = names);
    }

    /// What a server on this machine shows.
    pub fn server(&self, name: &str) -> Arc<ServerConfig> {
        let [certificate, key] = ["crt", "key"].map(|ending| self.path(&format!("{name}.{ending}")));
        let chain = CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_no_client_auth();
        Arc::new(builder.with_single_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap())
    }

    fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) {
        let mut params = CertificateParams::new([NAME.to_owned(), "localhost".to_owned()]).unwrap();
        // Its issuer's name would make it look self-signed.
        params.distinguished_name.push(DnType::CommonName, NAME);
        change(&mut params);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        // As cert-manager does: whoever reads meanwhile finds the old file or the new one.
        for (ending, text) in [("key", key.serialize_pem()), ("crt", certificate.pem())] {
            let written = self.path(&format!("{name}.{ending}.new"));
            std::fs::write(&written, text).unwrap();
            std::fs::rename(written, self.path(&format!("{name}.{ending}"))).unwrap();
        }
    }

    /// Configuration for a listener with `tls.crt` and `tls.key`.
    pub fn listen(&self, more: &str) -> String {
        let [certificate, key] = ["tls.crt", "tls.key"].map(|name| self.path(name).display().to_string());
        format!("listen: {{ ingest: {{ tls: {{ certificate: '{certificate}', key: '{key}'{more} }} }} }}\n")
    }

    pub fn client(&self) -> Client {
        Client { ca: self.path("ca.crt"), own: None, versions: rustls::DEFAULT_VERSIONS }
    }
}

/// How a client speaks TLS.
#[derive(Clone)]
pub struct Client {
    ca: PathBuf,
    /// Files of a certificate and its key.
    own: Option<(PathBuf, PathBuf)>,
    versions: &'static [&'static SupportedProtocolVersion],
}

impl Client {
    /// Shows this certificate.
    pub fn with(self, authority: &Authority, name: &str) -> Self {
        let own = (authority.path(&format!("{name}.crt")), authority.path(&format!("{name}.key")));
        Self { own: Some(own), ..self }
    }

    pub fn only(self, versions: &'static [&'static SupportedProtocolVersion]) -> Self {
        Self { versions, ..self }
    }

    pub fn config(&self, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        let certificates = |path: &Path| CertificateDer::pem_file_iter(path).unwrap().map(Result::unwrap);
        let mut roots = RootCertStore::empty();
        certificates(&self.ca).for_each(|one| roots.add(one).unwrap());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(self.versions).unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = match &self.own {
            Some((certificate, key)) => {
                let key = PrivateKeyDer::from_pem_file(key).unwrap();
                builder.with_client_auth_cert(certificates(certificate).collect(), key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }

    pub fn connect(&self, address: SocketAddr) -> Raw<Connection> {
        handshake(self.config(&[b"http/1.1"]), address).unwrap_or_else(|error| panic!("no TLS with {address}: {error}"))
    }
}

/// A connection after its handshake.
pub fn handshake(config: Arc<ClientConfig>, address: SocketAddr) -> std::io::Result<Raw<Connection>> {
    handshake_over(config, TcpStream::connect(address)?)
}

pub fn handshake_over(config: Arc<ClientConfig>, mut tcp: TcpStream) -> std::io::Result<Raw<Connection>> {
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.set_write_timeout(Some(PATIENCE))?;
    let mut session = ClientConnection::new(config, name()).map_err(std::io::Error::other)?;
    while session.is_handshaking() {
        session.complete_io(&mut tcp)?;
    }
    Ok(Raw::over(StreamOwned::new(session, tcp)))
}
