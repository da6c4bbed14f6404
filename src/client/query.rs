//! Paths of the admin API with what they are asked with, percent-encoded.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A path and its query. `Display` writes both.
#[derive(Clone, Debug)]
pub struct Query {
    text: String,
    has_parameters: bool,
}

impl Query {
    /// `path` as it stands.
    pub fn new(path: &str) -> Self {
        Self { text: path.to_owned(), has_parameters: false }
    }

    /// One more part of the path, whatever is in it.
    pub fn part(mut self, part: &str) -> Self {
        self.text.push('/');
        self.text.extend(utf8_percent_encode(part, RESERVED));
        self
    }

    /// One more parameter, where there is a value.
    pub fn with(mut self, name: &str, value: Option<impl fmt::Display>) -> Self {
        let Some(value) = value else { return self };
        self.text.push(if self.has_parameters { '&' } else { '?' });
        self.has_parameters = true;
        self.text.push_str(name);
        self.text.push('=');
        self.text.extend(utf8_percent_encode(&value.to_string(), RESERVED));
        self
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_in_a_value_stays_in_it() {
        let query = Query::new("/api/v1/events").part("a/b?c").with("key", Some("ü&x=1 +#")).with("none", None::<&str>);
        assert_eq!(
            query.with("limit", Some(5)).to_string(),
            "/api/v1/events/a%2Fb%3Fc?key=%C3%BC%26x%3D1%20%2B%23&limit=5"
        );
    }
}
