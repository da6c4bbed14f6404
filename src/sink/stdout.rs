//! Upstream kind `stdout`: the webhook's object, one a line (INTERFACE 5).

use bytes::Bytes;

use super::{Answer, Ask, Encoded, Kind, Parcel, Sink, Statement, Unsaid, UpstreamConfig, Verdict};
use crate::event::Micros;

pub struct Stdout;

impl Sink for Stdout {
    fn kind(&self) -> Kind {
        Kind::Stdout
    }

    fn expresses(&self, _statement: Statement<'_>) -> bool {
        true
    }

    fn encode(&self, ask: &Ask<'_>) -> Result<Encoded, Unsaid> {
        super::webhook::normalized(ask.stored, ask.said)
    }

    fn parcel(&self, events: &[Encoded], _upstream: &UpstreamConfig, _now: Micros) -> Parcel {
        let lines: Vec<&[u8]> = events.iter().flat_map(|event| [&*event.call.body, b"\n"]).collect();
        Parcel { body: Bytes::from(lines.concat()), ..Parcel::default() }
    }

    fn read_answer(&self, answer: &Answer, now: Micros) -> Verdict {
        super::answer::judge(answer, &[], now)
    }
}
