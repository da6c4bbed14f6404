//! TLS on the ingest listener: as good as TCP in every respect, strict where it must be, and changed while it runs.

use std::io::Read;
use std::net::Shutdown;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use rustls::{HandshakeKind, ProtocolVersion};

use crate::early;
use crate::harness::tls::{Authority, Client, Connection, TLS_1_2, TLS_1_3, handshake};
use crate::harness::{
    Http2, PATH, Raw, Recorder, Stop, Surgegate, alone, ask, binary, ended, measured, request, standard, trigger,
    wait_until, within,
};

fn post(connection: &mut Raw<Connection>, key: &str) -> u16 {
    connection.post(PATH, trigger(key)).unwrap_or_else(|error| panic!("{key}: {error}")).status
}

#[test]
fn both_versions_and_both_protocols_are_spoken_and_agreed_on_by_alpn() {
    let (authority, recorder) = (Authority::new(), Recorder::start());
    let surgegate = Surgegate::start(&[&standard(&recorder), &authority.listen("")]);
    let address = surgegate.ingest();
    for (version, spoken) in [(&TLS_1_2, ProtocolVersion::TLSv1_2), (&TLS_1_3, ProtocolVersion::TLSv1_3)] {
        let client = authority.client().only(version);
        // What both offer, HTTP/2 first; and a client that knows nothing of ALPN.
        for (offered, agreed) in [(vec![&b"http/1.1"[..], b"h2"], "h2"), (vec![b"http/1.1"], "http/1.1"), (vec![], "")]
        {
            let mut connection = handshake(client.config(&offered), address).unwrap();
            let session = &connection.stream().conn;
            assert_eq!(session.protocol_version(), Some(spoken));
            assert_eq!(session.alpn_protocol().unwrap_or_default(), agreed.as_bytes());
            if agreed != "h2" {
                assert_eq!(post(&mut connection, &format!("{spoken:?}{agreed}")), 202);
            }
        }
        assert!(handshake(client.config(&[b"spdy/1"]), address).is_err(), "nothing in common");
        let answer = Http2::connect_tls(address, &client).post(PATH, trigger(&format!("{spoken:?}-h2"))).unwrap();
        assert_eq!(answer.status, 202);
    }
    surgegate.wait_until_delivered();
    assert_eq!(recorder.events().len(), 6);
}

#[test]
fn http_2_without_alpn_is_told_by_its_begin() {
    let (authority, recorder) = (Authority::new(), Recorder::start());
    let surgegate = Surgegate::start(&[&standard(&recorder), &authority.listen("")]);
    let mut connection = handshake(authority.client().config(&[]), surgegate.ingest()).unwrap();
    connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut head = [0; 9];
    connection.stream_mut().read_exact(&mut head).unwrap();
    assert_eq!(head[3], 4, "the other side's settings");
}

#[test]
fn sessions_are_resumed() {
    let (authority, recorder) = (Authority::new(), Recorder::start());
    let surgegate = Surgegate::start(&[&standard(&recorder), &authority.listen("")]);
    for version in [&TLS_1_2, &TLS_1_3] {
        let config = authority.client().only(version).config(&[b"http/1.1"]);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut connection = handshake(config.clone(), surgegate.ingest()).unwrap();
            // The ticket comes with the answer.
            assert_eq!(post(&mut connection, "again"), 202);
            assert_eq!(connection.stream().conn.handshake_kind(), Some(kind));
        }
    }
}

#[test]
fn real_clients_are_content() {
    let (authority, recorder) = (Authority::new(), Recorder::start());
    let surgegate = Surgegate::start(&[&standard(&recorder), &authority.listen("")]);
    let address = surgegate.ingest();
    for (flags, version) in [(["--http1.1", "--tls-max", "1.2"], "1.1"), (["--http2", "--tls-max", "1.3"], "2")] {
        let curl = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "30", "--output", "/dev/null"])
            .args(["--write-out", "%{http_code} %{http_version}"])
            .arg("--cacert")
            .arg(authority.path("ca.crt"))
            .args(flags)
            .args(["--resolve", &format!("localhost:{}:127.0.0.1", address.port())])
            .args(["--json", &trigger(version), &format!("https://localhost:{}{PATH}", address.port())])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&curl.stdout).into_owned();
        assert_eq!(said, format!("202 {version}"), "{}", String::from_utf8_lossy(&curl.stderr));
    }
    let openssl = Command::new("openssl")
        .args(["s_client", "-brief", "-verify_return_error", "-verify_hostname", "localhost"])
        .args(["-alpn", "h2", "-CAfile"])
        .arg(authority.path("ca.crt"))
        .args(["-connect", &address.to_string()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&openssl.stderr).into_owned();
    assert!(openssl.status.success() && said.contains("Verification: OK"), "{said}");
}

#[test]
fn with_a_client_ca_only_its_clients_are_let_in() {
    let (authority, stranger, recorder) = (Authority::new(), Authority::new(), Recorder::start());
    authority.certify("fleet", 2030);
    authority.certify("late", 2020);
    stranger.certify("fleet", 2030);
    let ca = format!(", client_ca: '{}'", authority.path("ca.crt").display());
    let surgegate = Surgegate::start(&[&standard(&recorder), &authority.listen(&ca)]);
    for version in [&TLS_1_2, &TLS_1_3] {
        let client = authority.client().only(version);
        let attempt = |client: &Client| {
            let mut connection = handshake(client.config(&[b"http/1.1"]), surgegate.ingest())?;
            connection.post(PATH, trigger("a")).map(|answer| answer.status)
        };
        assert_eq!(attempt(&client.clone().with(&authority, "fleet")).unwrap(), 202);
        for (refused, who) in [
            (client.clone(), "without a certificate"),
            (client.clone().with(&stranger, "fleet"), "with another authority's"),
            (client.with(&authority, "late"), "with an expired one"),
        ] {
            assert!(attempt(&refused).is_err(), "let in {who}");
        }
    }
    surgegate.wait_until_delivered();
    assert_eq!(recorder.events().len(), 1);
}

fn everyone_reads(form: fn(Raw<Connection>, usize) -> std::io::Result<crate::harness::Answer>) {
    let _alone = alone();
    let (authority, recorder) = (Authority::new(), Recorder::start());
    let surgegate = Surgegate::start(&[&standard(&recorder), &authority.listen("")]);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..early::CLIENTS)
            .map(|client| {
                let version = if client % 2 == 0 { &TLS_1_2 } else { &TLS_1_3 };
                let connection = authority.client().only(version).connect(surgegate.ingest());
                let size = early::size(client);
                scope.spawn(move || match form(connection, size) {
                    Ok(answer) if answer.status == 413 => None,
                    other => Some(format!("{size} bytes: {other:?}")),
                })
            })
            .collect();
        clients.into_iter().filter_map(|client| client.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{} did not read their 413: {wrong:#?}", wrong.len());
    assert_eq!(post(&mut authority.client().connect(surgegate.ingest()), "last"), 202);
    surgegate.wait_until_delivered();
    assert_eq!(recorder.events().len(), 1);
}

#[test]
fn declared_uploads_read_their_413() {
    everyone_reads(early::declared);
}

#[test]
fn chunked_uploads_read_their_413() {
    everyone_reads(early::chunked);
}

#[test]
fn uploads_that_ask_and_do_not_wait_read_their_413() {
    everyone_reads(early::impatient);
}

#[test]
fn http_2_uploads_read_their_413() {
    let _alone = alone();
    let (authority, recorder) = (Authority::new(), Recorder::start());
    let surgegate = Surgegate::start(&[&standard(&recorder), &authority.listen("")]);
    std::thread::scope(|scope| {
        for client in 0..early::CLIENTS / 2 {
            let connection = Http2::connect_tls(surgegate.ingest(), &authority.client());
            scope.spawn(move || {
                let answer = connection.post(PATH, vec![b' '; early::size(2 * client)]).unwrap();
                assert_eq!(answer.status, 413);
                assert_eq!(connection.post(PATH, trigger(&format!("after-{client}"))).unwrap().status, 202);
            });
        }
    });
}

#[test]
fn ambiguous_framing_is_refused_as_over_tcp() {
    let (authority, recorder) = (Authority::new(), Recorder::start());
    let surgegate = Surgegate::start(&[&standard(&recorder), &authority.listen("")]);
    let mut connection = authority.client().connect(surgegate.ingest());
    // hyper itself takes a bare LF for the end of a line.
    let bare = request("POST", PATH, &["Content-Type: application/json\nA: b"], trigger("bare"));
    connection.send(bare).unwrap();
    assert_eq!(connection.answer().unwrap().status, 400);
    assert!(connection.next_answer().unwrap().is_none(), "closed after it");
}

#[test]
fn a_half_close_after_a_whole_request_still_gets_its_answer() {
    let (authority, recorder) = (Authority::new(), Recorder::start());
    let surgegate = Surgegate::start(&[&standard(&recorder), &authority.listen("")]);
    for farewell in [true, false] {
        let mut connection = authority.client().connect(surgegate.ingest());
        connection.send(request("POST", PATH, &["Content-Type: application/json"], trigger("half"))).unwrap();
        if farewell {
            let stream = connection.stream_mut();
            stream.conn.send_close_notify();
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        connection.stream().sock.shutdown(Shutdown::Write).unwrap();
        assert_eq!(connection.answer().unwrap().status, 202, "farewell: {farewell}");
    }
}

#[test]
fn slow_heads_bodies_and_readers_are_closed_as_over_tcp() {
    let (authority, recorder) = (Authority::new(), Recorder::start());
    let limits = "limits: { header_timeout: 1s, body_timeout: 1s, idle_timeout: 2s }\n";
    let surgegate = Surgegate::start(&[&standard(&recorder), &authority.listen(""), limits]);
    let connect = || authority.client().connect(surgegate.ingest());
    let mut head = connect();
    head.send(format!("POST {PATH} HTTP/1.1\r\nHo")).unwrap();
    let mut body = connect();
    body.send(format!("POST {PATH} HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\n{{")).unwrap();
    let mut idle = connect();
    assert_eq!(post(&mut idle, "idle"), 202);
    let mut unread = connect();
    unread.stream().sock.set_nonblocking(true).unwrap();
    let many = request("POST", "/nowhere", &[], "").repeat(200);
    while unread.send(&many).is_ok() {}
    unread.stream().sock.set_nonblocking(false).unwrap();
    assert_eq!(body.answer().unwrap().status, 408);
    assert!(!matches!(head.next_answer(), Ok(Some(_))), "a slow head gets no answer");
    assert!(!matches!(idle.next_answer(), Ok(Some(_))));
    wait_until("the end of the one that does not read", || surgegate.scrape().count("http_connections", &[]) == 0);
}

/// Slow connections whose cost is measured.
const SLOW: usize = 500;
/// Most that one may cost: what one costs without TLS, and its session.
const BYTES_EACH: u64 = 32 * 1024;

#[test]
fn a_slow_connection_costs_a_session_more_than_over_tcp() {
    let _alone = alone();
    let (authority, recorder) = (Authority::new(), Recorder::start());
    let limits = "limits: { header_timeout: 10m, idle_timeout: 10m }\n";
    let config = authority.client().config(&[b"http/1.1"]);
    measured(|| {
        let surgegate = Surgegate::start(&[&standard(&recorder), &authority.listen(""), limits]);
        let begin = || {
            let mut connection = handshake(Arc::clone(&config), surgegate.ingest()).unwrap();
            connection.send(format!("POST {PATH} HTTP/1.1\r\nHost: te")).unwrap();
            connection
        };
        let mut held: Vec<_> = (0..20).map(|_| begin()).collect();
        let base = surgegate.memory_bytes();
        held.extend((0..SLOW).map(|_| begin()));
        let each = surgegate.memory_bytes().saturating_sub(base) / SLOW as u64;
        eprintln!("{SLOW} connections: {each} bytes each");
        within(each < BYTES_EACH, format!("{each} bytes"))
    });
}

#[test]
fn a_handshake_that_never_ends_and_plain_text_are_closed() {
    let (authority, recorder) = (Authority::new(), Recorder::start());
    let limits = "limits: { header_timeout: 1s }\nlog: { level: debug }\n";
    let surgegate = Surgegate::start(&[&standard(&recorder), &authority.listen(""), limits]);
    let cpu = surgegate.cpu_seconds();
    let began = Instant::now();
    // A record's head, and a byte of what it promises.
    let slow: Vec<Raw> = (0..50)
        .map(|_| {
            let mut connection = surgegate.connect();
            connection.send([0x16, 3, 1, 2, 0, 1]).unwrap();
            connection
        })
        .collect();
    let mut plain = surgegate.connect();
    plain.send(request("POST", PATH, &[], trigger("plain"))).unwrap();
    assert!(!matches!(plain.next_answer(), Ok(Some(_))), "no answer in plain text");
    wait_until("a line that says so", || surgegate.said().contains("not TLS: plain HTTP on this port?"));
    wait_until("their end", || surgegate.scrape().count("http_connections", &[]) == 0);
    for mut connection in slow {
        assert!(!matches!(connection.next_answer(), Ok(Some(_))));
    }
    let spent = surgegate.cpu_seconds() - cpu;
    assert!(spent < 0.5 * began.elapsed().as_secs_f64().max(1.0), "{spent} s of processor time for waiting");
    assert_eq!(post(&mut authority.client().connect(surgegate.ingest()), "good"), 202);
}

#[test]
fn the_scrape_tells_when_the_certificate_expires() {
    let (authority, recorder) = (Authority::new(), Recorder::start());
    let plain = Surgegate::start(&[&standard(&recorder)]);
    let gauge = "surgegate_tls_certificate_expiry_timestamp_seconds ";
    assert!(!plain.observe("/metrics").unwrap().text().contains(gauge), "no certificate, no date");
    let surgegate = Surgegate::start(&[&standard(&recorder), &authority.listen("")]);
    // 2030-01-01.
    assert_eq!(surgegate.scrape().count("tls_certificate_expiry_timestamp_seconds", &[]), 1_893_456_000);
    authority.certify("tls", 2020);
    let expired = Surgegate::start(&[&standard(&recorder), &authority.listen("")]);
    wait_until("a warning", || expired.said().contains("the certificate has expired: clients will refuse it"));
}

#[test]
fn a_start_without_its_certificate_is_an_invalid_configuration() {
    let authority = Authority::new();
    let file = authority.path("surgegate.yaml");
    let spool = authority.path("spool");
    authority.certify("other", 2030);
    let integrations = "integrations: [{ name: a, keys: [{ key: 0123456789abcdef }], upstreams: [out] }]\n\
                        upstreams: [{ name: out, kind: stdout }]\n";
    let listen = authority.listen("").replace(
        "ingest: {",
        "observe: { address: '127.0.0.1:0' }, admin: { address: '127.0.0.1:0' }, ingest: { address: '127.0.0.1:0',",
    );
    std::fs::write(&file, format!("{integrations}{listen}spool: {{ directory: '{}' }}\n", spool.display())).unwrap();
    std::fs::copy(authority.path("other.key"), authority.path("tls.key")).unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_surgegate")).arg("--config").arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(78), "{said}");
    assert!(said.contains("tls.key does not belong to the first certificate in"), "{said}");
    assert!(!spool.exists(), "told before the log is touched");
}

#[test]
fn what_is_wrong_with_each_file_is_told_at_a_reload_as_validate_tells_it() {
    let (authority, recorder) = (Authority::new(), Recorder::start());
    let tls = authority.listen(&format!(", client_ca: '{}'", authority.path("ca.crt").display()));
    let surgegate = Surgegate::start(&[&standard(&recorder), &tls]);
    for name in ["tls.crt", "tls.key", "ca.crt"] {
        std::fs::write(authority.path(name), "nothing").unwrap();
    }
    let told = ask(surgegate.admin_address(), "POST", "/api/v1/reload", &[]).unwrap();
    let mut arguments = vec!["validate", "--format", "json"];
    surgegate.files().iter().for_each(|file| arguments.extend(["--config", file.to_str().unwrap()]));
    let folder = tempfile::TempDir::new().unwrap();
    let validated = ended(&mut binary(folder.path(), &arguments)).ended(78).json();
    let of_tls = |rows: &serde_json::Value| -> Vec<serde_json::Value> {
        rows.as_array().unwrap().iter().filter(|row| row["code"] == "certificate").cloned().collect()
    };
    let found = of_tls(&told.json()["findings"]);
    assert_eq!((told.status, found.len()), (422, 3), "{}", told.text());
    let of_validate = of_tls(&validated["findings"]);
    assert_eq!(of_validate.len(), 3);
    for (told, by_validate) in found.iter().zip(&of_validate) {
        // A reload has the same in one text besides, for its verb to print.
        for (member, value) in by_validate.as_object().unwrap() {
            assert_eq!(told[member], *value, "{member}");
        }
    }
    for (row, key) in found.iter().zip(["certificate", "key", "client_ca"]) {
        assert!(row["message"].as_str().unwrap().starts_with(&format!("listen.ingest.tls.{key}: ")), "{row:#}");
        assert!(row["line"] == 1 && row["hint"].is_string() && row["snippet"].is_string(), "{row:#}");
        assert_eq!(row["file"].as_str(), surgegate.files().last().unwrap().to_str());
    }
}

/// What scripts/tls-scan.sh says of a listener with this certificate, and whether it is content.
fn scan(authority: &Authority, parts: &str) -> (bool, String) {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder), &authority.listen("")]);
    let scan = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/tls-scan.sh"))
        .args(["localhost", &surgegate.ingest().port().to_string()])
        .arg(authority.path("ca.crt"))
        // All, where none are named.
        .env("SURGEGATE_SCAN_PARTS", parts)
        .output()
        .unwrap();
    (
        scan.status.success(),
        format!("{}{}", String::from_utf8_lossy(&scan.stdout), String::from_utf8_lossy(&scan.stderr)),
    )
}

#[test]
fn scanners_find_nothing_weak() {
    let _alone = alone();
    let authority = Authority::new();
    // Longer than a year would itself be called weak.
    authority.certify_days("tls", -1, 300);
    let (is_content, said) = scan(&authority, "");
    assert!(is_content, "{said}");
}

#[test]
fn scanners_would_find_an_expired_certificate() {
    let _alone = alone();
    let authority = Authority::new();
    authority.certify_days("tls", -90, -1);
    let (is_content, said) = scan(&authority, "-S");
    assert!(
        !is_content && said.contains("cert_expirationStatus") && said.contains("sslscan: the certificate has expired"),
        "{said}"
    );
}

#[test]
fn a_certificate_is_changed_under_load_without_a_failed_request() {
    let (authority, recorder) = (Authority::new(), Recorder::start());
    let surgegate = Surgegate::start(&[&standard(&recorder), &authority.listen("")]);
    let address = surgegate.ingest();
    let reload = || ask(surgegate.admin_address(), "POST", "/api/v1/reload", &[]).unwrap();
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let (stop, done, authority) = (&stop, &done, &authority);
        let stopping = Stop(stop);
        let clients: Vec<_> = (0..4)
            .map(|name| {
                scope.spawn(move || {
                    // One stays, all others come and go: neither is dropped.
                    let mut old = authority.client().connect(address);
                    while !stop.load(Ordering::Relaxed) {
                        let mut new = authority.client().connect(address);
                        for connection in [&mut old, &mut new] {
                            assert_eq!(post(connection, &format!("{name}")), 202);
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        for year in 2031..2041 {
            let before = done.load(Ordering::Relaxed);
            authority.certify("tls", year);
            assert_eq!(reload().status, 200);
            wait_until("requests after the change", || {
                done.load(Ordering::Relaxed) > before + 20 || clients.iter().any(|client| client.is_finished())
            });
            assert_eq!(
                shown(authority, address),
                std::fs::read_to_string(authority.path("tls.crt")).unwrap().replace('\r', "")
            );
        }
        // 2040-01-01.
        assert_eq!(surgegate.scrape().count("tls_certificate_expiry_timestamp_seconds", &[]), 2_208_988_800);
        // A half-written pair changes nothing.
        std::fs::write(authority.path("tls.key"), "").unwrap();
        let told = reload();
        assert_eq!((told.status, &told.json()["findings"][0]["code"]), (422, &"certificate".into()), "{}", told.text());
        let before = done.load(Ordering::Relaxed);
        wait_until("requests after it", || done.load(Ordering::Relaxed) > before + 20);
        // As cert-manager does it: nobody asks for the files to be read again.
        authority.certify("tls", 2042);
        let new = std::fs::read_to_string(authority.path("tls.crt")).unwrap().replace('\r', "");
        wait_until("the new pair to be noticed", || shown(authority, address) == new);
        drop(stopping);
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
}

/// The server's certificate as a client sees it, in PEM.
fn shown(authority: &Authority, address: std::net::SocketAddr) -> String {
    let connection = authority.client().connect(address);
    let der = connection.stream().conn.peer_certificates().unwrap()[0].to_vec();
    let path = authority.path("shown.der");
    std::fs::write(&path, der).unwrap();
    let pem = Command::new("openssl").args(["x509", "-inform", "DER", "-in"]).arg(path).output().unwrap();
    String::from_utf8(pem.stdout).unwrap()
}
