//! Whose trace an event belongs to, by W3C Trace Context: taken from a request's head by `intake`, kept with the event by
//! `store`, told to upstreams by `forward`. No header is ever copied: what stands here was read and checked.

use std::fmt::Write as _;

/// Longest `tracestate` that is kept, in bytes: as much as the standard asks for. Members beyond it are left out, the
/// last ones first.
pub const STATE_BYTES_MAX: usize = 512;
/// Members of it, by the standard.
const STATE_MEMBERS_MAX: usize = 32;
/// `00-` trace id `-` parent id `-` flags.
const PARENT_CHARS: usize = 55;
const SAMPLED: u8 = 1;

/// The trace of a request, and the span of it that is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Never 0.
    pub id: u128,
    /// The span of the request that brought the event: what sends it on is its child. Never 0.
    pub span: u64,
    /// Whether the sender keeps the trace, and whether its id is random: bits 0 and 1.
    pub flags: u8,
    /// `tracestate`, at most [`STATE_BYTES_MAX`] of visible ASCII; mostly empty.
    pub state: Box<str>,
    /// The sender's span, of which ours is the child; 0: none, or no longer known. Not stored.
    pub caller: u64,
}

impl Trace {
    /// What a request's headers say, continued by a span of our own. `None`: nothing, or nothing that is right; then what
    /// `tracestate` says counts for nothing either.
    pub fn continued<'h>(parent: &str, state: impl Iterator<Item = &'h str>) -> Option<Self> {
        let (id, caller, flags) = parsed(parent)?;
        Some(Self { id, span: fresh(), flags, state: state_of(state), caller })
    }

    /// A new trace that begins here.
    pub fn begun() -> Self {
        let id = u128::from(fresh()) << 64 | u128::from(fresh());
        Self { id, span: fresh(), flags: SAMPLED | 2, state: Box::default(), caller: 0 }
    }

    /// As it was stored. `None`: no trace is like that.
    pub fn stored(id: u128, span: u64, flags: u8, state: &str) -> Option<Self> {
        (id != 0 && span != 0).then(|| Self { id, span, flags, state: state.into(), caller: 0 })
    }

    /// Whether the sender keeps it.
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// `traceparent` of a request that is this span.
    pub fn parent_of(&self, span: u64) -> String {
        let mut text = String::with_capacity(PARENT_CHARS);
        // It cannot fail: a string takes what comes.
        let _ = write!(text, "00-{:032x}-{span:016x}-{:02x}", self.id, self.flags);
        text
    }
}

/// The id of a new span.
pub fn fresh() -> u64 {
    fastrand::u64(1..)
}

/// Trace, parent and flags of a `traceparent` of this version or a later one.
fn parsed(text: &str) -> Option<(u128, u64, u8)> {
    let bytes = text.as_bytes();
    let is_lower_hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let (head, rest) = bytes.split_at_checked(PARENT_CHARS)?;
    let version = &head[..2];
    let ends = if version == b"00" { rest.is_empty() } else { rest.first().is_none_or(|next| *next == b'-') };
    let dashes = [2, 35, 52].iter().all(|at| head[*at] == b'-');
    let parts = [version, &head[3..35], &head[36..52], &head[53..]];
    if !ends || !dashes || version == b"ff" || !parts.iter().all(|part| is_lower_hex(part)) {
        return None;
    }
    let id = u128::from_str_radix(&text[3..35], 16).ok().filter(|id| *id != 0)?;
    let parent = u64::from_str_radix(&text[36..52], 16).ok().filter(|parent| *parent != 0)?;
    let flags = u8::from_str_radix(&text[53..55], 16).ok()?;
    Some((id, parent, flags & 3))
}

/// The members of one or more `tracestate` headers, as many as fit. Nothing where a byte is none that may stand there.
fn state_of<'h>(headers: impl Iterator<Item = &'h str>) -> Box<str> {
    let mut state = String::new();
    let members = headers.flat_map(|header| header.split(',')).map(|member| member.trim_matches([' ', '\t']));
    for member in members.filter(|member| !member.is_empty()).take(STATE_MEMBERS_MAX) {
        if !member.bytes().all(|byte| matches!(byte, b' '..=b'~')) || !member.contains('=') {
            return Box::default();
        }
        if state.len() + 1 + member.len() > STATE_BYTES_MAX {
            break;
        }
        if !state.is_empty() {
            state.push(',');
        }
        state.push_str(member);
    }
    state.into_boxed_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn continued(parent: &str) -> Option<Trace> {
        Trace::continued(parent, std::iter::empty())
    }

    #[test]
    fn a_trace_goes_on_with_a_span_of_our_own() {
        let trace = continued(PARENT).unwrap();
        assert_eq!(
            (trace.id, trace.caller, trace.flags),
            (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0xf0_67aa_0ba9_02b7, 1)
        );
        assert_ne!(trace.span, trace.caller);
        assert_eq!(continued(&trace.parent_of(7)).unwrap().caller, 7);
        assert!(continued(&Trace::begun().parent_of(1)).unwrap().is_sampled());
    }

    #[test]
    fn what_is_no_trace_is_none() {
        for wrong in [
            "",
            "00",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "+0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        ] {
            assert_eq!(continued(wrong), None, "{wrong}");
        }
        // A later version may say more.
        assert!(continued("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more").is_some());
        assert!(continued("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more").is_none());
    }

    #[test]
    fn a_state_is_kept_within_its_bound_and_by_whole_members() {
        let state = |headers: &[&'static str]| Trace::continued(PARENT, headers.iter().copied()).unwrap().state;
        assert_eq!(&*state(&["a=1 , b=2", "c=3"]), "a=1,b=2,c=3");
        assert_eq!(&*state(&["a=\u{1}"]), "", "nothing of what is wrong");
        let long: String = (0..100).map(|n| format!("member{n}=0123456789,")).collect();
        let kept = state(&[Box::leak(long.into_boxed_str())]);
        assert!(kept.len() <= STATE_BYTES_MAX && kept.ends_with("=0123456789") && kept.len() > 480, "{kept}");
    }
}
