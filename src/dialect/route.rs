//! The paths that dialects serve, and how a request's path finds its route. Method and path alone select the
//! dialect; no two routes fit the same request (contracts 1).

use smallvec::SmallVec;

use super::{DIALECTS, Dialect};

/// A path a dialect serves (contracts 1).
#[derive(Debug)]
pub struct Route {
    /// The only method here; another route may serve the same path by another one.
    pub method: &'static str,
    /// A word in braces stands for one segment of any text: `/v2/alerts/{id}/close`; `{key}` for the key. What is
    /// written out goes before braces: the more exact route stands first in its dialect's list.
    pub path: &'static str,
    /// Stored with the event: needed to decode and re-encode it.
    pub endpoint: &'static str,
    pub credentials: Credentials,
    pub takes: Takes,
    /// It asks what is known, and says nothing: answered by [`Dialect::read`].
    pub reads: bool,
    /// Its decoder looks at the request's headers.
    pub wants_headers: bool,
    /// Status of what was taken, where the dialect has one for the route.
    pub success: u16,
    /// A slash behind the path changes nothing.
    tolerates_slash: bool,
    /// Bytes of `path` before its first brace.
    literal: usize,
}

/// Where the key stands (contracts 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// In the path alone.
    Path,
    /// In the path; an `Authorization` beside it must name the same integration.
    PathOrHeader(&'static [Scheme]),
    Header(&'static [Scheme]),
    /// The secret of the alert source that the path's last `{id}` names: `Authorization` or `?token=`.
    Source,
    /// A member of the body, overwritten with `*` before anything is stored.
    Body(&'static str),
}

/// A scheme of `Authorization`. Its word is compared in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Bearer,
    Token,
    GenieKey,
    /// The key is the password; the user does not matter.
    Basic,
}

impl Scheme {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Bearer => "Bearer",
            Self::Token => "token",
            Self::GenieKey => "GenieKey",
            Self::Basic => "Basic",
        }
    }
}

/// What a route's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// None is looked at.
    Nothing,
    /// One JSON object.
    One,
    /// One JSON object, or nothing at all under any content type: read as `{}`.
    Perhaps,
    /// Many events: [`Dialect::split`] finds them. One where the headers say so: [`Dialect::holds_many`].
    Batch,
}

impl Route {
    /// A route that takes one event by POST.
    pub const fn post(path: &'static str, endpoint: &'static str, credentials: Credentials) -> Self {
        let bytes = path.as_bytes();
        let mut literal = 0;
        while literal < bytes.len() && bytes[literal] != b'{' {
            literal += 1;
        }
        Self {
            method: "POST",
            path,
            endpoint,
            credentials,
            takes: Takes::One,
            reads: false,
            wants_headers: false,
            success: 202,
            tolerates_slash: true,
            literal,
        }
    }

    /// A route that asks by GET.
    pub const fn get(path: &'static str, endpoint: &'static str, credentials: Credentials) -> Self {
        Self {
            method: "GET",
            takes: Takes::Nothing,
            reads: true,
            success: 200,
            ..Self::post(path, endpoint, credentials)
        }
    }

    /// A slash behind it is another path: it may be that of a key that is missing.
    #[must_use]
    pub const fn exact(self) -> Self {
        Self { tolerates_slash: false, ..self }
    }

    #[must_use]
    pub const fn by(self, method: &'static str) -> Self {
        Self { method, ..self }
    }

    #[must_use]
    pub const fn takes(self, takes: Takes) -> Self {
        Self { takes, ..self }
    }

    #[must_use]
    pub const fn reads(self) -> Self {
        Self { reads: true, success: 200, ..self }
    }

    /// What was taken is answered with this status; 202 unless said otherwise.
    #[must_use]
    pub const fn answers(self, success: u16) -> Self {
        Self { success, ..self }
    }

    #[must_use]
    pub const fn wants_headers(self) -> Self {
        Self { wants_headers: true, ..self }
    }

    /// The key and the other texts that stand for its braces, where the path fits.
    fn fit<'p>(&self, path: &'p str) -> Option<(&'p str, Args<'p>)> {
        let (literal, braces) = self.path.split_at(self.literal);
        if braces.is_empty() {
            let rest = path.strip_prefix(literal)?;
            return (rest.is_empty() || (rest == "/" && self.tolerates_slash)).then(|| ("", Args::new()));
        }
        let rest = path.strip_prefix(literal)?;
        let rest = if self.tolerates_slash { rest.strip_suffix('/').unwrap_or(rest) } else { rest };
        if braces == "{key}" {
            return (!rest.is_empty() && memchr::memchr(b'/', rest.as_bytes()).is_none()).then(|| (rest, Args::new()));
        }
        let (mut key, mut args) = ("", Args::new());
        let mut texts = rest.split('/');
        for word in braces.split('/') {
            let text = texts.next()?;
            match word {
                "{key}" if !text.is_empty() => key = text,
                _ if word.starts_with('{') && !text.is_empty() => args.push(text),
                _ if word == text => {}
                _ => return None,
            }
        }
        texts.next().is_none().then_some((key, args))
    }
}

/// The texts that stand for a path's braces but the key's, in order, as they were sent.
pub type Args<'p> = SmallVec<[&'p str; 2]>;

/// A path that some dialect serves.
pub struct Matched<'p> {
    /// Its place in [`DIALECTS`].
    pub index: usize,
    pub dialect: &'static dyn Dialect,
    pub route: &'static Route,
    /// The path's key; empty where it stands elsewhere. Never logged (contracts 2.2).
    pub key: &'p str,
    pub args: Args<'p>,
}

/// Why no route was found.
#[derive(Debug)]
pub enum Miss {
    NoRoute,
    /// The path is served, by these methods alone; by the dialect at this place in the list.
    WrongMethod {
        index: usize,
        allow: SmallVec<[&'static str; 2]>,
    },
}

/// Names of the members in which any dialect's bodies carry a key.
pub fn keys_in_bodies() -> impl Iterator<Item = &'static str> {
    DIALECTS.iter().flat_map(|dialect| dialect.routes()).filter_map(|route| match route.credentials {
        Credentials::Body(member) => Some(member),
        _ => None,
    })
}

/// Finds the route of a request. The query is not part of `path`.
///
/// # Errors
/// No dialect serves the path, or none by this method.
pub fn route<'p>(method: &str, path: &'p str) -> Result<Matched<'p>, Miss> {
    let mut wrong = None;
    for (index, dialect) in DIALECTS.iter().enumerate() {
        for route in dialect.routes() {
            let Some((key, args)) = route.fit(path) else { continue };
            if route.method == method {
                return Ok(Matched { index, dialect: *dialect, route, key, args });
            }
            let (_, allow): &mut (usize, SmallVec<[&'static str; 2]>) =
                wrong.get_or_insert_with(|| (index, SmallVec::new()));
            if !allow.contains(&route.method) {
                allow.push(route.method);
            }
        }
    }
    Err(wrong.map_or(Miss::NoRoute, |(index, allow)| Miss::WrongMethod { index, allow }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_routes_of_the_list_fit_one_request() {
        let all: Vec<_> = DIALECTS.iter().flat_map(|dialect| dialect.routes()).collect();
        for (index, one) in all.iter().enumerate() {
            for other in &all[index + 1..] {
                assert!(one.method != other.method || one.path != other.path, "{one:?} {other:?}");
            }
            // What a route is written for, it gets itself, or from the route of its own dialect that stands before it.
            let path = one.path.replace("{key}", "0123").replace(['{', '}'], "");
            let matched = route(one.method, &path).unwrap();
            assert_eq!(matched.route.endpoint, one.endpoint, "{path}");
        }
    }

    #[test]
    fn a_route_takes_one_segment_and_an_optional_slash() {
        let key = |path| route("POST", path).ok().map(|matched| matched.key.to_owned());
        assert_eq!(key("/v2/incidents/api/k1").as_deref(), Some("k1"));
        assert_eq!(key("/v2/incidents/api/k1/").as_deref(), Some("k1"));
        assert_eq!(key("/v1/incidents/create/k1").as_deref(), Some("k1"));
        for path in
            ["/v2/incidents/api/", "/v1/incidents/create/", "/v2/incidents/api/a/b", "/v2/incidents/api/k//", "/", ""]
        {
            assert_eq!(key(path), None, "{path}");
        }
    }

    #[test]
    fn braces_take_one_text_each_and_words_take_themselves() {
        const CLOSE: Route = Route::post("/v2/alerts/{id}/close", "close", Credentials::Header(&[Scheme::GenieKey]));
        let args = |path| CLOSE.fit(path).map(|(_, args)| args.join("|"));
        assert_eq!(args("/v2/alerts/a%2Fb/close").as_deref(), Some("a%2Fb"));
        assert_eq!(args("/v2/alerts/a/close/").as_deref(), Some("a"));
        for path in ["/v2/alerts//close", "/v2/alerts/a/b/close", "/v2/alerts/a/closed", "/v2/alerts/a", "/v2/alerts"] {
            assert_eq!(args(path), None, "{path}");
        }
        const LIST: Route = Route::get("/v2/alerts", "list", Credentials::Header(&[Scheme::GenieKey]));
        assert!(LIST.fit("/v2/alerts").is_some() && LIST.fit("/v2/alerts/").is_some());
        assert!(LIST.fit("/v2/alertsx").is_none() && LIST.fit("/v2/alerts//").is_none());
    }

    #[test]
    fn a_key_that_is_missing_is_no_id() {
        for path in ["/v2/incidents/api/", "/v1/incidents/create/"] {
            assert!(matches!(route("POST", path), Err(Miss::NoRoute)), "{path}");
        }
    }

    #[test]
    fn a_wrong_method_is_told_the_right_ones() {
        match route("GET", "/v2/incidents/api/k") {
            Err(Miss::WrongMethod { index: 0, allow }) => assert_eq!(allow.as_slice(), ["POST"]),
            _ => panic!("no miss"),
        }
        assert!(matches!(route("GET", "/v9"), Err(Miss::NoRoute)));
    }
}
