use super::*;
use proptest::prelude::*;

fn text(raw: &str) -> Result<String, PathError> {
    NormalPath::parse(raw).map(|path| String::from_utf8_lossy(path.as_bytes()).into_owned())
}

/// The other readings of a path, as text.
fn others(raw: &str) -> Vec<String> {
    let path = NormalPath::parse(raw).unwrap();
    path.readings().unwrap().others().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
}

/// The reason why a path is rejected, by itself or in a reading.
fn refused(raw: &str) -> Option<PathError> {
    NormalPath::parse(raw).and_then(|path| path.readings().map(drop)).err()
}

#[test]
fn an_ordinary_path_is_itself_and_nothing_else() {
    for path in ["/", "/a", "/a/b.html", "/a..b/v", "/中文", "/~x/-_.!$&'()*+,=:@", "/@scope/name", "/.well-known/x"]
    {
        assert_eq!((text(path), others(path)), (Ok(path.to_owned()), Vec::new()), "{path}");
    }
}

#[test]
fn encodings_of_ordinary_characters_are_undone_once() {
    for (raw, reads) in [
        ("/%61dmin", "/admin"),
        ("/%E4%B8%AD", "/中"),
        ("/a%20b", "/a b"),
        ("/100%25", "/100%"),
        ("/100%25x", "/100%x"),
    ] {
        assert_eq!(text(raw), Ok(reads.to_owned()));
        assert_eq!(others(raw), Vec::<String>::new());
    }
}

#[test]
fn a_path_has_each_reading_that_some_server_makes() {
    for (raw, readings) in [
        ("/a/", &["/a"][..]),
        ("/admin;v=1/users;x", &["/admin/users"]),
        ("/;x/admin", &["//admin", "/admin", "/"]),
        ("//admin", &["/admin", "/"]),
        ("//x/admin//y", &["/x/admin/y", "/admin//y", "/admin/y"]),
        ("/img/https://example.com/a.png", &["/img/https:/example.com/a.png"]),
        ("/a%23b", &["/a"]),
        ("/a%3Fb%23c", &["/a", "/a?b"]),
        ("/a/%3Fb", &["/a/", "/a"]),
        ("/a./b%20", &["/a/b"]),
        ("/a%c0%afb", &["/a/b"]),
        ("/a%e0%80%afb", &["/a/b"]),
        ("/a%f0%80%80%afb", &["/a/b"]),
        ("/a%c1%9cb", &["/a\\b", "/a/b"]),
        ("/a%C0%80.png", &["/a"]),
        ("/a%2Fb", &["/a/b"]),
        ("/a%5cb", &["/a\\b", "/a/b"]),
        ("/%2561", &["/a"]),
        ("/a%252fb", &["/a/b"]),
        ("/a%25252fb", &["/a%2fb", "/a/b"]),
        ("/a%25c0%25afb", &["/a/b"]),
    ] {
        let others = others(raw);
        for reading in readings {
            assert!(others.iter().any(|other| other == reading), "{raw} as {reading}: {others:?}");
        }
    }
}

#[test]
fn text_that_is_not_utf8_is_one_path() {
    // 来 and 镕 in GBK, é in Latin-1.
    for raw in ["/%C0%B4", "/%E9F", "/caf%E9", "/%ff", "/%C4%E3%BA%C3/%CA%C0%BD%E7.txt"] {
        assert_eq!(refused(raw), None, "{raw}");
    }
}

/// Paths from a gateway that does not normalise them.
#[test]
fn what_no_sound_client_sends_is_refused() {
    use PathError::*;
    for (raw, error) in [
        ("/public/../admin", DotSegment),
        ("/public/%2e%2e/admin", DotSegment),
        ("/public/.%2E/admin", DotSegment),
        ("/public/./admin", DotSegment),
        ("/public/..", DotSegment),
        ("/public/..;/admin", DotSegment),
        ("/public/..;a=b/admin", DotSegment),
        ("/public/..%20/admin", DotSegment),
        ("/public/..%3Fx", DotSegment),
        ("/public/..%2fadmin", DotSegment),
        ("/public%2F..%2Fadmin", DotSegment),
        ("/public%5C..%5Cadmin", DotSegment),
        ("/public/%252e%252e/admin", DotSegment),
        ("/public/%25252e%25252e/admin", DotSegment),
        ("/public/%c0%ae%c0%ae/admin", DotSegment),
        ("/public/%25c0%25ae%25c0%25ae/admin", DotSegment),
        ("/public/..%c0%afadmin", DotSegment),
        ("/public/..\\admin", NotEncoded),
        ("/a\\b", NotEncoded),
        ("/a#b", NotEncoded),
        ("/a%00b", ControlCharacter),
        ("/a%0d%0ab", ControlCharacter),
        ("/a%7f", ControlCharacter),
        ("/a%2500b", ControlCharacter),
        ("/a%zz", NotDecodable),
        ("/a%", NotDecodable),
        ("/a%4", NotDecodable),
        ("/%u0061dmin", NotDecodable),
        ("/a%252525252fb", TooManyReadings),
        ("*", NotAbsolute),
        ("", NotAbsolute),
        ("example.com:443", NotAbsolute),
    ] {
        assert_eq!(refused(raw), Some(error), "{raw}");
    }
}

#[test]
fn what_could_be_encoded_twice_is_known() {
    for (raw, encoded) in [
        ("/a%2Fb", true),
        ("/a%5cb", true),
        ("/%2561dmin", true),
        ("/a%252fb", true),
        ("/100%25", false),
        ("/100%25zz", false),
        ("/a%23b", false),
        ("/%C0%B4", false),
    ] {
        assert_eq!(NormalPath::parse(raw).unwrap().has_encoded_slashes(), encoded, "{raw}");
    }
}

#[test]
fn readings_are_bounded_in_number_and_bytes() {
    let long = format!("/{};x", "a".repeat(MAX_READINGS * 4096));
    assert_eq!(refused(&long), Some(PathError::TooManyReadings));
    let odd = "/a;x/%c0%af/b%3Fc%23d//e./%252f%252ff/";
    let count = NormalPath::parse(odd).and_then(|path| path.readings().map(|readings| readings.others().len()));
    assert!(matches!(count, Err(PathError::TooManyReadings) | Ok(..MAX_READINGS)), "{count:?}");
}

#[test]
fn a_prefix_ends_at_a_segment() {
    for (path, prefix, under) in [
        ("/public", "/public", true),
        ("/public/", "/public", true),
        ("/public/a", "/public/", true),
        ("/publicadmin", "/public", false),
        ("/public;x", "/public", false),
        ("/Public", "/public", false),
        ("/", "/public", false),
        ("/anything", "/", true),
    ] {
        assert_eq!(NormalPath::parse(path).unwrap().is_under(prefix), under, "{path} under {prefix}");
    }
}

proptest! {
    #[test]
    fn no_reading_holds_dots_or_controls(raw in "/[a-z./%0-9;\\\\A-F?#]{0,40}") {
        let Ok(path) = NormalPath::parse(&raw) else { return Ok(()) };
        let Ok(readings) = path.readings() else { return Ok(()) };
        for reading in [readings.exact()].into_iter().chain(readings.others()) {
            prop_assert!(reading.starts_with(b"/"), "{:?}", reading);
            prop_assert!(!reading.split(|byte| *byte == b'/').any(|segment| segment == b".." || segment == b"."));
            prop_assert!(!reading.iter().any(u8::is_ascii_control));
        }
        prop_assert!(readings.others().len() < MAX_READINGS);
    }

    /// The fast path for plain paths and the slow one for all others give the same result.
    #[test]
    fn the_quick_way_reads_as_the_slow_way(raw in "/[a-zA-Z./%0-9;\\\\ é]{0,12}") {
        let slow = NormalPath::parse_slowly(&raw);
        let quick = NormalPath::parse(&raw);
        prop_assert_eq!(quick.as_ref().map(|path| &path.text), slow.as_ref().map(|path| &path.text));
        if let (Ok(quick), Ok(slow)) = (quick, slow) {
            let exhaustive = Readings::of(&slow.text, true, slow.has_encoded_slashes());
            let count = |readings: Result<Readings, _>| readings.map(|readings| readings.others().len());
            prop_assert_eq!(count(quick.readings()), count(exhaustive));
        }
    }

    #[test]
    fn no_bytes_panic(raw in "\\PC{0,80}") {
        let _ = NormalPath::parse(&raw).map(|path| path.readings().map(drop));
    }
}
