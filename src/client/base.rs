//! Where the admin listener stands, as it was typed, and the token's file.

use std::fmt;
use std::path::Path;

use hyper::Uri;

use super::Error;

/// Longest token, in bytes; a longer file is the wrong one.
const TOKEN_BYTES_MAX: u64 = 4096;

/// `http://127.0.0.1:9465`, or with https, or with a path before `/api`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    is_https: bool,
    /// A name, or an address without brackets.
    host: String,
    port: u16,
    /// As it stands in the `Host` header.
    authority: String,
    /// Before every path; empty, or begins with `/` and does not end with one.
    prefix: String,
}

impl Base {
    /// Reads what was typed; without a scheme it is http.
    ///
    /// # Errors
    /// `Usage`: no address, another scheme, or with a user, a query or a fragment.
    pub fn parse(typed: &str) -> Result<Self, Error> {
        let wrong = |why: &str| {
            Error::Usage(format!("--admin: {why}: it is written so: http://127.0.0.1:9465, or https://..."))
        };
        let whole = if typed.contains("://") { typed.to_owned() } else { format!("http://{typed}") };
        // Never shown back: there may be a password in it.
        if whole.contains(['@', '#', '?']) {
            return Err(wrong("an address has no user, no query and no fragment (a token goes into --token-file)"));
        }
        let uri: Uri = whole.parse().map_err(|_| wrong("that is no address"))?;
        let is_https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("http or https are spoken there")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("that is no address"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        // One out of range reads as none.
        let has_port = authority.as_str().rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        if host.is_empty() || (has_port && authority.port_u16().is_none()) {
            return Err(wrong("that is no address"));
        }
        let usual = if is_https { 443 } else { 80 };
        Ok(Self {
            is_https,
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(usual),
            authority: authority.to_string(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    pub(super) fn is_https(&self) -> bool {
        self.is_https
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.prefix)
    }
}

/// What allows writes. Never shown.
pub struct Token(String);

impl Token {
    /// Reads `listen.admin.token_file`'s content, without the white space around it.
    ///
    /// # Errors
    /// `Usage`: cannot be read, is empty, too long, or not of visible ASCII characters.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let wrong = |why: &dyn fmt::Display| Error::Usage(format!("the token file {}: {why}", file.display()));
        let text = crate::file::read(file, TOKEN_BYTES_MAX).map_err(|error| wrong(&error))?;
        let token = text.trim_ascii();
        if token.is_empty() {
            return Err(wrong(&"it is empty"));
        }
        if text.len() as u64 > TOKEN_BYTES_MAX || !token.iter().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(wrong(&"that is no token: one line of at most 4096 visible ASCII characters"));
        }
        Ok(Self(String::from_utf8_lossy(token).into_owned()))
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_typed() {
        for (typed, shown, host, port) in [
            ("http://127.0.0.1:9465", "http://127.0.0.1:9465", "127.0.0.1", 9465),
            ("http://127.0.0.1:9465/", "http://127.0.0.1:9465", "127.0.0.1", 9465),
            ("localhost:9465", "http://localhost:9465", "localhost", 9465),
            ("http://[::1]:9465", "http://[::1]:9465", "::1", 9465),
            ("https://gate.example.com", "https://gate.example.com", "gate.example.com", 443),
            ("https://gate.example.com/admin/", "https://gate.example.com/admin", "gate.example.com", 443),
            ("gate.example.com", "http://gate.example.com", "gate.example.com", 80),
        ] {
            let base = Base::parse(typed).unwrap();
            assert_eq!((base.to_string().as_str(), base.host(), base.port()), (shown, host, port), "{typed}");
        }
        assert_eq!(Base::parse("https://gate.example.com/admin/").unwrap().prefix(), "/admin");
        assert_eq!(Base::parse("http://127.0.0.1:9465/").unwrap().prefix(), "");
    }

    #[test]
    fn what_is_no_address_is_told_so_and_a_password_is_not_repeated() {
        for typed in [
            "",
            "http://",
            "ftp://127.0.0.1",
            "http://a b",
            "http://127.0.0.1:99999",
            "http://me:secret@host",
            "h?x=secret",
        ] {
            let error = Base::parse(typed).unwrap_err();
            assert!(matches!(error, Error::Usage(_)), "{typed}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_token_is_one_line_and_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        std::fs::write(&file, "  s3cret-token\n").unwrap();
        let token = Token::read(&file).unwrap();
        assert_eq!(token.reveal(), "s3cret-token");
        assert!(!format!("{token:?}").contains("s3cret"));
        for wrong in [String::new(), " \n".to_owned(), "s3cret\ntwo".to_owned(), "s3crét".to_owned(), "s3".repeat(2049)]
        {
            std::fs::write(&file, &wrong).unwrap();
            let error = Token::read(&file).unwrap_err().to_string();
            assert!(error.contains("token") && !error.contains("s3c"), "{error}");
        }
        std::fs::write(&file, "x".repeat(4096)).unwrap();
        assert!(Token::read(&file).is_ok());
        assert!(Token::read(&directory.path().join("none")).is_err());
    }
}
