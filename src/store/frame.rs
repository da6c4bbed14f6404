//! The frame around each record and the head of a segment: the only two shapes that bytes in the log have.
//! Layout and reasons stand at the head of `store.rs`. Written by [`super::pending`], read by
//! [`super::scan`] and [`super::reader`].

use crc32fast::Hasher;

/// "SGR1" in the file.
const MAGIC: u32 = u32::from_le_bytes(*b"SGR1");
const SEGMENT_MAGIC: [u8; 8] = *b"SURGLOG1";
/// Version of the segment format as a whole.
const FORMAT: u32 = 1;
/// Bytes before a frame's payload.
pub(super) const HEADER: usize = 24;
/// Largest payload: 30 KB of body fit many times; a damaged length never asks for more than this.
pub(super) const PAYLOAD_MAX: usize = 1 << 20;
/// Bytes that the head takes at the start of a segment. Its copies stand in two pages: without the salt
/// nothing behind it can be read, so one damaged page must not take it away.
pub(super) const HEAD_SPAN: usize = 8192;
const HEAD_COPIES: [usize; 2] = [0, 4096];
const HEAD_BYTES: usize = 40;
/// Frames begin at multiples of this.
pub(super) const ALIGN: usize = 8;

/// What a record says. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Accepted = 1,
    Settled = 2,
    Dead = 3,
    Replayed = 4,
    Void = 5,
    /// A copy of an accepted event whose segment is to go.
    Moved = 6,
    /// `last_seen` and `count` of an incident.
    Touched = 7,
    /// A part of a checkpoint; stands in files of its own.
    Checkpoint = 8,
    /// An event goes to another upstream instead.
    Reassigned = 9,
    /// What a batch says of all its events; they refer to it by its place in the segment.
    Envelope = 10,
    /// An element of a batch that was rejected alone and is kept as a dead letter.
    Rejected = 11,
    /// What is shown of an incident whose last record's segment is to go.
    Snapshot = 12,
    /// Events that an upstream took, those of a commit together.
    Delivered = 13,
}

impl Kind {
    pub(super) fn from_code(code: u8) -> Option<Self> {
        let all = [
            Self::Accepted,
            Self::Settled,
            Self::Dead,
            Self::Replayed,
            Self::Void,
            Self::Moved,
            Self::Touched,
            Self::Checkpoint,
            Self::Reassigned,
            Self::Envelope,
            Self::Rejected,
            Self::Snapshot,
            Self::Delivered,
        ];
        all.into_iter().find(|kind| *kind as u8 == code)
    }

    /// Whether a record of this kind is the first of its event, and takes a sequence for it.
    pub(super) fn is_first(code: u8) -> bool {
        [Self::Accepted as u8, Self::Rejected as u8].contains(&code)
    }
}

/// Where a segment's checksums start: made from its salt, so that bytes a sender wrote never pass for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seed(u32);

impl Seed {
    pub(super) fn of(salt: u64) -> Self {
        Self(crc32fast::hash(&salt.to_le_bytes()))
    }

    /// Over everything but the checksum itself (bytes 8..12).
    fn checksum(self, frame: &[u8]) -> u32 {
        let mut hasher = Hasher::new_with_initial(self.0);
        hasher.update(&frame[..8]);
        hasher.update(&frame[12..]);
        hasher.finalize()
    }
}

/// Bytes a frame with `payload` bytes takes, padding included.
pub(super) fn span(payload: usize) -> usize {
    (HEADER + payload).next_multiple_of(ALIGN)
}

/// Appends a frame; `write` appends its payload. Returns its bytes, or `None` (and leaves `buffer` as it
/// was) when the payload is larger than [`PAYLOAD_MAX`].
pub(super) fn encode(
    buffer: &mut Vec<u8>,
    seed: Seed,
    kind: u8,
    version: u8,
    sequence: u64,
    write: impl FnOnce(&mut Vec<u8>),
) -> Option<usize> {
    let start = buffer.len();
    buffer.extend_from_slice(&MAGIC.to_le_bytes());
    buffer.extend_from_slice(&[0; 8]);
    buffer.extend_from_slice(&[kind, version, 0, 0]);
    buffer.extend_from_slice(&sequence.to_le_bytes());
    write(buffer);
    let payload = buffer.len() - start - HEADER;
    let length = u32::try_from(payload).ok().filter(|_| payload <= PAYLOAD_MAX);
    let Some(length) = length else {
        buffer.truncate(start);
        return None;
    };
    buffer[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    let checksum = seed.checksum(&buffer[start..]);
    buffer[start + 8..start + 12].copy_from_slice(&checksum.to_le_bytes());
    buffer.resize(start + span(payload), 0);
    Some(span(payload))
}

/// A frame as it stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) kind: u8,
    pub(super) version: u8,
    /// Of the event the record is about.
    pub(super) sequence: u64,
    pub(super) payload: &'a [u8],
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The span of the frame that begins here, if the header could be one. Not checked beyond magic and length.
pub(super) fn claimed_span(header: &[u8]) -> Option<usize> {
    let payload = usize::try_from(u32_at(header, 4)?).ok()?;
    (u32_at(header, 0)? == MAGIC && payload <= PAYLOAD_MAX).then(|| span(payload))
}

/// The frame at the start of `bytes`, without looking at its checksum: for bytes already checked.
pub(super) fn view(bytes: &[u8]) -> Option<Frame<'_>> {
    claimed_span(bytes)?;
    let payload = usize::try_from(u32_at(bytes, 4)?).ok()?;
    Some(Frame {
        kind: *bytes.get(12)?,
        version: *bytes.get(13)?,
        sequence: u64_at(bytes, 16)?,
        payload: bytes.get(HEADER..HEADER.checked_add(payload)?)?,
    })
}

/// The frame at the start of `bytes`, if it is whole and undamaged.
pub(super) fn parse(bytes: &[u8], seed: Seed) -> Option<Frame<'_>> {
    let frame = view(bytes)?;
    let stored = u32_at(bytes, 8)?;
    (stored == seed.checksum(bytes.get(..HEADER + frame.payload.len())?)).then_some(frame)
}

/// First words of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) id: u32,
    /// Sequences written into this segment are not below it.
    pub(super) first_sequence: u64,
    pub(super) salt: u64,
}

impl Head {
    /// Appends the whole head span with its copies.
    pub(super) fn encode(self, buffer: &mut Vec<u8>) {
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(&SEGMENT_MAGIC);
        head[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        head[12..16].copy_from_slice(&self.id.to_le_bytes());
        head[16..24].copy_from_slice(&self.first_sequence.to_le_bytes());
        head[24..32].copy_from_slice(&self.salt.to_le_bytes());
        let checksum = crc32fast::hash(&head[..32]);
        head[32..36].copy_from_slice(&checksum.to_le_bytes());
        let start = buffer.len();
        buffer.resize(start + HEAD_SPAN, 0);
        for copy in HEAD_COPIES {
            buffer[start + copy..start + copy + HEAD_BYTES].copy_from_slice(&head);
        }
    }

    /// The first undamaged copy in `bytes`, the start of a segment.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        HEAD_COPIES.iter().find_map(|copy| {
            let head = bytes.get(*copy..copy.checked_add(HEAD_BYTES)?)?;
            let whole = head.starts_with(&SEGMENT_MAGIC)
                && u32_at(head, 8)? == FORMAT
                && u32_at(head, 32)? == crc32fast::hash(&head[..32]);
            whole.then_some(Self { id: u32_at(head, 12)?, first_sequence: u64_at(head, 16)?, salt: u64_at(head, 24)? })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_back_only_under_its_segments_salt() {
        let mut buffer = vec![];
        let bytes = encode(&mut buffer, Seed::of(7), 1, 1, 42, |payload| payload.extend_from_slice(b"hello")).unwrap();
        assert_eq!((bytes, buffer.len()), (32, 32));
        assert_eq!(parse(&buffer, Seed::of(7)), Some(Frame { kind: 1, version: 1, sequence: 42, payload: b"hello" }));
        assert_eq!(parse(&buffer, Seed::of(8)), None);
    }

    #[test]
    fn every_flipped_bit_of_a_frame_is_noticed() {
        let mut buffer = vec![];
        encode(&mut buffer, Seed::of(7), 2, 1, 42, |payload| payload.extend_from_slice(b"12345678")).unwrap();
        for bit in 0..buffer.len() * 8 {
            buffer[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse(&buffer, Seed::of(7)), None, "bit {bit}");
            buffer[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_payload_of_one_mebibyte_fits_and_one_byte_more_does_not() {
        let mut buffer = vec![1];
        assert!(encode(&mut buffer, Seed::of(7), 1, 1, 1, |b| b.resize(b.len() + PAYLOAD_MAX, 0)).is_some());
        buffer.truncate(1);
        assert!(encode(&mut buffer, Seed::of(7), 1, 1, 1, |b| b.resize(b.len() + PAYLOAD_MAX + 1, 0)).is_none());
        assert_eq!(buffer, [1]);
    }

    #[test]
    fn a_head_survives_the_loss_of_either_page() {
        let head = Head { id: 3, first_sequence: 99, salt: 0xdead_beef };
        for page in HEAD_COPIES {
            let mut buffer = vec![];
            head.encode(&mut buffer);
            buffer[page..page + 4096].fill(0xff);
            assert_eq!(Head::decode(&buffer), Some(head));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_can_be_parsed_without_panic(bytes: Vec<u8>, seed: u64) {
            parse(&bytes, Seed::of(seed));
            Head::decode(&bytes);
            let mut framed = MAGIC.to_le_bytes().to_vec();
            framed.extend(&bytes);
            parse(&framed, Seed::of(seed));
        }
    }
}
