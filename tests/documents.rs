//! Holds the documents: every link leads somewhere, every configuration is accepted, every command runs.
//!
//! Commands of `README.md` and `docs/en` run here, in the order of the pages, in a directory of their own and beside a
//! running `serve`. [`ELSEWHERE`] lists those that another test runs, [`NOT_RUN`] the few that no test can run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // a test says what it means by failing

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Commands that another test runs: the command as the documents have it, the file or folder of the test, and
/// what stands there of it.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    ("./envoy/demo", "tests/run", "./envoy/demo --check"),
    ("./envoy/demo --check", "tests/run", "./envoy/demo --check"),
    ("./tests/run", "tests/run", "./tests/run                everything"),
    ("tests/image/build", "tests/image/run", "tests/image/build"),
    ("cargo build --release", "tests/image/binary", "build --quiet --locked --release --bin wechat-authz"),
    ("envoy -c envoy.yaml", "tests/scenarios", "Command::new("),
    (
        "wechat-authz doctor --config /etc/wechat-authz/wechat-authz.yaml --url https://shop.example.com/",
        "tests/scenarios",
        "\"--url\"",
    ),
    ("wechat-authz drain", "tests/scenarios", "&[\"drain\", \"--envoy\""),
    (
        "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 wechat-authz serve --config wechat-authz.yaml",
        "tests/scenarios",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ),
    (
        "kubectl -n shop create secret generic wechat-keys --from-file=keys",
        "tests/kubelet/node/outside.py",
        "(\"secret\", \"wechat-keys\")",
    ),
    (
        "kubectl -n shop create secret generic wechat --from-file=wx0123456789abcdef=./oa.secret",
        "tests/kubelet/node/outside.py",
        "(\"secret\", \"wechat\")",
    ),
    (
        "kubectl -n shop create secret generic wechat-keys --from-file=keys --dry-run=client -o yaml | kubectl apply -f -",
        "tests/kubelet/node/scenes.py",
        "As docs/en/kubernetes.md has it",
    ),
    (
        "helm install wechat-authz ./helm/wechat-authz -n shop -f values.yaml",
        "tests/helm/test_documents.py",
        "template(file)",
    ),
    (
        "helm upgrade wechat-authz ./helm/wechat-authz -n shop -f values.yaml",
        "tests/cluster/installing/release.py",
        "helm.run(\"upgrade\"",
    ),
    ("helm uninstall wechat-authz -n shop", "tests/cluster/installing/release.py", "helm.run(\"uninstall\""),
    ("helm test wechat-authz -n shop", "tests/kubelet/node/scenes.py", "helm test"),
    ("kubectl -n shop rollout restart deployment/shop", "tests/kubelet/node/scenes.py", "a rolling restart"),
    (
        "helm template wechat-authz ./helm/wechat-authz -n shop -f values.yaml --set policy.create=true \
         --dry-run=server -s templates/inject/policy.yaml -s templates/inject/guard.yaml | kubectl apply -f -",
        "tests/cluster/installing/rights.py",
        "the platform team's helm template has",
    ),
    (
        "kubectl -n shop get pods -l app=shop -o \
         custom-columns=POD:.metadata.name,WITH:.spec.initContainers[*].name",
        "tests/cluster/installing/release.py",
        "kubectl -n shop get pods -l",
    ),
    ("curl -i https://shop.example.com/", "tests/scenarios", "(401, \"no_session\")"),
];

/// Commands that no test runs, each with the reason.
const NOT_RUN: &[(&str, &str)] = &[
    ("useradd --system wechat-authz", "changes the users of the machine"),
    ("chown -R wechat-authz: /etc/wechat-authz", "needs that user"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A page's path from the root, and its text.
struct Page {
    path: String,
    text: String,
}

/// Every Markdown file of the repository.
fn pages() -> Vec<Page> {
    fn walk(directory: &Path, pages: &mut Vec<Page>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if !name.starts_with('.') && !["target", "node_modules"].contains(&name) {
                    walk(&path, pages);
                }
            } else if name.ends_with(".md") {
                let text = fs::read_to_string(&path).unwrap();
                pages.push(Page { path: path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(), text });
            }
        }
    }
    let mut pages = Vec::new();
    walk(root(), &mut pages);
    pages.sort_by(|a, b| a.path.cmp(&b.path));
    pages
}

/// The pages whose commands run: the README first, then the guides.
fn guides() -> Vec<Page> {
    let mut pages = pages();
    pages.retain(|page| page.path == "README.md" || page.path.starts_with("docs/en/"));
    assert!(pages.len() > 10, "the documents are not found");
    pages
}

fn events(text: &str) -> impl Iterator<Item = Event<'_>> {
    Parser::new_ext(text, Options::ENABLE_TABLES)
}

/// The anchors that GitHub makes of the headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut heading: Option<String> = None;
    for event in events(text) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&text);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let letters = heading.take().unwrap().to_lowercase();
                let letters = letters.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
                let slug: String = letters.map(|c| if c == ' ' { '-' } else { c }).collect();
                let count = counts.entry(slug.clone()).or_default();
                anchors.insert(if *count == 0 { slug } else { format!("{slug}-{count}") });
                *count += 1;
            }
            _ => {}
        }
    }
    anchors
}

/// Why `link` of the page `path` leads nowhere; none for a good link and for other sites.
fn dead(path: &str, link: &str) -> Option<&'static str> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let directory = Path::new(path).parent().unwrap();
    let target = root().join(if file.is_empty() { PathBuf::from(path) } else { directory.join(file) });
    let Ok(target) = target.canonicalize() else { return Some("there is no such file") };
    if !target.starts_with(root().canonicalize().unwrap()) {
        return Some("it leads out of the repository");
    }
    let anchor = anchor?;
    let known = target.extension().is_some_and(|extension| extension == "md")
        && anchors(&fs::read_to_string(target).unwrap()).contains(anchor);
    (!known).then_some("there is no such heading")
}

#[test]
fn no_link_is_dead() {
    let (mut links, mut faults) = (0, String::new());
    for page in pages() {
        for event in events(&page.text) {
            let Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) = event else { continue };
            links += 1;
            if let Some(why) = dead(&page.path, &dest_url) {
                faults += &format!("{}: {dest_url}: {why}\n", page.path);
            }
        }
    }
    assert!(links > 100, "the links are not read: {links}");
    assert!(faults.is_empty(), "{faults}");
}

#[test]
fn a_dead_link_is_found() {
    assert_eq!(dead("README.md", "docs/en/start.md#run-the-demo"), None);
    assert_eq!(dead("docs/en/start.md", "#run-the-demo"), None);
    assert_eq!(dead("docs/en/start.md", "server.md"), None);
    assert_eq!(dead("docs/en/start.md", "https://example.com/nothing"), None);
    for link in ["docs/en/none.md", "docs/en/start.md#none", "#none", "../outside.md", "Cargo.toml#none"] {
        assert!(dead("README.md", link).is_some(), "{link}");
    }
}

/// A fenced block: its page, its language with further words, and its text.
struct Block {
    page: String,
    kind: String,
    text: String,
}

fn blocks(page: &Page) -> Vec<Block> {
    let (mut blocks, mut open): (Vec<Block>, bool) = (Vec::new(), false);
    for event in events(&page.text) {
        match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                let CodeBlockKind::Fenced(kind) = kind else { panic!("{}: an indented block", page.path) };
                blocks.push(Block { page: page.path.clone(), kind: kind.to_string(), text: String::new() });
                open = true;
            }
            Event::Text(text) if open => blocks.last_mut().unwrap().text.push_str(&text),
            Event::End(TagEnd::CodeBlock) => open = false,
            _ => {}
        }
    }
    blocks
}

/// The commands of a block: continued lines joined, comments left out, those joined by `&&` one by one.
fn commands(text: &str) -> Vec<String> {
    let text = text.replace("\\\n", " ");
    let lines = text.lines().map(|line| line.split(" # ").next().unwrap().trim()).filter(|line| !line.starts_with('#'));
    let commands = lines.flat_map(|line| line.split(" && ")).filter(|command| !command.is_empty());
    commands.map(|command| command.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn commands_are_read_out_of_a_block() {
    let block = "one  a   # says why\n# alone\ntwo && three \\\n    four\n\n";
    assert_eq!(commands(block), ["one a", "two", "three four"]);
}

/// A directory in which commands of the documents run beside a running `serve`.
struct Place {
    directory: tempfile::TempDir,
    check: u16,
    pages: u16,
    ops: u16,
    admin: u16,
    redis_port: u16,
    redis: Child,
    serve: Option<Child>,
}

impl Drop for Place {
    fn drop(&mut self) {
        for child in self.serve.iter_mut().chain([&mut self.redis]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A port that nobody uses now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["bin", "etc", "lib"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let envoy = Command::new(root().join("envoy/get")).output().unwrap();
        assert!(envoy.status.success(), "there is no Envoy: {}", String::from_utf8_lossy(&envoy.stderr));
        let envoy = PathBuf::from(String::from_utf8(envoy.stdout).unwrap().trim());
        let program = Path::new(env!("CARGO_BIN_EXE_wechat-authz"));
        std::os::unix::fs::symlink(envoy, directory.path().join("bin/envoy")).unwrap();
        std::os::unix::fs::symlink(program, directory.path().join("bin/wechat-authz")).unwrap();
        std::os::unix::fs::symlink(root().join("envoy"), directory.path().join("envoy")).unwrap();
        let [check, pages, ops, admin, redis_port] = [(); 5].map(|()| free_port());
        let mut redis = Command::new("redis-server");
        redis.args(["--port", &redis_port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        let redis = redis.current_dir(directory.path()).stdout(Stdio::null()).spawn().expect("redis-server");
        Self { directory, check, pages, ops, admin, redis_port, redis, serve: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The text with the paths and the user of this place.
    fn here(&self, text: &str) -> String {
        let release = Path::new(env!("CARGO_BIN_EXE_wechat-authz")).parent().unwrap();
        text.replace("/etc/wechat-authz", self.path("etc").to_str().unwrap())
            .replace("/var/lib/wechat-authz", self.path("lib").to_str().unwrap())
            .replace("/usr/local/bin/", &format!("{}/", self.path("lib").display()))
            .replace("target/release", release.to_str().unwrap())
            .replace("runuser -u wechat-authz -- ", "")
            .replace(" -o wechat-authz", "")
            .replace("127.0.0.1:9103", &format!("127.0.0.1:{}", self.admin))
            .replace("--config FILE", &format!("--config {}", self.path("etc/wechat-authz.yaml").display()))
            .replace("redis-cli ", &format!("redis-cli -e -p {} ", self.redis_port))
            .replace("BLOCK 5000", "BLOCK 50")
            .replace("crm ID", "crm 1-1")
            .replace("curl ", "curl --fail-with-body --silent --show-error ")
            .replace("--session ID", "--session 0123456789abcdefABCDEA")
    }

    fn command(&self, command: &str) -> Command {
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", &self.here(command)]).current_dir(self.directory.path());
        let path = std::env::var("PATH").unwrap();
        shell.env("PATH", format!("{}:{path}", self.path("bin").display()));
        for (setting, port) in [("CHECK", self.check), ("PAGES", self.pages), ("OPS", self.ops)] {
            shell.env(format!("WECHAT_AUTHZ__LISTEN__{setting}"), format!("127.0.0.1:{port}"));
        }
        shell
    }

    /// Runs `command` with an AppSecret at its standard input; what it wrote to standard error if it fails.
    fn run(&self, command: &str) -> Result<String, String> {
        let mut shell = self.command(command);
        let shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        // A command that reads nothing may have ended.
        let _ = child.stdin.take().unwrap().write_all(b"0123456789abcdef0123456789abcdef\n");
        let done = child.wait_with_output().unwrap();
        let [out, err] = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        if done.status.success() { Ok(out) } else { Err(format!("{}\n{out}{err}", done.status)) }
    }

    /// Starts `command`, which is a `serve`, and waits until it is ready.
    fn serve(&mut self, command: &str) -> Result<(), String> {
        if self.serve.is_some() {
            return Err("there is a serve already".into());
        }
        // `exec`, so that the process that ends is the program and not its shell.
        let command = command.replace("runuser -u wechat-authz -- ", "");
        self.serve = Some(self.command(&format!("exec {command}")).stdout(Stdio::null()).spawn().unwrap());
        let end = Instant::now() + Duration::from_secs(20);
        while self.run("wechat-authz healthcheck --ready").is_err() {
            if Instant::now() > end || self.serve.as_mut().unwrap().try_wait().unwrap().is_some() {
                return Err("it does not become ready".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn stop(&mut self) {
        if let Some(mut serve) = self.serve.take() {
            serve.kill().unwrap();
            serve.wait().unwrap();
        }
    }

    /// Writes the configuration where the documents have it.
    fn configure(&self, text: &str) {
        for file in ["wechat-authz.yaml", "etc/wechat-authz.yaml"] {
            fs::write(self.path(file), self.here(text)).unwrap();
        }
    }
}

/// The README's YAML: a complete configuration.
fn complete() -> String {
    let readme = guides().into_iter().find(|page| page.path == "README.md").unwrap();
    let blocks = blocks(&readme);
    blocks.into_iter().find(|block| block.kind == "yaml").expect("the README has a configuration").text
}

/// The settings of the first level: each with its lines.
fn settings(text: &str) -> Vec<(&str, String)> {
    let mut settings: Vec<(&str, String)> = Vec::new();
    for line in text.lines() {
        if line.starts_with(|c: char| c.is_ascii_lowercase()) {
            settings.push((line.split(':').next().unwrap(), String::new()));
        }
        if let Some((_, lines)) = settings.last_mut() {
            *lines += &format!("{line}\n");
        }
    }
    settings
}

/// `fragment` with what it lacks of the complete configuration: its keys and its applications.
fn completed(fragment: &str) -> String {
    let (given, complete) = (settings(fragment), complete());
    let more = settings(&complete).into_iter().filter(|(name, _)| ["keys", "apps"].contains(name));
    let more = more.filter(|(name, _)| !given.iter().any(|(own, _)| own == name)).map(|(_, lines)| lines);
    fragment.to_owned() + &more.collect::<String>()
}

/// Makes the keys and secrets that configurations of the documents name.
fn make_secrets(place: &Place) {
    for name in ["etc/oa.secret", "etc/web.secret", "etc/redis.password", "etc/admin.token", "oa.secret"] {
        place.run(&format!("install -m 600 /dev/stdin {name}")).unwrap();
    }
    for directory in ["etc/keys", "keys"] {
        place.run(&format!("wechat-authz keygen {directory}")).unwrap();
    }
}

#[test]
fn every_configuration_is_accepted() {
    let place = Place::new();
    make_secrets(&place);
    let (mut count, mut faults) = (0, String::new());
    for page in pages() {
        if !page.path.starts_with("README") && !page.path.starts_with("docs/") {
            continue;
        }
        for block in blocks(&page) {
            match block.kind.as_str() {
                "yaml" => {
                    count += 1;
                    let file = place.path("wechat-authz.yaml");
                    fs::write(file, place.here(&completed(&block.text))).unwrap();
                    if let Err(why) = place.run("wechat-authz check-config wechat-authz.yaml") {
                        faults += &format!("{}:\n{}{why}\n", block.page, block.text);
                    }
                }
                // `tests/helm/test_documents.py` renders the values, `test_dependency.py` such a template.
                "yaml values" | "yaml template" => {}
                "json" => {
                    if let Err(why) = serde_json::from_str::<serde_json::Value>(&block.text) {
                        faults += &format!("{}:\n{}{why}\n", block.page, block.text);
                    }
                }
                "sh" | "" | "text" | "mermaid" | "js" | "html" => {}
                other => faults += &format!("{}: nobody checks a block of `{other}`\n", block.page),
            }
        }
    }
    assert!(count >= 10, "the configurations are not read: {count}");
    assert!(faults.is_empty(), "{faults}");
    fs::write(
        place.path("wechat-authz.yaml"),
        place.here(&completed("policy:\n- { path_prefixx: /a, access: public }\n")),
    )
    .unwrap();
    assert!(place.run("wechat-authz check-config wechat-authz.yaml").is_err(), "a wrong configuration is accepted");
}

/// What of a page's blocks does not depend on the language: commands, configurations and code, without their comments.
fn code(page: &Page) -> Vec<(String, String)> {
    let without_comment = |line: &str| match line.find(" #") {
        Some(end) => line[..end].trim_end().to_owned(),
        None => line.to_owned(),
    };
    let blocks = blocks(page).into_iter().filter(|block| !["text", "mermaid"].contains(&block.kind.as_str()));
    blocks.map(|block| (block.kind, block.text.lines().map(without_comment).collect::<Vec<_>>().join("\n"))).collect()
}

#[test]
fn the_chinese_pages_have_the_code_of_the_english_ones() {
    let (pages, mut count) = (pages(), 0);
    let page = |path: &str| pages.iter().find(|page| page.path == path);
    let guides = guides();
    for english in &guides {
        let path = match english.path.as_str() {
            "README.md" => "README.zh-CN.md".to_owned(),
            path => path.replace("docs/en/", "docs/zh/"),
        };
        let chinese = page(&path).unwrap_or_else(|| panic!("there is no {path}"));
        assert_eq!(code(chinese), code(english), "{path}");
        count += code(english).len();
    }
    assert!(count > 40, "the code is not read: {count}");
}

/// The text of a file, or of all files of a folder.
fn text_of(path: &Path) -> String {
    if path.is_dir() {
        fs::read_dir(path).unwrap().map(|entry| text_of(&entry.unwrap().path())).collect()
    } else {
        fs::read_to_string(path).unwrap_or_default()
    }
}

#[test]
fn every_command_runs_here_or_in_another_test() {
    for (command, place, words) in ELSEWHERE {
        assert!(text_of(&root().join(place)).contains(words), "{place}, which runs `{command}`, has no `{words}`");
    }
    let listed = ELSEWHERE.iter().map(|(command, ..)| *command).chain(NOT_RUN.iter().map(|(command, _)| *command));
    let listed: BTreeSet<&str> = listed.collect();
    let mut pages = guides();
    // The server guide makes what the others use.
    pages.sort_by_key(|page| (page.path != "README.md", page.path != "docs/en/server.md"));
    let mut place = Place::new();
    let (mut ran, mut seen, mut faults) = (0, BTreeSet::new(), String::new());
    let mut configuration = String::new();
    for page in pages {
        let blocks = blocks(&page);
        // The commands of these two are for the configuration that stands below them.
        if ["README.md", "docs/en/server.md"].contains(&page.path.as_str()) {
            place.stop();
            configuration = blocks.iter().find(|block| block.kind == "yaml").expect("a configuration").text.clone();
            place.configure(&configuration);
        }
        for block in blocks {
            if block.kind == "yaml" && page.path == "docs/en/operations.md" {
                place.stop();
                place.configure(&format!("{configuration}{}", block.text));
                place.serve("wechat-authz serve --config /etc/wechat-authz/wechat-authz.yaml").unwrap();
            }
            for command in if block.kind == "sh" { commands(&block.text) } else { Vec::new() } {
                if let Some(known) = listed.get(command.as_str()) {
                    seen.insert(*known);
                    continue;
                }
                ran += 1;
                let serves = command.contains("wechat-authz serve ");
                let done = if serves { place.serve(&command) } else { place.run(&command).map(|_| ()) };
                if let Err(why) = done {
                    faults += &format!("{}: {command}: {why}\n", page.path);
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults}");
    assert!(ran > 20, "the commands are not read: {ran}");
    let stale: Vec<_> = listed.difference(&seen).collect();
    assert!(stale.is_empty(), "no document has these commands any more: {stale:#?}");
    assert!(place.run("wechat-authz no-such-command").is_err(), "a command that fails is not noticed");
}
