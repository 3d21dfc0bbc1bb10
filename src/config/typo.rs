//! "Did you mean": finds the word that was probably meant.

/// The one of `words` that is most similar to `written`, if it is similar enough.
///
/// Spelling in another style (`tokenLifetime`, `token-lifetime`) counts as the same word.
pub(crate) fn closest<'a>(written: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // No key is this long, and the comparison takes time in proportion to the product of both lengths.
    if written.len() > 64 {
        return None;
    }
    let written = snake(written);
    let distance = |word: &str| strsim::damerau_levenshtein(&written, &snake(word));
    words
        .map(|word| (distance(word), word))
        .filter(|(distance, word)| *distance <= (word.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// The only one of `words` that `written` is the beginning or end of, or the reverse: `secret` for `secret_file`,
/// `logging` for `log`.
pub(crate) fn related<'a>(written: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let written = snake(written);
    let part_of = |short: &str, long: &str| short.len() >= 3 && (long.starts_with(short) || long.ends_with(short));
    let mut related = words.filter(|word| part_of(&written, word) || part_of(word, &written));
    related.next().filter(|_| related.next().is_none())
}

/// `tokenLifetime` and `token-lifetime` as `token_lifetime`.
fn snake(word: &str) -> String {
    let mut snake = String::with_capacity(word.len() + 4);
    let mut after_lower = false;
    for c in word.chars() {
        if c.is_ascii_uppercase() && after_lower {
            snake.push('_');
        }
        after_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        snake.push(if matches!(c, '-' | ' ' | '.') { '_' } else { c.to_ascii_lowercase() });
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_word_is_found_and_another_is_not() {
        let words = ["token_lifetime", "lifetime", "idle", "api"];
        for (written, expected) in [
            ("token_lifetme", Some("token_lifetime")),
            ("tokenLifetime", Some("token_lifetime")),
            ("token-lifetime", Some("token_lifetime")),
            ("Idle", Some("idle")),
            ("ilde", Some("idle")),
            ("ap", Some("api")),
            ("", None),
            ("secret", None),
            ("xyz", None),
        ] {
            assert_eq!(closest(written, words.into_iter()), expected, "{written}");
        }
        for (written, expected) in [
            ("life", Some("lifetime")),
            ("x", None),
            ("token", Some("token_lifetime")),
            ("idling", None),
            ("idle_time", Some("idle")),
            ("", None),
        ] {
            assert_eq!(related(written, words.into_iter()), expected, "{written}");
        }
        assert_eq!(closest(&"a".repeat(100_000), words.into_iter()), None);
    }
}
