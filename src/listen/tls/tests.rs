//! What is said of certificate and key files, right and wrong.

use std::fs;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::*;

/// A folder with a certificate that is good for a year, and its key.
struct Files {
    folder: TempDir,
    key: KeyPair,
}

impl Files {
    fn new() -> Self {
        let files = Self { folder: TempDir::new().unwrap(), key: KeyPair::generate().unwrap() };
        files.certify(|_| {});
        files.put("tls.key", files.key.serialize_pem());
        files
    }

    fn certify(&self, change: impl FnOnce(&mut CertificateParams)) {
        let names = ["alerts.example.com", "*.eu.example.com", "192.0.2.1", "2001:db8::1"].map(str::to_owned);
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        self.put("tls.crt", params.self_signed(&self.key).unwrap().pem());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    fn config(&self) -> Config {
        Config { certificate: self.path("tls.crt"), key: self.path("tls.key"), client_ca: None }
    }

    /// The error, less the folder's name.
    fn error(&self) -> String {
        let folder = format!("{}/", self.folder.path().display());
        check(&self.config()).unwrap_err().to_string().replace(&folder, "")
    }
}

#[test]
fn a_good_pair_tells_its_names_and_times() {
    let files = Files::new();
    files.certify(|params| {
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2027, 1, 1);
    });
    let facts = check(&files.config()).unwrap();
    assert_eq!(facts.names, ["alerts.example.com", "*.eu.example.com", "192.0.2.1", "2001:db8::1"]);
    assert_eq!((facts.not_before, facts.not_after, facts.chain_len), (1_767_225_600, 1_798_761_600, 1));
    assert_eq!(facts.complaint(1_780_000_000), None);
    assert_eq!(facts.complaint(1_767_225_599), Some("the certificate is not valid yet"));
    assert_eq!(facts.complaint(1_798_761_601), Some("the certificate has expired"));
}

#[test]
fn a_certificate_without_alternative_names_tells_its_common_name() {
    let files = Files::new();
    files.certify(|params| {
        params.subject_alt_names.clear();
        params.distinguished_name.push(rcgen::DnType::CommonName, "old.example.com");
    });
    assert_eq!(check(&files.config()).unwrap().names, ["old.example.com"]);
}

#[test]
fn an_expired_certificate_is_loaded() {
    let files = Files::new();
    files.certify(|params| params.not_after = date_time_ymd(2020, 1, 1));
    assert!(load(&files.config()).is_ok());
}

#[test]
fn each_wrong_file_is_named_with_what_is_wrong() {
    let files = Files::new();
    let (certificate, key) = (fs::read_to_string(files.path("tls.crt")).unwrap(), files.key.serialize_pem());
    let other = KeyPair::generate().unwrap().serialize_pem();
    let garbled = key.replacen("\n", "\n!!", 1);
    let pkcs8 = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIHsMFcG\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nMIHs\n-----END RSA PRIVATE KEY-----\n";
    let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let large = " ".repeat(FILE_BYTES_MAX as usize + 1);
    for (name, text, error) in [
        ("tls.key", other.as_str(), "tls.key does not belong to the first certificate in tls.crt"),
        ("tls.key", &certificate, "tls.key holds no private key: BEGIN PRIVATE KEY is missing"),
        ("tls.key", "", "tls.key holds no private key: BEGIN PRIVATE KEY is missing"),
        ("tls.key", &garbled, "tls.key is not PEM: a section is broken or its text is not base64"),
        (
            "tls.key",
            pkcs8,
            "tls.key holds an encrypted key: decrypt it, e.g. with openssl pkey, and guard the file instead",
        ),
        (
            "tls.key",
            old,
            "tls.key holds an encrypted key: decrypt it, e.g. with openssl pkey, and guard the file instead",
        ),
        ("tls.crt", &key, "tls.crt holds no certificate: BEGIN CERTIFICATE is missing"),
        ("tls.crt", &certificate[..200], "tls.crt is not PEM: a section is broken or its text is not base64"),
        ("tls.crt", no_certificate, "tls.crt: certificate 1 cannot be decoded"),
        ("tls.crt", &large, "tls.crt is larger than 1024 KiB: not a PEM file"),
    ] {
        files.put("tls.crt", &certificate);
        files.put("tls.key", &key);
        files.put(name, text);
        assert_eq!(files.error(), error);
    }
    fs::remove_file(files.path("tls.crt")).unwrap();
    assert_eq!(files.error(), "tls.crt cannot be read: No such file or directory (os error 2)");
}

#[test]
fn a_client_ca_must_hold_certificates() {
    let files = Files::new();
    let mut config = files.config();
    config.client_ca = Some(files.path("clients.crt"));
    files.put("clients.crt", "none");
    let errors = check(&config).unwrap_err();
    assert!(matches!(errors.all.as_slice(), [TlsError::NoCertificate { path }] if path.ends_with("clients.crt")));
    assert!(errors.facts.is_some(), "the certificate itself is well");
    files.put("clients.crt", fs::read(files.path("tls.crt")).unwrap());
    assert!(check(&config).is_ok());
}

#[test]
fn every_file_that_is_wrong_is_told_at_once() {
    let files = Files::new();
    let mut config = files.config();
    config.client_ca = Some(files.path("clients.crt"));
    for name in ["tls.crt", "tls.key", "clients.crt"] {
        files.put(name, "none");
    }
    let errors = check(&config).unwrap_err();
    assert!(
        matches!(
            errors.all.as_slice(),
            [TlsError::NoCertificate { .. }, TlsError::NoKey { .. }, TlsError::NoCertificate { .. }]
        ),
        "{errors}"
    );
    assert!(errors.facts.is_none());
}
