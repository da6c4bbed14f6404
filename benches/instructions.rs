//! User instructions of decode and of the whole intake, counted under valgrind: steady to about 1% on a machine
//! whose times are not. `scripts/instructions.py` runs this and prints a table.
#![allow(unreachable_pub)] // A bench has no outside.

// A bench that cannot be set up has nothing to measure.
#![allow(clippy::unwrap_used)]

mod rooms;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use futures_util::FutureExt;
use gungraun::{library_benchmark, library_benchmark_group, main};
use http_body_util::Full;
use hyper::Request;
use surgegate::dialect::{self, Rules, json};
use surgegate::intake::{Answer, Intake};
use surgegate::store::Durability;

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

fn request(number: u64, bytes: usize) -> Request<Full<Bytes>> {
    Request::post(format!("/v2/incidents/api/{}", rooms::KEY))
        .header("host", "127.0.0.1:8080")
        .header("content-type", "application/json")
        .header("content-length", bytes)
        .body(Full::new(rooms::body(&rooms::event_id(number), bytes)))
        .unwrap()
}

/// An answer that waits for nothing, as in durability `memory` with the body there: no runtime is needed.
fn answer(intake: &Intake, mut request: Request<Full<Bytes>>) -> Answer {
    let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
    intake.answer(0, source, &mut request).now_or_never().unwrap()
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

library_benchmark_group!(name = decoding, benchmarks = decode);
library_benchmark_group!(name = taking_in, benchmarks = intake);
main!(library_benchmark_groups = decoding, taking_in);
