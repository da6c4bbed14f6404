//! Watches the bytes of an HTTP/1 connection before hyper sees them and finds framing that two readers could
//! understand differently (PROMISES I2): where a balancer in front of us and hyper disagree on where a request
//! ends, the rest of one sender's body is read as another sender's request. hyper takes bare LF as a line end,
//! takes `Content-Length` beside `Transfer-Encoding`, equal lengths twice and `gzip, chunked`; none pass here.
//!
//! Called by the connection's reader with every block read, split anywhere. A fault is always found before the
//! head or chunk line it stands in is complete, so hyper has not acted on it yet. The reader hands on the
//! [`Violation::good`] bytes, then a NUL, then the end of the stream: wherever a fault can stand, hyper answers
//! that with 400 (in a head) or fails the body (in a chunk line), and closes. Requests before it are answered.
//!
//! Holds no bytes, allocates nothing; sizes of heads and bodies are limited elsewhere.

use thiserror::Error;

use crate::octets::{HIGHS, below, equal, run};

/// What opens an HTTP/2 connection; such a connection is not watched.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HTTP_1_1: u64 = u64::from_be_bytes(*b"HTTP/1.1");
const HTTP_1_0: u64 = u64::from_be_bytes(*b"HTTP/1.0");
const CODING: &[u8] = b"chunked";
/// 19 digits always fit a `u64`.
const LENGTH_DIGITS_MAX: u8 = 19;
/// 16 hexadecimal digits always fit a `u64`.
const CHUNK_DIGITS_MAX: u8 = 16;

/// Why the bytes from here on may mean different things to different readers.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Fault {
    #[error("a version that is neither HTTP/1.1 nor HTTP/1.0")]
    Version,
    #[error("a line ends in LF without CR")]
    BareLf,
    #[error("a CR without LF")]
    BareCr,
    #[error("a control byte in a head or chunk line")]
    Control,
    #[error("a field goes on in the next line")]
    Folding,
    #[error("a field without a name")]
    EmptyName,
    #[error("a field name with a byte that no name has")]
    Name,
    #[error("more than one Content-Length")]
    RepeatedLength,
    #[error("a Content-Length other than 1 to 19 digits")]
    Length,
    #[error("both Content-Length and Transfer-Encoding")]
    LengthAndCoding,
    #[error("more than one Transfer-Encoding")]
    RepeatedCoding,
    #[error("a Transfer-Encoding other than chunked")]
    Coding,
    #[error("a Transfer-Encoding in HTTP/1.0")]
    CodingVersion,
    #[error("a framing field among the trailers")]
    Trailer,
    #[error("a chunk size other than 1 to 16 hexadecimal digits")]
    ChunkSize,
    #[error("a chunk longer than its size")]
    ChunkEnd,
}

/// Where and why to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// So many bytes of the block stand before the fault.
    pub good: usize,
    pub fault: Fault,
}

/// The watch over one connection.
#[derive(Debug)]
pub struct Framing {
    state: State,
    /// Bytes left of a body or chunk, or the number being read.
    number: u64,
    /// Last eight bytes of the request line.
    tail: u64,
    /// The framing field whose name the line still matches, or whose value is read.
    field: Field,
    /// Bytes of a name or word matched, or digits read.
    count: u8,
    is_1_1: bool,
    has_length: bool,
    has_coding: bool,
    in_trailers: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes match the HTTP/2 preface.
    Preface(u8),
    /// HTTP/2: nothing to watch.
    Off,
    Poisoned(Fault),
    /// Before a request line; empty lines may stand here (RFC 9112, 2.2).
    Start,
    RequestLine,
    LineStart,
    Name,
    Value,
    LengthStart,
    LengthDigits,
    LengthEnd,
    CodingStart,
    CodingWord,
    CodingEnd,
    /// After the CR of such a line.
    Lf(Line),
    Body,
    ChunkDigits,
    ChunkBlank,
    ChunkExtension,
    ChunkData,
    ChunkDataEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Blank,
    Request,
    Field,
    /// The empty one after a head or after trailers.
    Last,
    ChunkSize,
    ChunkData,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Other,
    Length,
    Coding,
}

impl Field {
    const fn name(self) -> &'static [u8] {
        match self {
            Self::Other => b"",
            Self::Length => b"content-length",
            Self::Coding => b"transfer-encoding",
        }
    }

    const fn of_first_byte(byte: u8) -> Self {
        match byte | 0x20 {
            b'c' => Self::Length,
            b't' => Self::Coding,
            _ => Self::Other,
        }
    }

    fn of_name(name: &[u8]) -> Self {
        match name {
            // As nearly every client writes them.
            b"Content-Length" | b"content-length" => Self::Length,
            _ if name.eq_ignore_ascii_case(Self::Length.name()) => Self::Length,
            _ if name.eq_ignore_ascii_case(Self::Coding.name()) => Self::Coding,
            _ => Self::Other,
        }
    }
}

impl Default for Framing {
    fn default() -> Self {
        Self::new()
    }
}

impl Framing {
    pub const fn new() -> Self {
        Self {
            state: State::Preface(0),
            number: 0,
            tail: 0,
            field: Field::Other,
            count: 0,
            is_1_1: false,
            has_length: false,
            has_coding: false,
            in_trailers: false,
        }
    }

    /// Every request that began has ended.
    #[cfg(test)]
    pub(super) fn is_between_requests(&self) -> bool {
        self.state == State::Start
    }

    /// Takes the next block of the connection. After a violation every further block is one too.
    pub fn feed(&mut self, block: &[u8]) -> Result<(), Violation> {
        if let State::Preface(seen) = self.state {
            let seen = usize::from(seen);
            let wanted = PREFACE.get(seen..).unwrap_or_default();
            let matched = block.iter().zip(wanted).take_while(|(byte, wanted)| byte == wanted).count();
            if matched == wanted.len() {
                self.state = State::Off;
            } else if matched == block.len() {
                self.state = State::Preface((seen + matched) as u8);
                return Ok(());
            } else {
                self.state = State::Start;
                let before = PREFACE.get(..seen).unwrap_or_default();
                self.watch(before).map_err(|violation| Violation { good: 0, ..violation })?;
            }
        }
        self.watch(block)
    }

    fn watch(&mut self, block: &[u8]) -> Result<(), Violation> {
        let mut rest = block;
        while let Some(&byte) = rest.first() {
            if self.state == State::Start
                && let Some(taken) = self.clean_head(rest)
            {
                rest = rest.get(taken..).unwrap_or_default();
                continue;
            }
            let taken = match self.step(byte, rest) {
                Ok(taken) => taken,
                Err(Stop { taken, fault }) => {
                    self.state = State::Poisoned(fault);
                    return Err(Violation { good: block.len() - rest.len() + taken, fault });
                }
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// Takes a whole head at once, as nearly every one comes. Anything that could be a fault, or that is rare,
    /// is `None`: the byte-wise watch begins at the head's start and judges it.
    fn clean_head(&mut self, rest: &[u8]) -> Option<usize> {
        let request = rest.get(..memchr::memchr(b'\r', rest)?)?;
        if !request.ends_with(b"HTTP/1.1") || has_control(request) {
            return None;
        }
        // Of the CR that ends the last line.
        let mut end = request.len();
        let mut length = None;
        loop {
            let (b"\r\n", line) = rest.get(end..)?.split_at_checked(2)? else { return None };
            let name = name_len(line);
            let Some((name, value)) = line.split_at_checked(name).filter(|(_, value)| value.first() == Some(&b':'))
            else {
                if line.starts_with(b"\r\n") {
                    break;
                }
                return None;
            };
            let value = value.get(1..)?;
            // What ends it is a CR, or else a control byte.
            let value = value.get(..run(value, control_marks, is_control))?;
            match Field::of_name(name) {
                Field::Other if !name.is_empty() => {}
                Field::Length if length.is_none() => length = Some(digits(value)?),
                _ => return None,
            }
            end += 2 + name.len() + 1 + value.len();
        }
        self.is_1_1 = true;
        self.has_length = length.is_some();
        self.has_coding = false;
        self.in_trailers = false;
        self.number = length.unwrap_or(0);
        self.state = if self.number > 0 { State::Body } else { State::Start };
        Some(end + 4)
    }

    /// Takes one or more bytes of `rest`, which begins with `byte`, and says how many.
    fn step(&mut self, byte: u8, rest: &[u8]) -> Result<usize, Stop> {
        match self.state {
            State::Off | State::Preface(_) => return Ok(rest.len()),
            State::Poisoned(fault) => return Err(fault.into()),
            State::Start => match byte {
                b'\r' => self.state = State::Lf(Line::Blank),
                b'\n' => return Err(Fault::BareLf.into()),
                _ => {
                    self.tail = 0;
                    self.is_1_1 = false;
                    self.has_length = false;
                    self.has_coding = false;
                    self.in_trailers = false;
                    self.state = State::RequestLine;
                    return Ok(0);
                }
            },
            State::RequestLine => {
                let taken = text_len(rest);
                self.remember_tail(rest.get(..taken).unwrap_or_default());
                return self.end_of_line(rest, taken, Line::Request);
            }
            State::LineStart => match byte {
                b'\r' => self.state = State::Lf(Line::Last),
                b'\n' => return Err(Fault::BareLf.into()),
                b' ' | b'\t' => return Err(Fault::Folding.into()),
                b':' => return Err(Fault::EmptyName.into()),
                _ => {
                    self.field = Field::of_first_byte(byte);
                    self.count = 0;
                    self.state = State::Name;
                    return Ok(0);
                }
            },
            State::Name => return self.name(rest),
            State::Value => return self.end_of_line(rest, text_len(rest), Line::Field),
            State::LengthStart | State::LengthDigits | State::LengthEnd => self.length(byte)?,
            State::CodingStart | State::CodingWord | State::CodingEnd => self.coding(byte)?,
            State::Lf(line) if byte == b'\n' => self.state = self.after(line),
            State::Lf(_) => return Err(Fault::BareCr.into()),
            State::Body | State::ChunkData => {
                let left = usize::try_from(self.number).unwrap_or(usize::MAX);
                let taken = left.min(rest.len());
                self.number -= taken as u64;
                if self.number == 0 {
                    self.state = if self.state == State::Body { State::Start } else { State::ChunkDataEnd };
                }
                return Ok(taken);
            }
            State::ChunkDigits | State::ChunkBlank => self.chunk_size(byte)?,
            State::ChunkExtension => return self.end_of_line(rest, text_len(rest), Line::ChunkSize),
            State::ChunkDataEnd if byte == b'\r' => self.state = State::Lf(Line::ChunkData),
            State::ChunkDataEnd => return Err(Fault::ChunkEnd.into()),
        }
        Ok(1)
    }

    /// What follows the LF of such a line.
    fn after(&mut self, line: Line) -> State {
        match line {
            Line::Blank => State::Start,
            Line::Request => {
                self.is_1_1 = self.tail == HTTP_1_1;
                State::LineStart
            }
            Line::Field => State::LineStart,
            Line::Last if self.in_trailers => State::Start,
            Line::Last if self.has_coding => self.chunk(),
            Line::Last if self.has_length && self.number > 0 => State::Body,
            Line::Last => State::Start,
            Line::ChunkSize if self.number > 0 => State::ChunkData,
            Line::ChunkSize => {
                self.in_trailers = true;
                State::LineStart
            }
            Line::ChunkData => self.chunk(),
        }
    }

    fn chunk(&mut self) -> State {
        self.number = 0;
        self.count = 0;
        State::ChunkDigits
    }

    /// `taken` bytes of `rest` are the line's text; what stops them must be its CR.
    fn end_of_line(&mut self, rest: &[u8], taken: usize, line: Line) -> Result<usize, Stop> {
        let at = |fault| Stop { taken, fault };
        match rest.get(taken) {
            None => Ok(taken),
            Some(b'\r') if line == Line::Request && self.tail != HTTP_1_1 && self.tail != HTTP_1_0 => {
                Err(at(Fault::Version))
            }
            Some(b'\r') if rest.get(taken + 1) == Some(&b'\n') => {
                self.state = self.after(line);
                Ok(taken + 2)
            }
            Some(b'\r') => {
                self.state = State::Lf(line);
                Ok(taken + 1)
            }
            Some(b'\n') => Err(at(Fault::BareLf)),
            Some(_) => Err(at(Fault::Control)),
        }
    }

    fn remember_tail(&mut self, text: &[u8]) {
        match text.last_chunk::<8>() {
            Some(last) => self.tail = u64::from_be_bytes(*last),
            None => {
                for &byte in text {
                    self.tail = self.tail << 8 | u64::from(byte);
                }
            }
        }
    }

    fn name(&mut self, rest: &[u8]) -> Result<usize, Stop> {
        let taken = name_len(rest);
        if self.field != Field::Other {
            let from = usize::from(self.count);
            let matches = match (rest.get(..taken), self.field.name().get(from..from + taken)) {
                (Some(said), Some(wanted)) => said.eq_ignore_ascii_case(wanted),
                _ => false,
            };
            if matches {
                // At most the length of a framing field's name.
                self.count += taken as u8;
            } else {
                self.field = Field::Other;
            }
        }
        let at = |fault| Stop { taken, fault };
        match rest.get(taken) {
            None => Ok(taken),
            Some(b':') => match self.begin_value() {
                Ok(()) => Ok(taken + 1),
                Err(fault) => Err(at(fault)),
            },
            Some(b'\n') => Err(at(Fault::BareLf)),
            Some(_) => Err(at(Fault::Name)),
        }
    }

    /// At the colon.
    fn begin_value(&mut self) -> Result<(), Fault> {
        let whole = usize::from(self.count) == self.field.name().len();
        match self.field {
            Field::Length | Field::Coding if whole && self.in_trailers => Err(Fault::Trailer),
            Field::Length if whole => {
                if self.has_coding {
                    return Err(Fault::LengthAndCoding);
                }
                if self.has_length {
                    return Err(Fault::RepeatedLength);
                }
                self.has_length = true;
                self.number = 0;
                self.count = 0;
                self.state = State::LengthStart;
                Ok(())
            }
            Field::Coding if whole => {
                if self.has_length {
                    return Err(Fault::LengthAndCoding);
                }
                if self.has_coding {
                    return Err(Fault::RepeatedCoding);
                }
                if !self.is_1_1 {
                    return Err(Fault::CodingVersion);
                }
                self.has_coding = true;
                self.count = 0;
                self.state = State::CodingStart;
                Ok(())
            }
            _ => {
                self.state = State::Value;
                Ok(())
            }
        }
    }

    fn length(&mut self, byte: u8) -> Result<(), Fault> {
        self.state = match (self.state, byte) {
            (State::LengthStart | State::LengthDigits, b'0'..=b'9') if self.count < LENGTH_DIGITS_MAX => {
                self.count += 1;
                self.number = self.number * 10 + u64::from(byte - b'0');
                State::LengthDigits
            }
            (State::LengthStart, b' ' | b'\t') => State::LengthStart,
            (State::LengthDigits | State::LengthEnd, b' ' | b'\t') => State::LengthEnd,
            (State::LengthDigits | State::LengthEnd, b'\r') => State::Lf(Line::Field),
            (_, b'\n') => return Err(Fault::BareLf),
            _ => return Err(Fault::Length),
        };
        Ok(())
    }

    fn coding(&mut self, byte: u8) -> Result<(), Fault> {
        let at = usize::from(self.count);
        let whole = at == CODING.len();
        self.state = match (self.state, byte) {
            (State::CodingStart, b' ' | b'\t') => State::CodingStart,
            (State::CodingWord | State::CodingEnd, b' ' | b'\t') if whole => State::CodingEnd,
            (State::CodingWord | State::CodingEnd, b'\r') if whole => State::Lf(Line::Field),
            (State::CodingStart | State::CodingWord, _) if CODING.get(at) == Some(&byte.to_ascii_lowercase()) => {
                self.count += 1;
                State::CodingWord
            }
            (_, b'\n') => return Err(Fault::BareLf),
            _ => return Err(Fault::Coding),
        };
        Ok(())
    }

    fn chunk_size(&mut self, byte: u8) -> Result<(), Fault> {
        let digit = match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            b'A'..=b'F' => Some(byte - b'A' + 10),
            _ => None,
        };
        self.state = match (self.state, digit, byte) {
            (State::ChunkDigits, Some(digit), _) if self.count < CHUNK_DIGITS_MAX => {
                self.count += 1;
                self.number = self.number << 4 | u64::from(digit);
                State::ChunkDigits
            }
            (_, _, b'\n') => return Err(Fault::BareLf),
            _ if self.count == 0 => return Err(Fault::ChunkSize),
            (_, _, b'\r') => State::Lf(Line::ChunkSize),
            (_, _, b';') => State::ChunkExtension,
            // Old servers' libraries pad the size; it ends the digits for every reader.
            (_, _, b' ' | b'\t') => State::ChunkBlank,
            _ => return Err(Fault::ChunkSize),
        };
        Ok(())
    }
}

/// A fault so many bytes further on.
struct Stop {
    taken: usize,
    fault: Fault,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self { taken: 0, fault }
    }
}

/// The number that a length's value is: 1 to 19 digits with blanks around.
pub(super) fn digits(value: &[u8]) -> Option<u64> {
    let digits = value.trim_ascii();
    if !(1..=usize::from(LENGTH_DIGITS_MAX)).contains(&digits.len()) {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        // So few digits always fit.
        (digit < 10).then(|| number.wrapping_mul(10).wrapping_add(u64::from(digit)))
    })
}

/// A tab is one.
pub(super) fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

pub(super) fn control_marks(word: u64) -> u64 {
    below(word, 0x20) | equal(word, 0x7f)
}

/// Without a branch, several words are looked at at once.
fn has_control(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    let marks = words.iter().fold(0, |marks, word| marks | control_marks(u64::from_le_bytes(*word)));
    marks != 0 || rest.iter().any(|&byte| is_control(byte))
}

/// Bytes before the first control byte; a tab is text.
fn text_len(bytes: &[u8]) -> usize {
    let mut taken = 0;
    loop {
        let rest = bytes.get(taken..).unwrap_or_default();
        taken += run(rest, control_marks, is_control);
        if bytes.get(taken) != Some(&b'\t') {
            return taken;
        }
        taken += 1;
    }
}

/// Bytes before the first that cannot stand in a name and changes how a line is read: blank, control, colon,
/// beyond ASCII. The parser after us refuses the other delimiters.
pub(super) fn name_len(bytes: &[u8]) -> usize {
    let marks = |word: u64| below(word, 0x21) | equal(word, b':') | equal(word, 0x7f) | word & HIGHS;
    run(bytes, marks, |byte| byte < 0x21 || byte == b':' || byte >= 0x7f)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::TokioIo;
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::test_cases;

    /// Whole stream to verdict, with the fault's place counted from the stream's start.
    fn verdict<'b>(blocks: impl IntoIterator<Item = &'b [u8]>) -> (Framing, Result<(), Violation>) {
        let mut framing = Framing::new();
        let mut before = 0;
        for block in blocks {
            if let Err(violation) = framing.feed(block) {
                return (framing, Err(Violation { good: before + violation.good, ..violation }));
            }
            before += block.len();
        }
        (framing, Ok(()))
    }

    fn refused(stream: &str) -> Fault {
        let (_, whole) = verdict([stream.as_bytes()]);
        let Err(whole) = whole else { panic!("passed: {stream:?}") };
        for at in 0..=stream.len() {
            let (head, tail) = stream.as_bytes().split_at(at);
            assert_eq!(verdict([head, tail]).1, Err(whole), "{stream:?} split at {at}");
        }
        assert_eq!(verdict(stream.as_bytes().chunks(1)).1, Err(whole), "{stream:?} byte by byte");
        // Found before the head or chunk line is complete.
        let head_end = stream.find("\r\n\r\n").map_or(stream.len(), |at| at + 3);
        if !stream.contains("chunked\r\n\r\n") {
            assert!(whole.good <= head_end, "{stream:?} found only at {}", whole.good);
        }
        whole.fault
    }

    fn passed(stream: &str) {
        for size in [1, 2, 3, 7, 16, 64, stream.len().max(1)] {
            let (framing, verdict) = verdict(stream.as_bytes().chunks(size));
            assert_eq!(verdict, Ok(()), "{stream:?} in blocks of {size}");
            assert_eq!(framing.state, State::Start, "{stream:?} in blocks of {size}");
        }
    }

    /// A POST with these field lines, then a body's worth of text.
    fn post(fields: &str) -> String {
        format!("POST /x HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
    }

    #[test]
    fn clean_requests_pass() {
        passed("GET / HTTP/1.1\r\n\r\n");
        passed("GET / HTTP/1.0\r\nHost: h\r\n\r\n");
        passed("\r\n\r\nGET / HTTP/1.1\r\nHost:\r\nX:\ta\tb \r\nY: caf\u{e9}\r\n\r\n");
        passed(&(post("Content-Length: 5\r\n") + "hello"));
        passed(&(post("CONTENT-LENGTH:\t0005 \t\r\n") + "\r\n\r\n\n"));
        passed(&post("Content-Length: 0\r\nContent-Length-Hint: 7\r\nContent: 1\r\nTransfer: x\r\nTE: trailers\r\n"));
        let chunked = post("transfer-Encoding:  CHUNKED \r\n");
        passed(&format!("{chunked}0\r\n\r\n"));
        passed(&format!(
            "{chunked}5\r\nhello\r\n00a;x=\"y\"\r\n0123456789\r\n0  \r\nChecksum: 1\r\n\r\nGET / HTTP/1.1\r\n\r\n"
        ));
        passed(&format!("{chunked}00000000000000A \t;a\tb\r\n0123456789\r\n0;last\r\n\r\n"));
    }

    #[test]
    fn the_two_lengths_of_a_body_never_stand_together() {
        for coding in ["Transfer-Encoding: chunked\r\n", "TRANSFER-ENCODING:chunked\r\n"] {
            assert_eq!(refused(&post(&format!("Content-Length: 5\r\n{coding}"))), Fault::LengthAndCoding);
            assert_eq!(refused(&post(&format!("{coding}content-length: 5\r\n"))), Fault::LengthAndCoding);
        }
    }

    #[test]
    fn a_length_is_said_once_and_in_digits() {
        assert_eq!(refused(&post("Content-Length: 5\r\nContent-Length: 5\r\n")), Fault::RepeatedLength);
        assert_eq!(refused(&post("Content-Length: 5\r\nX: y\r\ncontent-length: 6\r\n")), Fault::RepeatedLength);
        for odd in
            ["+5", "-5", "0x5", "5,5", "5, 5", "5 5", "", " ", "5;", "five", "5.0", "\"5\"", "10000000000000000000"]
        {
            assert_eq!(refused(&post(&format!("Content-Length: {odd}\r\n"))), Fault::Length, "{odd:?}");
        }
        let longest = post("Content-Length: 9999999999999999999\r\n");
        assert_eq!(verdict([longest.as_bytes()]).1, Ok(()));
    }

    #[test]
    fn a_coding_is_chunked_alone_and_in_http_1_1() {
        for odd in [
            "gzip, chunked",
            "chunked, chunked",
            "chunked,",
            ",chunked",
            "identity",
            "xchunked",
            "chunkedx",
            "chunk ed",
            "",
        ] {
            assert_eq!(refused(&post(&format!("Transfer-Encoding: {odd}\r\n"))), Fault::Coding, "{odd:?}");
        }
        assert_eq!(refused(&post("Transfer-Encoding: \u{b}chunked\r\n")), Fault::Coding);
        let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
        assert_eq!(refused(&post(twice)), Fault::RepeatedCoding);
        let old = post("Transfer-Encoding: chunked\r\n").replace("HTTP/1.1", "HTTP/1.0");
        assert_eq!(refused(&old), Fault::CodingVersion);
        for version in ["HTTP/0.9", "HTTP/2.0", "HTTP/1.2", "http/1.1", "HTTP/1.1 ", ""] {
            assert_eq!(refused(&format!("POST /x {version}\r\n\r\n")), Fault::Version, "{version:?}");
        }
        assert_eq!(refused("GET /\r\n\r\n"), Fault::Version);
    }

    #[test]
    fn lines_end_in_cr_lf_and_nothing_else() {
        assert_eq!(refused("\nGET / HTTP/1.1\r\n\r\n"), Fault::BareLf);
        assert_eq!(refused("GET / HTTP/1.1\n\n"), Fault::BareLf);
        assert_eq!(refused("GET / HTTP/1.1\r\nHost: h\n\r\n"), Fault::BareLf);
        assert_eq!(refused("GET / HTTP/1.1\r\nHost: h\r\n\n"), Fault::BareLf);
        assert_eq!(refused("GET / HTTP/1.1\r\nHost\n: h\r\n\r\n"), Fault::BareLf);
        assert_eq!(refused(&post("Content-Length: 5\n")), Fault::BareLf);
        assert_eq!(refused(&post("Transfer-Encoding: chunked\n")), Fault::BareLf);
        assert_eq!(refused("GET / HTTP/1.1\r\nX: a\rb\r\n\r\n"), Fault::BareCr);
        assert_eq!(refused("GET / HTTP/1.1\rX: a\r\n\r\n"), Fault::BareCr);
        assert_eq!(refused("GET / HTTP/1.1\r\n\rX: a\r\n\r\n"), Fault::BareCr);
        assert_eq!(refused("\rGET / HTTP/1.1\r\n\r\n"), Fault::BareCr);
        assert_eq!(refused("GET / HTTP/1.1\r\nX: a\r \nY: b\r\n\r\n"), Fault::BareCr);
        assert_eq!(refused("GET / HTTP/1.1\r\nX: a\r\r\n\r\n"), Fault::BareCr);
        assert_eq!(refused(&post("Content-Length: 5\rX: y\r\n")), Fault::BareCr);
    }

    #[test]
    fn odd_field_lines_are_refused() {
        assert_eq!(refused("GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n"), Fault::Folding);
        assert_eq!(refused("GET / HTTP/1.1\r\n\tX: a\r\n\r\n"), Fault::Folding);
        assert_eq!(refused("GET / HTTP/1.1\r\n: a\r\n\r\n"), Fault::EmptyName);
        for name in [
            "Content-Length ",
            "Transfer-Encoding\t",
            "Content -Length",
            "X\0",
            "X\u{7f}",
            "Content-L\u{e4}ngth",
            "X\r\nY",
        ] {
            assert_eq!(refused(&format!("GET / HTTP/1.1\r\n{name}: 5\r\n\r\n")), Fault::Name, "{name:?}");
        }
        for control in ["\0", "\u{1}", "\u{8}", "\u{b}", "\u{1f}", "\u{7f}"] {
            assert_eq!(refused(&format!("GET / HTTP/1.1\r\nX: abcdefgh{control}\r\n\r\n")), Fault::Control);
            assert_eq!(refused(&format!("GET /{control} HTTP/1.1\r\n\r\n")), Fault::Control);
        }
    }

    #[test]
    fn odd_chunks_are_refused() {
        let chunked = post("Transfer-Encoding: chunked\r\n");
        for (chunks, fault) in [
            ("5\nhello\r\n0\r\n\r\n", Fault::BareLf),
            ("5\rhello\r\n0\r\n\r\n", Fault::BareCr),
            ("5;a\nhello\r\n0\r\n\r\n", Fault::BareLf),
            ("5;a\rhello\r\n0\r\n\r\n", Fault::BareCr),
            ("5;a\0\r\nhello\r\n0\r\n\r\n", Fault::Control),
            ("\r\n0\r\n\r\n", Fault::ChunkSize),
            (" 5\r\nhello\r\n", Fault::ChunkSize),
            (";a\r\n", Fault::ChunkSize),
            ("+5\r\nhello\r\n", Fault::ChunkSize),
            ("0x5\r\nhello\r\n", Fault::ChunkSize),
            ("5 5\r\nhello\r\n", Fault::ChunkSize),
            ("5g\r\nhello\r\n", Fault::ChunkSize),
            ("00000000000000005\r\nhello\r\n", Fault::ChunkSize),
            ("5\r\nhello!\r\n0\r\n\r\n", Fault::ChunkEnd),
            ("5\r\nhello\n0\r\n\r\n", Fault::ChunkEnd),
            ("5\r\nhello\r0\r\n\r\n", Fault::BareCr),
            ("0\r\nX: y\n\r\n", Fault::BareLf),
            ("0\r\n X: y\r\n\r\n", Fault::Folding),
            ("0\r\nContent-Length: 5\r\n\r\n", Fault::Trailer),
            ("0\r\nX: y\r\ntransfer-encoding: chunked\r\n\r\n", Fault::Trailer),
            ("0\r\n\n", Fault::BareLf),
        ] {
            assert_eq!(refused(&format!("{chunked}{chunks}")), fault, "{chunks:?}");
        }
    }

    #[test]
    fn http_2_is_not_watched_and_its_first_bytes_alone_are_no_way_in() {
        let mut stream = PREFACE.to_vec();
        stream.extend_from_slice(b"\0\n\r\x01 anything");
        for size in 1..stream.len() {
            assert_eq!(verdict(stream.chunks(size)).1, Ok(()));
        }
        for seen in 1..PREFACE.len() {
            let mut stream = PREFACE[..seen].to_vec();
            stream.extend_from_slice(b"\0\n");
            for size in [1, 5, stream.len()] {
                assert!(verdict(stream.chunks(size)).1.is_err(), "after {seen} bytes, in blocks of {size}");
            }
        }
        let late = verdict([b"GET / HTTP/1.1\r\n\r\n".as_slice(), PREFACE]).1;
        assert_eq!(late, Err(Violation { good: 32, fault: Fault::Version }));
        passed("PRIME /x HTTP/1.1\r\nHost: h\r\n\r\n");
        passed("P /x HTTP/1.1\r\nHost: h\r\n\r\n");
    }

    #[test]
    fn after_a_violation_nothing_passes() {
        let mut framing = Framing::new();
        assert!(framing.feed(b"GET / HTTP/1.1\n").is_err());
        let again = framing.feed(b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(again, Err(Violation { good: 0, fault: Fault::BareLf }));
    }

    /// A clean request, as bytes.
    fn any_request() -> impl Strategy<Value = Vec<u8>> {
        let field = ("[a-zA-Z][a-zA-Z0-9-]{0,18}", "[ -~\t]{0,40}");
        let fields = prop::collection::vec(field, 0..5);
        let chunks = prop::collection::vec((prop::collection::vec(any::<u8>(), 1..40), "(;[a-z=]{0,9})?"), 0..4);
        let body = prop_oneof![
            Just(None),
            prop::collection::vec(any::<u8>(), 0..90).prop_map(|body| Some(Ok(body))),
            chunks.prop_map(|chunks| Some(Err(chunks))),
        ];
        ("(GET|POST|PUT|P|PR)", "/[a-zA-Z0-9/?=&%._~-]{0,30}", fields, body).prop_map(|(method, path, fields, body)| {
            let mut out = format!("{method} {path} HTTP/1.1\r\n").into_bytes();
            for (name, value) in fields {
                let name = match name.to_ascii_lowercase().as_str() {
                    // Those with a meaning of their own to the reader.
                    "content-length" | "transfer-encoding" | "connection" | "upgrade" | "expect" => "X-Other",
                    _ => &name,
                };
                out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            }
            match body {
                None => out.extend_from_slice(b"\r\n"),
                Some(Ok(body)) => {
                    out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
                    out.extend_from_slice(&body);
                }
                Some(Err(chunks)) => {
                    out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                    for (data, extension) in chunks {
                        out.extend_from_slice(format!("{:x}{extension}\r\n", data.len()).as_bytes());
                        out.extend_from_slice(&data);
                        out.extend_from_slice(b"\r\n");
                    }
                    out.extend_from_slice(b"0\r\n\r\n");
                }
            }
            out
        })
    }

    fn any_stream() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any_request(), 1..5).prop_map(|requests| requests.concat())
    }

    /// A stream with a few bytes changed, taken out or put in, half of them where fields begin.
    fn damaged_stream() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(vec![
            "\r",
            "\n",
            "\r\n",
            "\r ",
            " ",
            "\t",
            ":",
            "0",
            "5",
            "\0",
            ",",
            ";",
            "Content-Length: 3\r\n",
            "content-length:4\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Expect: 100-continue\r\n",
            "\r\n\r\n",
            "GET /smuggled HTTP/1.1\r\n\r\n",
        ]);
        let change = (any::<prop::sample::Index>(), any::<bool>(), 0_usize..3, prop::option::of(piece));
        (any_stream(), prop::collection::vec(change, 0..4)).prop_map(|(mut stream, changes)| {
            for (at, at_fields, cut, piece) in changes {
                let fields: Vec<usize> = (1..stream.len()).filter(|&at| stream[..at].ends_with(b"1.1\r\n")).collect();
                let (at, cut) = match at_fields && !fields.is_empty() {
                    true => (fields[at.index(fields.len())], 0),
                    false => (at.index(stream.len()), cut),
                };
                let until = (at + cut).min(stream.len());
                stream.splice(at..until, piece.unwrap_or_default().bytes());
                if stream.is_empty() {
                    break;
                }
            }
            stream
        })
    }

    fn blocks(stream: &[u8], cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        cuts.windows(2).map(|pair| stream[pair[0]..pair[1]].to_vec()).collect()
    }

    /// What hyper, reading leniently, makes of a stream: the requests whose body came whole.
    fn hyper_reads(stream: &[u8]) -> Vec<(String, Vec<u8>)> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let read = Arc::new(Mutex::new(Vec::new()));
            let (mut client, server) = tokio::io::duplex(1 << 20);
            client.write_all(stream).await.unwrap();
            client.shutdown().await.unwrap();
            let note = Arc::clone(&read);
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let note = Arc::clone(&note);
                async move {
                    let said = format!("{} {}", request.method(), request.uri());
                    if let Ok(body) = request.into_body().collect().await {
                        note.lock().unwrap().push((said, body.to_bytes().to_vec()));
                    }
                    Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::new())))
                }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .half_close(true)
                .serve_connection(TokioIo::new(server), service);
            let _ = connection.await;
            let read = read.lock().unwrap();
            read.clone()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(test_cases(1000)))]

        #[test]
        fn any_pipeline_of_clean_requests_passes_however_it_is_split(
            stream in any_stream(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..9),
        ) {
            let blocks = blocks(&stream, &cuts);
            let (framing, verdict) = verdict(blocks.iter().map(Vec::as_slice));
            prop_assert_eq!(verdict, Ok(()));
            prop_assert_eq!(framing.state, State::Start);
        }

        #[test]
        fn the_verdict_does_not_depend_on_the_split(
            stream in prop_oneof![damaged_stream(), prop::collection::vec(any::<u8>(), 0..200)],
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..9),
        ) {
            let blocks = blocks(&stream, &cuts);
            let split = verdict(blocks.iter().map(Vec::as_slice)).1;
            prop_assert_eq!(split, verdict([stream.as_slice()]).1);
            prop_assert_eq!(split, verdict(stream.chunks(1)).1);
        }

        /// A desync would be a stream that passes here, yet in which hyper finds a request across one of the
        /// borders that were found here.
        #[test]
        fn hyper_finds_the_same_requests_in_what_passes(stream in damaged_stream()) {
            let mut framing = Framing::new();
            let mut requests = vec![Vec::new()];
            let mut passes = true;
            for &byte in &stream {
                if framing.feed(&[byte]).is_err() {
                    passes = false;
                    break;
                }
                requests.last_mut().unwrap().push(byte);
                if framing.state == State::Start {
                    requests.push(Vec::new());
                }
            }
            if !passes {
                // What stands before the fault, and the poison: hyper must not find more in it.
                requests.pop();
            }
            let good: Vec<u8> = match verdict([stream.as_slice()]).1 {
                Ok(()) => stream.clone(),
                Err(violation) => [&stream[..violation.good], b"\0"].concat(),
            };
            let whole = hyper_reads(&good);
            let mut apart = Vec::new();
            for request in &requests {
                let read = hyper_reads(request);
                prop_assert!(read.len() <= 1, "{:?} in one request", read);
                if read.is_empty() && !request.iter().all(|byte| b"\r\n".contains(byte)) {
                    break;
                }
                apart.extend(read);
            }
            let stream = stream.escape_ascii().to_string();
            prop_assert_eq!(Some(whole.as_slice()), apart.get(..whole.len()), "{}", stream);
            // hyper ends the connection after a request of HTTP/1.0.
            prop_assert!(whole.len() == apart.len() || stream.contains("HTTP/1.0"), "{}", stream);
        }
    }
}
