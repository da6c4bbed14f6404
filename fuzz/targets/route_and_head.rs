//! Paths and the framing of an HTTP/1 connection (PROMISES I2, I4): the first line of the input is a path, the rest
//! is what a connection sends. However the bytes are split, the watch says the same.

use surgegate::dialect;
use surgegate::listen::framing::{Fault, Framing};

/// Bytes of the preface of HTTP/2: a fault in what turned out to be none is told where the next block begins.
const PREFACE_BYTES: usize = 24;

/// Whether the path is served.
pub(crate) fn run(input: &[u8]) -> bool {
    let line = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (path, rest) = input.split_at(line);
    let sent = rest.get(1..).unwrap_or_default();
    framing(sent);
    route(&String::from_utf8_lossy(path))
}

fn route(path: &str) -> bool {
    let mut served = false;
    for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS"] {
        let Ok(matched) = dialect::route(method, path) else { continue };
        let mut args = matched.args.iter();
        let text = |word: &str| match word {
            "{key}" => matched.key.to_owned(),
            word if word.starts_with('{') => args.next().map(|text| (*text).to_owned()).unwrap_or_default(),
            word => word.to_owned(),
        };
        let whole = matched.route.path.split('/').map(text).collect::<Vec<_>>().join("/");
        assert!(path == whole || path == format!("{whole}/"), "{path:?} is not {whole:?}");
        served = true;
    }
    served
}

/// Feeds `sent` in blocks of these lengths, over and over; offset and kind of the fault, if there is one.
fn feed(sent: &[u8], blocks: &[usize]) -> Option<(usize, Fault)> {
    let mut framing = Framing::new();
    let mut at = 0;
    let mut lengths = blocks.iter().cycle();
    while at < sent.len() {
        let length = lengths.next().map_or(1, |length| (*length).max(1)).min(sent.len() - at);
        if let Err(violation) = framing.feed(&sent[at..at + length]) {
            assert!(violation.good <= length);
            let again = framing.feed(sent).err().map(|again| (again.good, again.fault));
            assert!(sent.is_empty() || again == Some((0, violation.fault)), "a fault is for good");
            return Some((at + violation.good, violation.fault));
        }
        at += length;
    }
    None
}

fn framing(sent: &[u8]) {
    let whole = feed(sent, &[sent.len()]);
    // The input's own bytes choose one more way to split it.
    let chosen: Vec<usize> = sent.iter().rev().take(16).map(|byte| usize::from(*byte % 32)).collect();
    for blocks in [&[1][..], &[2, 3], &[7], &[64, 1], &chosen] {
        if blocks.is_empty() {
            continue;
        }
        match (whole, feed(sent, blocks)) {
            (None, None) => {}
            (Some((at, fault)), Some((split_at, split_fault))) => {
                assert_eq!(fault, split_fault, "split {blocks:?}");
                assert!(at == split_at || (at < PREFACE_BYTES && at <= split_at && split_at <= PREFACE_BYTES));
            }
            (whole, split) => panic!("split {blocks:?}: {split:?}, whole: {whole:?}"),
        }
    }
}
