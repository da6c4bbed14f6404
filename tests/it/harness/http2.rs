//! An HTTP/2 client, without TLS (prior knowledge) or with it, by hyper.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::runtime::Runtime;

use super::{Answer, PATIENCE, tls};

async fn open(address: SocketAddr) -> tokio::net::TcpStream {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    // Or each post waits for an acknowledgement of its head.
    stream.set_nodelay(true).unwrap();
    stream
}

async fn speak<S>(stream: S) -> SendRequest<Full<Bytes>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// One connection; requests on it may run at once.
pub struct Client {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let sender = runtime.block_on(async { speak(open(address).await).await });
        Self { runtime, sender }
    }

    pub fn connect_tls(address: SocketAddr, client: &tls::Client) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let sender = runtime.block_on(async {
            let stream = open(address).await;
            let connector = tokio_rustls::TlsConnector::from(client.config(&[b"h2"]));
            let stream = connector.connect(tls::name(), stream).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            speak(stream).await
        });
        Self { runtime, sender }
    }

    /// Posts all bodies at once on this one connection.
    pub fn post_all(&self, path: &str, bodies: &[Bytes]) -> Vec<Result<Answer, hyper::Error>> {
        let requests = bodies.iter().map(|body| {
            hyper::Request::post(format!("http://test{path}"))
                .header("content-type", "application/json")
                .body(Full::new(body.clone()))
                .unwrap()
        });
        self.send_all(requests.collect())
    }

    fn send_all(&self, requests: Vec<hyper::Request<Full<Bytes>>>) -> Vec<Result<Answer, hyper::Error>> {
        self.runtime.block_on(async {
            let sent = requests.into_iter().map(|request| {
                let mut sender = self.sender.clone();
                tokio::spawn(async move {
                    sender.ready().await?;
                    let response = sender.send_request(request).await?;
                    let (head, body) = response.into_parts();
                    let named = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
                        (name.to_string(), value.to_str().unwrap_or_default().to_owned())
                    };
                    let headers = head.headers.iter().map(named).collect();
                    let body = body.collect().await?.to_bytes().to_vec();
                    Ok(Answer { status: head.status.as_u16(), headers, body })
                })
            });
            let mut answers = Vec::new();
            for task in sent.collect::<Vec<_>>() {
                let answer = tokio::time::timeout(PATIENCE, task).await.expect("no answer in time");
                answers.push(answer.expect("the client does not panic"));
            }
            answers
        })
    }

    /// Posts, and gives it up after so long: the stream is reset.
    pub fn post_and_leave(&self, path: &str, body: &'static str, after: std::time::Duration) {
        self.runtime.block_on(async {
            let request = hyper::Request::post(format!("http://test{path}"))
                .header("content-type", "application/json")
                .body(Full::new(Bytes::from_static(body.as_bytes())))
                .unwrap();
            let mut sender = self.sender.clone();
            let answer = tokio::time::timeout(after, sender.send_request(request)).await;
            assert!(answer.is_err(), "answered before it left");
            // The reset leaves.
            tokio::time::sleep(after).await;
        });
    }

    /// Posts with these fields beside the usual ones.
    pub fn post_with(&self, path: &str, fields: &[(String, String)], body: Bytes) -> Result<Answer, hyper::Error> {
        let mut request = hyper::Request::post(format!("http://test{path}")).header("content-type", "application/json");
        for (name, value) in fields {
            request = request.header(name, value);
        }
        self.send_all(vec![request.body(Full::new(body)).unwrap()]).remove(0)
    }

    pub fn post(&self, path: &str, body: impl Into<Bytes>) -> Result<Answer, hyper::Error> {
        self.post_all(path, &[body.into()]).remove(0)
    }
}
