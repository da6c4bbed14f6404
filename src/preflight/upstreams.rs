//! Whether each upstream can be spoken to: name, TCP, TLS. No request is sent. Upstreams that share a server are asked
//! for once; all at the same time.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;

use super::Book;
use crate::config::Config;
use crate::reach::{self, Server, Trust, Unreached};

/// Long enough for a server at the other end of the world.
const MOST: Duration = Duration::from_secs(3);
/// Servers asked for at once.
const AT_ONCE: usize = 256;

pub(super) async fn check(config: &Config, book: &mut Book<'_>) {
    let mut servers: HashMap<Server, Vec<usize>> = HashMap::new();
    for (index, upstream) in config.upstreams.iter().enumerate() {
        if let Some(server) = upstream.url.as_ref().and_then(Server::of) {
            servers.entry(server).or_default().push(index);
        }
    }
    let trust = match Trust::public() {
        Ok(trust) => trust,
        Err(error) => return book.error("tls", "upstreams", &error.to_string(), "this build cannot speak TLS"),
    };
    let trust = &trust;
    let asked = stream::iter(servers).map(|(server, indexes)| async move {
        let failed = reach::connect(&server, trust, MOST).await.err();
        (indexes, failed)
    });
    let answers: Vec<_> = asked.buffer_unordered(AT_ONCE).collect().await;
    for (indexes, failed) in answers {
        let Some(failed) = failed else { continue };
        indexes.into_iter().for_each(|index| say(index, &failed, book));
    }
}

fn say(index: usize, failed: &Unreached, book: &mut Book<'_>) {
    let key = format!("upstreams[{index}].url");
    let message = failed.to_string();
    match failed {
        Unreached::Certificate(..) => {
            let hint = "every delivery would fail: mend the server's certificate, or the URL's host";
            book.error("upstream_certificate", &key, &message, hint);
        }
        _ => {
            let hint = "events wait in the spool until it can be reached: look at the URL, DNS and firewall";
            book.passing("upstream_unreachable", &key, &format!("cannot be reached: {message}"), hint);
        }
    }
}
