//! A proxy that misbehaves on purpose and writes down each misdeed: of every ten keys it loses one's trigger, repeats one's
//! under the same event_uid, one's under another, turns one's trigger and resolve around, changes one's body, and for one invents an
//! event. The rest it forwards as a proxy should, and duplicates it absorbs.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

pub const KEY: &str = "c400ced0123456789abcdef0123456789abcdef0";

/// What it did, as events that the ledger must find.
#[derive(Debug, Default, Clone, Copy)]
pub struct Deeds {
    pub lost: u64,
    pub repeated: u64,
    pub anew: u64,
    pub reordered: u64,
    pub changed: u64,
    pub invented: u64,
}

#[derive(Default)]
struct State {
    deeds: Deeds,
    /// Bodies that came before.
    seen: std::collections::HashSet<String>,
    /// Triggers that wait for their resolve.
    held: HashMap<u64, Value>,
    uids: u64,
}

pub struct Proxy {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// An address that was free a moment ago.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Proxy {
    pub fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let proxy = Self { address, state: Arc::clone(&state) };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let state = Arc::clone(&state);
                std::thread::spawn(move || serve(stream.unwrap(), upstream, &state));
            }
        });
        proxy
    }

    /// A trigger that still waits for its resolve was never forwarded.
    pub fn deeds(&self) -> Deeds {
        let state = self.state.lock().unwrap();
        Deeds { lost: state.deeds.lost + state.held.len() as u64, ..state.deeds }
    }
}

fn serve(stream: TcpStream, upstream: SocketAddr, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        forward(String::from_utf8(body).unwrap(), upstream, &mut state.lock().unwrap());
        if writer.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}

/// All in order, under the state's lock.
fn forward(raw: String, upstream: SocketAddr, state: &mut State) {
    if !state.seen.insert(raw.clone()) {
        return;
    }
    let body: Value = serde_json::from_str(&raw).unwrap();
    let key = body["event_id"].as_str().unwrap();
    let number = u64::from_str_radix(key.rsplit('-').next().unwrap(), 16).unwrap();
    let action = body["status"].as_str().unwrap();
    state.uids += 1;
    let event = json!({
        "schema": 1, "event_uid": format!("uid-{}", state.uids), "integration": "one", "dialect": "squadcast",
        "action": action, "key": key, "raw": raw,
    });
    if action == "resolve" {
        post(upstream, &event);
        if let Some(trigger) = state.held.remove(&number) {
            post(upstream, &trigger);
            state.deeds.reordered += 1;
        }
        return;
    }
    match number % 10 {
        0 => state.deeds.lost += 1,
        1 => {
            post(upstream, &event);
            post(upstream, &event);
            state.deeds.repeated += 1;
        }
        2 => {
            post(upstream, &event);
            let mut anew = event;
            anew["event_uid"] = format!("uid-{}-anew", state.uids).into();
            post(upstream, &anew);
            state.deeds.anew += 1;
        }
        3 => {
            state.held.insert(number, event);
        }
        4 => {
            let mut changed = event;
            changed["raw"] = changed["raw"].as_str().unwrap().replace("storage", "garbage").into();
            post(upstream, &changed);
            state.deeds.changed += 1;
        }
        5 => {
            post(upstream, &event);
            post(upstream, &json!({ "event_uid": "nobody's", "action": "trigger", "raw": "{}" }));
            state.deeds.invented += 1;
        }
        _ => post(upstream, &event),
    }
}

/// One event on a connection of its own, until it is answered.
fn post(upstream: SocketAddr, event: &Value) {
    let body = event.to_string();
    let mut stream = TcpStream::connect(upstream).unwrap();
    let head = format!("POST /hook HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
