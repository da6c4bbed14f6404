//! Real TLS over loopback, real RSA: certificates of an authority that is made here. Only names are resolved otherwise.

use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaEncoding, RsaKeyPair};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

const HOST: &str = "sns.eu-west-1.amazonaws.com";

/// Who signs: a key, and its certificate in PEM form.
struct Signer {
    key: RsaKeyPair,
    pem: String,
}

fn signer() -> Signer {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let pem = CertificateParams::new(vec!["sns.amazonaws.com".into()]).unwrap().self_signed(&key).unwrap().pem();
    Signer { key: RsaKeyPair::from_pkcs8(&key.serialize_der()).unwrap(), pem }
}

impl Signer {
    fn sign(&self, encoding: &'static dyn RsaEncoding, text: &str) -> String {
        let mut tag = vec![0; self.key.public_modulus_len()];
        self.key.sign(encoding, &SystemRandom::new(), text.as_bytes(), &mut tag).unwrap();
        STANDARD.encode(tag)
    }
}

fn signed(version: u8, signature: String, text: &str) -> Signed {
    let certificate = Uri::try_from(format!("https://{HOST}/SimpleNotificationService-1.pem")).unwrap();
    Signed { certificate, version, signature, text: text.to_owned() }
}

/// A server that gives every request this answer, and how many asked.
struct Server {
    amazon: Amazon,
    asked: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
}

/// `name`: what its certificate says it is.
async fn server(name: &str, answer: String) -> Server {
    let authority = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params.self_signed(&authority).unwrap();
    let issuer = Issuer::new(params, authority);
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = || Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.der().clone()], private)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.der().clone()).unwrap();
    let trusting = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, heads) = (Arc::new(AtomicUsize::new(0)), Arc::<Mutex<Vec<String>>>::default());
    let (count, kept) = (Arc::clone(&asked), Arc::clone(&heads));
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(tcp).await else { continue };
            count.fetch_add(1, Ordering::Relaxed);
            let mut head = vec![0; 4096];
            let read = stream.read(&mut head).await.unwrap_or(0);
            kept.lock().unwrap().push(String::from_utf8_lossy(&head[..read]).into_owned());
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    let amazon = Amazon::at(trusting, Box::new(move |_| ("127.0.0.1".to_owned(), port)));
    Server { amazon, asked, heads }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn what_amazon_signed_is_believed_and_nothing_else() {
    let (real, other) = (signer(), signer());
    let Server { amazon, asked, .. } = server(HOST, ok(&real.pem)).await;
    let text = "Message\nm\nMessageId\n1\nTimestamp\nt\nTopicArn\na\nType\nNotification\n";
    let good = signed(2, real.sign(&RSA_PKCS1_SHA256, text), text);
    assert_eq!(amazon.verify(&good).await, Ok(()));
    let sha1 = signed(1, good.signature.clone(), text);
    assert_eq!(amazon.verify(&sha1).await, Err(Unproven::Wrong), "another digest than it says");
    for wrong in [
        signed(2, other.sign(&RSA_PKCS1_SHA256, text), text),
        signed(2, good.signature.clone(), &text.replace("m\n", "n\n")),
        signed(2, "RVhBTVBMRQ==".into(), text),
        signed(2, "no base64!".into(), text),
        signed(2, String::new(), text),
    ] {
        assert_eq!(amazon.verify(&wrong).await, Err(Unproven::Wrong), "{}", wrong.signature);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1, "the certificate is asked for once");
}

/// Made by `openssl dgst -sha1 -sign` over `TEXT` with the key of `sha1.pem`: the proxy signs nothing by SHA-1 itself.
#[tokio::test]
async fn the_older_signatures_are_checked_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let text = "Message\nolder\n";
    std::fs::write(path("text"), text).unwrap();
    let openssl = |arguments: &[&str]| {
        let run = std::process::Command::new("openssl").args(arguments).output().expect("openssl is installed");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    };
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=sns",
        "-keyout",
        &path("key"),
        "-out",
        &path("pem"),
    ]);
    openssl(&["dgst", "-sha1", "-sign", &path("key"), "-out", &path("tag"), &path("text")]);
    let Server { amazon, .. } = server(HOST, ok(&std::fs::read_to_string(path("pem")).unwrap())).await;
    let tag = STANDARD.encode(std::fs::read(path("tag")).unwrap());
    assert_eq!(amazon.verify(&signed(1, tag.clone(), text)).await, Ok(()));
    assert_eq!(amazon.verify(&signed(2, tag, text)).await, Err(Unproven::Wrong));
}

#[tokio::test]
async fn a_host_that_is_not_amazons_by_its_certificate_is_not_asked() {
    let Server { amazon, asked, .. } = server("evil.example", ok(&signer().pem)).await;
    assert_eq!(amazon.verify(&signed(2, "eA==".into(), "x")).await, Err(Unproven::NoCertificate));
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn redirects_large_answers_and_no_certificates_count_for_nothing() {
    let moved = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_owned();
    for answer in [moved, ok(&"x".repeat(ANSWER_BYTES_MAX + 1)), ok("no certificate"), String::new()] {
        let Server { amazon, asked, .. } = server(HOST, answer).await;
        let signed = signed(2, "eA==".into(), "x");
        assert_eq!(amazon.verify(&signed).await, Err(Unproven::NoCertificate));
        assert_eq!(amazon.verify(&signed).await, Err(Unproven::NoCertificate));
        assert_eq!(asked.load(Ordering::Relaxed), 1, "what could not be had is not asked for again at once");
    }
}

#[tokio::test]
async fn a_subscription_is_confirmed_by_one_visit() {
    let Server { amazon, heads, .. } = server(HOST, ok("<ConfirmSubscriptionResponse/>")).await;
    let url = Uri::try_from(format!("https://{HOST}/?Action=ConfirmSubscription&Token=t")).unwrap();
    assert_eq!(amazon.confirm(&url).await, Ok(()));
    let heads = heads.lock().unwrap().clone();
    assert_eq!(heads.len(), 1);
    assert!(heads[0].starts_with("GET /?Action=ConfirmSubscription&Token=t HTTP/1.1\r\n"), "{}", heads[0]);
    assert!(heads[0].contains(&format!("host: {HOST}\r\n")), "{}", heads[0]);
}
