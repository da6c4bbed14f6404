//! A batch body taken apart and read, before anything is claimed: a body that is no JSON is refused as a whole, an element
//! that is no event alone.

use bytes::Bytes;

use crate::dialect::{Judged, Most, Split, SplitError, json};
use crate::intake::known::{invalid, not_json};
use crate::intake::{Intake, Known};
use crate::outcome::{Reason, Refusal, Unfit};

/// A sender that groups its events says a few hundred bytes of each: what has more elements than one for each so many
/// bytes of `limits.batch_body_bytes` is no batch of events. So 4 MiB cost no more memory than 16,384 events.
const BYTES_AN_ELEMENT: usize = 256;
/// But so many are taken in any case.
const ELEMENTS_MIN: usize = 1024;
/// Elements read without a pause: other requests of this thread get their turn in between.
const READ_AT_ONCE: usize = 128;

/// An element of a batch, read.
pub(in crate::intake) struct Element {
    pub(in crate::intake) raw: Bytes,
    /// `Ok(None)`: it says nothing.
    pub(in crate::intake) heard: Result<Option<Judged>, Bad>,
}

/// Why an element is no event.
pub(in crate::intake) struct Bad {
    pub(in crate::intake) unfit: Unfit,
    pub(in crate::intake) faults: Vec<String>,
}

impl Bad {
    fn too_large(bytes: usize, most: usize) -> Self {
        Self { unfit: Unfit::TooLarge, faults: vec![format!("event: is {bytes} bytes, and may have {most}")] }
    }
}

/// A batch, read.
pub(in crate::intake) struct Elements {
    pub(in crate::intake) envelope: Option<Bytes>,
    pub(in crate::intake) all: Vec<Element>,
}

impl Intake {
    /// Takes a body apart and reads every element.
    ///
    /// # Errors
    /// It is no JSON, or no batch.
    pub(in crate::intake) async fn elements(&self, known: &Known, body: &Bytes) -> Result<Elements, Refusal> {
        let limits = self.terms.load().limits;
        let most = Most {
            elements: (limits.batch_body_bytes / BYTES_AN_ELEMENT).max(ELEMENTS_MIN),
            event_bytes: known.event_bytes_max(&limits),
        };
        let split = known.dialect.split(&known.asked(None), body, most).map_err(|error| refusal_of(error, most))?;
        self.metrics.truncated_alerts.inc_by(split.left_out);
        let mut all = Vec::with_capacity(split.elements.len());
        for some in split.elements.chunks(READ_AT_ONCE) {
            read(known, &split, some, most, &mut all)?;
            tokio::task::yield_now().await;
        }
        Ok(Elements { envelope: split.envelope, all })
    }
}

fn refusal_of(error: SplitError, most: Most) -> Refusal {
    match error {
        SplitError::Json(error) => not_json(error),
        SplitError::Faults(faults) => invalid(faults),
        SplitError::EnvelopeTooLarge => {
            let message = format!("what the body says beside its events is larger than {} bytes", most.event_bytes);
            Refusal::new(Reason::BodyTooLarge, message)
        }
        SplitError::TooMany => {
            Refusal::new(Reason::BodyTooLarge, format!("the body holds more than {} events", most.elements))
        }
    }
}

fn read(known: &Known, split: &Split, some: &[Bytes], most: Most, all: &mut Vec<Element>) -> Result<(), Refusal> {
    let mut each = |envelope: Option<json::Document<'_>>| -> Result<(), Refusal> {
        for raw in some {
            all.push(element(known, envelope, raw, split.levels, most)?);
        }
        Ok(())
    };
    match &split.envelope {
        None => each(None),
        Some(envelope) => json::with_document(envelope, |document| each(Some(document))).map_err(not_json)?,
    }
}

fn element(
    known: &Known,
    envelope: Option<json::Document<'_>>,
    raw: &Bytes,
    levels: usize,
    most: Most,
) -> Result<Element, Refusal> {
    let (raw, mut heard) = (raw.clone(), None);
    if raw.len() > most.event_bytes {
        let bad = Bad::too_large(raw.len(), most.event_bytes);
        return Ok(Element { raw, heard: Err(bad) });
    }
    let default = known.integration.config.default_severity;
    let decoded = json::with_document_in(levels, &raw, |document| {
        known.dialect.decode(&known.asked(envelope), document, &mut |said| {
            heard = Some(said.judged.or_severity(default));
        })
    });
    // Its syntax was right: what is wrong now is wrong with the body (contracts 2.4).
    let heard = match decoded.map_err(not_json)? {
        Ok(()) => Ok(heard),
        Err(faults) => Err(Bad { unfit: Unfit::Invalid, faults }),
    };
    Ok(Element { raw, heard })
}
