//! `surgegate demo`: the proxy, a stub upstream that prints what arrives, and the status page, with no
//! configuration and no Redis. Nothing here is on the way of a real event.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// The key of the demo's one integration; it guards nothing.
pub const KEY: &str = "0000000000000000000000000000000000000001";
const BODY_BYTES_MAX: usize = 1024 * 1024;
const CONNECTIONS_MAX: usize = 64;

/// A stub upstream on a free port of loopback.
pub struct StubUpstream {
    listener: TcpListener,
    pub address: SocketAddr,
}

impl StubUpstream {
    /// # Errors
    /// No port of loopback is to be had.
    pub async fn bind() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Takes every event and hands one line on each to `print`.
    pub async fn run(self, print: impl Fn(&str) + Send + Sync + 'static) {
        let (print, free) = (Arc::new(print), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
        loop {
            let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
            let Ok((stream, _)) = self.listener.accept().await else { continue };
            let print = Arc::clone(&print);
            tokio::spawn(async move {
                let service = service_fn(move |request| take(request, Arc::clone(&print)));
                // The proxy closes its own connections.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                drop(permit);
            });
        }
    }
}

async fn take(request: Request<Incoming>, print: Arc<impl Fn(&str)>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::default());
    // Bounded by `Limited`.
    #[allow(clippy::disallowed_methods)]
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await;
    match body.ok().and_then(|body| serde_json::from_slice::<serde_json::Value>(&body.to_bytes()).ok()) {
        Some(event) => print(&line(&event)),
        None => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    Ok(response)
}

/// One event in a line.
fn line(event: &serde_json::Value) -> String {
    let text = |name: &str| event[name].as_str().unwrap_or("-").to_owned();
    let incident = &event["incident"];
    format!(
        "upstream got {:8} key={} severity={} incident={} {:?}",
        text("action"),
        text("key"),
        event["severity"],
        incident["iid"].as_str().unwrap_or("-"),
        text("title"),
    )
}

/// The demo's configuration.
pub fn configuration(addresses: [SocketAddr; 3], upstream: SocketAddr, spool: &Path) -> String {
    let [ingest, observe, admin] = addresses;
    format!(
        "listen:\n  ingest: {{ address: \"{ingest}\" }}\n  observe: {{ address: \"{observe}\" }}\n  admin: {{ address: \"{admin}\" }}\n\
         spool: {{ directory: {spool:?} }}\nshutdown: {{ drain: 0s }}\n\
         integrations:\n  - {{ name: demo, keys: [{{ key: \"{KEY}\" }}], upstreams: [stub] }}\n\
         upstreams:\n  - {{ name: stub, kind: webhook, url: \"http://{upstream}/hook\" }}\n",
    )
}

/// Lines to paste: a trigger, its duplicate, its resolve, a body over the limit, a bad body.
pub fn lines(ingest: SocketAddr, observe: SocketAddr, admin: SocketAddr) -> String {
    let url = format!("http://{ingest}/v2/incidents/api/{KEY}");
    let post = |comment: &str, body: &str| {
        format!("# {comment}\ncurl -i {url} -H 'Content-Type: application/json' -d '{body}'\n\n")
    };
    let trigger = r#"{"message":"disk full on db-7","description":"volume /data at 99 %","event_id":"disk-db-7","tags":{"severity":"high"}}"#;
    let mut text = String::from("Paste these into another terminal:\n\n");
    text += &post("a trigger: accepted, forwarded", trigger);
    text += &post("the same again: a duplicate, absorbed", trigger);
    text += &post("its resolve: forwarded, after its trigger", r#"{"status":"resolve","event_id":"disk-db-7"}"#);
    text += &format!(
        "# a body over 30 KB: 413\nhead -c 40000 /dev/zero | tr '\\0' x | curl -i {url} -H 'Content-Type: application/json' --data-binary @-\n\n"
    );
    text += &post("a bad body: 400 with every fault", r#"{"message":7,"tags":[]}"#);
    text += &format!(
        "# figures\ncurl -s http://{observe}/metrics | grep surgegate_events\n\nStatus page: http://{admin}/   (Ctrl-C ends the demo)\n"
    );
    text
}
