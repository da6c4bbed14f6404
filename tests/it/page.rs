//! The status page in a real browser (ECOSYSTEM 5): it reads, live and without a script; trouble shows; what an operator
//! does is done by keyboard alone; and it is fit for people, networks and policies.

mod acts;
mod browser;
mod fit;
mod same;
mod shows;

use std::sync::{Arc, Mutex, PoisonError};

use crate::harness::{KEY, Recorder, Reply, Surgegate};

/// An upstream that answers what it is told: `poison` is refused, everything else gets this status.
fn upstream() -> (Recorder, Arc<Mutex<u16>>) {
    let status = Arc::new(Mutex::new(200));
    let told = Arc::clone(&status);
    let recorder = Recorder::scripted(move |request| {
        let is_poison = String::from_utf8_lossy(&request.body).contains("poison");
        let status = *told.lock().unwrap_or_else(PoisonError::into_inner);
        Reply::Status(if is_poison && status == 200 { 422 } else { status })
    });
    (recorder, status)
}

fn set(status: &Mutex<u16>, to: u16) {
    *status.lock().unwrap_or_else(PoisonError::into_inner) = to;
}

/// Two integrations, one of them limited, and one upstream.
fn configuration(recorder: &Recorder) -> String {
    let other = KEY.replace("5ca1ab1e", "0ddba115");
    // A small spool: whether "all is well" must not depend on how full the machine's disk is.
    format!(
        "spool: {{ max_bytes: 128MiB }}\nintegrations:\n  - {{ name: payments, keys: [{{ key: '{KEY}' }}], upstreams: [pager] }}\n  \
         - {{ name: storage, keys: [{{ key: '{other}' }}], upstreams: [pager], on_limit: reject, \
         rate_limit: {{ events_per_second: 1, burst: 1 }} }}\nupstreams:\n  \
         - {{ name: pager, kind: webhook, url: '{}' }}\n",
        recorder.url()
    )
}

/// A proxy at work, and its upstream.
fn at_work() -> (Surgegate, Recorder, Arc<Mutex<u16>>) {
    let (recorder, status) = upstream();
    let surgegate = Surgegate::start(&[&configuration(&recorder)]);
    (surgegate, recorder, status)
}
