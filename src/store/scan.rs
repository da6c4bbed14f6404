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
    /// Some page could not be read.
    unreadable: bool,
}

/// The head of a segment, if either copy of it can be read.
pub(super) fn head(file: &dyn File) -> Option<Head> {
    let mut bytes = vec![0; HEAD_SPAN];
    let mut filled = 0;
    while filled < HEAD_SPAN {
        match file.read_at(&mut bytes[filled..], filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The other copy stands in another page.
            Err(_) => filled = (filled / PAGE + 1) * PAGE,
        }
    }
    Head::decode(&bytes)
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
            unreadable: false,
        }
    }

    /// Whether what was passed over may be there after all: the disk failed to read it.
    pub(super) fn met_unreadable(&self) -> bool {
        self.unreadable
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
    pub(super) fn is_blank(file: &'f dyn File, bytes: u64) -> bool {
        let mut scan = Self {
            file,
            bytes,
            seed: Seed::of(0),
            at: 0,
            window: vec![],
            window_at: 0,
            step: WINDOW,
            unreadable: false,
        };
        scan.content_end(0) == 0
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

    /// Reads one page alone; one that cannot be read becomes bytes that are no frame and not blank.
    fn fill_around_damage(&mut self, at: u64, filled: usize, length: usize) -> usize {
        let end = length.min(filled + PAGE);
        let page = &mut self.window[filled..end];
        if self.file.read_exact_at(page, at + filled as u64).is_err() {
            page.fill(0xff);
            self.unreadable = true;
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
        if let Some(span) = self.frame_span(at) {
            self.at += span as u64;
            let offset = u32::try_from(at).unwrap_or(u32::MAX);
            return match frame::view(self.slice(at, span)) {
                Some(frame) => Next::Frame { at: offset, frame },
                // Checked just above: only a file that changes under us comes here.
                None => Next::Damage { from: at, to: at + span as u64 },
            };
        }
        let end = self.content_end(at);
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
