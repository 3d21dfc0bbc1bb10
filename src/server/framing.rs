//! Where each message of a connection ends, and which heads two readers could divide differently.
//!
//! hyper accepts bare line feeds, drops a fragment of the target, and drops a `Content-Length` beside
//! `Transfer-Encoding`. A proxy in front that reads them otherwise is open to request smuggling (RFC 9112 §11.2), so
//! these heads are refused. Over HTTP/2, where frames say their length, only an unfinished header block is noticed.

/// An unfinished head of this size needs a share of the listener's reserve: hyper's buffer holds so much at first.
pub(super) const HEAD_BYTES: usize = 8 * 1024;

/// The longest framing header line that can be valid, with room for padding.
const LINE_BYTES: usize = 64;

/// The first line of HTTP/2's preface (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// What [`Framing::advance`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// All bytes belong to the message under way.
    All,
    /// What begins with this byte is to be read later: the next message, or the rest of an unfinished header block.
    End(usize),
    /// The line that ends with this byte makes the head ambiguous.
    Malformed(usize),
}

/// Follows the messages of one connection.
pub(super) struct Framing {
    state: State,
    /// Only the first head of a connection can be the preface of HTTP/2.
    first: bool,
}

enum State {
    Head(Head),
    /// A body of a stated length, and what is left of it.
    Body(u64),
    /// A chunked body. The connection closes after the answer, so what follows is never read as a head.
    Chunked,
    Http2(Frames),
}

impl Framing {
    pub fn new() -> Self {
        Self { state: State::Head(Head::default()), first: true }
    }

    /// Whether an unfinished head or header block has reached [`HEAD_BYTES`].
    pub fn is_large(&self) -> bool {
        match &self.state {
            State::Head(head) => head.bytes >= HEAD_BYTES,
            State::Http2(frames) => frames.unfinished,
            State::Body(_) | State::Chunked => false,
        }
    }

    /// Whether the connection speaks HTTP/2.
    pub fn is_http2(&self) -> bool {
        matches!(self.state, State::Http2(_))
    }

    /// Reads on. After [`Found::Malformed`] nothing more is to be read.
    pub fn advance(&mut self, bytes: &[u8]) -> Found {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            match &mut self.state {
                State::Chunked => return Found::All,
                State::Http2(frames) => {
                    let end = frames.advance(rest);
                    return end.map_or(Found::All, |end| Found::End(at + end));
                }
                State::Body(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= here as u64;
                    if *left > 0 {
                        return Found::All;
                    }
                    return self.end(at + here);
                }
                State::Head(head) => {
                    if head.bytes == 0
                        && let Some((end, body)) = whole_head(rest)
                    {
                        match body {
                            Body::None | Body::Length(0) => return self.end_whole(at + end),
                            Body::Length(length) => self.state = State::Body(length),
                            Body::Chunked => self.state = State::Chunked,
                        }
                        at += end;
                        continue;
                    }
                    let Some(end) = memchr::memchr(b'\n', rest) else {
                        head.keep(rest);
                        return Found::All;
                    };
                    let line = rest.get(..end).unwrap_or_default();
                    match head.read_line(line) {
                        Ok(false) => at += end + 1,
                        Err(Ambiguous) => return Found::Malformed(at + end),
                        Ok(true) => {
                            at += end + 1;
                            match head.body {
                                Body::None if head.preface && self.first => self.state = State::Http2(Frames::new()),
                                Body::None | Body::Length(0) => return self.end(at),
                                Body::Length(length) => self.state = State::Body(length),
                                Body::Chunked => self.state = State::Chunked,
                            }
                        }
                    }
                }
            }
        }
    }

    /// The end of a message whose head left the state as it was.
    fn end_whole(&mut self, at: usize) -> Found {
        self.first = false;
        Found::End(at)
    }

    fn end(&mut self, at: usize) -> Found {
        self.state = State::Head(Head::default());
        self.first = false;
        Found::End(at)
    }
}

/// Two readers could divide this message differently.
struct Ambiguous;

/// A head of HTTP/1 under way.
struct Head {
    bytes: usize,
    /// The line under way, as far as it has come: its length, and as much of its start as matters.
    length: usize,
    start: [u8; LINE_BYTES],
    ends_with_cr: bool,
    fragment: bool,
    request_line: bool,
    preface: bool,
    body: Body,
}

#[derive(Clone, Copy)]
enum Body {
    None,
    Length(u64),
    Chunked,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            bytes: 0,
            length: 0,
            start: [0; LINE_BYTES],
            ends_with_cr: false,
            fragment: false,
            request_line: true,
            preface: false,
            body: Body::None,
        }
    }
}

impl Head {
    /// Keeps a piece of a line whose end has not come.
    fn keep(&mut self, piece: &[u8]) {
        let Some(last) = piece.last() else { return };
        if let Some(room) = self.start.get_mut(self.length..) {
            room.iter_mut().zip(piece).for_each(|(to, from)| *to = *from);
        }
        self.ends_with_cr = *last == b'\r';
        self.fragment |= self.request_line && memchr::memchr(b'#', piece).is_some();
        self.length += piece.len();
        self.bytes += piece.len();
    }

    /// Reads a line without its line feed; returns whether it ends the head.
    fn read_line(&mut self, piece: &[u8]) -> Result<bool, Ambiguous> {
        if self.length == 0 {
            self.bytes += piece.len() + 1;
            let Some((b'\r', line)) = piece.split_last() else { return Err(Ambiguous) };
            return self.judge(line, line.len());
        }
        self.keep(piece);
        self.bytes += 1;
        if !self.ends_with_cr {
            return Err(Ambiguous);
        }
        let (length, start) = (self.length - 1, self.start);
        self.length = 0;
        self.judge(start.get(..length).unwrap_or(&start), length)
    }

    /// Judges a line of `length` bytes by its start.
    fn judge(&mut self, line: &[u8], length: usize) -> Result<bool, Ambiguous> {
        if line.is_empty() {
            // An empty line before the request line is allowed (RFC 9112 §2.2).
            return Ok(!self.request_line);
        }
        if self.request_line {
            self.request_line = false;
            self.preface = line == PREFACE;
            let fragment = self.fragment || memchr::memchr(b'#', line).is_some();
            return if fragment { Err(Ambiguous) } else { Ok(false) };
        }
        self.body = body_after(self.body, line, length)?;
        Ok(false)
    }
}

/// Where a head that came whole ends, and its body, if nothing about it is unusual: what nearly every check is. Everything
/// else is left to [`Head`], line by line.
fn whole_head(bytes: &[u8]) -> Option<(usize, Body)> {
    let mut body = Body::None;
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', bytes) {
        let (line, cr) = bytes.get(start..end)?.split_at_checked((end - start).checked_sub(1)?)?;
        if cr != b"\r" {
            return None;
        }
        if start == 0 {
            let is_usual = !line.is_empty() && line != PREFACE && memchr::memchr(b'#', line).is_none();
            is_usual.then_some(())?;
        } else if line.is_empty() {
            return Some((end + 1, body));
        } else if let [b'c' | b'C', b'o' | b'O', b'n' | b'N', ..] | [b't' | b'T', b'r' | b'R', ..] = line {
            body = body_after(body, line, line.len()).ok()?;
        }
        start = end + 1;
    }
    None
}

/// The body of a message whose head has had `body` so far and goes on with `line`, of `length` bytes.
fn body_after(body: Body, line: &[u8], length: usize) -> Result<Body, Ambiguous> {
    let (value, is_length) = match line.first().map(|first| first | 0x20) {
        Some(b'c') => (value_of(line, b"content-length:"), true),
        Some(b't') => (value_of(line, b"transfer-encoding:"), false),
        _ => return Ok(body),
    };
    let Some(value) = value else { return Ok(body) };
    // One of the two, once, and short enough to be read whole.
    if length > LINE_BYTES || !matches!(body, Body::None) {
        return Err(Ambiguous);
    }
    if is_length {
        length_in(value).map(Body::Length).ok_or(Ambiguous)
    } else {
        value.eq_ignore_ascii_case(b"chunked").then_some(Body::Chunked).ok_or(Ambiguous)
    }
}

/// The value of a header line that starts with `name`, colon included, in any letter case.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

fn length_in(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

/// The frames of an HTTP/2 connection (RFC 9113 §4.1).
struct Frames {
    header: [u8; 9],
    have: usize,
    /// Bytes until the next frame's header.
    skip: usize,
    /// A header block has begun and its last frame has not come whole.
    unfinished: bool,
    ends_block: bool,
}

impl Frames {
    fn new() -> Self {
        // What follows the preface's head.
        Self { header: [0; 9], have: 0, skip: b"SM\r\n\r\n".len(), unfinished: false, ends_block: false }
    }

    /// Reads on; returns where the payload of a frame begins that starts a block and does not end it.
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
                    let begun = self.unfinished;
                    self.ends_block = flags & 4 != 0;
                    self.unfinished |= !self.ends_block;
                    if self.unfinished && !begun {
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

    /// What is found in `bytes` when they come in pieces of `size`, with places counted from the start.
    fn found(bytes: &[u8], size: usize) -> Vec<Found> {
        let (mut framing, mut seen, mut at) = (Framing::new(), Vec::new(), 0);
        while at < bytes.len() {
            let piece = &bytes[at..bytes.len().min(at + size)];
            match framing.advance(piece) {
                Found::All => at += piece.len(),
                Found::End(end) => {
                    seen.push(Found::End(at + end));
                    at += end;
                }
                Found::Malformed(end) => {
                    seen.push(Found::Malformed(at + end));
                    return seen;
                }
            }
        }
        seen
    }

    #[test]
    fn messages_end_where_their_length_says_however_they_come() {
        let get = "GET /a HTTP/1.1\r\nhost: a\r\n\r\n";
        let post = "POST /a HTTP/1.1\r\nhost: a\r\nContent-Length:  5 \r\n\r\n\n#\n\r\n";
        let none = "POST /a HTTP/1.1\r\ncontent-length: 0\r\nhost: a\r\n\r\n";
        let stream = format!("{get}{post}\r\n{get}{none}");
        let lengths = [get.len(), post.len(), get.len() + 2, none.len()];
        let mut ends = Vec::new();
        for length in lengths {
            ends.push(Found::End(
                length + ends.last().map_or(0, |last| if let Found::End(at) = last { *at } else { 0 }),
            ));
        }
        for size in 1..=stream.len() {
            assert_eq!(found(stream.as_bytes(), size), ends, "pieces of {size}");
        }
    }

    #[test]
    fn ambiguous_heads_are_malformed_however_they_come() {
        let long = "0".repeat(LINE_BYTES);
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
                let found = found(head.as_bytes(), size);
                assert!(matches!(found[..], [Found::Malformed(_)]), "{head:?} in pieces of {size}: {found:?}");
            }
        }
    }

    #[test]
    fn what_looks_like_framing_and_is_none_passes() {
        let cookies = "a=1; ".repeat(4_000);
        for head in [
            "GET /a?b=%23 HTTP/1.1\r\nhost: a\r\nreferer: https://a/#b\r\n\r\n",
            "GET /a HTTP/1.1\r\nhost: a\r\ncontent-length-x: 5\r\nte: trailers\r\ntransfer: chunked\r\n\r\n",
            &format!("GET /a HTTP/1.1\r\nhost: a\r\ncookie: {cookies}\r\n\r\n"),
        ] {
            for size in [1, 7, 4_096, head.len()] {
                assert_eq!(found(head.as_bytes(), size), [Found::End(head.len())], "{head:.60?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn an_unfinished_head_or_header_block_is_large() {
        let mut framing = Framing::new();
        framing.advance(b"GET /a HTTP/1.1\r\nx: ");
        assert!(!framing.is_large());
        framing.advance(&[b'a'; HEAD_BYTES]);
        assert!(framing.is_large());
        assert_eq!(framing.advance(b"\r\n\r\n"), Found::End(4));
        assert!(!framing.is_large());

        let frame = |kind: u8, flags: u8, payload: usize| {
            let mut frame = vec![0, 0, u8::try_from(payload).unwrap(), kind, flags, 0, 0, 0, 1];
            frame.resize(9 + payload, b'\n');
            frame
        };
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        for size in 1..40 {
            let mut framing = Framing::new();
            let mut pass = |bytes: &[u8], begins: Option<usize>| {
                let (mut at, mut seen) = (0, None);
                while at < bytes.len() {
                    let piece = &bytes[at..bytes.len().min(at + size)];
                    match framing.advance(piece) {
                        Found::All => at += piece.len(),
                        Found::End(end) => {
                            at += end;
                            seen = Some(at);
                        }
                        Found::Malformed(_) => panic!("frames are not judged"),
                    }
                }
                assert_eq!(seen, begins, "pieces of {size}");
                framing.is_large()
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
