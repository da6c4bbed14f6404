//! One pass over the usual body, without a tape: compact or spaced JSON without escapes, whose numbers are short
//! integers. A dialect asks it for the little that deciding needs. Whatever is rare, and all that could be a fault, is
//! `None`: the whole body is then parsed and read, and that reading judges it. Nothing is refused here.

use crate::octets;

/// Deeper ones are rare.
const DEPTH_MAX: u8 = 8;
/// Longer ones may not fit 64 bits.
const DIGITS_MAX: usize = 18;
/// Strings are searched word by word up to here; `memchr` is faster on longer ones.
const SHORT_BYTES: usize = 48;

/// Where in the body the reading is.
pub struct Glance<'d> {
    rest: &'d [u8],
}

/// At a value.
pub struct At<'g, 'd> {
    glance: &'g mut Glance<'d>,
    depth: u8,
}

/// Reads `body`, which must be one object; `each` gets every member's name with its value, and takes or passes that.
pub fn members<'d>(body: &'d [u8], each: impl FnMut(&'d [u8], At<'_, 'd>) -> Option<()>) -> Option<()> {
    if !is_plain(body) {
        return None;
    }
    let mut glance = Glance { rest: body };
    glance.blanks();
    At { glance: &mut glance, depth: DEPTH_MAX }.members(each)?;
    glance.blanks();
    glance.rest.is_empty().then_some(())
}

/// Valid text without backslash and control byte: each string ends at the next quote and says what it shows, and blanks
/// are spaces.
fn is_plain(body: &[u8]) -> bool {
    // Without a branch, many bytes are looked at at once.
    let marks = |byte: u8| u8::from(byte < 0x20) | u8::from(byte == b'\\') | byte & 0x80;
    let found = body.iter().fold(0, |found, &byte| found | marks(byte));
    found == 0 || (found == 0x80 && std::str::from_utf8(body).is_ok())
}

impl<'d> Glance<'d> {
    #[inline]
    fn take(&mut self, byte: u8) -> Option<()> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        (*first == byte).then_some(())
    }

    #[inline]
    fn blanks(&mut self) {
        while let Some((b' ', rest)) = self.rest.split_first() {
            self.rest = rest;
        }
    }

    /// What stands before the next quote, which is passed.
    #[inline(always)]
    fn until_quote(&mut self) -> Option<&'d [u8]> {
        let mut length = 0_usize;
        for word in self.rest.as_chunks::<8>().0 {
            let marks = octets::equal(u64::from_le_bytes(*word), b'"');
            if marks != 0 {
                return self.cut(length.wrapping_add((marks.trailing_zeros() / 8) as usize));
            }
            length = length.wrapping_add(8);
            if length == SHORT_BYTES {
                break;
            }
        }
        self.until_far_quote(length)
    }

    #[cold]
    fn until_far_quote(&mut self, seen: usize) -> Option<&'d [u8]> {
        let length = memchr::memchr(b'"', self.rest.get(seen..)?)?;
        self.cut(seen.wrapping_add(length))
    }

    /// So many bytes, and the quote behind them is passed.
    #[inline(always)]
    fn cut(&mut self, length: usize) -> Option<&'d [u8]> {
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest.get(1..)?;
        Some(text)
    }

    /// What stands between an opening bracket and its `close`, with commas between.
    #[inline]
    fn items(&mut self, close: u8, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.blanks();
        if self.rest.first()? == &close {
            return self.take(close);
        }
        loop {
            item(self)?;
            self.blanks();
            let (mark, rest) = self.rest.split_first()?;
            self.rest = rest;
            if *mark == close {
                return Some(());
            }
            if *mark != b',' {
                return None;
            }
            self.blanks();
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(word)?;
        Some(())
    }

    /// A short one; what follows it must be able to.
    fn integer(&mut self) -> Option<()> {
        let digits = self.rest.strip_prefix(b"-").unwrap_or(self.rest);
        let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let starts_well = digits.first() != Some(&b'0') || (count == 1 && digits.len() == self.rest.len());
        let ends_well = matches!(digits.get(count), Some(b' ' | b',' | b'}' | b']'));
        self.rest = digits.get(count..)?;
        ((1..=DIGITS_MAX).contains(&count) && starts_well && ends_well).then_some(())
    }
}

impl<'d> At<'_, 'd> {
    /// The text of a string.
    #[inline]
    pub fn text(self) -> Option<&'d [u8]> {
        self.glance.take(b'"')?;
        self.glance.until_quote()
    }

    /// The members of an object, in order, repeated ones too.
    #[inline]
    pub fn members(self, mut each: impl FnMut(&'d [u8], At<'_, 'd>) -> Option<()>) -> Option<()> {
        let depth = self.depth.checked_sub(1)?;
        self.glance.take(b'{')?;
        self.glance.items(b'}', |glance| {
            glance.take(b'"')?;
            let name = glance.until_quote()?;
            glance.blanks();
            glance.take(b':')?;
            glance.blanks();
            each(name, At { glance, depth })
        })
    }

    /// Goes over any value.
    pub fn pass(self) -> Option<()> {
        match self.glance.rest.first()? {
            b'"' => self.text().map(drop),
            b'{' => self.members(|_, value| value.pass()),
            b'[' => {
                let depth = self.depth.checked_sub(1)?;
                self.glance.take(b'[')?;
                self.glance.items(b']', |glance| At { glance, depth }.pass())
            }
            b't' => self.glance.word(b"true"),
            b'f' => self.glance.word(b"false"),
            b'n' => self.glance.word(b"null"),
            _ => self.glance.integer(),
        }
    }
}
