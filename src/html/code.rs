//! An address as a QR code, drawn as one SVG path.

use fast_qr::{ECL, QRBuilder};
use std::fmt::Write as _;

/// The maximum length of an address: phone cameras read codes up to this length reliably from a screen.
const MAX_BYTES: usize = 512;

/// The number of light modules around the code (ISO/IEC 18004).
const MARGIN: usize = 4;

/// A QR code: a square of `side` units, and the path of its dark modules.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    pub side: usize,
    pub path: String,
}

impl Code {
    /// Draws `address`; `None` if it is too long.
    pub(crate) fn draw(address: &str) -> Option<Self> {
        if address.len() > MAX_BYTES {
            return None;
        }
        let code = QRBuilder::new(address).ecl(ECL::M).build().ok()?;
        let mut path = String::with_capacity(8_192);
        for y in 0..code.size {
            let is_dark = |x: usize| code.data.get(y * code.size + x).is_some_and(|module| module.value());
            let mut x = 0;
            while x < code.size {
                let run = (x..code.size).take_while(|x| is_dark(*x)).count();
                if run > 0 {
                    // Writing to a string cannot fail.
                    let _ = write!(path, "M{} {}h{run}v1h-{run}z", x + MARGIN, y + MARGIN);
                }
                x += run.max(1);
            }
        }
        Some(Self { side: code.size + 2 * MARGIN, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_drawn_inside_its_margin_or_not_at_all() {
        for length in [20, 100, MAX_BYTES] {
            let address = format!("https://shop.example.com/{}", "a".repeat(length - 25.min(length)));
            let address = &address[..length.min(address.len())];
            let code = Code::draw(address).unwrap();
            assert!(code.side >= 29 && code.path.starts_with("M4 4h7v1h-7z"), "the corner is a finder: {}", code.path);
            assert!(code.path.len() < 48 * 1024, "{}", code.path.len());
        }
        assert!(Code::draw(&"a".repeat(MAX_BYTES + 1)).is_none());
    }
}
