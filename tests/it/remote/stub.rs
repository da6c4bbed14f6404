//! A small admin listener that answers as the API is agreed, so that what a process seldom does can be shown: rows
//! that come between pages, streams that end, answers of other versions.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::sync::oneshot;

/// Status, content type and body.
pub type Answer = (u16, &'static str, String);

/// JSON with 200.
pub fn fine(body: &Value) -> Answer {
    (200, "application/json", body.to_string())
}

/// What the API says no with.
pub fn refused(status: u16, message: &str) -> Answer {
    (status, "application/json", serde_json::json!({ "status": "error", "message": message }).to_string())
}

/// A server-sent stream that ends behind this.
pub fn stream(text: &str) -> Answer {
    (200, "text/event-stream", text.to_owned())
}

type Rule = dyn Fn(&str, &str) -> Answer + Send + Sync;

/// The listener, on a thread of its own, and what it was asked: `METHOD path?query body`.
pub struct Stub {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Stub {
    /// Answers by method and path with query.
    pub fn start(rule: impl Fn(&str, &str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, rule): (Arc<Mutex<Vec<String>>>, Arc<Rule>) = (Arc::default(), Arc::new(rule));
        let (stop, stopped) = oneshot::channel();
        let noted = Arc::clone(&asked);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = serve(listener, noted, rule) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        Self { address, asked, stop: Some(stop), thread: Some(thread) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // Already gone when its runtime has failed.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: tokio::net::TcpListener, asked: Arc<Mutex<Vec<String>>>, rule: Arc<Rule>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (asked, rule) = (Arc::clone(&asked), Arc::clone(&rule));
        tokio::spawn(async move {
            let service = hyper::service::service_fn(|request| answer(request, Arc::clone(&asked), Arc::clone(&rule)));
            // A client goes when it has its answer.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    asked: Arc<Mutex<Vec<String>>>,
    rule: Arc<Rule>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let (method, path) = (head.method.to_string(), head.uri.to_string());
    let line = format!("{method} {path} {}", String::from_utf8_lossy(&body));
    asked.lock().unwrap().push(line.trim_end().to_owned());
    let (status, kind, body) = rule(&method, &path);
    Ok(Response::builder().status(status).header("content-type", kind).body(Full::from(body)).unwrap())
}
