//! How servers behind the gateway read a path: small models of Express, Flask, Rails, Spring, nginx, IIS and PHP.
//! They follow the documentation of those servers and do not use our code, because they test it.

/// One server's reading of a path.
#[derive(Clone, Debug)]
pub struct View {
    /// The name of the server.
    pub server: &'static str,
    /// The segments that it routes by.
    pub segments: Vec<Vec<u8>>,
    /// Whether it ignores case when it compares them.
    pub ignores_case: bool,
    /// Whether it removes an extension, or the script name before the path, to find the resource.
    pub cuts: bool,
}

/// One segment of a route.
#[derive(Clone, Debug)]
pub enum Name {
    /// Exactly this text.
    Literal(String),
    /// Any text that is not empty.
    Any,
}

/// A resource that a server serves.
#[derive(Clone, Debug)]
pub struct Served {
    /// The name of the server.
    pub server: &'static str,
    /// The path of the resource: the route's names and the values of its variables.
    pub path: Vec<Vec<u8>>,
    /// The requested path, if an extension or a script name was removed.
    pub cut_from: Option<Vec<Vec<u8>>>,
}

/// What each of the servers serves for the raw path, if the only route is `route`.
#[must_use]
pub fn serve(raw: &[u8], route: &[Name]) -> Vec<Served> {
    let mut served = Vec::new();
    for view in views(raw) {
        let mut found = |segments: &[Vec<u8>], cut_from: Option<Vec<Vec<u8>>>| {
            if let Some(path) = matched(segments, view.ignores_case, route) {
                served.push(Served { server: view.server, path, cut_from });
            }
        };
        if view.cuts {
            for shorter in cut(&view.segments) {
                found(&shorter, Some(view.segments.clone()));
            }
        } else {
            found(&view.segments, None);
        }
    }
    served
}

fn matched(segments: &[Vec<u8>], ignores_case: bool, route: &[Name]) -> Option<Vec<Vec<u8>>> {
    (segments.len() == route.len()).then_some(())?;
    let one = |(segment, name): (&Vec<u8>, &Name)| match name {
        Name::Literal(text) if alike(segment, text.as_bytes(), ignores_case) => Some(text.as_bytes().to_vec()),
        Name::Any if !segment.is_empty() => Some(segment.clone()),
        _ => None,
    };
    segments.iter().zip(route).map(one).collect()
}

fn alike(one: &[u8], other: &[u8], ignores_case: bool) -> bool {
    let lower = |text: &[u8]| String::from_utf8_lossy(text).to_uppercase().to_lowercase();
    one == other || ignores_case && (one.eq_ignore_ascii_case(other) || lower(one) == lower(other))
}

/// The path without each extension of the last segment; the part after a script name, and the part up to it.
fn cut(segments: &[Vec<u8>]) -> Vec<Vec<Vec<u8>>> {
    let mut shorter = Vec::new();
    if let Some((last, before)) = segments.split_last() {
        for at in (1..last.len()).filter(|at| last[*at] == b'.') {
            shorter.push([before, &[last[..at].to_vec()]].concat());
        }
    }
    if let Some(at) = segments.iter().position(|segment| segment.to_ascii_lowercase().ends_with(b".php")) {
        shorter.push(segments[at + 1..].to_vec());
        shorter.push(segments[..=at].to_vec());
    }
    shorter
}

/// All readings of a raw path.
#[must_use]
pub fn views(raw: &[u8]) -> Vec<View> {
    let mut views = Vec::new();
    let mut add = |server, segments: Option<Vec<Vec<u8>>>, ignores_case, cuts| {
        views.extend(segments.map(|segments| View { server, segments, ignores_case, cuts }));
    };
    let once = decoded(raw);
    let twice = decoded(&once);
    // Express routes by the raw path, ignores case and one trailing slash, and decodes variables.
    add("express", express(raw), true, false);
    // Node's `new URL(request.url, base)` takes `//name` for a host.
    let behind_host = raw.strip_prefix(b"//").map(|rest| rest.iter().skip_while(|byte| **byte != b'/').copied());
    add("node", behind_host.and_then(|rest| express(&rest.collect::<Vec<_>>())), false, false);
    // Static files: decoded once, normalised.
    add("nginx", resolved(&once), false, false);
    // Werkzeug: the server decodes the path, and a redirect merges slashes.
    add("flask", Some(split(&once)), false, false);
    // Rails: slashes merged, the trailing one dropped, `(.:format)` after each route; decoded before or after that.
    let segments = squeezed(raw).iter().map(|segment| decoded(segment)).collect();
    for segments in [segments, squeezed(&once)] {
        add("rails", Some(segments.clone()), false, false);
        add("rails", Some(segments), false, true);
    }
    // Spring: parameters dropped, slashes merged, suffix patterns.
    for path in [decoded(&without_parameters(raw)), without_parameters(&once)] {
        add("spring", Some(squeezed(&path)), false, false);
        add("spring", Some(squeezed(&path)), false, true);
    }
    // Tomcat drops parameters before it resolves dots.
    add("tomcat", resolved(&without_parameters(&once)), false, false);
    // IIS: a backslash is a slash, trailing spaces and dots of names are dropped, case is ignored; decoding twice is
    // an option.
    for path in [&once, &twice] {
        let path: Vec<u8> = path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect();
        let names = resolved(&path).map(|names| names.iter().map(|name| name.trim_ascii_end().to_vec()).collect());
        add("iis", names, true, false);
        let trimmed = |name: &Vec<u8>| {
            let end = name.iter().rposition(|byte| !matches!(byte, b'.' | b' ')).map_or(0, |at| at + 1);
            name[..end].to_vec()
        };
        add("iis", resolved(&path).map(|names| names.iter().map(trimmed).collect()), true, false);
    }
    // PHP behind a rewrite that decodes: the path ends at the query and may follow the name of a script.
    for mark in [b'?', b'#'] {
        let path = once.split(|byte| *byte == mark).next().unwrap_or_default();
        add("php", resolved(path), false, false);
        add("php", resolved(path), false, true);
    }
    // Decoders that accept overlong UTF-8, encoded once or twice.
    for path in [&once, &twice] {
        add("lenient", resolved(&overlong_read(path)), false, false);
    }
    views
}

fn split(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/').skip(1).map(<[u8]>::to_vec).collect()
}

fn express(raw: &[u8]) -> Option<Vec<Vec<u8>>> {
    let raw = raw.strip_suffix(b"/").unwrap_or(raw);
    let segments = split(raw).iter().map(|segment| decoded(segment)).collect::<Vec<_>>();
    raw.starts_with(b"/").then_some(segments)
}

fn squeezed(path: &[u8]) -> Vec<Vec<u8>> {
    split(path).into_iter().filter(|segment| !segment.is_empty()).collect()
}

/// Merges slashes and resolves dots; rejects paths that leave the root.
fn resolved(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut segments = Vec::new();
    for segment in squeezed(path) {
        match segment.as_slice() {
            b"." => {}
            b".." => drop(segments.pop()?),
            _ => segments.push(segment),
        }
    }
    Some(segments)
}

fn without_parameters(path: &[u8]) -> Vec<u8> {
    let names = path.split(|byte| *byte == b'/').map(|segment| segment.split(|byte| *byte == b';').next().unwrap());
    names.collect::<Vec<_>>().join(&b'/')
}

/// Percent-decodes once; invalid escapes stay as they are.
#[must_use]
pub fn decoded(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let digits = text.get(at + 1..at + 3).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        match digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()) {
            Some(value) if text[at] == b'%' => {
                decoded.push(value);
                at += 3;
            }
            _ => {
                decoded.push(text[at]);
                at += 1;
            }
        }
    }
    decoded
}

/// Sequences of two and three bytes that encode ASCII.
fn overlong_read(text: &[u8]) -> Vec<u8> {
    let mut read = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let (byte, after) = match rest {
            [0xc0 | 0xc1, last @ 0x80..=0xbf, after @ ..] => ((first & 1) * 64 + (last - 0x80), after),
            [0xe0, middle @ (0x80 | 0x81), last @ 0x80..=0xbf, after @ ..] => {
                ((middle & 1) * 64 + (last - 0x80), after)
            }
            _ => (*first, after),
        };
        read.push(byte);
        rest = after;
    }
    read
}
