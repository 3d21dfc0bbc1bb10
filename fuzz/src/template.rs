//! Names in an input that stand for values that a fuzzer cannot guess: a signed token, a sealed cookie.
//!
//! `{alice}` is the value called `alice`. A suffix changes the value, so that a search reaches the inside of it:
//! `{alice^12=4f}` replaces byte 12 (modulo the length) by 0x4f, `{alice<20}` is the first 20 bytes, `{alice>20}` the
//! rest. Unknown names stay as they are.

/// Replaces each name in `input` by its value.
#[must_use]
pub fn expand<'v>(input: &[u8], value: impl Fn(&str) -> Option<&'v [u8]>) -> Vec<u8> {
    let mut expanded = Vec::with_capacity(input.len());
    let mut rest = input;
    while let Some(at) = rest.iter().position(|byte| *byte == b'{') {
        expanded.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let end = rest.iter().take(64).position(|byte| *byte == b'}');
        let found = end.and_then(|end| Some((end, named(std::str::from_utf8(&rest[1..end]).ok()?, &value)?)));
        match found {
            Some((end, value)) => {
                expanded.extend_from_slice(&value);
                rest = &rest[end + 1..];
            }
            None => {
                expanded.push(b'{');
                rest = &rest[1..];
            }
        }
    }
    expanded.extend_from_slice(rest);
    expanded
}

fn named<'v>(text: &str, value: &impl Fn(&str) -> Option<&'v [u8]>) -> Option<Vec<u8>> {
    let name_ends = text.find(['^', '<', '>']).unwrap_or(text.len());
    let (name, mut changes) = text.split_at(name_ends);
    let mut value = value(name)?.to_vec();
    while let Some(kind) = changes.chars().next() {
        let end = changes[1..].find(['^', '<', '>']).map_or(changes.len(), |end| end + 1);
        let change = &changes[1..end];
        match kind {
            '^' => {
                let (at, byte) = change.split_once('=')?;
                let at = at.parse::<usize>().ok()?.checked_rem(value.len())?;
                value[at] = u8::from_str_radix(byte, 16).ok()?;
            }
            '<' => value.truncate(change.parse().ok()?),
            _ => drop(value.drain(..change.parse::<usize>().ok()?.min(value.len()))),
        }
        changes = &changes[end..];
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_its_value_and_what_was_done_to_it() {
        let value = |name: &str| (name == "v").then_some(&b"abcdef"[..]);
        for (input, expanded) in [
            ("x={v};", "x=abcdef;"),
            ("{v^1=5a}", "aZcdef"),
            ("{v^7=5A}{v<2}{v>4}", "aZcdefabef"),
            ("{v>2<2^0=2e}", ".d"),
            ("{w}{v^}{v^1=}{v", "{w}{v^}{v^1=}{v"),
            ("{{v}}", "{abcdef}"),
        ] {
            assert_eq!(String::from_utf8(expand(input.as_bytes(), value)).unwrap(), expanded, "{input}");
        }
    }
}
