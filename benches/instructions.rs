//! User instructions of decode, claim, append and the whole intake, counted under valgrind: steady from run to run on a
//! machine whose times are not. `scripts/instructions.py` runs this, prints a table and, in `make test`, holds it
//! against the merge base. It is built there against that tree's library too: what changes here and breaks that is said.
#![allow(unreachable_pub)] // A bench has no outside.

// A bench that cannot be set up has nothing to measure.
#![allow(clippy::unwrap_used)]

mod dialects;
mod rooms;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use gungraun::{library_benchmark, library_benchmark_group, main};
use http_body_util::Full;
use hyper::Request;
use surgegate::claim::Admitted;
use surgegate::dedup::{Claimed, Dedup};
use surgegate::dialect::{self, Rules, json};
use surgegate::event::Event;
use surgegate::intake::plain::{self, Reply, Taken};
use surgegate::intake::{Answer, Intake, Peer};
use surgegate::store::{self, Append, Durability, Store};

/// The product's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Events that come before the counted one: buffers have grown, labels are resolved.
const WARM_UP: u64 = 200;

fn decode_once(body: &Bytes) -> bool {
    let matched = dialect::route("POST", "/v2/incidents/api/k").unwrap();
    let rules = Rules { require_description: true, judge_only: true, settings: None };
    let decoded = json::with_document(body, |document| {
        matched.dialect.decode(&dialect::Asked::at(matched.route.endpoint, rules), document, &mut |said| {
            black_box(said);
        })
    });
    matches!(decoded, Ok(Ok(())))
}

fn warm_body(bytes: usize) -> Bytes {
    let body = rooms::body(&rooms::event_id(1), bytes);
    for _ in 0..WARM_UP {
        assert!(decode_once(&body));
    }
    body
}

#[library_benchmark(setup = warm_body)]
#[bench::b362(362)]
#[bench::b2048(2048)]
#[bench::b29696(29_696)]
fn decode(body: Bytes) -> (Bytes, bool) {
    let good = decode_once(black_box(&body));
    (body, good)
}

fn warm_case(name: &str) -> dialects::Case {
    let case = dialects::Case::of(name);
    for _ in 0..WARM_UP {
        assert_eq!(case.decode(), 1, "{name}");
    }
    case
}

// Of every dialect, as many bytes each: at most one and a half times Squadcast's (docs/decisions/0020).
#[library_benchmark(setup = warm_case)]
#[bench::squadcast("squadcast")]
#[bench::incidentio_v1("incidentio_v1")]
#[bench::incidentio_v2("incidentio_v2")]
#[bench::incidentio_alert("incidentio_alert")]
#[bench::taskcall("taskcall")]
#[bench::alertmanager("alertmanager")]
#[bench::grafana("grafana")]
#[bench::opsgenie("opsgenie")]
#[bench::pagerduty_v2("pagerduty_v2")]
#[bench::pagerduty_v1("pagerduty_v1")]
#[bench::pagerduty_change("pagerduty_change")]
#[bench::datadog("datadog")]
#[bench::sns("sns")]
#[bench::cloudevents("cloudevents")]
#[bench::zabbix("zabbix")]
#[bench::nagios("nagios")]
#[bench::icinga("icinga")]
#[bench::checkmk("checkmk")]
#[bench::generic("generic")]
fn decode_of(case: dialects::Case) -> (dialects::Case, usize) {
    let said = black_box(&case).decode();
    (case, said)
}

fn request(number: u64, bytes: usize) -> Request<Full<Bytes>> {
    Request::post(format!("/v2/incidents/api/{}", rooms::KEY))
        .header("host", "127.0.0.1:8080")
        .header("content-type", "application/json")
        .header("content-length", bytes)
        .body(Full::new(rooms::body(&rooms::event_id(number), bytes)))
        .unwrap()
}

/// A client that stays.
struct Here;

impl Peer for Here {
    fn poll_gone(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// An answer that waits for nothing, as in durability `memory` with the body there: no runtime is needed.
fn answer(intake: &Intake, mut request: Request<Full<Bytes>>) -> Answer {
    let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let peer: Arc<dyn Peer> = Arc::new(Here);
    intake.answer(0, source, &peer, &mut request).now_or_never().unwrap()
}

/// The directory lives as long as the log in it.
type Stand = (tempfile::TempDir, Intake, Request<Full<Bytes>>);

/// An intake that has answered, with one more request: on a fresh key, or on the last one again.
fn stand(bytes: usize, fresh: bool) -> Stand {
    let directory = tempfile::tempdir().unwrap();
    let intake = rooms::intake(directory.path(), Durability::Memory);
    for number in 0..WARM_UP {
        for outcome in ["created", "duplicate"] {
            let answer = answer(&intake, request(number, bytes));
            assert_eq!(answer.response.headers()["x-surgegate-outcome"], outcome);
        }
    }
    (directory, intake, request(if fresh { WARM_UP } else { WARM_UP - 1 }, bytes))
}

// It gives everything back: what is dropped in here would be counted.
#[library_benchmark(setup = stand)]
#[bench::new_b362(362, true)]
#[bench::new_b2048(2048, true)]
#[bench::duplicate_b362(362, false)]
#[bench::duplicate_b2048(2048, false)]
fn intake(stand: Stand) -> (tempfile::TempDir, Intake, Answer) {
    let (directory, intake, request) = stand;
    let answer = answer(&intake, black_box(request));
    (directory, intake, answer)
}

/// Open keys of the table that claims are made on.
const KEYS: u64 = 1_000;

/// A table in which claims were made before, and one more event: on a fresh key, or on a known one.
fn table(fresh: bool) -> (rooms::Desk, Arc<Dedup>, Event) {
    let desk = rooms::Desk::new(362);
    let dedup = desk.dedup(KEYS);
    for number in 0..WARM_UP {
        let _ = desk
            .admitted(&dedup, KEYS + number)
            .placed()
            .accept(KEYS + number, surgegate::claim::Position(KEYS + number + 1));
        let again = dedup.claim(&desk.event(number), &desk.targets, rooms::Desk::RULES);
        assert!(matches!(again, Claimed::Absorbed { .. }));
    }
    let event = desk.event(if fresh { 2 * KEYS } else { KEYS / 2 });
    (desk, dedup, event)
}

#[library_benchmark(setup = table)]
#[bench::fresh(true)]
#[bench::duplicate(false)]
fn claim(table: (rooms::Desk, Arc<Dedup>, Event)) -> (rooms::Desk, Arc<Dedup>, Event, Claimed) {
    let (desk, dedup, event) = table;
    let claimed = dedup.claim(black_box(&event), &desk.targets, rooms::Desk::RULES);
    (desk, dedup, event, claimed)
}

/// The directory lives as long as the log in it.
type Log = (tempfile::TempDir, Arc<Store>, Admitted);

/// A log that is not written, and an event that stands before it.
fn log(durability: Durability) -> Log {
    let directory = tempfile::tempdir().unwrap();
    let desk = rooms::Desk::new(362);
    let config = store::Config {
        directory: directory.path().into(),
        durability,
        max_bytes: 1 << 30,
        segment_bytes: 32 << 20,
        retain: std::time::Duration::from_secs(3600),
        index_bytes: 64 << 20,
        unreadable: store::Unreadable::default(),
    };
    let (store, _) = Store::open(config, &desk.metrics, 1, Arc::new(store::NoStates)).unwrap();
    let dedup = desk.dedup(0);
    for number in 0..WARM_UP {
        // Dropped, it goes on its way.
        drop(store.append(0, desk.admitted(&dedup, number)));
    }
    let admitted = desk.admitted(&dedup, WARM_UP);
    (directory, store, admitted)
}

#[library_benchmark(setup = log)]
#[bench::memory(Durability::Memory)]
#[bench::fsync(Durability::Fsync)]
fn append(log: Log) -> (tempfile::TempDir, Arc<Store>, Append) {
    let (directory, store, admitted) = log;
    let append = store.append(0, black_box(admitted));
    (directory, store, append)
}

/// The way of nearly every request: whole, in one call. An answer that waits for nothing, as in durability `memory`.
fn taken(intake: &Arc<Intake>, path: &str, body: &[u8]) -> Reply {
    match intake.take_plain(0, IpAddr::V4(Ipv4Addr::LOCALHOST), plain::Request { path, body }) {
        Taken::Answered(reply) => reply,
        Taken::Waits(_) => panic!("nothing to wait for"),
        Taken::Odd => panic!("a plain request"),
    }
}

type PlainStand = (tempfile::TempDir, Arc<Intake>, String, Bytes);

/// As [`stand`], for a plain request.
fn plain_stand(bytes: usize, fresh: bool) -> PlainStand {
    let directory = tempfile::tempdir().unwrap();
    let intake = Arc::new(rooms::intake(directory.path(), Durability::Memory));
    let path = format!("/v2/incidents/api/{}", rooms::KEY);
    for number in 0..WARM_UP {
        for wanted in ["created", "duplicate"] {
            match taken(&intake, &path, &rooms::body(&rooms::event_id(number), bytes)) {
                Reply::Accepted { outcome, .. } => assert_eq!(outcome, wanted),
                Reply::Other(answer) => panic!("{}", answer.response.status()),
            }
        }
    }
    let number = if fresh { WARM_UP } else { WARM_UP - 1 };
    (directory, intake, path, rooms::body(&rooms::event_id(number), bytes))
}

#[library_benchmark(setup = plain_stand)]
#[bench::new_b362(362, true)]
#[bench::new_b2048(2048, true)]
#[bench::duplicate_b362(362, false)]
#[bench::duplicate_b2048(2048, false)]
fn plain_intake(stand: PlainStand) -> (PlainStand, Reply) {
    let reply = taken(&stand.1, &stand.2, black_box(&stand.3));
    (stand, reply)
}

library_benchmark_group!(name = decoding, benchmarks = decode);
library_benchmark_group!(name = dialects_beside, benchmarks = decode_of);
library_benchmark_group!(name = claiming, benchmarks = claim);
library_benchmark_group!(name = appending, benchmarks = append);
library_benchmark_group!(name = taking_in, benchmarks = [intake, plain_intake]);
main!(library_benchmark_groups = decoding, dialects_beside, claiming, appending, taking_in);
