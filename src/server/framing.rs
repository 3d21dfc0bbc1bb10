//! Finds where each message of a connection ends, and rejects heads that two servers could delimit differently.
//!
//! hyper accepts bare line feeds, drops a fragment of the target, and drops a `Content-Length` beside
//! `Transfer-Encoding`. If a proxy in front reads them differently, request smuggling is possible (RFC 9112 §11.2), so
//! these heads are rejected. Over HTTP/2, whose frames have a length, only an unfinished header block is detected.

/// The first line of HTTP/2's preface (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// Digits of a `Content-Length`: those of the largest 64-bit number.
const MAX_DIGITS: usize = 20;

/// The result of [`Framing::advance`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// An incomplete head.
    Partial,
    /// This many bytes belong to the current message. The rest is the next message, or the payload of an unfinished
    /// header block.
    Message(usize),
    /// A head that two servers could delimit differently.
    Ambiguous,
}

/// Follows the messages of one connection.
pub(super) struct Framing {
    state: State,
    /// Only the first head of a connection can be the preface of HTTP/2.
    is_first: bool,
}

enum State {
    Head(Head),
    /// A body with a `Content-Length`, and its remaining bytes.
    Body(u64),
    /// A chunked body. The connection closes after the response, so no further head is read.
    Chunked,
    Http2(Frames),
}

impl Framing {
    pub(super) fn new() -> Self {
        Self { state: State::Head(Head::default()), is_first: true }
    }

    /// Whether an HTTP/2 header block is unfinished.
    pub(super) fn has_unfinished_block(&self) -> bool {
        matches!(&self.state, State::Http2(frames) if frames.unfinished)
    }

    /// Whether the connection uses HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        matches!(self.state, State::Http2(_))
    }

    /// Reads `bytes`. After [`Found::Partial`], the next call must pass the same bytes and more; after
    /// [`Found::Ambiguous`], there must be no next call.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Found {
        let mut at = 0;
        if let State::Head(head) = &mut self.state {
            match head.read(bytes) {
                Ok(true) => at = head.start,
                Ok(false) => return Found::Partial,
                Err(Ambiguous) => return Found::Ambiguous,
            }
            self.state = match head.body {
                _ if head.is_preface && self.is_first => State::Http2(Frames::new()),
                Some(Body::Chunked) => State::Chunked,
                Some(Body::Length(length)) => State::Body(length),
                None => State::Body(0),
            };
            self.is_first = false;
        }
        let rest = bytes.get(at..).unwrap_or_default();
        let length = match &mut self.state {
            State::Body(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                *left -= length as u64;
                if *left == 0 {
                    self.state = State::Head(Head::default());
                }
                length
            }
            State::Http2(frames) => frames.advance(rest).unwrap_or(rest.len()),
            State::Chunked | State::Head(_) => rest.len(),
        };
        Found::Message(at + length)
    }
}

/// Two servers could delimit this message differently.
struct Ambiguous;

/// The complete lines of an HTTP/1 head.
#[derive(Default)]
struct Head {
    /// Where the first unread line starts.
    start: usize,
    has_request_line: bool,
    is_preface: bool,
    body: Option<Body>,
}

enum Body {
    Length(u64),
    Chunked,
}

impl Head {
    /// Reads the complete, unread lines of `bytes`. Returns whether they end the head.
    fn read(&mut self, bytes: &[u8]) -> Result<bool, Ambiguous> {
        let mut rest = bytes.get(self.start..).unwrap_or_default();
        while let Some((line, after)) = memchr::memchr(b'\n', rest).and_then(|end| rest.split_at_checked(end)) {
            let line = line.strip_suffix(b"\r").ok_or(Ambiguous)?;
            rest = after.get(1..).unwrap_or_default();
            self.start = bytes.len() - rest.len();
            match line {
                [] if self.has_request_line => return Ok(true),
                // An empty line before the request line is allowed (RFC 9112 §2.2).
                [] => {}
                _ if !self.has_request_line => self.read_request_line(line)?,
                [b'c' | b'C', b'o' | b'O', b'n' | b'N', ..] | [b't' | b'T', b'r' | b'R', ..] => {
                    self.read_field(line)?
                }
                _ => {}
            }
        }
        Ok(false)
    }

    fn read_request_line(&mut self, line: &[u8]) -> Result<(), Ambiguous> {
        self.has_request_line = true;
        self.is_preface = line == PREFACE;
        if memchr::memchr(b'#', line).is_some() { Err(Ambiguous) } else { Ok(()) }
    }

    /// Reads a header that may define the body's length. Only one such header is allowed.
    fn read_field(&mut self, line: &[u8]) -> Result<(), Ambiguous> {
        let body = if let Some(value) = value_of(line, b"content-length:") {
            number(value).map(Body::Length)
        } else if let Some(value) = value_of(line, b"transfer-encoding:") {
            value.eq_ignore_ascii_case(b"chunked").then_some(Body::Chunked)
        } else {
            return Ok(());
        };
        let previous = self.body.replace(body.ok_or(Ambiguous)?);
        if previous.is_some() { Err(Ambiguous) } else { Ok(()) }
    }
}

/// The value of a header line that starts with `name`, colon included, in any letter case.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    // Gateways send lower case, which is cheaper to compare.
    (start == name || start.eq_ignore_ascii_case(name)).then(|| value.trim_ascii())
}

/// A number of at most [`MAX_DIGITS`] digits.
fn number(value: &[u8]) -> Option<u64> {
    let append = |number: u64, digit: &u8| {
        let digit = digit.is_ascii_digit().then_some(digit & 0xf)?;
        number.checked_mul(10)?.checked_add(digit.into())
    };
    if (1..=MAX_DIGITS).contains(&value.len()) { value.iter().try_fold(0, append) } else { None }
}

/// The frames of an HTTP/2 connection (RFC 9113 §4.1).
struct Frames {
    header: [u8; 9],
    have: usize,
    /// Bytes until the next frame's header.
    skip: usize,
    /// Whether the last frame of a header block is incomplete.
    unfinished: bool,
    ends_block: bool,
}

impl Frames {
    fn new() -> Self {
        // The rest of the preface.
        Self { header: [0; 9], have: 0, skip: b"SM\r\n\r\n".len(), unfinished: false, ends_block: false }
    }

    /// Reads `bytes`. Returns where the payload starts of a frame that starts a header block and does not end it.
    fn advance(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            let skipped = self.skip.min(bytes.len() - at);
            self.skip -= skipped;
            at += skipped;
            if self.skip == 0 && self.ends_block {
                (self.unfinished, self.ends_block) = (false, false);
            }
            let byte = bytes.get(at)?;
            at += 1;
            if let Some(place) = self.header.get_mut(self.have) {
                *place = *byte;
            }
            self.have += 1;
            if self.have == self.header.len() {
                let [high, middle, low, kind, flags, ..] = self.header;
                self.have = 0;
                self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                // HEADERS and CONTINUATION; the flag is END_HEADERS.
                if matches!(kind, 1 | 9) {
                    let was_unfinished = self.unfinished;
                    self.ends_block = flags & 4 != 0;
                    self.unfinished |= !self.ends_block;
                    if self.unfinished && !was_unfinished {
                        return Some(at);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `bytes` in pieces of `size` and shows each place up to which they may pass; returns whether all are sound.
    fn read(framing: &mut Framing, bytes: &[u8], size: usize, mut see: impl FnMut(&Framing, usize)) -> bool {
        let mut start = 0;
        for here in (size..bytes.len()).step_by(size).chain([bytes.len()]) {
            while start < here {
                match framing.advance(&bytes[start..here]) {
                    Found::Partial => break,
                    Found::Message(length) => start += length,
                    Found::Ambiguous => return false,
                }
                see(framing, start);
            }
        }
        true
    }

    /// Where the messages of `bytes` end; none if a head is ambiguous.
    fn ends(bytes: &[u8], size: usize) -> Option<Vec<usize>> {
        let mut ends = Vec::new();
        let see = |framing: &Framing, at| ends.extend(matches!(framing.state, State::Head(_)).then_some(at));
        read(&mut Framing::new(), bytes, size, see).then_some(ends)
    }

    #[test]
    fn messages_end_where_their_length_says_however_they_come() {
        let get = "GET /a HTTP/1.1\r\nhost: a\r\n\r\n";
        let post = "POST /a HTTP/1.1\r\nhost: a\r\nContent-Length:  5 \r\n\r\n\n#\n\r\n";
        let none = "POST /a HTTP/1.1\r\ncontent-length: 0\r\nhost: a\r\n\r\n";
        let stream = format!("{get}{post}\r\n{get}{none}");
        let lengths = [get.len(), post.len(), get.len() + 2, none.len()];
        let expected: Vec<usize> = (1..=lengths.len()).map(|count| lengths[..count].iter().sum()).collect();
        for size in 1..=stream.len() {
            assert_eq!(ends(stream.as_bytes(), size).as_ref(), Some(&expected), "pieces of {size}");
        }
    }

    #[test]
    fn ambiguous_heads_are_refused_however_they_come() {
        let long = "0".repeat(MAX_DIGITS);
        for head in [
            "GET /a HTTP/1.1\nhost: a\r\n\r\n",
            "GET /a HTTP/1.1\r\nhost: a\nx: 1\r\n\r\n",
            "GET /a HTTP/1.1\r\nhost: a\r\n\n",
            "GET /a HTTP/1.1\r\nhost: a\n\r\n",
            "\nGET /a HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET # HTTP/1.1\r\nhost: a\r\n\r\n",
            "POST /a HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
            "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
            "POST /a HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n",
            "POST /a HTTP/1.1\r\ncontent-length: 5, 5\r\n\r\n",
            "POST /a HTTP/1.1\r\ncontent-length: +5\r\n\r\n",
            "POST /a HTTP/1.1\r\ncontent-length:\r\n\r\n",
            "POST /a HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n",
            "POST /a HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            "POST /a HTTP/1.1\r\ntransfer-encoding: identity\r\n\r\n",
            "POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
            &format!("POST /a HTTP/1.1\r\ncontent-length: {long}5\r\n\r\n"),
        ] {
            for size in 1..=head.len() {
                assert_eq!(ends(head.as_bytes(), size), None, "{head:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn headers_that_resemble_framing_pass() {
        let cookies = "a=1; ".repeat(4_000);
        for head in [
            "GET /a?b=%23 HTTP/1.1\r\nhost: a\r\nreferer: https://a/#b\r\n\r\n",
            "GET /a HTTP/1.1\r\nhost: a\r\ncontent-length-x: 5\r\nte: trailers\r\ntransfer: chunked\r\n\r\n",
            &format!("GET /a HTTP/1.1\r\nhost: a\r\ncookie: {cookies}\r\n\r\n"),
        ] {
            for size in [1, 7, 4_096, head.len()] {
                assert_eq!(ends(head.as_bytes(), size), Some(vec![head.len()]), "{head:.60?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn an_unfinished_header_block_is_detected() {
        let frame = |kind: u8, flags: u8, payload: usize| {
            let mut frame = vec![0, 0, u8::try_from(payload).unwrap(), kind, flags, 0, 0, 0, 1];
            frame.resize(9 + payload, b'\n');
            frame
        };
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        for size in 1..40 {
            let mut framing = Framing::new();
            let mut pass = |bytes: &[u8], begins: Option<usize>| {
                let (was_unfinished, mut seen) = (framing.has_unfinished_block(), None);
                let see = |framing: &Framing, at| {
                    if framing.has_unfinished_block() && !was_unfinished {
                        seen.get_or_insert(at);
                    }
                };
                assert!(read(&mut framing, bytes, size, see));
                assert_eq!(seen, begins, "pieces of {size}");
                framing.has_unfinished_block()
            };
            assert!(!pass(&[&preface[..], &frame(4, 0, 18), &frame(1, 4 | 1, 30)].concat(), None), "pieces of {size}");
            // Nothing of its payload is passed on before the block has a share.
            assert!(pass(&frame(1, 1, 30), Some(9)));
            assert!(pass(&frame(9, 0, 30), None));
            assert!(!pass(&frame(9, 4, 30), None));
            assert!(framing.is_http2());
        }
    }
}
