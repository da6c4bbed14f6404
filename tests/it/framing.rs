//! I2: ambiguous framing is refused and closed; nothing hidden behind it is ever read as a request.

use std::io::{ErrorKind, Write};

use crate::harness::{PATH, Raw, Recorder, Surgegate, request, standard, trigger, wait_until};

/// A request that no reader of the outer one may find.
fn hidden(mark: &str) -> String {
    String::from_utf8(request("POST", PATH, &["X: y"], trigger(mark))).unwrap()
}

/// Every form in which two readers could disagree on where a request ends, with a request hidden behind it.
/// `{hidden}` stands for that one.
fn ambiguous() -> Vec<(&'static str, String)> {
    let post = |fields: &str, rest: &str| format!("POST {PATH} HTTP/1.1\r\nHost: test\r\n{fields}\r\n{rest}");
    let whole = trigger("outer");
    let length = format!("Content-Length: {}\r\n", whole.len());
    let covers_hidden = format!("Content-Length: {}\r\n", 5 + hidden("hidden-00").len());
    let chunked = "Transfer-Encoding: chunked\r\n";
    let chunks = |size_line: &str| post(chunked, &format!("{size_line}{whole}\r\n0\r\n\r\n{{hidden}}"));
    let hex = format!("{:x}", whole.len());
    vec![
        ("length, then coding", post(&format!("{covers_hidden}{chunked}"), "0\r\n\r\n{hidden}")),
        ("coding, then length", post(&format!("{chunked}Content-Length: 5\r\n"), "0\r\n\r\n{hidden}")),
        ("coding in odd case beside a length", post(&format!("tRANSFER-eNCODING: chunked\r\n{covers_hidden}"), "0\r\n\r\n{hidden}")),
        ("equal lengths", post(&format!("{length}{length}"), &format!("{whole}{{hidden}}"))),
        ("different lengths", post(&format!("{length}Content-Length: 0\r\n"), &format!("{whole}{{hidden}}"))),
        ("a list of equal lengths", post(&format!("Content-Length: {0}, {0}\r\n", whole.len()), &format!("{whole}{{hidden}}"))),
        ("a plus before the length", post(&format!("Content-Length: +{}\r\n", whole.len()), &format!("{whole}{{hidden}}"))),
        ("a negative length", post("Content-Length: -1\r\n", "{hidden}")),
        ("a length in hexadecimal", post("Content-Length: 0x10\r\n", "{hidden}")),
        ("a length with a unit", post("Content-Length: 5 bytes\r\n", "12345{hidden}")),
        ("an empty length", post("Content-Length:\r\n", "{hidden}")),
        ("a length beyond 64 bits", post("Content-Length: 18446744073709551617\r\n", "1{hidden}")),
        ("a length behind white space", post(&format!("Content-Length : {}\r\n", whole.len()), &format!("{whole}{{hidden}}"))),
        ("a coding behind white space", post("Transfer-Encoding : chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n{hidden}")),
        ("a coding behind a tab", post("Transfer-Encoding\t: chunked\r\n", "0\r\n\r\n{hidden}")),
        ("a folded coding", post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n{hidden}")),
        ("a folded field", post(&format!("X: y\r\n {length}"), &format!("{whole}{{hidden}}"))),
        ("a field before the first", format!("POST {PATH} HTTP/1.1\r\n X: y\r\nHost: test\r\n{length}\r\n{whole}{{hidden}}")),
        ("two codings", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n{hidden}")),
        ("two equal codings", post(&format!("{chunked}{chunked}"), "0\r\n\r\n{hidden}")),
        ("chunked, then identity", post(&format!("{chunked}Transfer-Encoding: identity\r\n"), "0\r\n\r\n{hidden}")),
        ("identity", post("Transfer-Encoding: identity\r\n", "{hidden}")),
        ("a coding that begins with chunked", post("Transfer-Encoding: chunkedx\r\n", "0\r\n\r\n{hidden}")),
        ("a coding behind a vertical tab", post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n{hidden}")),
        ("a coding in HTTP/1.0", post(chunked, &format!("{hex}\r\n{whole}\r\n0\r\n\r\n{{hidden}}")).replace("HTTP/1.1", "HTTP/1.0")),
        ("LF alone after the request line", post(&length, &format!("{whole}{{hidden}}")).replacen("\r\n", "\n", 1)),
        ("LF alone after a field", format!("POST {PATH} HTTP/1.1\r\nHost: test\n{length}\r\n{whole}{{hidden}}")),
        ("LF alone at the head's end", format!("POST {PATH} HTTP/1.1\r\nHost: test\r\n{length}\n{whole}{{hidden}}")),
        ("LF alone everywhere", format!("POST {PATH} HTTP/1.1\nHost: test\n{}\n{whole}{{hidden}}", length.replace('\r', ""))),
        ("LF before the request line", format!("\nPOST {PATH} HTTP/1.1\r\nHost: test\r\n{length}\r\n{whole}{{hidden}}")),
        ("a field behind CR alone", format!("POST {PATH} HTTP/1.1\r\nX: y\rContent-Length: 0\r\nHost: test\r\n{length}\r\n{whole}{{hidden}}")),
        ("a NUL in a value", post(&format!("X: a\0b\r\n{length}"), &format!("{whole}{{hidden}}"))),
        ("a NUL in a name", post(&format!("Content-Length\0: 0\r\n{length}"), &format!("{whole}{{hidden}}"))),
        ("a field without a name", post(&format!(": 0\r\n{length}"), &format!("{whole}{{hidden}}"))),
        ("a line without a colon", post(&format!("Content-Length 0\r\n{length}"), &format!("{whole}{{hidden}}"))),
        ("a chunk size behind LF alone", chunks(&format!("{hex}\n"))),
        ("a chunk extension behind LF alone", chunks(&format!("{hex};x\n"))),
        ("a chunk extension with CR alone", chunks(&format!("{hex};x\ry\r\n"))),
        ("a NUL in a chunk extension", chunks(&format!("{hex};\0\r\n"))),
        ("a chunk size with a prefix", chunks(&format!("0x{hex}\r\n"))),
        ("a chunk size with a sign", chunks(&format!("+{hex}\r\n"))),
        ("a chunk size behind a blank", chunks(&format!(" {hex}\r\n"))),
        ("a chunk size beyond 64 bits", chunks(&format!("1{hex:0>16}\r\n"))),
        ("an empty chunk size", chunks("\r\n")),
        ("a chunk longer than its size", post(chunked, &format!("1\r\n{whole}\r\n0\r\n\r\n{{hidden}}"))),
        ("LF alone after a chunk", post(chunked, &format!("{hex}\r\n{whole}\n0\r\n\r\n{{hidden}}"))),
        ("LF alone after the last chunk", post(chunked, &format!("{hex}\r\n{whole}\r\n0\n\r\n{{hidden}}"))),
        ("LF alone in the trailers", post(chunked, &format!("{hex}\r\n{whole}\r\n0\r\nX: y\n\r\n{{hidden}}"))),
        ("a length among the trailers", post(chunked, &format!("{hex}\r\n{whole}\r\n0\r\nContent-Length: 0\r\n\r\n{{hidden}}"))),
    ]
}

/// How a form is cut into packets.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Whole,
    Bytes,
    AfterGoodOnes,
}

/// The answers until the end of the connection. A reset counts as an end: nothing more is read.
fn answers_until_end(connection: &mut Raw) -> Vec<u16> {
    let mut statuses = Vec::new();
    loop {
        match connection.next_answer() {
            Ok(Some(answer)) => statuses.push(answer.status),
            Ok(None) => return statuses,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("neither answered nor closed after {statuses:?}")
            }
            Err(_) => return statuses,
        }
    }
}

#[test]
fn ambiguous_framing_is_refused_and_nothing_hidden_behind_it_is_read() {
    let recorder = Recorder::start();
    // What a reader lacks, it waits for: not long here.
    let limits = "limits: { header_timeout: 3s, body_timeout: 3s, idle_timeout: 5s }\n";
    let surgegate = Surgegate::start(&[&standard(&recorder), limits]);
    let forms = ambiguous();
    let mut accepted = Vec::new();
    std::thread::scope(|scope| {
        let mut probes = Vec::new();
        for (number, (name, form)) in forms.iter().enumerate() {
            for (cut, mark) in [(Cut::Whole, 'a'), (Cut::Bytes, 'b'), (Cut::AfterGoodOnes, 'c')] {
                let mark = format!("hidden-{number:02}").replace("hidden", &format!("hid{mark}en"));
                let bytes = form.replace("{hidden}", &hidden(&mark));
                let mut connection = surgegate.connect();
                probes.push(scope.spawn(move || {
                    let good = request("POST", PATH, &[], trigger(&format!("good-{number}")));
                    let before = if let Cut::AfterGoodOnes = cut { 2 } else { 0 };
                    // It may be closed before all is sent: that is an answer too.
                    let _ = match cut {
                        Cut::Whole => connection.send(&bytes),
                        Cut::Bytes => bytes.as_bytes().iter().try_for_each(|byte| connection.stream().write_all(&[*byte])),
                        Cut::AfterGoodOnes => connection.send([&good, &good, bytes.as_bytes()].concat()),
                    };
                    let statuses = answers_until_end(&mut connection);
                    // A reset may erase the good ones' answers; wrong ones never come.
                    let (good, bad) = statuses.split_at(before.min(statuses.len()));
                    let fine = good.iter().all(|status| *status == 202) && matches!(bad, [] | [400] | [408]);
                    (!fine).then(|| format!("{name} ({cut:?}) was answered {statuses:?}"))
                }));
            }
        }
        accepted.extend(probes.into_iter().filter_map(|probe| probe.join().unwrap()));
    });
    surgegate.wait_until_delivered();
    let read: Vec<String> = recorder.events().iter().map(|event| event["key"].to_string()).collect();
    let smuggled: Vec<&String> = read.iter().filter(|key| key.starts_with("\"hid")).collect();
    assert!(smuggled.is_empty(), "{} desyncs: {smuggled:?}", smuggled.len());
    assert!(accepted.is_empty(), "{} ambiguous forms passed: {accepted:#?}", accepted.len());
    assert!(!read.contains(&"\"outer\"".to_owned()), "an ambiguous request was taken");
    // The probe would have shown it: the same request behind a clean one is found.
    let mut connection = surgegate.connect();
    connection.send(format!("{}{}", hidden("clean"), hidden("hidden-control"))).unwrap();
    assert_eq!([connection.answer().unwrap().status, connection.answer().unwrap().status], [202, 202]);
    wait_until("the control", || recorder.events().iter().any(|event| event["key"] == "hidden-control"));
}

#[test]
fn what_is_odd_but_clear_is_still_accepted() {
    let recorder = Recorder::start();
    let surgegate = Surgegate::start(&[&standard(&recorder)]);
    let body = trigger("clear");
    let forms = [
        ("an empty line before the request", format!("\r\n{}", hidden("clear"))),
        ("tabs around a value", format!("POST {PATH} HTTP/1.1\r\nHost:\ttest\t\r\nContent-Length:\t{}\t \r\n\r\n{body}", body.len())),
        ("no blank after a colon", format!("POST {PATH} HTTP/1.1\r\nHost:test\r\nContent-Length:{}\r\n\r\n{body}", body.len())),
        ("leading zeros", format!("POST {PATH} HTTP/1.1\r\nHost: test\r\nContent-Length: 000{}\r\n\r\n{body}", body.len())),
        ("bytes beyond ASCII in a value", format!("POST {PATH} HTTP/1.1\r\nHost: test\r\nX: \u{fc}\r\nContent-Length: {}\r\n\r\n{body}", body.len())),
        ("chunk extensions and trailers", format!("POST {PATH} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: Chunked\r\n\r\n{:X};a=\"b c\"\r\n{body}\r\n0;z\r\nX: y\r\n\r\n", body.len())),
    ];
    for (name, form) in forms {
        let mut connection = surgegate.connect();
        connection.send(form + &hidden("after")).unwrap();
        assert_eq!(connection.answer().unwrap().status, 202, "{name}");
        assert_eq!(connection.answer().unwrap().status, 202, "the next after {name}");
    }
}
