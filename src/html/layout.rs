//! The page template, its stylesheet and script, and the Content-Security-Policy that allows only these two.

use crate::html::code::Code;
use crate::html::text::Text;
use askama::Template;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use std::borrow::Cow;
use std::sync::LazyLock;

/// The template of all pages. askama escapes all values except the stylesheet and the script, which are marked `safe`.
#[derive(Template)]
#[template(
    ext = "html",
    source = r##"<!doctype html>
<html lang="{{ language }}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover">
<meta name="color-scheme" content="light dark">
<meta name="format-detection" content="telephone=no">
<meta name="robots" content="noindex">
<title>{{ heading }}</title>
<style>{{ self::STYLE|safe }}</style>
</head>
<body>
<main>
<svg class="mark {{ mark.tone() }}" viewBox="0 0 24 24" aria-hidden="true"><path d="{{ mark.path() }}"/></svg>
<h1>{{ heading }}</h1>
<p class="cause">{{ cause }}</p>
<p>{{ next }}</p>
{% if let Some(image) = image %}<img class="code" src="{{ image }}" alt="{{ term }}">
{% endif -%}
{% if let Some(code) = code %}<svg class="code" viewBox="0 0 {{ code.side }} {{ code.side }}" role="img" aria-label="{{ term }}"><path fill="#fff" d="M0 0h{{ code.side }}v{{ code.side }}H0z"/><path d="{{ code.path }}"/></svg>
{% endif -%}
{% match action -%}
{% when Action::Nothing -%}
{% when Action::Follow { url, .. } -%}
<a class="button" href="{{ self::leading_to(url) }}">{{ label }}</a>
{% when Action::FollowQuietly { url, .. } -%}
<a class="button quiet" href="{{ self::leading_to(url) }}">{{ label }}</a>
{% when Action::Post { url, .. } -%}
<form method="post" action="{{ self::leading_to(url) }}"><button class="button" type="submit">{{ label }}</button></form>
{% when Action::Copy { .. } -%}
<button class="button" id="copy" type="button" data-done="{{ done }}" hidden>{{ label }}</button>
{% endmatch -%}
{% if let Some((label, url)) = other %}<a class="button quiet" href="{{ self::leading_to(url) }}">{{ label }}</a>
{% endif -%}
{% if let Some(value) = shown %}<dl><dt>{{ term }}</dt><dd{% if let Action::Copy { .. } = action %} id="address"{% endif %}>{{ value }}</dd></dl>
{% endif -%}
</main>
<script>{{ self::SCRIPT|safe }}</script>
</body>
</html>
"##
)]
pub(super) struct Layout<'a> {
    pub language: &'static str,
    pub mark: Icon,
    pub heading: Cow<'static, str>,
    pub cause: Cow<'static, str>,
    pub next: Cow<'static, str>,
    pub action: Action<'a>,
    pub label: &'static str,
    /// The label of the button after a click, if the button stays on the page.
    pub done: &'static str,
    /// The label and the URL of a second, less prominent button.
    pub other: Option<(&'static str, &'a str)>,
    /// The name of `shown`, a value that the user passes on.
    pub term: &'static str,
    pub shown: Option<&'a str>,
    /// The value of `shown` as a QR code.
    pub code: Option<&'a Code>,
    /// The URL of an image.
    pub image: Option<&'a str>,
}

/// The only stylesheet. The template writes it byte for byte, because the policy below contains its hash.
pub(super) const STYLE: &str = include_str!("page.css");

/// The only script. It passes the fragment of the page's address, which servers never receive, on to the login, and it
/// copies the shown value. Every page works without it.
pub(super) const SCRIPT: &str = include_str!("page.js");

/// The Content-Security-Policy of every page.
pub(super) static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| policy(""));

/// The policy with one more directive, for a page that shows an image.
pub(super) fn policy(more: &str) -> HeaderValue {
    let hash = |text: &str| STANDARD.encode(digest::digest(&digest::SHA256, text.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; form-action 'self'; frame-ancestors 'none'; \
         base-uri 'none'{more}",
        hash(STYLE),
        hash(SCRIPT)
    );
    // Base64 is always valid in a header. The fallback allows neither the stylesheet nor the script, which is safe.
    HeaderValue::try_from(policy)
        .unwrap_or(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; base-uri 'none'"))
}

/// The main action of a page.
#[derive(Clone, Copy)]
pub(super) enum Action<'a> {
    /// The user cannot do anything here.
    Nothing,
    /// A link. It also starts logins, because `form-action` would block the redirect of a form to another host.
    Follow { label: Text, url: &'a str },
    /// A less prominent link.
    FollowQuietly { label: Text, url: &'a str },
    /// A form without fields.
    Post { label: Text, url: &'a str },
    /// Copies the shown value. The button is hidden without the script.
    Copy { label: Text, done: Text },
}

impl Action<'_> {
    /// The label of the button.
    pub(super) fn label(self) -> Option<Text> {
        match self {
            Self::Nothing => None,
            Self::Follow { label, .. }
            | Self::FollowQuietly { label, .. }
            | Self::Post { label, .. }
            | Self::Copy { label, .. } => Some(label),
        }
    }

    /// The label of the button after the action.
    pub(super) fn done(self) -> Option<Text> {
        match self {
            Self::Copy { done, .. } => Some(done),
            _ => None,
        }
    }
}

/// A link to the current address.
pub(super) const SAME_ADDRESS: &str = "";

/// Returns `url` if a page may link to it, otherwise `/`. All URLs come from our own code. This check comes after the
/// one of the login (docs/en/threat-model.md, Return addresses). It rejects `javascript:` and `//elsewhere`.
pub(super) fn leading_to(url: &str) -> &str {
    let path = url.starts_with('/') && !url.starts_with("//");
    let known = url == SAME_ADDRESS || path || url.starts_with("https://") || url.starts_with("http://");
    // Browsers read a backslash as a slash, and remove tabs and line breaks.
    let plain = !url.chars().any(|c| c == '\\' || c.is_control());
    if known && plain { url } else { "/" }
}

/// The icon at the top of a page: outlines on a 24 by 24 grid.
#[derive(Clone, Copy)]
pub(super) enum Icon {
    Person,
    Done,
    Question,
    Clock,
    Notice,
    Elsewhere,
}

impl Icon {
    /// The outlines as one SVG path.
    fn path(self) -> &'static str {
        match self {
            Self::Person => "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4.5 20.5a7.5 7.5 0 0 1 15 0",
            Self::Done => "M4.5 12.5l5 5 10-11",
            Self::Question => "M8.5 8.5a3.5 3.5 0 1 1 5.2 3.1c-1 .6-1.7 1.3-1.7 2.4v.5M12 19v.01",
            Self::Clock => "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 7.5V12l3 2",
            Self::Notice => "M12 4.5v9.5M12 19v.01",
            Self::Elsewhere => {
                "M14 4h6v6M20 4l-9 9M17.5 14v4.5a1.5 1.5 0 0 1-1.5 1.5H5.5a1.5 1.5 0 0 1-1.5-1.5V8a1.5 1.5 0 0 1 1.5-1.5H10"
            }
        }
    }

    /// The CSS class of the icon's colour. No page uses an alarming colour.
    fn tone(self) -> &'static str {
        match self {
            Self::Clock | Self::Notice => "care",
            Self::Person | Self::Done | Self::Question | Self::Elsewhere => "calm",
        }
    }
}
