//! The client against real sockets: servers of ours, of others, and none.

use std::sync::{Arc, Mutex};

use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

fn client(url: &str) -> Client {
    Client::new(Base::parse(url).unwrap(), None, Tls::default())
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

type Heads = Arc<Mutex<Vec<hyper::http::request::Parts>>>;

/// A server that answers everything so, and the heads of what it was asked.
async fn answering(status: u16, kind: &'static str, body: impl Into<Bytes>) -> (String, Heads) {
    let (listener, url) = listener().await;
    let (heads, body) = (Heads::default(), body.into());
    let seen = Arc::clone(&heads);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (seen, body) = (Arc::clone(&seen), body.clone());
            tokio::spawn(http1::Builder::new().serve_connection(
                TokioIo::new(stream),
                service_fn(move |request: Request<Incoming>| {
                    seen.lock().unwrap().push(request.into_parts().0);
                    let answer = Response::builder().status(status).header(CONTENT_TYPE, kind);
                    let answer = answer.body(Full::new(body.clone())).unwrap();
                    async move { Ok::<_, std::convert::Infallible>(answer) }
                }),
            ));
        }
    });
    (url, heads)
}

/// A server that reads something, says `text`, and closes.
async fn saying(text: &'static [u8]) -> String {
    let (listener, url) = listener().await;
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(text).await;
        }
    });
    url
}

const JSON: &str = "application/json";

#[tokio::test]
async fn an_answer_is_its_json_and_the_token_goes_along() {
    let (url, heads) = answering(200, JSON, r#"{"replayed":3}"#).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "s3cret\n").unwrap();
    let base = Base::parse(&format!("{url}/behind/")).unwrap();
    let client = Client::new(base, Some(Token::read(&file).unwrap()), Tls::default());
    let query = Query::new("/api/v1/x").with("key", Some("a b"));
    let answer = client.ask(Method::POST, &query, Some(&serde_json::json!({ "level": "debug" }))).await.unwrap();
    assert_eq!(answer["replayed"], 3);
    let heads = heads.lock().unwrap();
    assert_eq!((&heads[0].method, heads[0].uri.to_string()), (&Method::POST, "/behind/api/v1/x?key=a%20b".to_owned()));
    assert_eq!(heads[0].headers[AUTHORIZATION], "Bearer s3cret");
    assert_eq!(format!("http://{}", heads[0].headers[HOST].to_str().unwrap()), url);
    assert_eq!(heads[0].headers["content-length"], "17");
}

#[tokio::test]
async fn a_refusal_is_the_servers_own_word_and_other_listeners_are_told_by_name() {
    let get = async |status, body: &'static str| {
        let (url, _) = answering(status, JSON, body).await;
        client(&url).get(&Query::new("/api/v1/status")).await.unwrap_err()
    };
    let refused = get(409, r#"{"status":"error","message":"12 match now"}"#).await;
    assert!(matches!(&refused, Error::Refused { status: StatusCode::CONFLICT, message } if message == "12 match now"));
    assert_eq!(refused.to_string(), "12 match now");
    for (body, words) in [
        (
            r#"{"status":"error","reason":"no_route","message":"no such path","request_id":"x"}"#,
            "is the ingest listener",
        ),
        (r#"{"status":"error","message":"try /livez, /readyz or /metrics"}"#, "is the observe listener"),
        (r#"{"detail":"Not Found"}"#, "not as the admin listener does: {\"detail\":\"Not Found\"}"),
        ("<html>\u{1b}[2J gone", "not as the admin listener does: <html>[2J gone"),
        ("", "with an empty body"),
    ] {
        let stranger = get(404, body).await;
        assert!(matches!(&stranger, Error::Stranger(text) if text.contains(words)), "{stranger}");
    }
    for (body, words) in [
        (r#"{"status":"error","message":"use GET"}"#, "is the observe listener"),
        (r#"{"status":"error","reason":"wrong_method","message":"use POST"}"#, "is the ingest listener"),
    ] {
        let stranger = get(405, body).await;
        assert!(matches!(&stranger, Error::Stranger(text) if text.contains(words)), "{stranger}");
    }
    // A page of somebody's, with 200.
    assert!(matches!(get(200, "<html>").await, Error::Stranger(_)));
}

#[tokio::test]
async fn what_cannot_be_reached_and_what_breaks_are_told_apart() {
    let (free, nobody) = listener().await;
    drop(free);
    let get = async |url: &str| client(url).get(&Query::new("/api/v1/status")).await.unwrap_err();
    let unreachable = get(&nobody).await;
    assert!(matches!(&unreachable, Error::Unreachable { .. }), "{unreachable:?}");
    assert!(unreachable.to_string().contains("refused"), "{unreachable}");
    let unknown = get("http://no-such-host.invalid:9465").await;
    assert!(matches!(&unknown, Error::Unreachable { .. }), "{unknown:?}");
    let not_http = get(&saying(b"-ERR unknown command\r\n").await).await;
    assert!(matches!(&not_http, Error::Stranger(text) if text.contains("does not speak HTTP")), "{not_http:?}");
    let closed = get(&saying(b"").await).await;
    assert!(matches!(&closed, Error::Broken(text) if text.contains("without an answer")), "{closed:?}");
    assert!(!closed.to_string().contains("may have been done"), "{closed}");
    let cut = saying(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{").await;
    let cut = client(&cut).ask(Method::POST, &Query::new("/"), None).await.unwrap_err();
    assert!(matches!(&cut, Error::Broken(text) if text.contains("may have been done")), "{cut:?}");
    let no_tls = get(&saying(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.replace("http:", "https:")).await;
    assert!(matches!(&no_tls, Error::Stranger(text) if text.contains("no TLS")), "{no_tls:?}");
}

#[tokio::test]
async fn nobody_is_waited_for_longer_than_said() {
    let (listener, url) = listener().await;
    // The clock runs ahead once everything waits.
    tokio::time::pause();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        std::future::pending::<TcpStream>().await
    });
    let began = Instant::now();
    let late = client(&url).get(&Query::new("/")).await.unwrap_err();
    assert!(matches!(&late, Error::Broken(text) if text.contains("within 30 s")), "{late:?}");
    assert_eq!(began.elapsed().as_secs(), ANSWER_TIMEOUT.as_secs());
    served.abort();
}

#[tokio::test]
async fn an_answer_has_a_longest_length() {
    let body = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let (url, _) = answering(200, JSON, body(ANSWER_BYTES_MAX)).await;
    assert!(client(&url).get(&Query::new("/")).await.is_ok());
    let (url, _) = answering(200, JSON, body(ANSWER_BYTES_MAX + 1)).await;
    let long = client(&url).get(&Query::new("/")).await.unwrap_err();
    assert!(matches!(&long, Error::Broken(text) if text.contains("longer than 32 MiB")), "{long:?}");
}

#[tokio::test]
async fn a_stream_is_read_to_its_end_and_nothing_else_is_taken_for_one() {
    let stream = "event: decision\ndata: {\"a\":1}\n\n: still here\n\nevent: lost\ndata: {\"count\":2}\n\n";
    let (url, heads) = answering(200, "text/event-stream; charset=utf-8", stream).await;
    let mut told = client(&url).stream(&Query::new("/api/v1/tap")).await.unwrap();
    assert_eq!(told.next().await.unwrap().unwrap().data, "{\"a\":1}");
    assert_eq!(told.next().await.unwrap().unwrap().event, "lost");
    assert_eq!(told.next().await.unwrap(), None);
    assert_eq!(heads.lock().unwrap()[0].headers[ACCEPT], "text/event-stream");
    let (url, _) = answering(400, JSON, r#"{"status":"error","message":"no such outcome"}"#).await;
    let refused = client(&url).stream(&Query::new("/")).await.err().unwrap();
    assert!(matches!(refused, Error::Refused { status: StatusCode::BAD_REQUEST, .. }), "{refused:?}");
    let (url, _) = answering(200, JSON, r#"{"ready":true}"#).await;
    assert!(matches!(client(&url).stream(&Query::new("/")).await, Err(Error::Stranger(_))));
}

#[tokio::test]
async fn https_trusts_the_named_authority_and_nobody_else() {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (listener, url) = listener().await;
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
            let _ = stream.shutdown().await;
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, issued.cert.pem()).unwrap();
    let url = url.replace("http://127.0.0.1", "https://localhost");
    let get = async |tls| Client::new(Base::parse(&url).unwrap(), None, tls).get(&Query::new("/")).await;
    assert!(get(Tls::trusting(&file).unwrap()).await.is_ok());
    let refused = get(Tls::default()).await.unwrap_err();
    assert!(matches!(&refused, Error::Stranger(text) if text.contains("ertificate")), "{refused:?}");
    std::fs::write(&file, "no certificate").unwrap();
    assert!(matches!(Tls::trusting(&file), Err(Error::Usage(_))));
}
