//! Behind proxies: where a request really comes from, by the PROXY protocol and by X-Forwarded-For.

use std::time::Duration;

use crate::harness::tls::{Authority, handshake_over};
use crate::harness::{PATH, Raw, Recorder, Surgegate, request, standard, trigger, wait_until};

/// The integration takes events from 192.0.2.0/24 alone.
fn start(recorder: &Recorder, ingest: &str) -> Surgegate {
    let fenced =
        standard(recorder).replace("upstreams: [pager]", "upstreams: [pager]\n    source_networks: [192.0.2.0/24]");
    let ingest =
        format!("listen: {{ ingest: {{ {ingest} }} }}\nlimits: {{ header_timeout: 2s }}\nlog: {{ level: debug }}\n");
    Surgegate::start(&[&fenced, &ingest])
}

fn post_forwarded(surgegate: &Surgegate, fields: &[&str]) -> u16 {
    let mut connection = surgegate.connect();
    let fields: Vec<&str> = ["Content-Type: application/json"].iter().chain(fields).copied().collect();
    connection.send(request("POST", PATH, &fields, trigger("a"))).unwrap();
    connection.answer().unwrap().status
}

/// Sends these bytes, then a post, and gives the status, or nothing when it was closed.
fn post_behind(surgegate: &Surgegate, header: &[u8]) -> Option<u16> {
    let mut connection = surgegate.connect();
    connection.send(header).ok()?;
    connection.post(PATH, trigger("a")).ok().map(|answer| answer.status)
}

fn v2(source: [u8; 4], more: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
    header.extend_from_slice(&(12 + more.len() as u16).to_be_bytes());
    header.extend_from_slice(&source);
    header.extend_from_slice(&[10, 0, 0, 1, 0x12, 0x67, 1, 187]);
    header.extend_from_slice(more);
    header
}

#[test]
fn a_trusted_proxy_is_believed_whom_it_forwards_for_and_nobody_else_is() {
    let recorder = Recorder::start();
    let trusting = start(&recorder, "trusted_proxies: [127.0.0.0/8]");
    assert_eq!(post_forwarded(&trusting, &["X-Forwarded-For: 192.0.2.7"]), 202);
    assert_eq!(post_forwarded(&trusting, &["X-Forwarded-For: 6.6.6.6, 192.0.2.7, 127.0.0.2"]), 202);
    assert_eq!(post_forwarded(&trusting, &["X-Forwarded-For: 192.0.2.7, 6.6.6.6"]), 403, "said by the client itself");
    assert_eq!(post_forwarded(&trusting, &[]), 403);
    let elsewhere = start(&recorder, "trusted_proxies: [10.0.0.0/8]");
    assert_eq!(post_forwarded(&elsewhere, &["X-Forwarded-For: 192.0.2.7"]), 403);
    let unconfigured = start(&recorder, "proxy_protocol: false");
    assert_eq!(post_forwarded(&unconfigured, &["X-Forwarded-For: 192.0.2.7"]), 403);
}

#[test]
fn both_versions_of_the_proxy_protocol_name_the_source() {
    let recorder = Recorder::start();
    let surgegate = start(&recorder, "proxy_protocol: true");
    assert_eq!(post_behind(&surgegate, b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n"), Some(202));
    assert_eq!(post_behind(&surgegate, b"PROXY TCP4 198.51.100.7 10.0.0.1 4711 80\r\n"), Some(403));
    assert_eq!(post_behind(&surgegate, b"PROXY UNKNOWN\r\n"), Some(403), "the peer's own address");
    assert_eq!(post_behind(&surgegate, &v2([192, 0, 2, 7], &[])), Some(202));
    assert_eq!(
        post_behind(&surgegate, &v2([192, 0, 2, 7], &[0xEA, 0, 3, 1, 2, 3])),
        Some(202),
        "what it adds is skipped"
    );
    assert_eq!(post_behind(&surgegate, &v2([198, 51, 100, 7], &[])), Some(403));
    // In as many pieces as it has bytes.
    for header in [v2([192, 0, 2, 7], &[]), b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n".to_vec()] {
        let mut connection = surgegate.connect();
        for byte in header {
            connection.send([byte]).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(connection.post(PATH, trigger("a")).unwrap().status, 202);
    }
}

#[test]
fn what_is_no_proxy_header_is_closed_and_told() {
    let recorder = Recorder::start();
    let surgegate = start(&recorder, "proxy_protocol: true");
    assert_eq!(post_behind(&surgegate, b""), None, "a request without one");
    assert_eq!(post_behind(&surgegate, b"PROXY TCP4 192.0.2.700 10.0.0.1 4711 80\r\n"), None);
    assert_eq!(post_behind(&surgegate, &v2([192, 0, 2, 7], &[0; 600])), None, "longer than any");
    let mut slow = surgegate.connect();
    slow.send(b"PROXY TCP4 192.").unwrap();
    assert!(!matches!(slow.next_answer(), Ok(Some(_))), "one that never ends");
    wait_until("lines that say so", || surgegate.said().matches("no PROXY protocol").count() >= 3);
    wait_until("their end", || surgegate.scrape().count("http_connections", &[]) == 0);
}

#[test]
fn the_protocol_stands_before_tls_and_only_trusted_proxies_speak_it() {
    let (authority, recorder) = (Authority::new(), Recorder::start());
    let tls = authority.listen("");
    let tls = tls.trim().trim_start_matches("listen: { ingest: {").trim_end_matches("} }").to_owned();
    let surgegate = start(&recorder, &format!("proxy_protocol: true, trusted_proxies: [127.0.0.0/8],{tls}"));
    let mut tcp = std::net::TcpStream::connect(surgegate.ingest()).unwrap();
    std::io::Write::write_all(&mut tcp, &v2([192, 0, 2, 7], &[])).unwrap();
    let mut connection = handshake_over(authority.client().config(&[b"http/1.1"]), tcp).unwrap();
    assert_eq!(connection.post(PATH, trigger("a")).unwrap().status, 202);
    // A proxy behind the proxy.
    let chained = |source: [u8; 4]| {
        let mut tcp = std::net::TcpStream::connect(surgegate.ingest()).unwrap();
        std::io::Write::write_all(&mut tcp, &v2(source, &[])).unwrap();
        let mut connection = handshake_over(authority.client().config(&[b"http/1.1"]), tcp).unwrap();
        let fields = ["Content-Type: application/json", "X-Forwarded-For: 192.0.2.9"];
        connection.send(request("POST", PATH, &fields, trigger("a"))).unwrap();
        connection.answer().unwrap().status
    };
    assert_eq!(chained([127, 0, 0, 9]), 202);
    assert_eq!(chained([198, 51, 100, 7]), 403);
    let elsewhere = start(&recorder, "proxy_protocol: true, trusted_proxies: [10.0.0.0/8]");
    let mut direct: Raw = elsewhere.connect();
    assert_eq!(direct.post(PATH, trigger("a")).unwrap().status, 403, "speaks for itself");
    assert_eq!(post_behind(&elsewhere, b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n"), Some(400), "and for nobody else");
}
