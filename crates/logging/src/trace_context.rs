use std::fmt;
use std::str::FromStr;

/// The name of a whole trace: 16 bytes, shown as 32 lower-case hex digits, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

/// The name of one span in a trace: 8 bytes, shown as 16 lower-case hex digits, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(u64);

impl TraceId {
    /// The sixteen bytes.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl SpanId {
    /// The eight bytes.
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    fn random() -> Self {
        Self(fastrand::u64(1..))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Where in a distributed trace we are: the W3C `traceparent` header, parsed without an OpenTelemetry layer, so that
/// trace ids are in the logs of every deployment.
///
/// ```
/// # use zhuji_logging::TraceContext;
/// let caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let ours = TraceContext::accept(Some(caller));
/// assert_eq!(ours.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
/// assert_ne!(ours.span_id().to_string(), "00f067aa0ba902b7");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: TraceId,
    span_id: SpanId,
    flags: u8,
}

const SAMPLED: u8 = 0b01;
/// The flags that we understand: sampled, and (level 2 of the standard) a trace id that is random.
const KNOWN_FLAGS: u8 = 0b11;
/// `00-` + 32 + `-` + 16 + `-` + 2.
const LENGTH: usize = 55;
/// A later version may be longer; nobody needs to be that long.
const LONGEST: usize = 512;

impl TraceContext {
    /// A new trace with its first span.
    #[allow(clippy::new_without_default)] // A default that is different every time would surprise.
    pub fn new() -> Self {
        Self {
            trace_id: TraceId(fastrand::u128(1..)),
            span_id: SpanId::random(),
            flags: SAMPLED | 0b10,
        }
    }

    /// Reads a `traceparent` header as the standard says: lower-case hex only, no zero ids, version `ff` is refused,
    /// a later version is read as far as it is known. `None` for anything else.
    pub fn parse(header: impl AsRef<[u8]>) -> Option<Self> {
        let bytes = header.as_ref().trim_ascii();
        if bytes.len() < LENGTH || bytes.len() > LONGEST {
            return None;
        }
        let version = hex(&bytes[..2])?;
        let exact = bytes.len() == LENGTH;
        if version == 0xff || (version == 0 && !exact) || (!exact && bytes[LENGTH] != b'-') {
            return None;
        }
        if bytes[2] != b'-' || bytes[35] != b'-' || bytes[52] != b'-' {
            return None;
        }
        let trace_id = hex(&bytes[3..35])?;
        // Sixteen and two digits fit their types.
        let span_id = hex(&bytes[36..52])? as u64;
        let flags = hex(&bytes[53..55])? as u8;
        if trace_id == 0 || span_id == 0 {
            return None;
        }
        Some(Self {
            trace_id: TraceId(trace_id),
            span_id: SpanId(span_id),
            flags: flags & KNOWN_FLAGS,
        })
    }

    /// A span of ours in the caller's trace, or a new trace when the header is absent or malformed.
    pub fn accept(header: Option<impl AsRef<[u8]>>) -> Self {
        header
            .and_then(Self::parse)
            .map_or_else(Self::new, |caller| caller.child())
    }

    /// A new span in the same trace.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            span_id: SpanId::random(),
            ..*self
        }
    }

    /// The trace.
    pub fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// The span.
    pub fn span_id(&self) -> SpanId {
        self.span_id
    }

    /// Whether the caller records this trace.
    pub fn sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The same, with the decision whether the trace is recorded.
    #[must_use]
    pub fn with_sampled(self, sampled: bool) -> Self {
        let flags = if sampled {
            self.flags | SAMPLED
        } else {
            self.flags & !SAMPLED
        };
        Self { flags, ..self }
    }

    /// The header to send on: this context as the parent of whoever receives it.
    pub fn to_traceparent(&self) -> String {
        self.to_string()
    }
}

/// Lower-case hex only, as the standard demands.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |sum: u128, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(sum << 4 | u128::from(value))
    })
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

/// The text is not a `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a W3C traceparent; it looks like 00-<32 hex>-<16 hex>-<2 hex>")]
pub struct NotATraceparent;

impl FromStr for TraceContext {
    type Err = NotATraceparent;

    fn from_str(text: &str) -> Result<Self, NotATraceparent> {
        Self::parse(text).ok_or(NotATraceparent)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_good_header_comes_back_unchanged() {
        let context = TraceContext::parse(GOOD).unwrap();
        assert_eq!(context.to_traceparent(), GOOD);
        assert!(context.sampled());
        assert_eq!(context.child().trace_id(), context.trace_id());
        assert_ne!(context.child().span_id(), context.span_id());
        assert!(!context.with_sampled(false).child().sampled());
        assert_eq!(context.with_sampled(false).with_sampled(true), context);
    }

    #[test]
    fn hostile_headers_start_a_new_trace() {
        let long = format!("01-{}-{}", &GOOD[3..], "a".repeat(4_000));
        for bad in [
            "",
            "00",
            &GOOD.to_uppercase(),
            &GOOD[..54],
            &format!("{GOOD}-extra"),
            &format!("{GOOD}0"),
            &format!("ff{}", &GOOD[2..]),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            &format!("01{}0", &GOOD[2..]),
            &long,
            "00-é4bf92f3577b34da6a3ce929d0e0e47-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
            assert_eq!(TraceContext::accept(Some(bad)).to_string().len(), LENGTH);
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = format!("cc{}-what-the-future-brings", &GOOD[2..]);
        assert_eq!(TraceContext::parse(later).unwrap().to_string(), GOOD);
        let flags = format!("{}ff", &GOOD[..53]);
        assert_eq!(
            TraceContext::parse(flags).unwrap().to_string(),
            format!("{}03", &GOOD[..53])
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Some(context) = TraceContext::parse(&bytes) {
                prop_assert_eq!(TraceContext::parse(context.to_string()), Some(context));
            }
        }

        #[test]
        fn whatever_it_makes_it_reads(_ in 0..50u8) {
            let context = TraceContext::new();
            prop_assert_eq!(TraceContext::parse(context.to_string()), Some(context));
        }
    }
}
