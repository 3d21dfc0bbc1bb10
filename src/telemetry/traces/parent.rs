//! `traceparent` and `tracestate` (W3C Trace Context): the trace of a request, and whether it is recorded.

use http::{HeaderMap, HeaderName};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The minimum length that every tracer must propagate (W3C Trace Context §3.3.1.5). A longer value is dropped.
const MAX_STATE: usize = 512;

/// The offset of the flags in version `00`.
const FLAGS: usize = 53;

/// A valid `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent<'a> {
    /// 32 hex digits.
    pub trace_id: &'a str,
    /// 16 hex digits.
    pub span_id: &'a str,
    /// Whether the caller records this trace.
    pub sampled: bool,
}

impl<'a> TraceParent<'a> {
    /// The parent in `headers`.
    pub fn of(headers: &'a HeaderMap) -> Option<Self> {
        Self::parse(headers.get(&TRACEPARENT)?.to_str().ok()?)
    }

    /// Parses a `traceparent`. A version after `00` may have more fields.
    fn parse(text: &'a str) -> Option<Self> {
        let hex = |text: &str, length| {
            text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let something = |text: &str| text.bytes().any(|byte| byte != b'0');
        let mut parts = text.splitn(5, '-');
        let (version, trace_id, span_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let known = hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
        let whole = hex(trace_id, 32) && something(trace_id) && hex(span_id, 16) && something(span_id);
        (known && whole && hex(flags, 2)).then(|| Self { trace_id, span_id, sampled: is_odd(flags.as_bytes()) })
    }

    /// The context for child spans, with the `tracestate` of the same `headers`.
    pub(super) fn context(&self, headers: &HeaderMap) -> Option<SpanContext> {
        let (trace, span) = (TraceId::from_hex(self.trace_id).ok()?, SpanId::from_hex(self.span_id).ok()?);
        let state = headers.get(&TRACESTATE).and_then(|state| state.to_str().ok());
        let state = state.filter(|state| state.len() <= MAX_STATE).and_then(|state| state.parse().ok());
        let flags = TraceFlags::default().with_sampled(self.sampled);
        Some(SpanContext::new(trace, span, flags, true, state.unwrap_or_else(TraceState::default)))
    }
}

/// Whether the flags of a `traceparent` say that the trace is not recorded. Does not validate the ids: every check calls
/// this, and an invalid trace is not recorded either.
pub(super) fn is_unsampled(headers: &HeaderMap) -> bool {
    let Some(line) = headers.get(&TRACEPARENT) else { return false };
    let line = line.as_bytes();
    line.len() == FLAGS + 2 && line.starts_with(b"00-") && !is_odd(line)
}

/// The lowest bit of the last hex digit: `sampled`.
fn is_odd(hex: &[u8]) -> bool {
    matches!(hex.last(), Some(b'1' | b'3' | b'5' | b'7' | b'9' | b'b' | b'd' | b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let lines = lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap()));
        lines.collect()
    }

    #[test]
    fn a_parent_is_sampled_if_the_lowest_flag_is_set() {
        for (flags, sampled) in [("00", false), ("01", true), ("02", false), ("03", true), ("fe", false), ("ff", true)]
        {
            let line = format!("00-{TRACE}-{SPAN}-{flags}");
            let headers = headers(&[("traceparent", &line)]);
            assert_eq!(
                TraceParent::of(&headers),
                Some(TraceParent { trace_id: TRACE, span_id: SPAN, sampled }),
                "{line}"
            );
            assert_eq!(is_unsampled(&headers), !sampled, "{line}");
        }
    }

    #[test]
    fn an_invalid_parent_is_ignored() {
        for line in [
            String::new(),
            "00-x-y-01".into(),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{SPAN}-0g"),
            format!("00-{TRACE}-{SPAN}-é"),
        ] {
            assert_eq!(TraceParent::of(&headers(&[("traceparent", &line)])), None, "{line}");
        }
        assert_eq!(TraceParent::of(&HeaderMap::new()), None);
        assert!(!is_unsampled(&HeaderMap::new()));
    }

    #[test]
    fn a_later_version_may_have_more_fields() {
        let line = format!("cc-{TRACE}-{SPAN}-01-more");
        let headers = headers(&[("traceparent", &line)]);
        assert!(TraceParent::of(&headers).unwrap().sampled && !is_unsampled(&headers));
    }

    #[test]
    fn a_state_is_propagated_up_to_its_maximum() {
        let line = format!("00-{TRACE}-{SPAN}-01");
        let long = format!("a={}", "x".repeat(600));
        for (state, kept) in [("vendor=1,other=2", "vendor=1,other=2"), ("", ""), ("no state", ""), (&long, "")] {
            let headers = headers(&[("traceparent", &line), ("tracestate", state)]);
            let context = TraceParent::of(&headers).unwrap().context(&headers).unwrap();
            assert_eq!(context.trace_state().header(), kept);
            assert_eq!(context.trace_id().to_string(), TRACE);
            assert!(context.is_remote() && context.is_sampled());
        }
    }
}
