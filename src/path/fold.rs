//! Case folding: texts that differ only in letter case become equal.

use std::borrow::Cow;

/// `text` with the case of its letters folded: to upper case and then to lower case, one character for one, as
/// `equalsIgnoreCase` and case-insensitive expressions compare. Bytes that are not UTF-8 stay as they are.
pub fn fold(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii()) {
        return text.into();
    }
    let mut folded = Vec::with_capacity(text.len());
    let mut buffer = [0; 4];
    for chunk in text.utf8_chunks() {
        for letter in chunk.valid().chars() {
            folded.extend_from_slice(fold_letter(letter).encode_utf8(&mut buffer).as_bytes());
        }
        folded.extend_from_slice(chunk.invalid());
    }
    folded.into()
}

fn fold_letter(letter: char) -> char {
    if letter.is_ascii() {
        return letter.to_ascii_lowercase();
    }
    let mut upper = letter.to_uppercase();
    let upper = match (upper.next(), upper.next()) {
        (Some(upper), None) => upper,
        // The upper case of `ß` has two letters.
        _ => letter,
    };
    upper.to_lowercase().next().unwrap_or(upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_that_differ_in_case_fold_to_one() {
        for (one, other) in [
            ("/ADMIN", "/admin"),
            ("/Ünïcode", "/üNÏCODE"),
            ("/\u{17f}taff", "/STAFF"),
            ("/\u{212a}eys", "/keys"),
            ("/ad\u{131}min", "/adImin"),
            ("/\u{130}d", "/id"),
            ("/ΟΔΟΣ", "/οδος"),
        ] {
            assert_eq!(fold(one.as_bytes()), fold(other.as_bytes()), "{one} {other}");
        }
        assert_eq!(fold("/中文/straße".as_bytes()), "/中文/straße".as_bytes());
        assert_eq!(&*fold(b"/A\xffB\xc0\xb4"), b"/a\xffb\xc0\xb4");
    }
}
