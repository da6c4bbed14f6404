//! `surgegate probe`: one GET, and whether its answer is 2xx. For health checks in images that have no curl.

use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};

use super::{FAILED, UNREACHED};
use crate::config;
use crate::reach::{self, Server, Trust};

pub(super) const HELP: &str = "\
https is verified as for upstreams; redirects are not followed; the body of the answer is not read.

Examples:
  surgegate probe http://127.0.0.1:9464/readyz
  HEALTHCHECK CMD [\"surgegate\", \"probe\", \"http://127.0.0.1:9464/livez\"]     in a Dockerfile

Exit codes: 0 the answer is 2xx, 1 it is another, or none came in time, 2 usage, 75 no connection can be made.";

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// An http or https URL.
    #[arg(value_name = "URL", value_parser = parse)]
    url: (Uri, Server),
    /// For all of it.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = config::duration)]
    timeout: Duration,
}

fn parse(text: &str) -> Result<(Uri, Server), String> {
    const HINT: &str = "not a whole URL: write http://HOST:PORT/PATH, or https://";
    let url: Uri = text.parse().map_err(|_| HINT)?;
    let server = Server::of(&url).ok_or(HINT)?;
    Ok((url, server))
}

/// Why there is no answer.
enum Silent {
    /// No connection can be made.
    Unreached(String),
    /// It is there and does not answer.
    Mute(String),
}

pub(super) fn run(Arguments { url: (url, server), timeout }: &Arguments) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            super::complain(&format!("surgegate probe: {error}"));
            return ExitCode::from(FAILED);
        }
    };
    let answer = runtime.block_on(ask(url, server, *timeout));
    // A name server that hangs holds a thread: nobody waits for it.
    runtime.shutdown_background();
    match answer {
        Ok(status) => {
            let aside = if status.is_redirection() { " (redirects are not followed)" } else { "" };
            let written = super::print(format!("{server} answers {status}{aside}\n").as_bytes());
            if status.is_success() { written } else { ExitCode::from(FAILED) }
        }
        Err(Silent::Unreached(text)) => {
            super::complain(&text);
            ExitCode::from(UNREACHED)
        }
        Err(Silent::Mute(text)) => {
            super::complain(&format!("{server}: {text}"));
            ExitCode::from(FAILED)
        }
    }
}

async fn ask(url: &Uri, server: &Server, most: Duration) -> Result<StatusCode, Silent> {
    let until = Instant::now() + most;
    let trust = Trust::public().map_err(|error| Silent::Unreached(error.to_string()))?;
    let stream = reach::connect(server, &trust, most).await.map_err(|error| Silent::Unreached(error.to_string()))?;
    let late = |_| Silent::Mute(format!("no answer within {most:?}"));
    timeout_at(until, exchange(url, TokioIo::new(stream))).await.map_err(late)?.map_err(|error| {
        // hyper's own words; they hold no part of the URL.
        Silent::Mute(format!("no HTTP answer: {error}"))
    })
}

async fn exchange(
    url: &Uri,
    stream: TokioIo<Box<dyn reach::Stream>>,
) -> Result<StatusCode, Box<dyn std::error::Error>> {
    let (mut sender, connection) = http1::handshake(stream).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(url.path_and_query().map_or("/", |path| path.as_str()))
        .header(HOST, url.authority().map_or("", |authority| host(authority.as_str())))
        .header(USER_AGENT, concat!("surgegate/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let status = sender.send_request(request).await?.status();
    connection.abort();
    Ok(status)
}

/// Without a user's name and password: they are no part of `Host`.
fn host(authority: &str) -> &str {
    authority.rsplit('@').next().unwrap_or(authority)
}
