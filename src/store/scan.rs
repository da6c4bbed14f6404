//! Walks one segment from front to back, over damage. Holds one window of the file, never all of it.

use std::io;

use super::files::File;
use super::frame::{self, ALIGN, Frame, HEAD_SPAN, HEADER, Head, Seed};

/// Bytes read with one call; a frame that is larger gets a window of its own.
const WINDOW: usize = 1 << 20;
/// The same where few records are wanted: as far as one mark is from the next.
const SMALL_WINDOW: usize = 32 << 10;
const PAGE: usize = 4096;

/// What stands next in a segment.
pub(super) enum Next<'a> {
    Frame {
        at: u32,
        frame: Frame<'a>,
    },
    /// Something unreadable, followed by a readable frame.
    Damage {
        from: u64,
        to: u64,
    },
    /// The last readable frame ends at `from`. `to`: end of what is not zero behind it; equal to `from`
    /// when there is nothing.
    End {
        from: u64,
        to: u64,
    },
}

pub(super) struct Scan<'f> {
    file: &'f dyn File,
    bytes: u64,
    seed: Seed,
    at: u64,
    window: Vec<u8>,
    window_at: u64,
    /// Bytes read with one call.
    step: usize,
    /// Why some page could not be read.
    unreadable: Option<io::Error>,
}

/// The head of a segment, if either copy of it is whole.
///
/// # Errors
/// None is, and the disk could not read all of them: there may be one.
pub(super) fn head(file: &dyn File) -> io::Result<Option<Head>> {
    let mut scan = Scan::new(file, HEAD_SPAN as u64, 0);
    let head = Head::decode(scan.slice(0, HEAD_SPAN));
    match scan.failure() {
        Some(error) if head.is_none() => Err(error),
        _ => Ok(head),
    }
}

impl<'f> Scan<'f> {
    pub(super) fn new(file: &'f dyn File, bytes: u64, salt: u64) -> Self {
        // Offsets are 32 bits wide: what lies behind was not written by us.
        let bytes = bytes.min(u64::from(u32::MAX));
        Self {
            file,
            bytes,
            seed: Seed::of(salt),
            at: HEAD_SPAN as u64,
            window: vec![],
            window_at: 0,
            step: WINDOW,
            unreadable: None,
        }
    }

    /// What was passed over may be there after all: the disk failed to read it.
    pub(super) fn failure(&mut self) -> Option<io::Error> {
        self.unreadable.take()
    }

    /// All of a segment, as long as it is now: a disk that cannot be read has no end by itself.
    pub(super) fn over(file: &'f dyn File, seed: Seed) -> io::Result<Self> {
        Ok(Self { seed, ..Self::new(file, file.size()?, 0) })
    }

    /// Begins at a frame's offset instead of the first.
    pub(super) fn starting_at(mut self, offset: u64) -> Self {
        self.at = self.at.max(offset);
        self
    }

    /// For a look at few records: reads in steps of a small block.
    pub(super) fn in_small_steps(mut self) -> Self {
        self.step = SMALL_WINDOW;
        self
    }

    /// For a look at bytes without frames: a segment without head.
    ///
    /// # Errors
    /// Nothing but zeros was seen, and not all of it could be read.
    pub(super) fn is_blank(file: &'f dyn File, bytes: u64) -> io::Result<bool> {
        let mut scan = Self { bytes, ..Self::new(file, 0, 0) };
        let end = scan.content_end(0);
        scan.failure().map_or(Ok(end == 0), Err)
    }

    /// `length` bytes at `at`, or as many as the file has.
    fn slice(&mut self, at: u64, length: usize) -> &[u8] {
        let left = usize::try_from(self.bytes.saturating_sub(at)).unwrap_or(usize::MAX);
        let length = length.min(left);
        let held = at >= self.window_at && at + length as u64 <= self.window_at + self.window.len() as u64;
        if !held {
            self.fill(at, length.max(self.step).min(left));
        }
        let from = usize::try_from(at.saturating_sub(self.window_at)).unwrap_or(usize::MAX);
        let to = from.saturating_add(length).min(self.window.len());
        self.window.get(from..to).unwrap_or_default()
    }

    fn fill(&mut self, at: u64, length: usize) {
        self.window.resize(length, 0);
        self.window_at = at;
        let mut filled = 0;
        while filled < length {
            match self.file.read_at(&mut self.window[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => filled += self.fill_around_damage(at, filled, length),
            }
        }
        self.window.truncate(filled.min(length));
    }

    /// Reads up to the end of a page alone, once more; one that cannot be read becomes bytes that are no frame and not
    /// blank.
    fn fill_around_damage(&mut self, at: u64, filled: usize, length: usize) -> usize {
        let from = at + filled as u64;
        let left = PAGE - usize::try_from(from % PAGE as u64).unwrap_or_default();
        let end = length.min(filled + left);
        let page = &mut self.window[filled..end];
        match self.file.read_exact_at(page, from) {
            Ok(()) => {}
            // The file was made shorter by who writes it.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => page.fill(0),
            Err(error) => {
                page.fill(0xff);
                self.unreadable.get_or_insert(error);
            }
        }
        end - filled
    }

    /// The span of an undamaged frame at `at`.
    fn frame_span(&mut self, at: u64) -> Option<usize> {
        let span = frame::claimed_span(self.slice(at, HEADER))?;
        let seed = self.seed;
        frame::parse(self.slice(at, span), seed).map(|_| span)
    }

    /// Behind the last byte from `from` on that is not zero.
    fn content_end(&mut self, from: u64) -> u64 {
        let (mut at, mut end) = (from, from);
        while at < self.bytes {
            let block = self.slice(at, WINDOW);
            if block.is_empty() {
                break;
            }
            let length = block.len();
            if !block.iter().all(|byte| *byte == 0)
                && let Some(last) = block.iter().rposition(|byte| *byte != 0)
            {
                end = at + last as u64 + 1;
            }
            at += length as u64;
        }
        end
    }

    /// The next undamaged frame from `from` on, before `end`.
    fn resynchronise(&mut self, from: u64, end: u64) -> Option<u64> {
        let mut at = from;
        while at < end {
            if self.frame_span(at).is_some() {
                return Some(at);
            }
            at += ALIGN as u64;
        }
        None
    }

    pub(super) fn next(&mut self) -> Next<'_> {
        let at = self.at;
        let mut span = self.frame_span(at);
        let end = if span.is_none() { self.content_end(at) } else { at };
        if end > at {
            // A process may be writing it: what was read first may be older than what stands behind it.
            self.window.clear();
            span = self.frame_span(at);
        }
        if let Some(span) = span {
            self.at += span as u64;
            let offset = u32::try_from(at).unwrap_or(u32::MAX);
            return match frame::view(self.slice(at, span)) {
                Some(frame) => Next::Frame { at: offset, frame },
                // Checked just above: only a file that changes under us comes here.
                None => Next::Damage { from: at, to: at + span as u64 },
            };
        }
        match self.resynchronise((at + ALIGN as u64).min(end), end) {
            Some(next) => {
                self.at = next;
                Next::Damage { from: at, to: next }
            }
            None => {
                self.at = self.bytes;
                Next::End { from: at, to: end }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::frame::Kind;
    use super::*;

    /// A file that is written to behind the first look at it.
    struct Grows {
        before: Vec<u8>,
        after: Vec<u8>,
        looks: AtomicUsize,
    }

    fn unused<T>() -> io::Result<T> {
        Err(io::ErrorKind::Unsupported.into())
    }

    impl File for Grows {
        fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
            let all = if self.looks.fetch_add(1, Ordering::SeqCst) == 0 { &self.before } else { &self.after };
            let from = all.len().min(usize::try_from(at).unwrap());
            let read = bytes.len().min(all.len() - from);
            bytes[..read].copy_from_slice(&all[from..from + read]);
            Ok(read)
        }

        fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
            unused()
        }

        fn allocate(&self, _: u64) -> io::Result<()> {
            unused()
        }

        fn set_len(&self, _: u64) -> io::Result<()> {
            unused()
        }

        fn size(&self) -> io::Result<u64> {
            Ok(self.after.len() as u64)
        }

        fn sync_data(&self) -> io::Result<()> {
            unused()
        }

        fn sync_all(&self) -> io::Result<()> {
            unused()
        }
    }

    #[test]
    fn what_is_written_while_it_is_read_is_no_damage() {
        let mut after = vec![];
        Head { id: 1, first_sequence: 1, salt: 7 }.encode(&mut after);
        let mut ends = vec![];
        for sequence in 1..=4 {
            let payload = |out: &mut Vec<u8>| out.resize(out.len() + WINDOW / 2, 7);
            frame::encode(&mut after, Seed::of(7), Kind::Touched as u8, 1, sequence, payload).unwrap();
            ends.push(after.len());
        }
        let mut before = after.clone();
        // The first window ends in the second record, which is not there yet when it is read.
        before[ends[0]..].fill(0);
        let file = Grows { before, after, looks: AtomicUsize::new(0) };
        let mut scan = Scan::new(&file, file.size().unwrap(), 7);
        for expected in 1..=4 {
            match scan.next() {
                Next::Frame { frame, .. } => assert_eq!(frame.sequence, expected),
                Next::Damage { from, to } => panic!("damage from {from} to {to}"),
                Next::End { from, .. } => panic!("it ends at {from}"),
            }
        }
        assert!(matches!(scan.next(), Next::End { from, to } if from == to));
    }
}
