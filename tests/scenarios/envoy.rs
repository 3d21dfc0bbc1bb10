//! The files under `envoy/`: what is shipped is what Envoy 1.40 loads without a murmur, in each of its variants.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // a test says what it means by failing

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("envoy").join(name)
}

fn envoy() -> Command {
    let envoy = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/envoy/1.40.0/envoy");
    assert!(envoy.is_file(), "Envoy is not here: run envoy/get");
    Command::new(envoy)
}

fn render(arguments: &[&str]) -> Output {
    Command::new(shipped("render")).args(arguments).output().unwrap()
}

/// What `render` writes where it has nothing against the arguments.
fn rendered(arguments: &[&str]) -> String {
    let output = render(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether Envoy loads it, and every word it says besides.
fn validate(text: &str) -> (bool, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("envoy.yaml");
    std::fs::write(&file, text).unwrap();
    let output = envoy().args(["--mode", "validate", "-l", "warning", "-c"]).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let said = said.lines().filter(|line| !line.ends_with("' OK")).collect::<Vec<_>>().join("\n");
    (output.status.success(), said)
}

const VARIANTS: &[&[&str]] = &[
    &[],
    &["--h2c"],
    &["--check", "unix:/run/wechat-authz/check.sock"],
    &["--h2c", "--check", "unix:/run/wechat-authz/a \"quoted\" one.sock"],
    &[
        "--listen",
        "[::1]:8443",
        "--app",
        "10.0.0.1:80",
        "--check",
        "[::1]:1",
        "--pages",
        "[fd00::2]:65535",
        "--admin",
        "1",
    ],
    // One place's new address may be another's shipped one.
    &[
        "--listen",
        "127.0.0.1:9100",
        "--app",
        "127.0.0.1:8080",
        "--check",
        "127.0.0.1:8081",
        "--pages",
        "127.0.0.1:9901",
    ],
    &["--ops", "0.0.0.0:15090"],
    &["--ops", "127.0.0.1:9901", "--ops-door", "127.0.0.1:15090", "--admin", "9102"],
];

/// The two ways to run, each with what is said to `render` for it.
const WAYS: [(&str, &[&str]); 2] = [("strict.yaml", &[]), ("fast.yaml", &["--fast"])];

#[test]
fn envoy_loads_every_variant_without_a_warning() {
    for (file, way) in WAYS {
        assert_eq!(rendered(way), std::fs::read_to_string(shipped(file)).unwrap(), "nothing named, nothing changed");
        for variant in VARIANTS {
            assert_eq!(validate(&rendered(&[way, *variant].concat())), (true, String::new()), "{file} {variant:?}");
        }
    }
    let another = rendered(&["--fast", "--origin", "http://127.0.0.1:8080", "--name", "www-2"]);
    assert_eq!(validate(&another), (true, String::new()));
}

#[test]
fn fast_is_strict_line_by_line_with_something_added() {
    let of = |name: &str| std::fs::read_to_string(shipped(name)).unwrap();
    let (strict, fast) = (of("strict.yaml"), of("fast.yaml"));
    // The comments at the top say what each is for.
    let below = |text: &str| text[text.find("admin:\n").unwrap()..].to_owned();
    let (strict, fast) = (below(&strict), below(&fast));
    let mut added = fast.lines();
    for line in strict.lines() {
        assert!(added.any(|other| other == line), "fast.yaml lacks, at its place: {line}");
    }
    assert!(fast.lines().count() < strict.lines().count() + 160, "more than an addition");
}

#[test]
fn fast_names_the_application_in_four_places_and_nowhere_else() {
    let shipped = std::fs::read_to_string(shipped("fast.yaml")).unwrap();
    let text = rendered(&["--fast", "--origin", "https://www.example.org:8443", "--name", "www"]);
    let changed: Vec<&str> =
        text.lines().zip(shipped.lines()).filter(|(new, old)| new != old).map(|(new, _)| new.trim()).collect();
    assert_eq!(
        changed,
        [
            "issuer: \"https://www.example.org:8443\"",
            "audiences: [ \"www\" ]",
            "http_uri: { uri: \"http://www.example.org:8443/_wechat/jwks.json\", cluster: wechat_pages, timeout: 1s }",
            "- { name: \":authority\", string_match: { exact: \"www.example.org:8443\", ignore_case: true } }",
        ]
    );
    assert!(!text.contains("shop.example.com"));
}

#[test]
fn a_deprecated_or_unknown_setting_would_be_noticed() {
    let shipped = std::fs::read_to_string(shipped("strict.yaml")).unwrap();
    for (from, to, word) in [
        (
            "transport_api_version: V3\n",
            "transport_api_version: V3\n              no_such_setting: true\n",
            "no_such_setting",
        ),
        (
            "authorization_request:\n",
            "authorization_request:\n                  allowed_headers: { patterns: [ { exact: cookie } ] }\n",
            "allowed_headers",
        ),
    ] {
        assert!(shipped.contains(from), "strict.yaml has no {from:?}");
        let (_, said) = validate(&shipped.replacen(from, to, 1));
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn only_addresses_and_the_checks_protocol_change() {
    let ways = WAYS.iter().flat_map(|way| VARIANTS.iter().zip([0, 1, 1, 2, 5, 4]).map(move |variant| (way, variant)));
    for ((file, way), (variant, lines)) in ways {
        let shipped = std::fs::read_to_string(shipped(file)).unwrap();
        let text = rendered(&[*way, *variant].concat());
        assert_eq!(text.lines().count(), shipped.lines().count(), "{variant:?}");
        let changed: Vec<&str> =
            text.lines().zip(shipped.lines()).filter(|(new, old)| new != old).map(|(new, _)| new).collect();
        assert_eq!(changed.len(), lines, "{variant:?}: {changed:?}");
        assert!(
            changed.iter().all(|line| line.contains("address: {") || line.contains("http2_protocol_options: {}")),
            "{variant:?}: {changed:?}"
        );
    }
}

/// With several instances, a retry must not meet the dead one again.
#[test]
fn several_instances_are_endpoints_and_a_retry_goes_to_another() {
    let three = ["127.0.0.1:9101", "unix:/run/second.sock", "[::1]:3"].map(|door| ["--check", door]);
    let two = ["127.0.0.1:9100", "127.0.0.1:5"].map(|door| ["--pages", door]);
    let text = rendered(&[&three.concat()[..], &two.concat(), &["--h2c"]].concat());
    assert_eq!(validate(&text), (true, String::new()));
    let cluster = |name: &str| {
        let cluster = text.split(&format!("  - name: {name}\n")).nth(1).unwrap().split("\n  - name: ").next().unwrap();
        cluster.lines().filter_map(|line| line.strip_prefix("        - endpoint: ")).collect::<Vec<_>>()
    };
    assert_eq!(
        cluster("wechat_check"),
        [
            "{ address: { socket_address: { address: 127.0.0.1, port_value: 9101 } } }",
            "{ address: { pipe: { path: \"/run/second.sock\" } } }",
            "{ address: { socket_address: { address: \"::1\", port_value: 3 } } }",
        ]
    );
    assert_eq!(
        cluster("wechat_pages"),
        [
            "{ address: { socket_address: { address: 127.0.0.1, port_value: 9100 } } }",
            "{ address: { socket_address: { address: 127.0.0.1, port_value: 5 } } }",
        ]
    );
    assert_eq!(text.matches("previous_hosts.v3.PreviousHostsPredicate").count(), 2, "one for each retry policy");
    let once = rendered(&["--check", "127.0.0.1:1", "--pages", "127.0.0.1:2"]);
    assert!(!once.contains("previous_hosts"), "one instance, and nothing but addresses changes");
}

#[test]
fn with_a_collector_each_request_is_traced_and_all_the_rest_stays() {
    let name = "collector.observability.svc.cluster.local:4318";
    for (which, collector, kind) in [
        (&[][..], "127.0.0.1:4318", "type: STATIC"),
        (&[], "[fd00::4]:4318", "type: STATIC"),
        (&[], name, "type: STRICT_DNS"),
        (&["--fast"], name, "type: STRICT_DNS"),
    ] {
        let shipped = rendered(which);
        let text = rendered(&[which, &["--otlp", collector, "--traces", "2.5"]].concat());
        assert_eq!(validate(&text), (true, String::new()), "{collector}");
        let mut rest = shipped.lines().peekable();
        let added: Vec<&str> = text.lines().filter(|line| rest.next_if_eq(line).is_none()).collect();
        assert_eq!(rest.next(), None, "what is shipped is still there, in its order");
        assert_eq!(added.len(), 26, "{added:?}");
        assert!(added.contains(&"            random_sampling: { value: 2.5 }"), "{added:?}");
        assert!(added.contains(&format!("    {kind}").as_str()), "{added:?}");
    }
    let all =
        ["--otlp", "collector:4318", "--h2c", "--check", "unix:/a", "--check", "unix:/b", "--ops", "0.0.0.0:15090"];
    assert_eq!(validate(&rendered(&all)), (true, String::new()));
}

#[test]
fn what_is_no_address_is_refused_before_envoy_sees_it() {
    for arguments in [
        &["--listen", "localhost:80"][..],
        &["--listen", "127.0.0.1"],
        &["--listen", "8080"],
        &["--listen", ":8080"],
        &["--listen", "127.0.0.1:0"],
        &["--listen", "127.0.0.1:65536"],
        &["--listen", "127.0.0.1:-1"],
        &["--listen", "127.0.0.1:80:80"],
        &["--listen", "127.0.0.1:80 }"],
        &["--listen", "127.0.0.256:80"],
        &["--listen", "unix:/run/edge.sock"],
        &["--app", "app.example.com:80"],
        &["--app", "127.0.0.1:80, port_value: 1"],
        &["--check", "http://127.0.0.1:9100"],
        &["--check", "unix"],
        &["--check", ""],
        &["--pages", "unix:/run/pages.sock"],
        &["--admin", "127.0.0.1:9901"],
        &["--admin", "port"],
        &["--admin", "0"],
        &["--admin", "99999"],
        &["--check", "unix:"],
        &["--check", "unix:relative/check.sock"],
        &["--fast", "--origin", "shop.example.com"],
        &["--fast", "--origin", "https://shop.example.com/"],
        &["--fast", "--origin", "https://shop.example.com:443"],
        &["--fast", "--origin", "https://Shop.example.com"],
        &["--fast", "--origin", "https://a\" }"],
        &["--fast", "--name", "Shop"],
        &["--fast", "--name", "shop\", \"blog"],
        &["--fast", "--name", ""],
        &["--otlp", "http://127.0.0.1:4318"],
        &["--otlp", "collector"],
        &["--otlp", "col lector:4318"],
        &["--otlp", "collector-:4318"],
        &["--otlp", "collector:0"],
        &["--otlp", "127.0.0.300:4318"],
        &["--traces", "101"],
        &["--traces", "some"],
        &["--traces", "nan"],
        &["--no-such-argument"],
        &["127.0.0.1:80"],
    ] {
        let output = render(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?} gave half a configuration");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let named = arguments.last().unwrap();
        assert!(said.contains("render: error: ") && said.contains(named) && !said.contains("Traceback"), "{said}");
    }
}

#[test]
fn what_fast_alone_knows_is_not_said_to_strict() {
    for arguments in [["--origin", "https://www.example.com"], ["--name", "www"]] {
        let output = render(&arguments);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("go with --fast"), "{arguments:?}");
    }
}

#[test]
fn every_python_file_parses() {
    let directory = tempfile::tempdir().unwrap();
    let mut files: Vec<PathBuf> = ["app.py", "demo", "get", "render"].map(shipped).to_vec();
    let parts = std::fs::read_dir(shipped("demonstration")).unwrap().map(|entry| entry.unwrap().path());
    files.extend(parts.filter(|path| path.extension().is_some_and(|extension| extension == "py")));
    assert!(files.len() > 4);
    for file in files {
        let compiled = Command::new("python3")
            .args([
                "-W",
                "error",
                "-c",
                "import py_compile, sys; py_compile.compile(sys.argv[1], sys.argv[2], doraise=True)",
            ])
            .args([&file, &directory.path().join("compiled")])
            .output()
            .unwrap();
        assert!(compiled.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&compiled.stderr));
    }
}
