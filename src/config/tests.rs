//! The first phase as a whole: invalid files and their errors, misspelled keys, round trips, hostile bytes.

mod meaning;

use super::yaml::{Node, Value};
use super::*;
use proptest::prelude::*;
use std::path::PathBuf;

fn sample(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn variables(pairs: &[(&str, &str)]) -> impl Iterator<Item = (OsString, OsString)> {
    pairs.iter().map(|(name, value)| (name.into(), value.into())).collect::<Vec<_>>().into_iter()
}

fn shape(text: &str, env: &[(&str, &str)]) -> Result<file::Config, Diagnostics> {
    read(text.as_bytes(), "config.yaml".into(), variables(env)).map(|loaded| loaded.config)
}

fn errors_of(text: &str, env: &[(&str, &str)]) -> String {
    shape(text, env).err().map(|errors| errors.to_string()).unwrap_or_default()
}

#[test]
fn a_minimal_file_is_under_ten_lines() {
    let text = sample("minimal.yaml");
    assert!(text.lines().count() < 10);
    let config = shape(&text, &[]).unwrap();
    assert_eq!(config.listen, file::Listen::default());
    assert_eq!(config.apps[0].session, Default::default());
    assert_eq!((config.policy, config.admin, config.state_directory), (vec![], None, None));
}

#[test]
fn the_full_file_shows_every_setting_and_every_default() {
    let text = sample("full.yaml");
    let full = shape(&text, &[]).unwrap();
    let mut minimal = shape(&sample("minimal.yaml"), &[]).unwrap();
    for key in schema_keys() {
        assert!(text.contains(&format!("{key}:")), "{key} is missing in the full file");
    }
    // The only differences are those that the file's comments describe.
    minimal.state_directory = full.state_directory.clone();
    minimal.redis = full.redis.clone();
    let redis = full.redis.as_ref().unwrap();
    assert_eq!((redis.prefix.as_ref(), redis.timeout.to_string().as_str()), ("wechat-authz", "300ms"));
    assert_eq!((redis.reconcile.to_string(), redis.revocations_stale_after.to_string()), ("30s".into(), "24h".into()));
    minimal.apps[0].title = full.apps[0].title.clone();
    let account = full.apps[0].official_account.as_ref().unwrap();
    let bare = minimal.apps[0].official_account.as_mut().unwrap();
    (bare.name, bare.follow_qr) = (account.name.clone(), account.follow_qr.clone());
    minimal.apps[0].website = full.apps[0].website.clone();
    minimal.apps[0].return_to = full.apps[0].return_to.clone();
    minimal.apps[0].domain_proofs = full.apps[0].domain_proofs.clone();
    minimal.policy = full.policy.clone();
    minimal.limits.checks_per_client = full.limits.checks_per_client;
    minimal.admin = full.admin.clone();
    assert_eq!(minimal, full);
}

/// Each `NAME.yaml` is invalid; `NAME.expected` contains all its errors.
#[test]
fn every_wrong_file_has_its_expected_errors() {
    let mut differing = Vec::new();
    for name in ["empty", "missing", "not-yaml", "pasted-secrets", "slips-in-keys", "wrong-values", "written-twice"] {
        let errors = errors_of(&sample(&format!("{name}.yaml")), &[]);
        if errors.trim_end() != sample(&format!("{name}.expected")).trim_end() {
            differing.push(format!("== {name}\n{errors}"));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn no_error_quotes_a_secret() {
    let text = sample("pasted-secrets.yaml");
    let errors = errors_of(&text, &[("WECHAT_AUTHZ__ADMIN__TOKEN", "hunter2"), ("WECHAT_AUTHZ__ADMIN", "hunter2:x")]);
    for secret in ["f00dcafe", "hunter2"] {
        assert!(text.contains(secret) && !errors.contains(secret), "{errors}");
    }
}

#[test]
fn a_variable_overrides_one_setting() {
    let env = [
        ("WECHAT_AUTHZ__LISTEN__CHECK", "unix:/run/x.sock"),
        ("WECHAT_AUTHZ__APPS__0__ORIGIN", "https://b.example.com"),
        ("WECHAT_AUTHZ__APPS__0__WEBSITE__APPID", "wxfedcba9876543210"),
        ("WECHAT_AUTHZ__APPS__0__WEBSITE__SECRET_FILE", "/etc/b"),
        ("WECHAT_AUTHZ__APPS__1__NAME", "12345"),
        ("WECHAT_AUTHZ__APPS__1__ORIGIN", "https://c.example.com"),
        ("WECHAT_AUTHZ__POLICY__0__ACCESS", "public"),
        ("WECHAT_AUTHZ__POLICY__0__METHODS__0", "GET"),
        ("WECHAT_AUTHZ__LIMITS__CHECKS_PER_CLIENT__PER_MINUTE", "60"),
        ("WECHAT_AUTHZ__LIMITS__CHECKS_PER_CLIENT__BURST", "10"),
        ("WECHAT_AUTHZ__LIMITS__LOGINS_PER_SECOND", "5"),
        ("WECHAT_AUTHZ__GATEWAY__DELIVERS_SET_COOKIE", "false"),
        ("WECHAT_AUTHZ__APPS__0__OFFICIAL_ACCOUNT", ""),
        // Not ours: variables that Kubernetes sets for a service called wechat-authz, and those of other programs.
        ("WECHAT_AUTHZ_PORT", "tcp://10.0.0.1:9100"),
        ("WECHAT_AUTHZ_CONFIG", "/etc/x"),
        ("PATH", "/bin"),
    ];
    let config = shape(&sample("minimal.yaml"), &env).unwrap();
    assert_eq!(config.listen.check.to_string(), "unix:/run/x.sock");
    assert_eq!(config.apps[0].origin.as_str(), "https://b.example.com");
    assert_eq!(config.apps[0].website.as_ref().unwrap().secret_file.as_ref(), "/etc/b");
    assert_eq!(config.apps[0].official_account, None);
    assert_eq!((config.apps[1].name.as_str(), config.apps[1].origin.as_str()), ("12345", "https://c.example.com"));
    assert_eq!(config.policy[0].methods, Some(vec!["GET".parse().unwrap()]));
    let limits = config.limits;
    let checks = limits.checks_per_client.unwrap();
    assert_eq!([checks.per_minute, checks.burst, limits.logins_per_second].map(u32::from), [60, 10, 5]);
    assert!(!config.gateway.delivers_set_cookie);
}

#[test]
fn lists_grow_by_number_also_beyond_nine() {
    let names: Vec<String> = (0..12).map(|n| format!("WECHAT_AUTHZ__APPS__0__RETURN_TO__{n}")).collect();
    let env: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "https://a.example.com")).collect();
    assert_eq!(shape(&sample("minimal.yaml"), &env).unwrap().apps[0].return_to.len(), 12);
}

#[test]
fn a_wrong_variable_is_named_in_place_of_the_line() {
    for (name, value, expected) in [
        (
            "WECHAT_AUTHZ__LISTEN__CHEK",
            "127.0.0.1:1",
            "listen.chek: unknown key; did you mean WECHAT_AUTHZ__LISTEN__CHECK?",
        ),
        (
            "WECHAT_AUTHZ__APPS__0__ORGIN",
            "https://a.example.com",
            "apps[0].orgin: unknown key; did you mean WECHAT_AUTHZ__APPS__0__ORIGIN, which stands on line 4 already?",
        ),
        (
            "WECHAT_AUTHZ__REDIS__URL",
            "redis://:hunter2@redis",
            "redis.url: found a text of 22 characters (not shown), which holds a user or a password, which belong in user \
             and password_file; write the server's URL without a password, such as redis://redis.example.com:6379/0; \
             rediss:// for TLS",
        ),
        (
            "WECHAT_AUTHZ__STORE__URL",
            "redis://:hunter2@redis",
            "store: unknown key; the keys here are `admin`, `apps`, `drain`, `gateway`, `keys`, `limits`, `listen`, \
             `log`, `policy`, `prefix`, `redis`, `reload_interval`, `state_directory` and `wechat`",
        ),
        (
            "WECHAT_AUTHZ__RELOAD_INTERVAL",
            "5",
            "reload_interval: found `5`, which has no unit; write a duration such as 5s (1s to 1h)",
        ),
        ("WECHAT_AUTHZ__APPS__2__NAME", "b", "apps[2]: found an item after a gap in a list of 1; the next number is 1"),
        (
            "WECHAT_AUTHZ__APPS__NAME",
            "b",
            "apps: found a key where a list's number belongs; \
             name the item by its number: WECHAT_AUTHZ__APPS__0__NAME",
        ),
        (
            "WECHAT_AUTHZ__APPS",
            "[]",
            "apps: found `[]` for a setting of several parts; set its parts, such as WECHAT_AUTHZ__APPS__0",
        ),
        (
            "WECHAT_AUTHZ__PREFIX__X",
            "1",
            "prefix: found parts of a setting with a single value; set it by WECHAT_AUTHZ__PREFIX",
        ),
        (
            "WECHAT_AUTHZ__PREFIX",
            "",
            "prefix: found nothing; write a path such as /_wechat: segments of letters, digits, _ and -, without a final slash (or unset it)",
        ),
        (
            "WECHAT_AUTHZ____CHECK",
            "1",
            "found a name without a setting; write a setting's path, such as WECHAT_AUTHZ__LISTEN__CHECK for listen.check",
        ),
    ] {
        let text =
            format!("prefix: /_wechat\n{}", sample("minimal.yaml").replace("\n  official", "\n  # x\n  official"));
        let text = text.replace("prefix: /_wechat\nkeys", "prefix: /_wechat # x\nkeys");
        let expected = expected.replace("line 4", "line 5");
        assert_eq!(errors_of(&text, &[(name, value)]), format!("{name}: {expected}"));
    }
}

#[test]
fn invisible_characters_of_a_variable_name_are_not_shown() {
    let errors = shape(&sample("minimal.yaml"), &[("WECHAT_AUTHZ__APPS__1_\tORIGIN", "x")]).unwrap_err().to_string();
    assert!(errors.contains("1_\u{fffd}ORIGIN") && !errors.contains('\t'), "{errors}");
}

#[test]
fn a_variable_that_is_not_text_is_an_error() {
    use std::os::unix::ffi::OsStringExt;
    let env = [("WECHAT_AUTHZ__PREFIX".into(), OsString::from_vec(vec![0xff]))];
    let read = read(sample("minimal.yaml").as_bytes(), "c".into(), env.into_iter());
    assert!(read.unwrap_err().to_string().starts_with("WECHAT_AUTHZ__PREFIX: found bytes"));
}

#[test]
fn errors_of_shape_end_the_reading() {
    let text = sample("minimal.yaml").replace("https://shop.example.com", "15").replace("name: shop", "naem: Shop");
    assert_eq!(
        errors_of(&text, &[]),
        "config.yaml:3: apps[0].naem: unknown key; did you mean `name`?\n\
         config.yaml:3: apps[0].name: found `Shop`, which holds more than lower-case letters, digits and hyphens; \
         write a name of 1 to 32 lower-case letters, digits and hyphens, such as shop\n\
         config.yaml:4: apps[0].origin: found `15`, a number; write an origin such as https://shop.example.com"
    );
    let loaded = read(sample("minimal.yaml").as_bytes(), "config.yaml".into(), variables(&[])).unwrap();
    let errors = settings::resolve(loaded).unwrap_err().to_string();
    assert_eq!(
        errors,
        "config.yaml:7: apps[0].official_account.secret_file: found no such file; \
         name a file that this process can read and that holds the secret"
    );
}

#[test]
fn an_unreadable_file_is_an_error_of_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("none.yaml");
    for (path, found) in [(missing.as_path(), "no such file"), (directory.path(), "a directory")] {
        let said = load(path, variables(&[])).unwrap_err().to_string();
        let wanted = "name a configuration file that this process can read";
        assert_eq!(said, format!("{}: found {found}; {wanted}", path.display()));
    }
    let file = directory.path().join("config.yaml");
    std::fs::write(&file, sample("minimal.yaml")).unwrap();
    let first = load(&file, variables(&[])).unwrap().digest;
    std::fs::write(&file, sample("minimal.yaml") + "\n").unwrap();
    assert_ne!(load(&file, variables(&[])).unwrap().digest, first);
}

#[test]
fn the_effective_configuration_reads_as_itself() {
    for name in ["minimal.yaml", "full.yaml"] {
        let config = shape(&sample(name), &[]).unwrap();
        let text = effective::text(&config);
        assert_eq!(errors_of(&text, &[]), "", "{text}");
        assert_eq!(shape(&text, &[]).unwrap(), config);
        assert_eq!(effective::text(&shape(&text, &[]).unwrap()), text);
    }
    let text = effective::text(&shape(&sample("minimal.yaml"), &[]).unwrap());
    assert!(text.starts_with("listen:\n  check: 127.0.0.1:9100\n  pages: 127.0.0.1:9101\n"), "{text}");
    assert!(text.contains("\napps:\n- name: shop\n  origin: https://shop.example.com\n"), "{text}");
    assert!(text.contains("\npolicy: []\n"), "{text}");
}

#[test]
fn a_secret_pasted_for_its_file_is_masked() {
    let mut config = shape(&sample("minimal.yaml"), &[]).unwrap();
    for (file, shown) in [
        ("secrets/0123456789abcdef0123456789abcdef", false),
        ("/0123456789abcdef0123456789abcdef", false),
        ("/etc/wechat-authz/a-long-name-of-an-application.secret", true),
        ("./shop.secret", true),
    ] {
        config.apps[0].official_account.as_mut().unwrap().secret_file = file.parse().unwrap();
        let text = effective::text(&config);
        assert_eq!((text.contains(file), text.contains("secret_file: \"***\"")), (shown, !shown), "{text}");
    }
}

/// Every key of the full file as (key, line, column), lines and columns from 1.
fn keys_of_the_full_file(text: &str) -> Vec<(String, usize, usize)> {
    fn walk(node: &Node, keys: &mut Vec<(String, usize, usize)>) {
        match &node.value {
            Value::Table(entries) => {
                for entry in entries {
                    let Place::Line { line, column, .. } = entry.place else { panic!("{}", entry.place) };
                    keys.push((entry.key.clone(), line, column));
                    walk(&entry.node, keys);
                }
            }
            Value::List(items) => items.iter().for_each(|item| walk(item, keys)),
            _ => {}
        }
    }
    let mut keys = Vec::new();
    walk(&yaml::parse(text.as_bytes(), &"c".into()).0.unwrap(), &mut keys);
    keys
}

fn schema_keys() -> Vec<String> {
    fn walk(node: &serde_json::Value, keys: &mut Vec<String>) {
        for key in schema::keys(node) {
            keys.push(key.to_owned());
            walk(&node["properties"][key], keys);
        }
        node.get("items").into_iter().for_each(|items| walk(items, keys));
    }
    let mut keys = Vec::new();
    walk(schema::root(), &mut keys);
    keys
}

/// Each setting with its path and its description, as in the table of `docs/en/settings.md`: the parts stand for a
/// group, except in lists.
fn documented() -> Vec<(String, String)> {
    fn walk(node: &serde_json::Value, path: &str, rows: &mut Vec<(String, String)>) {
        for key in schema::keys(node) {
            let child = &node["properties"][key];
            let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            let described = child["description"].as_str().unwrap_or_default().replace('\n', " ");
            let items = &child["items"];
            if schema::keys(items).next().is_some() {
                rows.push((path.clone(), described));
                walk(items, &format!("{path}[]"), rows);
            } else if schema::keys(child).next().is_some() {
                walk(child, &path, rows);
            } else {
                rows.push((path, described));
            }
        }
    }
    let mut rows = Vec::new();
    walk(schema::root(), "", &mut rows);
    rows.sort();
    rows
}

#[test]
fn the_documents_show_every_setting() {
    crate::documents::assert_table("settings.md", documented());
    crate::documents::assert_chinese_rows("settings.md", documented().into_iter().map(|(path, _)| path));
}

/// The full file with one misspelled key: exactly one error, on its line, with the right suggestion.
fn assert_recognized(text: &str, (key, line, column): &(String, usize, usize), slip: &str) {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = column - 1;
    assert!(lines[line - 1][at..].starts_with(key.as_str()));
    lines[line - 1].replace_range(at..at + key.len(), slip);
    let errors = shape(&lines.join("\n"), &[]).expect_err(slip);
    let errors: Vec<&Diagnostic> = errors.iter().collect();
    let [error] = errors.as_slice() else { panic!("{slip} for {key}: {errors:?}") };
    assert_eq!(error.wanted, format!("did you mean `{key}`?"), "{slip}");
    assert_eq!(error.place.to_string(), format!("config.yaml:{line}"));
    assert!(error.path.ends_with(slip), "{} {slip}", error.path);
}

#[test]
fn every_misspelled_key_is_recognized() {
    let text = sample("full.yaml");
    let known = schema_keys();
    for key in keys_of_the_full_file(&text) {
        let letters: Vec<char> = key.0.chars().collect();
        for n in 0..letters.len() {
            let with = |change: &dyn Fn(&mut Vec<char>)| {
                let mut changed = letters.clone();
                change(&mut changed);
                changed.into_iter().collect::<String>()
            };
            let dropped = with(&|letters| {
                letters.remove(n);
            });
            let doubled = with(&|letters| letters.insert(n, letters[n]));
            let next = (n + 1).min(letters.len() - 1);
            let swapped = with(&|letters| letters.swap(n, next));
            let replaced = with(&|letters| letters[n] = 'x');
            for slip in [dropped, doubled, swapped, replaced] {
                if !known.contains(&slip) {
                    assert_recognized(&text, &key, &slip);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn a_key_with_an_added_letter_is_recognized(
        which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), letter in "[a-z_]",
    ) {
        let text = sample("full.yaml");
        let keys = keys_of_the_full_file(&text);
        let key = which.get(&keys);
        let mut slip = key.0.clone();
        slip.insert_str(at.index(slip.len() + 1), &letter);
        assert_recognized(&text, key, &slip);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes, "c".into(), variables(&[]));
    }

    /// A real file with changed and removed parts, which reaches deeper code than random bytes.
    #[test]
    fn no_damaged_file_panics(
        cut in any::<prop::sample::Index>(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let mut bytes = sample("full.yaml").into_bytes();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len()).max(bytes.len() / 2));
        if let Ok(loaded) = read(&bytes, "c".into(), variables(&[])) {
            let _ = loaded.effective();
            let _ = settings::resolve(loaded);
        }
    }

    #[test]
    fn no_variable_panics(
        names in proptest::collection::vec("(LISTEN|APPS|POLICY|0|1|99999999999999999999|NAME|CHECK|X|_|__|é){0,6}", 0..6),
        value in ".{0,20}",
    ) {
        let env: Vec<_> = names.iter().map(|name| {
            (OsString::from(format!("WECHAT_AUTHZ__{}", name.replace("S", "S__"))), OsString::from(&value))
        }).collect();
        let _ = read(sample("minimal.yaml").as_bytes(), "c".into(), env.into_iter());
    }

    #[test]
    fn the_effective_configuration_reads_back_with_any_text(text in "[^\\p{C}]{1,30}", more in "(.|[:#\\-'\"\\\\{}]){0,30}") {
        let mut config = shape(&sample("minimal.yaml"), &[]).unwrap();
        config.keys.directory = format!("x{text}{more}").parse().unwrap();
        config.state_directory = Some(format!("{text}x").parse().unwrap());
        let written = effective::text(&config);
        prop_assert_eq!(shape(&written, &[]).map_err(|errors| errors.to_string()), Ok(config), "{}", written);
    }
}

#[test]
fn a_full_width_colon_is_reported_on_its_own_line() {
    let good = "keys: { directory: /etc/wechat-authz/keys }\nprefix: /login\napps:\n- name: shop\n  \
                origin: https://shop.example.com\n  website: { appid: wxfedcba9876543210, secret_file: ./s }\n";
    for (from, to, line) in [
        ("prefix: /login", "prefix：/login", 2),
        ("prefix: /login", "prefix： /login", 2),
        ("apps:\n", "apps：\n", 3),
        ("name: shop", "name：shop", 4),
        ("  origin: https", "  origin：https", 5),
        ("website: {", "website：{", 6),
        ("secret_file: ./s }", "secret_file：./s }", 6),
        ("{ directory: ", "{directory：", 1),
    ] {
        let text = good.replace(from, to);
        assert_ne!(text, good);
        let errors = shape(&text, &[]).unwrap_err().to_string();
        let says = |error: &str| error.starts_with(&format!("config.yaml:{line}:")) && error.contains("ASCII colon");
        assert!(errors.lines().any(says), "{to:?}:\n{errors}");
    }
    let text = good.replacen("keys: {", "keys： {", 1);
    assert_eq!(shape(&text, &[]).unwrap_err().iter().count(), 1, "the key is not missing");
}

#[test]
fn a_key_of_another_part_of_the_file_is_not_sent_there() {
    let text = "keys: { directory: k }\nredis: { host: redis.example.com }\n";
    let errors = shape(text, &[]).unwrap_err().to_string();
    assert!(errors.contains("redis.host: unknown key; the keys here are"), "{errors}");
    let text = "keys: { directory: k }\nhost: shop.example.com\n";
    let errors = shape(text, &[]).unwrap_err().to_string();
    assert!(errors.contains("it belongs in `policy[]`"), "{errors}");
}

#[test]
fn the_state_directory_is_checked_before_serve_needs_it() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("web.secret");
    std::fs::write(&secret, "0a1b2c3d4e5f60718293a4b5c6d7e8f9").unwrap();
    let errors = |state: &str| {
        let text = format!(
            "keys: {{ directory: keys }}\nstate_directory: {state}\napps:\n- name: shop\n  origin: \
             https://shop.example.com\n  website: {{ appid: wxfedcba9876543210, secret_file: web.secret }}\n"
        );
        let file = directory.path().join("config.yaml");
        std::fs::write(&file, text).unwrap();
        let loaded = load(&file, std::iter::empty()).unwrap();
        settings::resolve(loaded).err().map(|errors| errors.to_string()).unwrap_or_default()
    };
    assert!(errors("state").contains("state_directory: found no such directory; make it for the user"));
    assert!(errors("web.secret").contains("state_directory: found a file; "));
    std::fs::create_dir(directory.path().join("state")).unwrap();
    assert_eq!(errors("state"), "");
}
