//! Upstream kind `stdout`: the webhook's object, one a line (INTERFACE 5).

use bytes::Bytes;

use super::{Answer, Encoded, Kind, NotExpressible, Parcel, Said, Sink, UpstreamConfig, Verdict};
use crate::event::{Action, Micros};
use crate::store::Stored;

pub struct Stdout;

impl Sink for Stdout {
    fn kind(&self) -> Kind {
        Kind::Stdout
    }

    fn expresses(&self, _action: Action) -> bool {
        true
    }

    fn encode(&self, stored: &Stored, said: &Said<'_>, _upstream: &UpstreamConfig) -> Result<Encoded, NotExpressible> {
        super::webhook::normalized(stored, said)
    }

    fn parcel(&self, events: &[Encoded], _upstream: &UpstreamConfig, _now: Micros) -> Parcel {
        let lines: Vec<&[u8]> = events.iter().flat_map(|event| [&*event.body, b"\n"]).collect();
        Parcel { headers: hyper::HeaderMap::new(), body: Bytes::from(lines.concat()) }
    }

    fn read_answer(&self, answer: &Answer, now: Micros) -> Verdict {
        super::answer::judge(answer, &[], now)
    }
}
