//! The files under `envoy/`: Envoy 1.40 loads each variant of the shipped files without a warning.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("envoy").join(name)
}

fn envoy() -> Command {
    let envoy = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/envoy/1.40.0/envoy");
    assert!(envoy.is_file(), "Envoy is not installed: run envoy/get");
    Command::new(envoy)
}

fn render(arguments: &[&str]) -> Output {
    Command::new(shipped("render")).args(arguments).output().unwrap()
}

/// The output of `render`, which must accept the arguments.
fn rendered(arguments: &[&str]) -> String {
    let output = render(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether Envoy accepts the configuration, and its output.
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
    // The new address of one place may equal the shipped address of another.
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
    &["--ops", "127.0.0.1:9901", "--ops-listener", "127.0.0.1:15090", "--admin", "9102"],
];

/// The configuration for which the shipped fast.yaml is rendered.
const SAMPLE: &str = "\
keys: { directory: keys }
apps:
- name: shop
  origin: https://shop.example.com
  official_account: { appid: wx0123456789abcdef, secret_file: ./oa.secret }
policy:
- { path_prefix: /static, access: public }
- { path_prefix: /admin, access: required, subjects: [\"wx:union:o1\"] }
";

/// The arguments with which `render` writes fast.yaml for this configuration.
fn fast(name: &str, text: &str) -> Vec<String> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("envoy");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("oa.secret"), "0a1b2c3d4e5f60718293a4b5c6d7e8f9").unwrap();
    let config = directory.join(name);
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    ["--fast", "--config", config, "--program", env!("CARGO_BIN_EXE_wechat-authz")].map(str::to_owned).to_vec()
}

/// The two configurations, each with its arguments for `render`.
static WAYS: LazyLock<[(&str, Vec<&str>); 2]> = LazyLock::new(|| {
    let fast = fast("sample.yaml", SAMPLE).into_iter().map(|argument| &*argument.leak()).collect();
    [("strict.yaml", Vec::new()), ("fast.yaml", fast)]
});

#[test]
fn envoy_loads_every_variant_without_a_warning() {
    for (file, way) in &*WAYS {
        assert_eq!(
            rendered(way),
            std::fs::read_to_string(shipped(file)).unwrap(),
            "without arguments nothing may change"
        );
        for variant in VARIANTS {
            assert_eq!(
                validate(&rendered(&[way.as_slice(), variant].concat())),
                (true, String::new()),
                "{file} {variant:?}"
            );
        }
    }
}

#[test]
fn fast_is_strict_line_by_line_with_something_added() {
    let of = |name: &str| std::fs::read_to_string(shipped(name)).unwrap();
    let (strict, fast) = (of("strict.yaml"), of("fast.yaml"));
    // The comments at the top of the files differ.
    let below = |text: &str| text[text.find("admin:\n").unwrap()..].to_owned();
    let (strict, fast) = (below(&strict), below(&fast));
    let mut added = fast.lines();
    for line in strict.lines() {
        assert!(added.any(|other| other == line), "fast.yaml does not contain in this order: {line}");
    }
    assert!(fast.lines().count() < strict.lines().count() + 160, "fast.yaml adds too many lines");
}

#[test]
fn fast_knows_the_applications_of_a_configuration_and_no_other() {
    let text = SAMPLE.replace("policy:", "- name: blog-2\n  origin: http://blog.localhost:8080\n  domain_proofs: [ MP_verify_AbCdEfGh12345678.txt ]\n  official_account: { appid: wx0123456789abcdea, secret_file: ./oa.secret }\npolicy:\n- { host: \"blog.localhost:8080\", path_pattern: \"/reports/*/secret\", methods: [GET], access: required, subjects: [\"wx:union:o1\"] }")
        .replace("shop.example.com", "www.example.org:8443") + "prefix: /sign-in\n";
    let arguments = fast("several.yaml", &text);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(["--ask", "/pay"]).collect();
    let text = rendered(&arguments);
    assert_eq!(validate(&text), (true, String::new()));
    let (_, below) = text.split_once("\nadmin:\n").unwrap();
    assert!(!below.contains("shop.example.com") && !below.contains("/_wechat"), "{below}");
    for (part, times) in [
        ("issuer: \"https://www.example.org:8443\"", 1),
        ("issuer: \"http://blog.localhost:8080\"", 1),
        ("audiences: [ \"blog-2\" ]", 1),
        ("uri: \"http://blog.localhost:8080/sign-in/jwks.json\"", 1),
        ("{ provider_name: shop }", 1),
        ("{ provider_name: blog-2 }", 1),
        ("path_separated_prefix: /sign-in }", 1),
        ("|/sign-in(?:[./].*)?|/pay(?:[./].*)?|/static(?:[./].*)?|/admin(?:[./].*)?)", 1),
        ("(?i)(?:/reports/[^/]+/secret(?:\\\\.[^/]*)?/?)", 1),
        ("\"/(?:MP_verify_AbCdEfGh12345678\\\\.txt)\"", 1),
    ] {
        assert_eq!(below.matches(part).count(), times, "{part}: {below}");
    }
}

#[test]
fn a_policy_of_a_thousand_rules_is_loaded_by_envoy() {
    let rule = |n: usize| {
        format!("- {{ path_pattern: \"/section-{n}/*/part-{n}/**\", access: required, subjects: [\"wx:union:o1\"] }}\n")
    };
    let text = SAMPLE.to_owned() + &(0..1_000).map(rule).collect::<String>();
    let arguments = fast("large.yaml", &text);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    assert_eq!(validate(&rendered(&arguments)), (true, String::new()));
}

#[test]
fn what_fast_cannot_express_is_refused_with_a_sentence() {
    for (from, to, words) in [
        ("path_prefix: /static, access: public", "path_pattern: /**, access: public", "use envoy/strict.yaml"),
        ("directory: keys", "directory: keys, sign_after: 30s", "keys.sign_after is below 2m"),
        ("name: shop", "nome: shop", "did you mean `name`?"),
    ] {
        let arguments = fast(&format!("refused-{}.yaml", words.len()), &SAMPLE.replace(from, to));
        let output = render(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(words) && !said.contains("Traceback"), "{said}");
        assert!(!output.status.success() && output.stdout.is_empty(), "{said}");
    }
    for (path, regex) in [
        ("/pay", Some("/pay(?:[./].*)?|")),
        ("/pay/*/refund", Some("/pay/[^/]+/refund(?:\\\\.[^/]*)?/?|")),
        ("/pay/**", Some("/pay(?:[./].*)?|")),
        ("/pay*", None),
        ("pay", None),
        ("/pay?a", None),
        ("", None),
    ] {
        let arguments = fast("ask.yaml", SAMPLE);
        let ask = format!("--ask={path}");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain([ask.as_str()]).collect();
        let output = render(&arguments);
        let (text, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        match regex {
            Some(regex) => assert_eq!(text.matches(regex).count(), 1, "{path}: {said}"),
            None => assert!(text.is_empty() && said.contains("is not a path to ask about"), "{path}: {said}"),
        }
    }
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
        let text = rendered(&[way.as_slice(), variant].concat());
        assert_eq!(text.lines().count(), shipped.lines().count(), "{variant:?}");
        let changed: Vec<&str> =
            text.lines().zip(shipped.lines()).filter(|(new, old)| new != old).map(|(new, _)| new).collect();
        assert_eq!(changed.len(), lines, "{variant:?}: {changed:?}");
        assert!(
            changed.iter().all(|line| line.contains("address: {") || line.contains("http2_protocol_options: {")),
            "{variant:?}: {changed:?}"
        );
    }
}

/// Each option of `render` and the number of lines that it adds and changes.
const SWITCHES: &[(&[&str], usize, usize)] = &[
    (&["--proxy-protocol"], 4, 0),
    (&["--app-h2c"], 0, 1),
    (&["--merge-slashes"], 0, 1),
    (&["--max-stream-duration", "900s"], 0, 1),
    (&["--max-stream-duration", "0s"], 0, 1),
    (&["--keep-header", "x-forwarded-prefix"], 8, 0),
    (&["--keep-header", "x-forwarded-host", "--keep-header", "remote-user"], 16, 0),
    // The public port: `HOST:443` equals `HOST`.
    (&["--listen", "0.0.0.0:443"], 1, 1),
    (&["--listen", "[::]:80"], 1, 1),
];

#[test]
fn each_switch_changes_its_own_lines_and_no_others() {
    for (file, way) in &*WAYS {
        let shipped = std::fs::read_to_string(shipped(file)).unwrap();
        for (switch, added, changed) in SWITCHES {
            let text = rendered(&[way.as_slice(), switch].concat());
            assert_eq!(validate(&text), (true, String::new()), "{file} {switch:?}");
            assert_eq!(text.lines().count(), shipped.lines().count() + added, "{file} {switch:?}");
            let mut rest = shipped.lines().collect::<Vec<_>>();
            for line in text.lines() {
                if let Some(at) = rest.iter().position(|other| *other == line) {
                    rest.remove(at);
                }
            }
            assert_eq!(rest.len(), *changed, "{file} {switch:?}: {rest:?}");
        }
        let all: Vec<&str> = SWITCHES.iter().take(7).flat_map(|(switch, ..)| switch.iter().copied()).collect();
        let more = ["--ops", "0.0.0.0:15090", "--otlp", "127.0.0.1:4318", "--check", "unix:/a", "--h2c"];
        assert_eq!(
            validate(&rendered(&[way.as_slice(), &all, &more].concat())),
            (true, String::new()),
            "{file} {all:?}"
        );
    }
}

#[test]
fn a_header_that_cannot_be_kept_is_refused_with_the_reason() {
    for (name, reason) in [
        ("x-wechat-openid", "is set by Envoy or wechat-authz"),
        ("x_wechat_openid", "is set by Envoy or wechat-authz"),
        ("x-envoy-retry-on", "is set by Envoy or wechat-authz"),
        ("x-auth-client-ip", "is set by Envoy or wechat-authz"),
        ("x-forwarded-for", "is set by Envoy or wechat-authz"),
        ("x-forwarded-proto", "is set by Envoy or wechat-authz"),
        ("x-auth-token", "is not removed"),
        ("cookie", "is not removed"),
    ] {
        let output = render(&["--keep-header", name]);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{name}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(name) && said.contains(reason), "{said}");
    }
}

#[test]
fn the_503_page_of_envoy_looks_like_our_own_pages() {
    let ours = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/html/page.css")).unwrap();
    for (file, _) in &*WAYS {
        let text = std::fs::read_to_string(shipped(file)).unwrap();
        let page = text.split("<!doctype html>").nth(1).unwrap().split("</html>").next().unwrap();
        let style = page.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
        let lines: Vec<&str> = style.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        assert!(lines.len() > 10, "{file}: {lines:?}");
        for line in lines {
            assert!(ours.lines().any(|other| other == line.replace("%%", "%")), "{file}, not in page.css: {line}");
        }
        assert_eq!(
            page.matches('%').count(),
            2 * page.matches("%%").count(),
            "Envoy treats a single % as a command operator"
        );
        for absent in ["<script", "<img", "<link", "url(", "src=", "http://", "https://"] {
            assert!(!page.contains(absent), "{file}: {absent}");
        }
        assert!(page.contains("登录服务暂时不可用") && page.contains("The login service cannot be reached."), "{file}");
    }
}

/// With several instances, a retry must go to another instance.
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
    assert_eq!(text.matches("previous_hosts.v3.PreviousHostsPredicate").count(), 2, "expected one per retry policy");
    let once = rendered(&["--check", "127.0.0.1:1", "--pages", "127.0.0.1:2"]);
    assert!(!once.contains("previous_hosts"), "with one instance only addresses may change");
}

#[test]
fn a_collector_adds_traces_and_changes_nothing_else() {
    let name = "collector.observability.svc.cluster.local:4318";
    for (which, collector, kind) in [
        (&[][..], "127.0.0.1:4318", "type: STATIC"),
        (&[], "[fd00::4]:4318", "type: STATIC"),
        (&[], name, "type: STRICT_DNS"),
        (WAYS[1].1.as_slice(), name, "type: STRICT_DNS"),
    ] {
        let shipped = rendered(which);
        let text = rendered(&[which, &["--otlp", collector, "--traces", "2.5"]].concat());
        assert_eq!(validate(&text), (true, String::new()), "{collector}");
        let mut rest = shipped.lines().peekable();
        let added: Vec<&str> = text.lines().filter(|line| rest.next_if_eq(line).is_none()).collect();
        assert_eq!(rest.next(), None, "all shipped lines must remain in order");
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
        &["--otlp", "http://127.0.0.1:4318"],
        &["--otlp", "collector"],
        &["--otlp", "col lector:4318"],
        &["--otlp", "collector-:4318"],
        &["--otlp", "collector:0"],
        &["--otlp", "127.0.0.300:4318"],
        &["--keep-header", "X-Forwarded-Prefix"],
        &["--keep-header", "x-forwarded-prefix, key: a"],
        &["--keep-header", "x-forwarded%prefix"],
        &["--max-stream-duration", "1h"],
        &["--max-stream-duration", "3600"],
        &["--traces", "101"],
        &["--traces", "some"],
        &["--traces", "nan"],
        &["--no-such-argument"],
        &["127.0.0.1:80"],
    ] {
        let output = render(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?} wrote a partial configuration");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let named = arguments.last().unwrap();
        assert!(said.contains("render: error: ") && said.contains(named) && !said.contains("Traceback"), "{said}");
    }
}

#[test]
fn fast_needs_a_configuration_and_a_program_that_reads_it() {
    for (arguments, words) in [
        (&["--fast"][..], "--fast needs --config"),
        (&["--ask", "/pay"], "--ask goes with --fast"),
        (&["--fast", "--config", "/nowhere.yaml", "--program", env!("CARGO_BIN_EXE_wechat-authz")], "/nowhere.yaml"),
        (&["--fast", "--config", "/nowhere.yaml", "--program", "/nowhere"], "cannot run /nowhere"),
    ] {
        let output = render(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.success(), output.stdout.len()), (false, 0), "{arguments:?}");
        assert!(said.contains(words) && !said.contains("Traceback"), "{said}");
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
