//! The language of a page, from `Accept-Language` (RFC 9110 §12.5.4).
//!
//! The default is Chinese, unless the header prefers English: most users of WeChat read Chinese, and WeChat's browsers do
//! not always send the header.

use http::{HeaderMap, header};

/// A language of the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    /// Simplified Chinese.
    Chinese,
    /// English.
    English,
}

/// The maximum number of language ranges that are parsed. A browser sends two to six.
const MAX_RANGES: usize = 32;

/// Languages for which the pages are in Chinese.
const CHINESE: [&str; 5] = ["zh", "cmn", "yue", "wuu", "hak"];

impl Language {
    /// Both languages.
    pub const ALL: [Self; 2] = [Self::Chinese, Self::English];

    /// The preferred language of a request; Chinese if the header names neither language.
    pub fn negotiate(headers: &HeaderMap) -> Self {
        let mut chinese = RankedPreference::default();
        let mut english = RankedPreference::default();
        let lines = headers.get_all(header::ACCEPT_LANGUAGE).iter().filter_map(|line| line.to_str().ok());
        for (place, range) in lines.flat_map(|line| line.split(',')).take(MAX_RANGES).enumerate() {
            let Some((language, quality)) = read(range) else { continue };
            let said = Preference { quality, place };
            if language == "*" {
                chinese.otherwise(said);
                english.otherwise(said);
            } else if CHINESE.iter().any(|known| language.eq_ignore_ascii_case(known)) {
                chinese.by_name(said);
            } else if language.eq_ignore_ascii_case("en") {
                english.by_name(said);
            }
        }
        match (chinese.rank(), english.rank()) {
            (chinese, english) if english.0 > chinese.0 => Self::English,
            // Equal quality: the first in the header wins.
            (chinese, english) if english.0 == chinese.0 && english.1 < chinese.1 => Self::English,
            _ => Self::Chinese,
        }
    }

    /// The `lang` attribute and `Content-Language`.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Chinese => "zh-CN",
            Self::English => "en",
        }
    }
}

/// The preference for one language range.
#[derive(Clone, Copy)]
struct Preference {
    /// The quality in thousandths. 0 means "not acceptable".
    quality: u16,
    /// The position in the header.
    place: usize,
}

/// The preference for a language: by name, otherwise by `*`.
#[derive(Clone, Copy, Default)]
struct RankedPreference {
    named: Option<Preference>,
    wildcard: Option<Preference>,
}

impl RankedPreference {
    fn by_name(&mut self, said: Preference) {
        keep_better(&mut self.named, said);
    }

    fn otherwise(&mut self, said: Preference) {
        keep_better(&mut self.wildcard, said);
    }

    /// The rank: not acceptable, not mentioned, then by quality. The position decides between equal qualities.
    fn rank(self) -> (u16, usize) {
        match self.named.or(self.wildcard) {
            Some(Preference { quality: 0, .. }) => (0, 0),
            None => (1, 0),
            Some(said) => (1 + said.quality, said.place),
        }
    }
}

/// Keeps the higher quality: `en-GB;q=0.5, en;q=0.8` is English at 0.8.
fn keep_better(kept: &mut Option<Preference>, said: Preference) {
    if kept.is_none_or(|kept| said.quality > kept.quality) {
        *kept = Some(said);
    }
}

/// Parses a language range into its primary language and its quality in thousandths.
fn read(range: &str) -> Option<(&str, u16)> {
    let mut parts = range.split(';').map(str::trim);
    // Some clients write `zh_CN`.
    let language = parts.next()?.split(['-', '_']).next().filter(|language| !language.is_empty())?;
    let quality = match parts.next() {
        None => 1000,
        Some(weight) => {
            let (name, value) = weight.split_once('=')?;
            if !name.trim().eq_ignore_ascii_case("q") {
                return None;
            }
            thousandths(value.trim())?
        }
    };
    Some((language, quality))
}

/// A quality value: `0`, `1`, and up to three decimals between them.
fn thousandths(value: &str) -> Option<u16> {
    let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
    if !matches!(whole, "0" | "1") || decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{whole}{decimals:0<3}").parse().ok().filter(|thousandths| *thousandths <= 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn asked(lines: &[&[u8]]) -> Language {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::ACCEPT_LANGUAGE, HeaderValue::from_bytes(line).unwrap());
        }
        Language::negotiate(&headers)
    }

    #[test]
    fn the_language_liked_better_is_chosen() {
        for (line, language) in [
            ("zh-CN,zh;q=0.9,en-US;q=0.8,en;q=0.7", Language::Chinese),
            ("en-US,en;q=0.9,zh-CN;q=0.8", Language::English),
            ("zh;q=0.5, en;q=0.50, en-GB;q=0.501", Language::English),
            ("en;q=0.2,zh;q=0.3", Language::Chinese),
            ("en", Language::English),
            ("EN-gb;Q=1.000", Language::English),
            ("zh-TW,en;q=0.8", Language::Chinese),
            ("zh_CN", Language::Chinese),
            ("yue-HK,en;q=0.9", Language::Chinese),
            ("fr-FR,fr;q=0.9,en;q=0.3", Language::English),
            ("fr, zh;q=0.1, en;q=0.2", Language::English),
            // Equal quality: the first wins.
            ("en,zh", Language::English),
            ("zh,en", Language::Chinese),
            // `*` matches every language that the header does not name.
            ("en;q=0.5,*;q=0.1", Language::English),
            ("en;q=0.5,*", Language::Chinese),
            ("zh;q=0.5,*;q=0.8", Language::English),
            ("*", Language::Chinese),
            // Quality 0 excludes a language.
            ("zh;q=0", Language::English),
            ("en;q=0", Language::Chinese),
            ("zh;q=0,en;q=0", Language::Chinese),
            ("zh;q=0.000,*;q=0.001", Language::English),
        ] {
            assert_eq!(asked(&[line.as_bytes()]), language, "{line}");
        }
    }

    #[test]
    fn without_a_readable_wish_it_is_chinese() {
        for line in
            ["", ",", ";", "fr", "ja,ko;q=0.8", "english", "-en", "en;q=2", "en;q=1.001", "en;q=", "en;q=0.1234"]
        {
            assert_eq!(asked(&[line.as_bytes()]), Language::Chinese, "{line}");
        }
        for line in ["en;q=-1", "en;q=0,9", "en;level=1", "en;q=.5", "en;q=+1", "en;q=NaN", "e n"] {
            assert_eq!(asked(&[line.as_bytes()]), Language::Chinese, "{line}");
        }
        assert_eq!(asked(&[]), Language::Chinese);
        assert_eq!(asked(&[b"en\xff"]), Language::Chinese);
    }

    #[test]
    fn several_lines_are_one_list() {
        assert_eq!(asked(&[b"fr;q=0.9", b"en;q=0.8", b"zh;q=0.7"]), Language::English);
    }

    #[test]
    fn only_so_many_ranges_are_read() {
        let flood = format!("{}en", "fr,".repeat(MAX_RANGES));
        assert_eq!(asked(&[flood.as_bytes()]), Language::Chinese);
    }
}
