//! Texts with gaps: filled for a request, and held against what arrived behind the proxy. Called by the senders and by
//! the ledger's witness.

use memchr::memmem;

/// `mark-`, 8 hex digits of the run, `-`, 12 of the statement.
pub const MARK_BYTES: usize = 26;
/// `lt-`, 8 hex digits of the run, `-`, 8 of the key.
pub const EVENT_ID_BYTES: usize = 20;

/// What descriptions are filled with, over and over: text as it occurs, no long run of one byte.
const FILLER: &[u8] = b"volume /data at 99 % on host db-7.eu-central-1, read latency above 250 ms; ";

/// What fills the gaps.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Tells one run's statements from another's.
    pub run: u32,
    pub statement: u64,
    /// Number of the deduplication key.
    pub event: u32,
    /// The integration's key.
    pub key: &'a str,
    pub source: &'a str,
    /// What the answer to the trigger named; `None` where a text is held against another: then anything fits.
    pub remote: Option<&'a str>,
    pub text_bytes: usize,
}

/// A text in pieces.
#[derive(Debug, Clone)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Literal(Vec<u8>),
    Key,
    Event,
    Mark,
    Text,
    Remote,
    Source,
    /// Elements of a batch: filled by the caller.
    Alerts,
}

impl Template {
    /// Takes a text apart at its names in braces; braces of JSON stay.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        const NAMES: [(&str, Piece); 7] = [
            ("{key}", Piece::Key),
            ("{event}", Piece::Event),
            ("{mark}", Piece::Mark),
            ("{text}", Piece::Text),
            ("{remote}", Piece::Remote),
            ("{source}", Piece::Source),
            ("{alerts}", Piece::Alerts),
        ];
        let mut pieces = Vec::new();
        let mut rest = text;
        loop {
            let next = NAMES.iter().filter_map(|(name, piece)| rest.find(name).map(|at| (at, name, piece)));
            let Some((at, name, piece)) = next.min_by_key(|(at, ..)| *at) else {
                break;
            };
            pieces.push(Piece::Literal(rest.as_bytes()[..at].to_vec()));
            pieces.push(piece.clone());
            rest = &rest[at + name.len()..];
        }
        pieces.push(Piece::Literal(rest.as_bytes().to_vec()));
        pieces.retain(|piece| *piece != Piece::Literal(Vec::new()));
        Self { pieces }
    }

    /// The pieces, for who fills one of them himself.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Appends the filled text.
    pub fn fill(&self, context: &Context<'_>, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            piece.fill(context, out);
        }
    }

    /// Whether `text` is what [`Template::fill`] would make; with `masked` the key is asterisks.
    #[must_use]
    pub fn fits(&self, context: &Context<'_>, masked: bool, text: &[u8]) -> bool {
        let mut rest = text;
        let mut expected = Vec::new();
        let mut anything = false;
        for piece in &self.pieces {
            expected.clear();
            match piece {
                Piece::Remote if context.remote.is_none() => {
                    anything = true;
                    continue;
                }
                Piece::Key if masked => expected.resize(context.key.len(), b'*'),
                Piece::Literal(bytes) => {
                    let at = if anything { memmem::find(rest, bytes) } else { rest.starts_with(bytes).then_some(0) };
                    let Some(at) = at else { return false };
                    anything = false;
                    rest = &rest[at + bytes.len()..];
                    continue;
                }
                piece => piece.fill(context, &mut expected),
            }
            let Some(behind) = rest.strip_prefix(expected.as_slice()) else {
                return false;
            };
            rest = behind;
        }
        rest.is_empty() || anything
    }
}

impl Piece {
    fn fill(&self, context: &Context<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Literal(bytes) => out.extend_from_slice(bytes),
            Self::Key => out.extend_from_slice(context.key.as_bytes()),
            Self::Event => out.extend_from_slice(&event_id(context.run, context.event)),
            Self::Mark => {
                let mut mark = *b"mark-00000000-000000000000";
                hex(u64::from(context.run), &mut mark[5..13]);
                hex(context.statement, &mut mark[14..]);
                out.extend_from_slice(&mark);
            }
            Self::Text => {
                let whole = context.text_bytes / FILLER.len();
                for _ in 0..whole {
                    out.extend_from_slice(FILLER);
                }
                out.extend_from_slice(&FILLER[..context.text_bytes % FILLER.len()]);
            }
            Self::Remote => out.extend_from_slice(context.remote.unwrap_or_default().as_bytes()),
            Self::Source => out.extend_from_slice(context.source.as_bytes()),
            Self::Alerts => {}
        }
    }
}

/// The deduplication key of this number.
#[must_use]
pub fn event_id(run: u32, event: u32) -> [u8; EVENT_ID_BYTES] {
    let mut id = *b"lt-00000000-00000000";
    hex(u64::from(run), &mut id[3..11]);
    hex(u64::from(event), &mut id[12..]);
    id
}

/// The statement whose mark of this run stands in the text.
#[must_use]
pub fn mark_of(text: &[u8], run: u32) -> Option<u64> {
    let mut wanted = *b"mark-00000000-";
    hex(u64::from(run), &mut wanted[5..13]);
    let at = memmem::find(text, &wanted)? + wanted.len();
    let digits = std::str::from_utf8(text.get(at..at + 12)?).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

/// Lower-case hex, right-aligned, cut to the width of `out`.
fn hex(mut number: u64, out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 0xF) as usize];
        number >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: Context<'_> =
        Context { run: 1, statement: 2, event: 3, key: "abcd", source: "S", remote: Some("77"), text_bytes: 100 };

    fn filled(template: &Template) -> Vec<u8> {
        let mut out = Vec::new();
        template.fill(&CONTEXT, &mut out);
        out
    }

    #[test]
    fn a_filled_text_fits_and_any_changed_byte_does_not() {
        let template = Template::parse(r#"{"k":"{key}","e":"{event}","m":"{mark}","t":"{text}","r":{remote}}"#);
        let text = filled(&template);
        assert!(template.fits(&CONTEXT, false, &text), "{}", String::from_utf8_lossy(&text));
        for at in 0..text.len() {
            let mut changed = text.clone();
            changed[at] ^= 1;
            assert!(!template.fits(&CONTEXT, false, &changed), "byte {at}");
        }
        assert!(!template.fits(&CONTEXT, false, &text[..text.len() - 1]));
    }

    #[test]
    fn a_masked_key_and_an_id_that_nobody_kept_fit() {
        let template = Template::parse(r#"{"k":"{key}","r":{remote}}"#);
        assert!(template.fits(&CONTEXT, true, br#"{"k":"****","r":77}"#));
        assert!(!template.fits(&CONTEXT, true, br#"{"k":"abcd","r":77}"#));
        let unknown = Context { remote: None, ..CONTEXT };
        assert!(template.fits(&unknown, false, br#"{"k":"abcd","r":123456}"#));
        assert!(!template.fits(&unknown, false, br#"{"k":"abce","r":123456}"#));
    }

    #[test]
    fn a_mark_is_found_among_other_words_and_not_of_another_run() {
        let text = filled(&Template::parse("disk {mark} full"));
        assert_eq!(mark_of(&text, 1), Some(2));
        assert_eq!(mark_of(&text, 2), None);
    }
}
